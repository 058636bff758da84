"""A wanted lock made to begin where the nodes are: tables are swapped one by one, so a swap moves nothing.

The lock is made from the one before it, which cannot know whether its own switch was carried out: a second
edit may come before the first was applied, and a deployer may die right after the switch. What the nodes use
decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trscaler_gen.errors import NodeError
from trscaler_gen.lineage import agree, conflict, keeps_orders
from trscaler_gen.lock import Lock, begin_with, carried
from trscaler_gen.plan.deployed import Deployed, read_deployed
from trscaler_gen.plan.model import Seen, Wanted


def fitted_lock(wanted: Wanted, seen: Mapping[str, Seen | NodeError]) -> Lock | None:
    """The lock to want instead; None where the one that is wanted fits, or none can.

    Raises InputError when no serial is left.
    """
    deployed = read_deployed(wanted, seen)
    before = wanted.lock_before
    live = deployed.live
    if wanted.is_rollback or before is None or live is None or not movers(wanted, seen, deployed):
        return None
    if any(conflict(lock, wanted.lock) for lock in deployed.running_locks):
        return None
    if not all(agree(live, deployed.used_by(node)) for node in serving(wanted, seen, deployed)):
        return None
    return begin_with(
        live,
        wanted.lock,
        before if _is_new(before, wanted.lock) else wanted.lock,
        wanted.inventory.source,
        follows=wanted.inventory.hash.like is not None,
    )


def movers(wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed) -> tuple[str, ...]:
    """Nodes that serve, and would answer for other buckets than the rest once their tables are swapped."""
    keep: dict[tuple[int, bool], bool] = {}  # most nodes have the same lock
    found = []
    for node in serving(wanted, seen, deployed):
        lock, has_switched = deployed.locks[node], node in deployed.switched
        if (id(lock), has_switched) not in keep:
            keep[id(lock), has_switched] = keeps_orders(lock, wanted.lock, has_switched=has_switched)
        if not keep[id(lock), has_switched]:
            found.append(node)
    return tuple(found)


def serving(wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed) -> Iterator[str]:
    """Nodes that run and serve, by a lock that can be read.

    Who does not serve learns from the others which placement they use before it begins to.
    """
    for node in deployed.running:
        there = seen[node]
        if (
            node in wanted.bundles
            and node in deployed.locks
            and isinstance(there, Seen)
            and there.facts.serving
        ):
            yield node


def _is_new(before: Lock, lock: Lock) -> bool:
    """Whether the wanted lock was never written down: then it can be made anew in place of itself."""
    return carried(before) != carried(lock)
