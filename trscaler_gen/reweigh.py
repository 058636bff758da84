"""Other weights for the nodes of a placement: what must move to follow them, and nothing else.

This is the one change that moves buckets between nodes that stay, so it is no swap of tables but a switch
(data-path, section 7). Three steps, each of which leaves alone what the one before has settled:

- first places: every node is brought to its exact share, rounded up or down; a bucket that moves has its
  taker put in front, and the giver becomes the second;
- second places: within the buckets of each first node they are brought to their exact shares in the same
  way, by moving another node up;
- deeper places of the nodes whose weight has changed are sampled anew, as on insertion.

Only the first step moves traffic while all nodes live. Deterministic, as everything about placement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from trscaler_gen.placement import (
    Order,
    Placement,
    deeper_places,
    evenly,
    remove_node,
    require_a_bucket_each,
)


def reweigh(placement: Placement, weights: Mapping[int, int]) -> Placement:
    """Follow other weights of the same nodes with the fewest moves.

    Raises ValueError when a weight is worth less than one bucket. Where all shares are exact, and no weight
    has changed against the others, the orders stay as they are.
    """
    if weights.keys() != placement.weights.keys():
        raise ValueError("other nodes are another membership, not other weights")
    require_a_bucket_each(weights, placement.buckets)
    changed = changed_weights(placement.weights, weights)
    if not changed and is_even(Placement(weights, placement.orders)):
        return Placement(dict(weights), placement.orders)
    orders = list(placement.orders)
    _settle_firsts(orders, weights)
    _settle_seconds(orders, weights)
    result = Placement(dict(weights), tuple(orders))
    for node in changed:
        result = _sampled_anew(result, node)
    return result


def changed_weights(before: Mapping[int, int], after: Mapping[int, int]) -> tuple[int, ...]:
    """Nodes whose weight has changed against that of the most; twice the weight for all is no change."""
    ratios = {node: Fraction(after[node], before[node]) for node in sorted(after)}
    counts = Counter(ratios.values())
    usual = max(counts, key=lambda ratio: (counts[ratio], ratio == 1, -ratio), default=Fraction(1))
    return tuple(node for node, ratio in ratios.items() if ratio != usual)


def unevenness(placement: Placement) -> float:
    """The most that any node has of its share: 1.0 where all shares are exact."""
    counts = Counter(order[0] for order in placement.orders)
    total = sum(placement.weights.values())
    return max(
        counts[node] * total / (placement.buckets * weight) for node, weight in placement.weights.items()
    )


def is_even(placement: Placement) -> bool:
    """Whether every node has its exact share of first places, rounded up or down."""
    counts = Counter(order[0] for order in placement.orders)
    targets = _targets(counts, placement.weights, placement.buckets)
    return all(counts[node] == target for node, target in targets.items())


def _settle_firsts(orders: list[Order], weights: Mapping[int, int]) -> None:
    counts = Counter(order[0] for order in orders)
    targets = _targets(counts, weights, len(orders))
    takers = _in_turn({node: targets[node] - counts[node] for node in targets})
    for giver in sorted(targets):
        owned = [bucket for bucket, order in enumerate(orders) if order[0] == giver]
        given = evenly(sorted(owned, key=orders.__getitem__), max(0, counts[giver] - targets[giver]))
        for bucket in given:
            orders[bucket] = _led_by((next(takers),), orders[bucket])


def _settle_seconds(orders: list[Order], weights: Mapping[int, int]) -> None:
    for first in sorted(weights) if len(weights) > 2 else ():
        row = [bucket for bucket, order in enumerate(orders) if order[0] == first]
        others = {node: weight for node, weight in weights.items() if node != first}
        counts = Counter(orders[bucket][1] for bucket in row)
        targets = _targets(counts, others, len(row))
        takers = _in_turn({node: targets[node] - counts[node] for node in targets})
        for giver in sorted(targets):
            held = [bucket for bucket in row if orders[bucket][1] == giver]
            given = evenly(sorted(held, key=orders.__getitem__), max(0, counts[giver] - targets[giver]))
            for bucket in given:
                orders[bucket] = _led_by((first, next(takers)), orders[bucket])


def _targets(counts: Mapping[int, int], weights: Mapping[int, int], buckets: int) -> dict[int, int]:
    """How many of ``buckets`` each node is to have: its share, rounded up or down.

    Each is as near to its count as it may be, and what the sum lacks is given to those that lack the most:
    no other choice moves fewer.
    """
    total = sum(weights.values())
    low = {node: buckets * weight // total for node, weight in weights.items()}
    high = {node: -(-buckets * weight // total) for node, weight in weights.items()}
    targets = {node: min(max(counts.get(node, 0), low[node]), high[node]) for node in sorted(weights)}

    def lack(node: int) -> int:
        return buckets * weights[node] - targets[node] * total

    while sum(targets.values()) < buckets:
        targets[max((node for node in targets if targets[node] < high[node]), key=lack)] += 1
    while sum(targets.values()) > buckets:
        targets[min((node for node in targets if targets[node] > low[node]), key=lack)] -= 1
    return targets


def _in_turn(needs: Mapping[int, int]) -> Iterator[int]:
    """Name every taker as often as it needs, those that need much more often, evenly mixed."""
    due = [
        (Fraction(2 * turn + 1, 2 * need), node)
        for node, need in needs.items()
        for turn in range(max(0, need))
    ]
    return (node for _, node in sorted(due))


def _led_by(ahead: Sequence[int], order: Order) -> Order:
    return (*ahead, *(node for node in order if node not in ahead))


def _sampled_anew(placement: Placement, node: int) -> Placement:
    """Take a node out of all places from the third on, and insert it there by its weight."""
    without = remove_node(placement, node)
    settled = {bucket for bucket, order in enumerate(placement.orders) if node in order[:2]}
    places = deeper_places(without, placement.weights[node], settled)
    orders = tuple(
        order if bucket in settled else (*rest[: places[bucket]], node, *rest[places[bucket] :])
        for bucket, (order, rest) in enumerate(zip(placement.orders, without.orders, strict=True))
    )
    return Placement(placement.weights, orders)
