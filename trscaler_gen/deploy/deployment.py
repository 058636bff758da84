"""One cluster between its inventory and its nodes: look, plan, carry the plan out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from trscaler_gen.bundle import make_bundles
from trscaler_gen.deploy.fleet import Event, Fleet
from trscaler_gen.deploy.look import look
from trscaler_gen.deploy.rollout import Action, Goal, Job, NodeResult, Report, Work, carry_out
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, RetiredNode, forget_retired
from trscaler_gen.lockfile import read_lock, write_lock
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.pipeline import Compiled
from trscaler_gen.plan import Condition, Plan, Seen, Step, StepAction, Wanted, fitted_lock, make_plan, stale

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

_GOALS = {
    StepAction.NONE: Goal.KEEP,
    StepAction.STOP: Goal.STOP,
    StepAction.SWAP: Goal.SWAP,
    StepAction.RESTART: Goal.RESTART,
    StepAction.START: Goal.START,
}

Conditions = Mapping[str, Condition]


@dataclass(frozen=True)
class Options:
    """How a plan is carried out; see ``Work``."""

    who: str
    confirm_s: int = 60
    allow_unhealthy: bool = False
    erase: bool = True


def departed_nodes(inventory: Inventory, lock: Lock) -> dict[str, RetiredNode]:
    """Who is to be stopped, by name; with the address where another node has the name now."""
    return {
        f"{node.name}@{node.address}" if node.name in inventory.nodes else node.name: node
        for node in lock.retired
    }


def wanted_of(compiled: Compiled, lock: Lock) -> Wanted:
    """What a cluster is to be, with who has left it and was not stopped yet."""
    return Wanted(
        inventory=compiled.inventory,
        lock=lock,
        bundles=compiled.bundles,
        departed=departed_nodes(compiled.inventory, lock),
        lock_before=compiled.lock_before,
    )


def connector(
    inventory: Inventory, departed: Mapping[str, RetiredNode], on_new_key: Callable[[str], None] | None
) -> Callable[[str], Connection]:
    """How to reach a node by name; one that has left the inventory is reached as the others are.

    With ``on_new_key`` a host key that nobody knows is accepted, and told; without it, refused.
    """
    from trscaler_gen.transport import connect, resolve

    def reach(name: str) -> Connection:
        if name in inventory.nodes:
            target = resolve(name, str(inventory.nodes[name].address), inventory.ssh_of(name))
        else:
            target = resolve(name, str(departed[name].address), inventory.ssh)
        if on_new_key is None:
            return connect(target)
        return connect(target, accept_new=True, on_accept=on_new_key)

    return reach


class Deployment:
    """One cluster with connections to its nodes, which are closed at the end of the context.

    ``lock_path`` is where the lock is kept; None leaves it as it is.
    """

    def __init__(
        self,
        wanted: Wanted,
        lock_path: Path | None,
        *,
        executor: Executor,
        on_event: Callable[[Event], None] = lambda event: None,
        on_new_key: Callable[[str], None] | None = None,
    ) -> None:
        self.wanted = wanted
        self.lock_path = lock_path
        self.seen: dict[str, Seen | NodeError] = {}
        reach = connector(wanted.inventory, wanted.departed, on_new_key)
        self._fleet = Fleet(reach, executor=executor, on_event=on_event)

    def __enter__(self) -> Deployment:
        self._fleet.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._fleet.__exit__(kind, error, at)

    def hang_up(self) -> None:
        """End whatever runs on the nodes, from another thread."""
        self._fleet.hang_up()

    def is_recorded(self, plan: Plan) -> bool:
        """Whether every node has the wanted state in its history."""
        seen = (self.seen[step.node] for step in plan.steps if step.action in _GOALS)
        return all(isinstance(one, Seen) and one.facts.change == plan.change for one in seen)

    def plan(self) -> Plan:
        """Look at every node and say what is to be done; changes nothing."""
        self.seen = look(self._fleet, self.wanted)
        lock = fitted_lock(self.wanted, self.seen)
        if lock is not None:
            bundles = make_bundles(plan_nodes(self.wanted.inventory, lock), lock)
            self.wanted = replace(self.wanted, lock=lock, bundles=bundles)
            self.seen = look(self._fleet, self.wanted)
        return make_plan(self.wanted, self.seen)

    def carry_out(self, plan: Plan, options: Options, conditions: Conditions | None = None) -> Report:
        """Do what the plan says, as long as every node is as in ``conditions``: by default the plan's own."""
        expected = conditions if conditions is not None else plan.conditions
        report = carry_out(
            self._work(plan, options),
            self._fleet,
            still_as_planned=lambda node, facts: _changes(expected, node, facts),
            before_change=self.keep_lock,
        )
        self._forget_stopped(report)
        return Report(_with_absent(plan, report), report.interrupted)

    def keep_lock(self) -> None:
        """Write the lock, before anything else: a node must never run what no lock knows."""
        if self.lock_path is None:
            return
        current = read_lock(self.lock_path)
        if current not in (self.wanted.lock_before, self.wanted.lock):
            message = f"{self.lock_path} has been changed meanwhile; nothing was changed on any node"
            raise OperationError(message, "plan again")
        write_lock(self.lock_path, self.wanted.lock)

    def _work(self, plan: Plan, options: Options) -> Work:
        heartbeat = self.wanted.inventory.heartbeat
        return Work(
            cluster=plan.cluster,
            change=plan.change,
            token=secrets.token_hex(6),
            who=options.who,
            jobs={step.node: self._job(step) for step in plan.steps if step.action in _GOALS},
            confirm_s=options.confirm_s,
            settle_s=5 + 4 * heartbeat.interval_ms / 1000,
            allow_unhealthy=options.allow_unhealthy,
            erase=options.erase,
            switches=bool(self.wanted.lock.switch),
            is_switched=plan.switch is None,
        )

    def _job(self, step: Step) -> Job:
        seen = self.seen[step.node]
        assert isinstance(seen, Seen), "a step is planned for nodes that answered"
        bundle = self.wanted.bundles.get(step.node)
        return Job(
            node=step.node,
            goal=_GOALS[step.action],
            generation=bundle.generation if bundle else seen.facts.generation,
            link=self.wanted.inventory.link_of(step.node) if bundle else "lo",
            bundle=bundle,
            before=seen.facts,
            stops_first=step.stops_first,
        )

    def _forget_stopped(self, report: Report) -> None:
        """A node that was stopped and erased gives its id back."""
        stopped = {result.node for result in report.nodes if result.is_erased}
        ids = [node.node_id for name, node in self.wanted.departed.items() if name in stopped]
        if ids and self.lock_path is not None:
            write_lock(self.lock_path, forget_retired(self.wanted.lock, ids))


def _changes(conditions: Conditions, node: str, facts: Facts) -> str:
    texts = stale({node: conditions.get(node, {})}, {node: Seen(facts)})
    return "; ".join(text.removeprefix(f"{node}: ") for text in texts)


def _with_absent(plan: Plan, report: Report) -> tuple[NodeResult, ...]:
    absent = (
        NodeResult(step.node, Action.ABSENT, message="has left the cluster; not reached, and nobody hears it")
        for step in plan.steps
        if step.action is StepAction.ABSENT
    )
    return (*report.nodes, *absent)
