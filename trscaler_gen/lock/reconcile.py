"""Bringing a lock up to its inventory: ids stay, orders stay, and as little as possible changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock.like import check_ids, follow_orders, like_node
from trscaler_gen.lock.model import Lock, LockedNode, RetiredNode
from trscaler_gen.lock.serial import MAKE_ANEW, in_next_epoch, numbered
from trscaler_gen.lock.switch import follow_weights, with_members
from trscaler_gen.mac import HardwareAddress, auto_address
from trscaler_gen.placement import MAX_ID, Order, Placement, movement_violations, place, violations

_MOST_REPORTED = 10


def reconcile(inventory: Inventory, lock: Lock | None, *, seed: int, like: Lock | None = None) -> Lock:
    """Bring the lock up to the inventory; ``seed`` (32 bits) is used only where there is no lock yet.

    ``like`` is the lock of the cluster that the inventory names as ``hash.like``: seed, ids, weights and
    orders are taken from it, which ``check_likeness`` has found to fit. Raises InputError when the lock is
    another cluster's, or when the inventory asks for what cannot be done to a running cluster.
    """
    if lock is None:
        return _checked(inventory, _fresh(inventory, seed, like))
    if lock.cluster != inventory.cluster:
        raise _refusal(
            inventory,
            "lock-cluster",
            f'the lock is of cluster "{lock.cluster}", the inventory of "{inventory.cluster}"',
            "give each inventory a file name of its own; a cluster that was renamed is a new cluster: move "
            "its lock away",
        )
    _refuse_changed_vrids(inventory, lock)
    if like is not None:
        check_ids(inventory, like, lock)
    kept = _kept(inventory, lock)
    retired = _retired(inventory, lock, kept)
    nodes = _number_nodes(inventory, kept, retired, since=lock.serial + 1, like=like)
    changed = replace(lock, nodes=nodes, retired=retired, seed=like.seed if like else lock.seed)
    if (like.buckets if like else inventory.hash.buckets) != lock.buckets:
        changed = replace(changed.with_orders(_place(inventory, nodes, like)), removals=_removals(like))
    else:
        changed = _carry_over(inventory, lock, changed, like)
    changed = _checked(inventory, _renew_contract(inventory, lock, changed))
    return numbered(changed, lock, inventory.source)


def reseed(lock: Lock, seed: int, source: str) -> Lock:
    """Take another seed, and so another epoch; raises InputError when the last one is reached."""
    return numbered(in_next_epoch(replace(lock, seed=seed), source), lock, source)


def _fresh(inventory: Inventory, seed: int, like: Lock | None) -> Lock:
    nodes = _number_nodes(inventory, {}, (), since=1, like=like)
    return Lock(
        cluster=inventory.cluster,
        epoch=1,
        serial=1,
        ancestors=(),
        seed=like.seed if like else seed,
        hash_input=inventory.hash.input,
        mac_mode=inventory.mac.mode,
        cluster_mac=_cluster_mac(inventory, None),
        interval_ms=inventory.heartbeat.interval_ms,
        missed=inventory.heartbeat.missed,
        first_vrid=inventory.heartbeat.first_vrid,
        nodes=nodes,
        retired=(),
        removals=_removals(like),
        orders=_place(inventory, nodes, like),
    )


def _cluster_mac(inventory: Inventory, lock: Lock | None) -> HardwareAddress:
    """Resolve the address; ``auto`` keeps what neighbours have learnt already, if the mode allows it."""
    if isinstance(inventory.mac.address, HardwareAddress):
        return inventory.mac.address
    if lock is not None and lock.mac_mode == inventory.mac.mode:
        return lock.cluster_mac
    return auto_address(inventory.mac.mode, inventory.virtual_addresses)


def _kept(inventory: Inventory, lock: Lock) -> dict[str, LockedNode]:
    """Name in the inventory -> node in the lock, by address."""
    nodes = {node.address: node for node in lock.nodes}
    return {name: nodes[node.address] for name, node in inventory.nodes.items() if node.address in nodes}


def _retired(inventory: Inventory, lock: Lock, kept: Mapping[str, LockedNode]) -> tuple[RetiredNode, ...]:
    """List who is to be stopped: everybody who was a node at an address that is none any more."""
    ids = {node.node_id for node in kept.values()}
    gone = [
        RetiredNode(node.node_id, node.name, node.address) for node in lock.nodes if node.node_id not in ids
    ]
    addresses = {node.address for node in inventory.nodes.values()}
    absent = [node for node in (*lock.retired, *gone) if node.address not in addresses]
    return tuple(sorted(absent, key=lambda node: node.node_id))


def _number_nodes(
    inventory: Inventory,
    kept: Mapping[str, LockedNode],
    retired: tuple[RetiredNode, ...],
    *,
    since: int,
    like: Lock | None,
) -> tuple[LockedNode, ...]:
    """Give every new node the lowest id that no node and no retired node has; with ``like`` the one there."""
    if like is not None:
        return _nodes_like(inventory, kept, since, like)
    taken = {node.node_id for node in kept.values()} | {node.node_id for node in retired}
    free = (node_id for node_id in range(1, MAX_ID + 1) if node_id not in taken)
    nodes = []
    for name, node in inventory.nodes.items():
        before = kept.get(name)
        node_id = before.node_id if before else next(free, None)
        if node_id is None:
            message = f"no node id is left for {name}: {len(retired)} retired nodes hold theirs"
            raise _refusal(inventory, "no-free-id", message, "apply first, so that these are stopped")
        nodes.append(LockedNode(node_id, name, node.address, node.weight, before.since if before else since))
    return tuple(sorted(nodes, key=lambda node: node.node_id))


def _nodes_like(
    inventory: Inventory, kept: Mapping[str, LockedNode], since: int, like: Lock
) -> tuple[LockedNode, ...]:
    nodes = []
    for name, node in inventory.nodes.items():
        there = like_node(like, name)
        since_when = kept[name].since if name in kept else since
        nodes.append(LockedNode(there.node_id, name, node.address, there.weight, since_when))
    return tuple(sorted(nodes, key=lambda node: node.node_id))


def _removals(like: Lock | None) -> int:
    return like.removals if like else 0


def _place(inventory: Inventory, nodes: tuple[LockedNode, ...], like: Lock | None) -> tuple[Order, ...]:
    if like is not None:
        return like.orders
    try:
        return place({node.node_id: node.weight for node in nodes}, inventory.hash.buckets).orders
    except ValueError as error:
        raise _weight_refusal(inventory, error) from None


def _carry_over(inventory: Inventory, lock: Lock, changed: Lock, like: Lock | None) -> Lock:
    """Bring the orders to the nodes of ``changed``: members first, then their weights or the other orders."""
    ids = {node.node_id for node in lock.nodes}
    stay = tuple(node for node in changed.nodes if node.node_id in ids)
    try:
        changed = _with_members(lock, changed, stay)
        if like is not None:
            if stay:
                return follow_orders(changed, like)
            return replace(changed.with_orders(like.orders), removals=like.removals)
        weights = {node.node_id: node.weight for node in (*changed.nodes, *lock.nodes)}
        return follow_weights(changed, {node.node_id: weights[node.node_id] for node in changed.nodes})
    except ValueError as error:
        raise _weight_refusal(inventory, error) from None


def _with_members(lock: Lock, changed: Lock, stay: tuple[LockedNode, ...]) -> Lock:
    """Remove who is gone from the orders, and insert who is new: the others keep their places."""
    placement = with_members(lock.placement, stay, changed.nodes)
    weights = lock.placement.weights
    moved_wrongly = movement_violations(lock.placement, placement)
    # Where weights change as well, what is uneven here is put right by the switch.
    if moved_wrongly and all(weights[node.node_id] == node.weight for node in stay):
        raise RuntimeError(f"placement moved more than it had to: {moved_wrongly[0]}")
    if not stay:  # all orders are new
        return replace(changed.with_orders(placement.orders), removals=0)
    removals = lock.removals + len(lock.nodes) - len(stay)
    # Rarely an insertion misses a bound by a fraction of a bucket: that is as uneven as a removal makes it.
    missed = removals == 0 and placement.orders != lock.orders and bool(violations(placement))
    changed = replace(changed, orders=placement.orders, removals=removals + missed)
    if not lock.switch:
        return changed
    before = with_members(Placement(weights, lock.before), stay, changed.nodes)
    return replace(changed, before=before.orders)


def _refuse_changed_vrids(inventory: Inventory, lock: Lock) -> None:
    """Nodes of two ranges do not hear each other at all, so no epoch could keep them apart."""
    wanted = inventory.heartbeat.first_vrid
    if wanted != lock.first_vrid:
        message = f"first_vrid changed from {lock.first_vrid} to {wanted}: a cluster that runs cannot follow"
        raise _refusal(inventory, "vrid-changed", message, MAKE_ANEW)


def _renew_contract(inventory: Inventory, before: Lock, changed: Lock) -> Lock:
    """Take the contract from the inventory; another contract is another epoch."""
    renewed = replace(
        changed,
        hash_input=inventory.hash.input,
        mac_mode=inventory.mac.mode,
        cluster_mac=_cluster_mac(inventory, before),
        interval_ms=inventory.heartbeat.interval_ms,
        missed=inventory.heartbeat.missed,
    )
    if renewed.contract == before.contract and renewed.seed == before.seed:
        return renewed
    return in_next_epoch(renewed, inventory.source)


def _checked(inventory: Inventory, lock: Lock) -> Lock:
    """Hold the orders against what placement promises, at every build."""
    broken = violations(lock.placement, lock.removals)
    if broken:
        hint = "restore the lock from version control; if it is as it was committed, please report this"
        shown = broken[:_MOST_REPORTED]
        raise InputError([_problem(inventory, "lock-placement", f"lock: {text}", hint) for text in shown])
    return lock


def _problem(inventory: Inventory, code: str, message: str, hint: str) -> Problem:
    return Problem(inventory.source, 0, 0, code, message, hint)


def _refusal(inventory: Inventory, code: str, message: str, hint: str) -> InputError:
    return InputError([_problem(inventory, code, message, hint)])


def _weight_refusal(inventory: Inventory, error: ValueError) -> InputError:
    hint = "raise its weight, lower the others', or use more buckets (hash: buckets)"
    return _refusal(inventory, "weight-too-small", str(error), hint)
