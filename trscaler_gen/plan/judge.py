"""What speaks against carrying a plan out, or for doing it knowingly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.lineage import conflict
from trscaler_gen.lock import Lock, LockedNode, RetiredNode
from trscaler_gen.plan.deployed import Deployed
from trscaler_gen.plan.model import Refusal, Seen, Step, StepAction, Wanted
from trscaler_gen.plan.steps import frame_changes
from trscaler_gen.plan.switch import unswitchable
from trscaler_gen.plan.words import listed
from trscaler_gen.sight import hears


def hearers(
    node: LockedNode | RetiredNode, seen: Mapping[str, Seen | NodeError], deployed: Deployed
) -> tuple[str, ...]:
    """The nodes that hold another one for alive."""
    answered = {name: each.facts for name, each in seen.items() if isinstance(each, Seen)}
    return tuple(name for name, facts in answered.items() if _hears(facts, deployed.locks.get(name), node))


def _hears(facts: Facts, lock: Lock | None, node: LockedNode | RetiredNode) -> bool:
    if lock is not None:
        return hears(facts, lock, node.address)
    # Nobody can tell which node that is: rather wait for a dead one than go on beside one that serves.
    return node.node_id in facts.alive and node.node_id != facts.node_id


# Disruption


def disruption(
    wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed, steps: tuple[Step, ...]
) -> Iterator[str]:
    """Say which part of the contract changes, and which node cannot change in place."""
    parts = dict.fromkeys(part for lock in deployed.running_locks for part in _changed(lock, wanted.lock))
    yield from parts
    if not parts:
        yield from _other_epochs(wanted, seen, deployed)
    for step in steps:
        there = seen.get(step.node)
        if step.action is StepAction.RESTART and isinstance(there, Seen):
            yield from _reframed(step.node, wanted, there)
    restarting = {step.node for step in steps if step.action is StepAction.RESTART}
    serving = _serving(seen)
    if serving and serving <= restarting:
        yield "all nodes that serve are taken down and up again together: nobody answers for some seconds"


def _changed(before: Lock, after: Lock) -> Iterator[str]:
    if before.seed != after.seed:
        yield "the seed changes"
    pairs = (
        ("hash input", before.hash_input, after.hash_input),
        ("number of buckets", before.buckets, after.buckets),
        ("MAC mode", before.mac_mode, after.mac_mode),
        ("cluster MAC", before.cluster_mac, after.cluster_mac),
        ("heartbeat interval", f"{before.interval_ms} ms", f"{after.interval_ms} ms"),
        ("number of heartbeats that may be missed", before.missed, after.missed),
    )
    changed = [f"the {what} changes from {old} to {new}" for what, old, new in pairs if old != new]
    yield from changed
    if before.epoch != after.epoch and before.seed == after.seed and not changed:
        yield f"the epoch changes from {before.epoch} to {after.epoch}"


def _other_epochs(wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed) -> Iterator[str]:
    """Where a node's lock cannot be read, its kernel still knows the epoch."""
    for node in deployed.running:
        there = seen[node]
        epoch = there.facts.epoch if isinstance(there, Seen) and node in deployed.unreadable else 0
        if epoch not in (0, wanted.lock.epoch):
            yield f"the epoch of {node} changes from {epoch} to {wanted.lock.epoch}"


def _reframed(node: str, wanted: Wanted, seen: Seen) -> Iterator[str]:
    """Of the frame only the link is a node's own; the rest is the contract's, and named there."""
    for word, old, new in frame_changes(wanted.bundles[node], seen):
        if word == "link":
            yield f"{node} is taken down and up again: its link changes from {old} to {new}"


def _serving(seen: Mapping[str, Seen | NodeError]) -> set[str]:
    return {node for node, each in seen.items() if isinstance(each, Seen) and each.facts.serving}


# Refusals


def refusals(
    wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed, steps: tuple[Step, ...]
) -> Iterator[Refusal]:
    """Everything that keeps the plan from being carried out, beside nodes that are not fit."""
    holding = tuple(node for node, each in seen.items() if isinstance(each, Seen) and each.facts.generation)
    if wanted.lock_before is None and holding:
        yield _no_lock(wanted, holding)
    else:
        # Another line's nodes are not forgotten: nobody has known them.
        yield from tuple(_conflicts(wanted, deployed)) or (
            *_forgotten_but_heard(wanted, seen, deployed),
            *unswitchable(wanted, seen, deployed),
        )
    yield from _unconfirmed(wanted, seen)
    yield from _nobody_left(steps, _serving(seen))
    for node, retired in wanted.departed.items():
        ears = hearers(retired, seen, deployed)
        if ears and not isinstance(seen.get(node), Seen):
            yield _still_heard(node, ears)


def _nobody_left(steps: tuple[Step, ...], serving: set[str]) -> Iterator[Refusal]:
    """Nodes that leave stop before new ones start: somebody has to answer meanwhile."""
    stopping = {step.node for step in steps if step.action is StepAction.STOP or step.stops_first}
    if serving and serving <= stopping:
        names = listed(tuple(step.node for step in steps if step.node in serving))
        yield Refusal(
            f"only {names} {'serves' if len(serving) == 1 else 'serve'} now, and would stop before anybody "
            "else starts: nobody would answer",
            "do it in two steps: first add the others, or mend those that stand aside, and apply; then "
            "remove these",
        )


def _no_lock(wanted: Wanted, holding: tuple[str, ...]) -> Refusal:
    holds = "holds" if len(holding) == 1 else "hold"
    return Refusal(
        f"there is no lock beside {wanted.inventory.source}, but {listed(holding)} {holds} a generation of "
        f"cluster {wanted.inventory.cluster}: a new lock would be of another cluster",
        "restore the lock from version control, or rebuild it from the nodes: trscaler-gen lock recover "
        f"{wanted.inventory.source}",
    )


def _conflicts(wanted: Wanted, deployed: Deployed) -> Iterator[Refusal]:
    """Ask of every lock once, and name all the nodes that have it."""
    nodes: dict[Lock, list[str]] = {}
    for node, lock in deployed.locks.items():
        nodes.setdefault(lock, []).append(node)
    for lock, names in nodes.items():
        if wanted.is_rollback and conflict(wanted.lock, lock) is not None:
            yield Refusal(
                f"what {listed(names)} {'runs' if len(names) == 1 else 'run'} did not come of that change",
                "a rollback only goes back; to go forward again: trscaler-gen apply "
                f"{wanted.inventory.source}; what there is: trscaler-gen history {wanted.inventory.source}",
            )
        found = conflict(lock, wanted.lock) if not wanted.is_rollback else None
        if found is not None:
            yield Refusal(f"{listed(names)}: {found.message}", found.hint)


def _unconfirmed(wanted: Wanted, seen: Mapping[str, Seen | NodeError]) -> Iterator[Refusal]:
    nodes: dict[str, list[str]] = {}
    for node, each in seen.items():
        if isinstance(each, Seen) and each.facts.unconfirmed:
            nodes.setdefault(each.facts.unconfirmed, []).append(node)
    for token, names in nodes.items():
        script = f"/etc/trscaler-gen/{wanted.inventory.cluster}/current/node.sh"
        yield Refusal(
            f"{listed(names)}: a change by another run was not confirmed yet",
            "wait: without confirmation it is taken back within a minute or two; or take it back at once, on "
            f"the node: sh {script} revert {token}",
        )


def _forgotten_but_heard(
    wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed
) -> Iterator[Refusal]:
    """Nodes of the tables that run, which are to be in none of the new ones, and still send heartbeats."""
    known = {node.address for node in wanted.lock.nodes}
    known |= {retired.address for retired in wanted.departed.values()}
    there = {node.address: node for lock in deployed.locks.values() for node in lock.nodes}
    for node in (node for address, node in there.items() if address not in known):
        ears = hearers(node, seen, deployed)
        if not ears:
            continue
        hear = "hears" if len(ears) == 1 else "hear"
        yield Refusal(
            f"{node.name} is to be forgotten, but {listed(ears)} {hear} its heartbeats: it still serves",
            "power it off or unplug it first; or leave --forget out, so that it is stopped",
        )


def _still_heard(node: str, ears: tuple[str, ...]) -> Refusal:
    hear = "hears" if len(ears) == 1 else "hear"
    return Refusal(
        f"{node} has left the cluster and cannot be reached over SSH, but {listed(ears)} {hear} its "
        "heartbeats: it still serves its share",
        "mend the connection (ssh settings of its own have left the inventory with it: ~/.ssh/config can "
        "hold them); or power it off or unplug it, and plan again",
    )
