"""Other orders for nodes that stay: a lock with two placements, for all nodes to switch at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from trscaler_gen.lock.model import Lock, LockedNode
from trscaler_gen.lock.serial import numbered
from trscaler_gen.placement import Order, Placement, add_node, moved, remove_node, violations
from trscaler_gen.reweigh import changed_weights, is_even, reweigh

#: more removals than these make no difference to what is tolerated
_MOST_REMOVALS = 8


def follow_weights(lock: Lock, weights: Mapping[int, int]) -> Lock:
    """Give the shares of a lock's orders to the weights of its nodes; ``weights`` are those of before.

    Raises ValueError when a weight is worth less than one bucket. Where no weight has changed against the
    others, or all orders stay as they are, so does what is known of the last switch.
    """
    if not changed_weights(weights, lock.placement.weights):
        return lock
    reweighed = reweigh(Placement(weights, lock.orders), lock.placement.weights)
    if lock.switch and _is_way_back(lock, reweighed):
        reweighed = Placement(reweighed.weights, lock.before)
    return switching(lock, reweighed)


def rebalance(lock: Lock, source: str) -> Lock:
    """Make all shares exact again with the fewest moves; the same lock where they are.

    Raises InputError when no serial is left.
    """
    if is_even(lock.placement):
        return lock
    even = reweigh(lock.placement, lock.placement.weights)
    return numbered(switching(lock, even), lock, source)


def begin_with(live: Lock, lock: Lock, lock_before: Lock, source: str, *, follows: bool = False) -> Lock:
    """Let a lock begin with the orders of ``live``, those that the nodes use now, and move what it has to.

    Its own beginning was another one: a change before it was not carried out, or was and the lock did not
    know it. ``lock_before`` is the last one that was written down, and is counted from; it may be the same.
    A lock that ``follows`` another cluster's ends with its own orders, even if others would move less.
    Raises InputError when no serial is left.
    """
    weights = lock.placement.weights
    stay = {(node.node_id, node.since, node.address) for node in lock.nodes}
    kept = [node for node in live.nodes if (node.node_id, node.since, node.address) in stay]
    before = with_members(Placement(live.placement.weights, live.orders), kept, lock.nodes)
    was = {**weights, **{node.node_id: node.weight for node in kept}}
    choices = [lock.orders]
    if not follows:
        choices.append(reweigh(Placement(was, before.orders), weights).orders)
    goal = min(
        (Placement(weights, orders) for orders in choices),
        key=lambda choice: (len(moved(before, choice)), choice.orders != before.orders),
    )
    fitted = replace(lock, serial=lock_before.serial).with_orders(before.orders)
    return numbered(switching(fitted, goal), lock_before, source)


def with_members(
    placement: Placement, stay: Iterable[LockedNode], members: Iterable[LockedNode]
) -> Placement:
    """Remove from the orders who does not stay, and insert the other members, all by the members' weights.

    Raises ValueError when a weight is worth less than one bucket.
    """
    weights = {node.node_id: node.weight for node in members}
    ids = {node.node_id for node in stay}
    for gone in sorted(placement.weights.keys() - ids):
        placement = remove_node(placement, gone)
    placement = Placement({node: weights[node] for node in sorted(ids)}, placement.orders)
    for node in sorted(weights.keys() - ids):
        placement = add_node(placement, node, weights[node])
    return placement


def switching(lock: Lock, goal: Placement) -> Lock:
    """Go from the lock's orders to those of ``goal``, with its next serial; the same lock if it has them."""
    if goal.orders == lock.orders:
        return lock
    removals = next((n for n in range(_MOST_REMOVALS) if not violations(goal, n)), _MOST_REMOVALS)
    before: tuple[Order, ...] = lock.orders
    return replace(lock, orders=goal.orders, before=before, switch=lock.serial + 1, removals=removals)


def _is_way_back(lock: Lock, other: Placement) -> bool:
    """Whether the orders before the last switch would do as well, as for weights that go there and back.

    Nodes that have kept connections since then need not hand them over: a bucket of each, which rounding may
    move more, is worth it.
    """
    back, now = Placement(other.weights, lock.before), lock.placement
    most = len(moved(now, other)) + len(other.weights)
    return is_even(back) and not violations(back, lock.removals) and len(moved(now, back)) <= most
