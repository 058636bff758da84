"""From what is wanted and what was seen to a plan; raises for no mix of the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from trscaler_gen.bundle import change_id
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import deploying
from trscaler_gen.lineage import reinserted
from trscaler_gen.plan.condition import condition_of
from trscaler_gen.plan.connections import connection_notes
from trscaler_gen.plan.deployed import Deployed, read_deployed
from trscaler_gen.plan.judge import disruption, hearers, refusals
from trscaler_gen.plan.model import Plan, Seen, Step, StepAction, Wanted
from trscaler_gen.plan.steps import blocked_step, departed_step, member_step
from trscaler_gen.plan.switch import breakage, switch_of
from trscaler_gen.plan.traffic import traffic_of
from trscaler_gen.plan.words import listed


def make_plan(wanted: Wanted, seen: Mapping[str, Seen | NodeError]) -> Plan:
    """Compare what every node runs with what the inventory asks for."""
    deployed = read_deployed(wanted, seen)
    steps = tuple(_steps(wanted, seen, deployed))
    base = deployed.base
    switch = switch_of(wanted, seen, deployed)
    return Plan(
        cluster=wanted.inventory.cluster,
        source=wanted.inventory.source,
        change=change_id(wanted.bundles),
        epoch_before=base.epoch if base else _highest_epoch(seen),
        epoch_after=wanted.lock.epoch,
        serial_before=base.serial if base else 0,
        serial_after=wanted.lock.serial,
        steps=steps,
        traffic=traffic_of(deployed.live, wanted.lock, is_unknown=_is_unknown(seen, deployed)),
        switch=switch,
        disruption=(
            *disruption(wanted, seen, deployed, steps),
            *breakage(switch, wanted.lock.buckets),
        ),
        refusals=tuple(refusals(wanted, seen, deployed, steps)),
        notes=(*_notes(seen, deployed, steps), *connection_notes(wanted, seen, steps)),
        conditions={node: condition_of(each.facts) for node, each in seen.items() if isinstance(each, Seen)},
    )


def _steps(wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed) -> Iterator[Step]:
    again = {name for lock in deployed.running_locks for name in reinserted(lock, wanted.lock)}
    for node, bundle in wanted.bundles.items():
        step = member_step(node, bundle, seen.get(node), is_reinserted=node in again)
        yield replace(step, is_drained=_is_drained(seen.get(node)))
    for node, retired in wanted.departed.items():
        there = seen.get(node)
        if isinstance(there, Seen):
            step = departed_step(node, there, erased=not wanted.is_rollback)
            yield replace(step, is_drained=_is_drained(there))
        elif hearers(retired, seen, deployed):
            yield blocked_step(node, there)
        else:
            yield Step(node, StepAction.ABSENT, problem=there)


def _is_drained(seen: Seen | NodeError | None) -> bool:
    return isinstance(seen, Seen) and seen.facts.draining


def _is_unknown(seen: Mapping[str, Seen | NodeError], deployed: Deployed) -> bool:
    nobody_answered = not any(isinstance(each, Seen) for each in seen.values())
    return deployed.base is None and (nobody_answered or bool(deployed.running))


def _highest_epoch(seen: Mapping[str, Seen | NodeError]) -> int:
    epochs = [each.facts.epoch for each in seen.values() if isinstance(each, Seen) and each.facts.runs]
    return max(epochs, default=0)


def _notes(
    seen: Mapping[str, Seen | NodeError], deployed: Deployed, steps: tuple[Step, ...]
) -> Iterator[str]:
    yield from (_absent_note(step) for step in steps if step.action is StepAction.ABSENT)
    for node, why in deployed.unreadable.items():
        if node in deployed.running:
            yield f"{node}: {why}: what its traffic does is not counted"
    locks = deployed.running_locks
    if len(locks) > 1 and deployed.base:
        groups = (f"{listed(deployed.runners(lock))} of serial {lock.serial}" for lock in locks)
        yield (
            f"the nodes run different states: {'; '.join(groups)}; the traffic before is that of "
            f"{listed(deployed.runners(deployed.base))}"
        )
    for step in steps:
        there = seen.get(step.node)
        if isinstance(there, Seen) and there.facts.runs and not (there.facts.serving or step.is_drained):
            yield _aside_note(step.node, there)
        if isinstance(there, Seen) and there.facts.deployer:
            yield f"{step.node}: {deploying(there.facts.deployer, there.facts.since)}"


def _absent_note(step: Step) -> str:
    why = f" ({step.problem.message})" if step.problem else ""
    return (
        f"{step.node} has left the cluster and cannot be reached{why}; nobody hears it, so it does not keep "
        "the others waiting. If it comes back alone it stands aside by itself, for the others have a newer "
        f"serial. Keep it off or wipe it, then: trscaler-gen apply --forget {step.node}"
    )


def _aside_note(node: str, seen: Seen) -> str:
    if seen.facts.fenced:
        return f"{node} stands aside: its peers have a newer epoch or serial"
    said = seen.facts.heartbeat
    return f"{node} stands aside: it sends no heartbeats{f' (keepalived says {said})' if said else ''}"
