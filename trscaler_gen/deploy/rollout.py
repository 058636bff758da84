"""The order in which a cluster changes.

Within one phase every mix of nodes that have made their step and nodes that have not is safe: no packet has
two owners, and none has no owner for longer than a lease. So a phase is *committed* on its nodes, *proven*
over new SSH connections, and *confirmed*, before the next one begins:

1. *lock*    take the deployment lock on every node; see that every node is still what the plan saw.
2. *stage*   unpack the generations beside the others, verify their digests, let node.sh check them there.
3. *stop*    nodes that leave go silent first: their buckets fall to the next in order.
4. *swap*    nodes that run take the new tables; leases, and so owners, stay.
5. *start*   only now nodes that do not run begin to send heartbeats: everybody knows their place by then.
6. *switch*  where nodes that stay change places, all hold both placements by now, and one node is told to go
             over to the newer one: its next heartbeat takes all others along.
7. *record*  the change goes into every node's history; old generations go, and the traces of who left.

A step that is committed carries the node's own promise to take it back, unless it is confirmed in time: if
the deployer dies, or has cut himself off, the node is as before without him. When a proof fails in the phases
stop and swap, all nodes of the phase go back at once; nodes that start are independent of each other, and
only those that fail go back. A switch is one event for the whole cluster and has no way back but another one:
nothing is armed any more when it begins, and who has missed it learns it from the next heartbeat that it
hears. Nothing here prints: progress is told by events, the outcome by one result per node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from trscaler_gen.bundle import Bundle
from trscaler_gen.deploy.deployment_lock import DeploymentLocks
from trscaler_gen.deploy.fleet import Fleet, Phase
from trscaler_gen.deploy.node import call, give_time_to_serve, observe, revert, stage, wipe
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts, script_path

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

T = TypeVar("T")

_POLL_S = 0.25


class Goal(StrEnum):
    """What a job does to its node."""

    KEEP = "keep"
    STOP = "stop"
    SWAP = "swap"
    RESTART = "restart"
    START = "start"


class Action(StrEnum):
    """What became of a node."""

    STARTED = "started"
    SWAPPED = "swapped"
    RESTARTED = "restarted"
    SWITCHED = "switched"
    UNCHANGED = "unchanged"
    STOPPED = "stopped"
    ABSENT = "absent"
    REVERTED = "reverted"
    FAILED = "failed"
    UNTOUCHED = "untouched"


_ACTIONS = {
    Goal.KEEP: Action.UNCHANGED,
    Goal.STOP: Action.STOPPED,
    Goal.SWAP: Action.SWAPPED,
    Goal.RESTART: Action.RESTARTED,
    Goal.START: Action.STARTED,
}


@dataclass(frozen=True)
class Job:
    """What is to become of one node.

    ``generation`` is what it is to run; with a goal of STOP, what it runs now. ``bundle`` is None where the
    generation lies there already. ``before`` is what the plan saw. ``stops_first``: of a restart, the node
    goes silent in the phase *stop*, for it has other places in the new tables than in the old ones.
    """

    node: str
    goal: Goal
    generation: str
    link: str
    bundle: Bundle | None
    before: Facts
    stops_first: bool = False


@dataclass(frozen=True)
class Work:
    """One change of one cluster: a job per node, in the order in which they are shown.

    ``token`` names this run, ``change`` what the cluster is to be, ``who`` the deployer (one word). A step
    that is not confirmed ``confirm_s`` after it began is taken back by its node; ``settle_s`` is how long a
    node may take until its heartbeats are heard. ``erase``: nodes that leave keep nothing. ``switches``: the
    nodes hold two placements, and are to use the newer one in the end; ``is_switched``: all that serve do.
    """

    cluster: str
    change: str
    token: str
    who: str
    jobs: Mapping[str, Job]
    confirm_s: int = 60
    settle_s: float = 10.0
    allow_unhealthy: bool = False
    erase: bool = True
    switches: bool = False
    is_switched: bool = False


@dataclass(frozen=True)
class NodeResult:
    """What was done on a node; ``before`` and ``after`` are what ran (empty: nothing, or unknown).

    ``is_erased``: no trace of the cluster is left on it.
    """

    node: str
    action: Action
    before: str = ""
    after: str = ""
    message: str = ""
    error: NodeError | None = None
    is_erased: bool = False


@dataclass(frozen=True)
class Report:
    """The outcome of a rollout: one result per node."""

    nodes: tuple[NodeResult, ...]
    interrupted: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every node is as it was to be."""
        unfinished = (Action.FAILED, Action.UNTOUCHED, Action.REVERTED)
        return not any(result.action in unfinished for result in self.nodes)


def carry_out(
    work: Work,
    fleet: Fleet,
    *,
    still_as_planned: Callable[[str, Facts], str] = lambda node, facts: "",
    before_change: Callable[[], None] = lambda: None,
) -> Report:
    """Carry the work out; what fails on a node is a result, not an exception.

    ``still_as_planned`` says what is no longer as the plan saw it, or nothing. ``before_change`` is called
    once, when all nodes are locked and nothing has been written to any.
    """
    with DeploymentLocks(work.cluster, work.token, work.who) as locks:
        return _Rollout(work, fleet, locks, still_as_planned, before_change).run()


@dataclass
class _Rollout:
    """One run: what became of the nodes so far."""

    work: Work
    fleet: Fleet
    locks: DeploymentLocks
    still_as_planned: Callable[[str, Facts], str]
    before_change: Callable[[], None]
    facts: dict[str, Facts] = field(default_factory=dict)
    results: dict[str, NodeResult] = field(default_factory=dict)
    staged: set[str] = field(default_factory=set)
    #: nodes that have gone silent, to start anew
    silent: set[str] = field(default_factory=set)
    #: whether a node runs what it was to run, for good
    has_changed: bool = False
    #: whether all nodes use the placement that they are to use
    has_switched: bool = False

    def run(self) -> Report:
        for phase in (self._lock, self._stage, self._stop, self._swap, self._start):
            phase()
            if self._must_end():
                break
        if self.work.switches and not self._must_end():
            self._switch()
        # Also when only a start has failed: this change is what runs now, and what a rollback goes back from.
        # But not a switch that was not made: applying again has to go on with it.
        is_settled = not self.work.switches or self.work.is_switched or self.has_switched
        if (self.has_changed and is_settled) or not self._must_end():
            self._record()
        self._bring_back()
        self._look_at_failed_nodes()
        results = tuple(self.results.get(node) or self._untouched(node) for node in self.work.jobs)
        return Report(results, self.fleet.interrupted)

    def _must_end(self) -> bool:
        return self.fleet.interrupted or bool(self._with_action(Action.FAILED, Action.REVERTED))

    def _with_action(self, *actions: Action) -> tuple[str, ...]:
        return tuple(node for node, result in self.results.items() if result.action in actions)

    def _with_goal(self, *goals: Goal) -> tuple[str, ...]:
        return tuple(node for node, job in self.work.jobs.items() if job.goal in goals)

    def _each(
        self, phase: Phase, nodes: Iterable[str], task: Callable[[str, Connection], T], *, fresh: bool = False
    ) -> dict[str, T]:
        """Run a task, note its failures, answer its successes."""
        outcomes = self.fleet.each(phase, nodes, task, fresh=fresh)
        for node, outcome in outcomes.items():
            if isinstance(outcome, NodeError):
                self._failed(node, outcome)
        return {node: outcome for node, outcome in outcomes.items() if not isinstance(outcome, NodeError)}

    def _failed(self, node: str, error: NodeError) -> None:
        before = self.facts[node].running if node in self.facts else ""
        self.results[node] = NodeResult(node, Action.FAILED, before, "", error.message, error)

    # --- the phases, in order ----------------------------------------------------------------------

    def _lock(self) -> None:
        def task(node: str, connection: Connection) -> Facts:
            self.locks.take(node, connection)
            facts = self._observe(node, connection)
            changed = self.still_as_planned(node, facts)
            if changed:
                raise NodeError(node, f"no longer what the plan saw: {changed}", hint="plan again")
            return facts

        # Of two who begin at the same moment, the one who gets the first node goes on.
        nodes = tuple(self.work.jobs)
        self.facts |= self._each(Phase.LOCK, nodes[:1], task)
        if not self._must_end():
            self.facts |= self._each(Phase.LOCK, nodes[1:], task)
        if not self._must_end():
            self.before_change()

    def _observe(self, node: str, connection: Connection) -> Facts:
        job = self.work.jobs[node]
        generation = job.generation if job.goal is not Goal.STOP else ""
        return observe(
            node, connection, cluster=self.work.cluster, link=job.link, generation=generation, tools=()
        )

    def _stage(self) -> None:
        def task(node: str, connection: Connection) -> None:
            job = self.work.jobs[node]
            if not self.facts[node].is_staged and job.bundle is not None:
                stage(node, connection, job.bundle)
            self._call(node, connection, "check")

        nodes = self._with_goal(Goal.SWAP, Goal.RESTART, Goal.START)
        self.staged |= set(self._each(Phase.STAGE, nodes, task))

    def _stop(self) -> None:
        restarting = [node for node, job in self.work.jobs.items() if job.stops_first]
        leaving = self._with_goal(Goal.STOP)
        running = [node for node in leaving if _runs(self.work.jobs[node].before)]
        self._change_together(Phase.STOP, (*running, *restarting), self._down)
        for node in leaving:
            if node not in running:
                self._done(node)
        self.silent |= {node for node in restarting if self._is_done(node)}
        for node in self.silent:
            del self.results[node]

    def _swap(self) -> None:
        def task(node: str, connection: Connection) -> str:
            return self._call(node, connection, "swap", self.work.token, str(self.work.confirm_s))

        self._change_together(Phase.SWAP, self._with_goal(Goal.SWAP), task)

    def _start(self) -> None:
        def task(node: str, connection: Connection) -> str:
            if self.work.jobs[node].goal is Goal.RESTART and node not in self.silent:
                self._down(node, connection)
            return self._call(node, connection, "up", self.work.token, str(self.work.confirm_s))

        nodes = self._with_goal(Goal.RESTART, Goal.START)
        begun = self._each(Phase.START, nodes, task)
        proven = () if self.fleet.interrupted else self._prove(begun, is_started=True)
        if not self.fleet.interrupted:
            self._confirm(proven)
        self._revert((node for node in nodes if not self._is_done(node)), "went back")

    def _switch(self) -> None:
        """Every node holds both placements, for good: one begins to use the newer one, and all follow."""
        nodes = self._with_goal(Goal.KEEP, Goal.SWAP, Goal.RESTART, Goal.START)
        ready = self._each(Phase.PROVE, nodes, self._observe_ready, fresh=True)
        if self._must_end():
            return
        late = [node for node in nodes if ready[node].placement != "after"]
        error = self._begin_switch(ready) if len(late) == len(nodes) else None
        # Also after a failure: the frame may have left before it.
        followed = self._await_switch(nodes, 0 if error else self.work.settle_s)
        if error and not followed:
            self._failed(error.node, error)
            return
        for node in nodes:
            if node not in followed:
                self._failed(node, NodeError(node, _NOT_SWITCHED, hint=_NOT_SWITCHED_HINT))
            elif node in late:
                self._note_switched(node)
        # Each writes down that it has switched, and begins so after a reboot; one may have had one just now.
        lasting = self._each(Phase.SWITCH, followed, self._call_switch, fresh=True)
        self.has_switched = len(lasting) == len(nodes)

    def _observe_ready(self, node: str, connection: Connection) -> Facts:
        """A node that does not hold both placements would be left behind; raises NodeError."""
        facts, job = self._observe(node, connection), self.work.jobs[node]
        is_as_wanted = facts.generation == facts.loaded == job.generation and not facts.unconfirmed
        if not is_as_wanted or facts.placement not in ("before", "after"):
            message = f"it is not ready to switch: it runs generation {facts.loaded or 'none'}"
            raise NodeError(node, message, hint=_NOT_READY_HINT)
        return facts

    def _begin_switch(self, ready: Mapping[str, Facts]) -> NodeError | None:
        """Its next heartbeat carries the switch, so it has to be one that sends them."""
        first = next((node for node, facts in ready.items() if facts.serving), next(iter(ready)))
        outcome = self.fleet.each(Phase.SWITCH, (first,), self._call_switch, fresh=True).get(first)
        return outcome if isinstance(outcome, NodeError) else None

    def _await_switch(self, nodes: tuple[str, ...], patience_s: float) -> tuple[str, ...]:
        """The nodes that use the newer placement by the end."""

        def task(node: str, connection: Connection) -> bool:
            deadline = time.monotonic() + patience_s
            while self._observe(node, connection).placement != "after":
                if time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_S)
            return True

        outcomes = self.fleet.each(Phase.PROVE, nodes, task, fresh=True)
        return tuple(node for node, outcome in outcomes.items() if outcome is True)

    def _call_switch(self, node: str, connection: Connection) -> str:
        return self._call(node, connection, "switch")

    def _note_switched(self, node: str) -> None:
        self._done(node)
        job, result = self.work.jobs[node], self.results[node]
        if job.goal is Goal.KEEP:
            self.results[node] = replace(result, action=Action.SWITCHED)
        else:
            self.results[node] = replace(result, message="and switched with the others")

    def _record(self) -> None:
        """What runs is right by now: a node that cannot note it down has not failed."""

        def task(node: str, connection: Connection) -> None:
            if self.work.jobs[node].goal is Goal.STOP:
                self._erase(node, connection)
            elif self.facts[node].change != self.work.change:
                self._call(node, connection, "record", self.work.change, self.work.who)

        for node in self._with_goal(Goal.KEEP):
            if node not in self.results:
                self._done(node)
        done = [node for node in self.work.jobs if self._is_done(node)]
        for node, outcome in self.fleet.each(Phase.RECORD, done, task).items():
            result = self.results[node]
            if isinstance(outcome, NodeError):
                said = f"the change is made, but was not written down there: {outcome.message}"
                self.results[node] = replace(result, message=said)
            else:
                is_erased = self.work.erase and result.action is Action.STOPPED
                self.results[node] = replace(result, is_erased=is_erased)

    def _erase(self, node: str, connection: Connection) -> None:
        if not self.work.erase:
            return
        if self.work.jobs[node].generation:
            self._call(node, connection, "erase")
        else:
            wipe(node, connection, self.work.cluster)

    # --- commit, prove, confirm; or go back --------------------------------------------------------

    def _change_together(
        self, phase: Phase, nodes: tuple[str, ...], task: Callable[[str, Connection], str]
    ) -> None:
        began = time.monotonic()
        self._each(phase, nodes, task)
        if not self._must_end():
            proven = self._prove(nodes, stopped=phase is Phase.STOP)
            is_late = time.monotonic() - began > self.work.confirm_s
            if not self._must_end() and not is_late:
                self._confirm(proven)
                return
        failed = ", ".join(self._with_action(Action.FAILED))
        why = f"because of {failed}" if failed else f"because it took longer than {self.work.confirm_s} s"
        self._revert(nodes, "went back" if self.fleet.interrupted else f"went back {why}")

    def _prove(
        self, nodes: Iterable[str], *, stopped: bool = False, is_started: bool = False
    ) -> tuple[str, ...]:
        """Over a new connection each: the node can be reached, and is what it was to become.

        ``is_started``: its keepalived has been, and the first heartbeat takes some time.
        """

        def task(node: str, connection: Connection) -> Facts:
            if is_started:
                give_time_to_serve(connection, self._script(node))
            deadline = time.monotonic() + self.work.settle_s
            while True:
                facts = self._observe(node, connection)
                missing = _what_still_runs(facts) if stopped else self._missing(self.work.jobs[node], facts)
                if not missing:
                    return facts
                if time.monotonic() > deadline:
                    raise NodeError(node, missing, hint=_UNPROVEN_HINT)
                time.sleep(_POLL_S)

        return tuple(self._each(Phase.PROVE, nodes, task, fresh=True))

    def _missing(self, job: Job, facts: Facts) -> str:
        """What a node lacks to be what it was to become; empty if nothing."""
        if facts.unconfirmed != self.work.token:
            return "it has gone back already"
        if facts.generation != job.generation or not facts.is_staged:
            return f"it runs generation {facts.generation or 'none'}"
        if not facts.is_whole:
            return f"its ruleset is {facts.ruleset}, keepalived {facts.keepalived}"
        must_serve = job.goal is not Goal.SWAP or job.before.serving
        is_well = facts.serving or (facts.draining and facts.heartbeat == "MASTER")
        if must_serve and not is_well and not self.work.allow_unhealthy:
            return f"it sends no heartbeats, keepalived says {facts.heartbeat or 'nothing'}"
        return ""

    def _confirm(self, nodes: Iterable[str]) -> None:
        def task(node: str, connection: Connection) -> str:
            return self._call(node, connection, "confirm", self.work.token)

        for node in self._each(Phase.CONFIRM, nodes, task):
            self.has_changed |= self.work.jobs[node].goal is not Goal.STOP
            self._done(node)

    def _is_done(self, node: str) -> bool:
        return node in self.results and self.results[node].action is not Action.FAILED

    def _revert(self, nodes: Iterable[str], why: str) -> None:
        """Send nodes back to what they ran before; a node that has not begun has nothing to go back from."""

        def task(node: str, connection: Connection) -> bool:
            return revert(node, connection, self._script(node), self.work.token)

        for node, outcome in self.fleet.each(Phase.REVERT, tuple(nodes), task, fresh=True).items():
            before = self.facts[node].running
            if isinstance(outcome, NodeError):
                error = self._error_of(node) or outcome
                hint = f"it goes back by itself within {self.work.confirm_s} s: see `trscaler-gen status`"
                failed = NodeResult(
                    node, Action.FAILED, before, "", error.message, error.with_node(node, hint)
                )
                self.results[node] = failed
            elif outcome and node not in self.results:
                self.results[node] = NodeResult(node, Action.REVERTED, before, before, why)

    def _bring_back(self) -> None:
        """Who went silent only to start anew, and did not, runs again what it ran before.

        Should one of the others have the new tables still, its serial keeps this one from serving.
        """

        def task(node: str, connection: Connection) -> str:
            script = script_path(self.work.cluster, self.work.jobs[node].before.generation)
            return call(node, connection, script, "up")

        nodes = [node for node in sorted(self.silent) if not self._is_done(node)]
        for node, outcome in self.fleet.each(Phase.REVERT, nodes, task, fresh=True).items():
            before = self.work.jobs[node].before.running
            if isinstance(outcome, NodeError):
                self._failed(node, outcome)
            elif node not in self.results:
                self.results[node] = NodeResult(node, Action.REVERTED, before, before, "went back")

    def _error_of(self, node: str) -> NodeError | None:
        return self.results[node].error if node in self.results else None

    def _down(self, node: str, connection: Connection) -> str:
        """By its own script: what runs knows how to go."""
        script = script_path(self.work.cluster, self.work.jobs[node].before.generation)
        return call(node, connection, script, "down", self.work.token, str(self.work.confirm_s))

    def _script(self, node: str) -> str:
        return script_path(self.work.cluster, self.work.jobs[node].generation)

    def _call(self, node: str, connection: Connection, verb: str, *words: str) -> str:
        return call(node, connection, self._script(node), verb, *words)

    # --- what became of the nodes ------------------------------------------------------------------

    def _done(self, node: str) -> None:
        job = self.work.jobs[node]
        after = "" if job.goal is Goal.STOP else job.generation
        self.results[node] = NodeResult(node, _ACTIONS[job.goal], job.before.running, after)

    def _look_at_failed_nodes(self) -> None:
        """Ask what they run now, so that nobody has to guess; who cannot say keeps an empty answer."""

        def task(node: str, connection: Connection) -> str:
            return self._observe(node, connection).running

        nodes = tuple(node for node in self._with_action(Action.FAILED) if node in self.facts)
        for node, outcome in self.fleet.each(Phase.OBSERVE, nodes, task, fresh=True).items():
            after = "" if isinstance(outcome, NodeError) else outcome
            self.results[node] = replace(self.results[node], after=after)

    def _untouched(self, node: str) -> NodeResult:
        before = self.work.jobs[node].before.running
        message = "staged, not activated" if node in self.staged else "nothing was done"
        return NodeResult(node, Action.UNTOUCHED, before, before, message)


def _runs(facts: Facts) -> bool:
    return facts.runs or facts.keepalived == "running"


def _what_still_runs(facts: Facts) -> str:
    return "it still runs" if facts.runs or facts.serving else ""


_NOT_READY_HINT = (
    "all nodes still use the placement before the switch, which is safe; mend this one, and apply again"
)
_NOT_SWITCHED = "it still uses the placement before the switch"
_NOT_SWITCHED_HINT = (
    "it hears none of the others: mend its link. It switches at the first heartbeat that it hears; "
    "apply again then"
)
_UNPROVEN_HINT = "it goes back to what it ran before; look at its log: journalctl -t 'trscaler-gen-*' -n 50"
