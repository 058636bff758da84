"""What a plan means for the traffic: which buckets change their owner, and whether more could have stayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address

from trscaler_gen.lock import Lock
from trscaler_gen.placement import owners
from trscaler_gen.plan.model import Move, Traffic, WeightChange

#: a node is what its address reaches; an id may be another's later
Key = tuple[int, IPv4Address]


def traffic_of(
    before: Lock | None,
    after: Lock,
    *,
    is_unknown: bool = False,
) -> Traffic:
    """Compare the owners of all buckets by two locks, with all of their nodes alive.

    ``before`` holds the orders alone that are used now.
    """
    names = _names(before, after)
    shares_after = _counted(_owners(after), names)
    if before is None:
        return Traffic(after.buckets, shares_after=shares_after, is_unknown=is_unknown)
    weights = _weight_changes(before, after)
    shares_before = _counted(_owners(before), names)
    is_disrupted = (before.epoch, before.seed, before.contract) != (after.epoch, after.seed, after.contract)
    if before.hashing != after.hashing:
        kept, is_exact = _kept(before, after)
        return Traffic(
            after.buckets,
            shares_before,
            shares_after,
            kept=kept,
            is_exact=is_exact,
            is_disrupted=True,
            weights=weights,
        )
    return Traffic(
        after.buckets,
        shares_before,
        shares_after,
        moves=_moves(before, after, names),
        least=least_moves(before, after),
        is_disrupted=is_disrupted,
        weights=weights,
    )


def least_moves(before: Lock, after: Lock) -> int:
    """Say how many buckets must move at least for every node to have its share, rounded up to whole buckets.

    What a node that leaves owned has to go anyway, and what the others are to own more has to come from
    somewhere. Both locks have as many buckets.
    """
    owned = Counter(_owners(before))
    keys = _keys(after)
    leaving = sum(count for key, count in owned.items() if key not in keys.values())
    total = sum(node.weight for node in after.nodes)
    weights = {keys[node.node_id]: node.weight for node in after.nodes}
    missing = sum(max(0, after.buckets * weight - owned[key] * total) for key, weight in weights.items())
    return max(leaving, -(-missing // total))


def _keys(lock: Lock) -> dict[int, Key]:
    return {node.node_id: (node.node_id, node.address) for node in lock.nodes}


def _owners(lock: Lock) -> tuple[Key, ...]:
    keys = _keys(lock)
    return tuple(keys[owner] for owner in owners(lock.placement, keys) if owner is not None)


def _names(before: Lock | None, after: Lock) -> dict[Key, str]:
    """Name every node by the newer lock; with the address where two have the same name."""
    nodes = (*(before.nodes if before else ()), *after.nodes)
    names = {(node.node_id, node.address): node.name for node in nodes}
    often = Counter(names.values())
    newer = _keys(after).values()
    return {
        key: f"{name}@{key[1]}" if often[name] > 1 and key not in newer else name
        for key, name in names.items()
    }


def _counted(owning: tuple[Key, ...], names: Mapping[Key, str]) -> dict[str, int]:
    counts = Counter(owning)
    return {name: counts[key] for key, name in names.items() if key in counts}


def _moves(before: Lock, after: Lock, names: Mapping[Key, str]) -> tuple[Move, ...]:
    pairs = Counter(zip(_owners(before), _owners(after), strict=True))
    return tuple(
        Move(names[old], names[new], count) for (old, new), count in sorted(pairs.items()) if old != new
    )


def _kept(before: Lock, after: Lock) -> tuple[float, bool]:
    """Fraction of pairs that keep their node; exact where the same hash is only scaled to other buckets."""
    if (before.seed, before.hash_input) == (after.seed, after.hash_input):
        return _overlap(_owners(before), _owners(after)), True
    old, new = Counter(_owners(before)), Counter(_owners(after))
    same = sum(old[key] * new[key] for key in old)
    return same / (before.buckets * after.buckets), False


def _overlap(old: tuple[Key, ...], new: tuple[Key, ...]) -> float:
    """Walk both divisions of the range of hashes at once; lengths in units of 1/(old * new) of it."""
    kept = at = 0
    first = second = 0
    while first < len(old) and second < len(new):
        end_first, end_second = (first + 1) * len(new), (second + 1) * len(old)
        end = min(end_first, end_second)
        kept += (end - at) * (old[first] == new[second])
        first, second, at = first + (end == end_first), second + (end == end_second), end
    return kept / (len(old) * len(new))


def _weight_changes(before: Lock, after: Lock) -> tuple[WeightChange, ...]:
    weights = {node.address: node.weight for node in before.nodes}
    return tuple(
        WeightChange(node.name, weights[node.address], node.weight)
        for node in after.nodes
        if weights.get(node.address, node.weight) != node.weight
    )
