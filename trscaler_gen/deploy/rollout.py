"""The order in which a cluster changes.

A rollout is a sequence of phases with a barrier after each; every phase runs on all its nodes in parallel,
over one connection per node that stays open to the end.

1. *observe*  connect to every node and read its facts; whatever is wrong, on any node, is reported at once.
2. *stage*    unpack the generation beside the others, verify its digests, let node.sh check it there.
3. *stop*     nodes that left the inventory go silent first: their buckets fall to the next in order.
4. *swap*     nodes that run take the new tables; leases, and so owners, stay.
5. *start*    only now nodes that do not run begin to send heartbeats: everybody knows their place by then.

A failure lets the others of its phase finish, and then stops. Until the end of the second phase no node has
changed what it does; after that every node is wholly old or wholly new, because node.sh changes generations
in one step. Nothing here prints: progress is told by events, the outcome by one result per node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from trscaler_gen.bundle import Bundle
from trscaler_gen.deploy.fleet import Event, Fleet, Phase
from trscaler_gen.deploy.node import call, observe, stage, swap
from trscaler_gen.deploy.preflight import objections
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

T = TypeVar("T")


class Action(StrEnum):
    """What became of a node."""

    STARTED = "started"
    SWAPPED = "swapped"
    RESTARTED = "restarted"
    UNCHANGED = "unchanged"
    STOPPED = "stopped"
    FAILED = "failed"
    UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Work:
    """What is to run where: every node's bundle and link, and who has left but has not been stopped yet."""

    cluster: str
    bundles: Mapping[str, Bundle]
    links: Mapping[str, str]
    retired: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes to be reached, in the order of the inventory, the departed last."""
        return (*self.bundles, *self.retired)


@dataclass(frozen=True)
class NodeResult:
    """What was done on a node; ``before`` and ``after`` are what ran (empty: nothing, or unknown)."""

    node: str
    action: Action
    before: str = ""
    after: str = ""
    message: str = ""
    error: NodeError | None = None


@dataclass(frozen=True)
class Report:
    """The outcome of a rollout: one result per node."""

    nodes: tuple[NodeResult, ...]
    interrupted: bool

    @property
    def is_complete(self) -> bool:
        """Whether every node is as the inventory wants it."""
        unfinished = (Action.FAILED, Action.UNTOUCHED)
        return not any(result.action in unfinished for result in self.nodes)


def apply(
    work: Work,
    connect: Callable[[str], Connection],
    *,
    parallel: int = 16,
    on_event: Callable[[Event], None] = lambda event: None,
    before_change: Callable[[], None] = lambda: None,
) -> Report:
    """Bring every node to its bundle; what fails on a node is a result, not an exception.

    ``connect`` opens a connection by node name and raises NodeError. ``before_change`` is called once, when
    all nodes have been found fit and nothing has been written to any.
    """
    with Fleet(connect, parallel=parallel, on_event=on_event) as fleet:
        return _Rollout(work, fleet, before_change).run()


@dataclass
class _Rollout:
    """One run of ``apply``: what is known of the nodes, and what became of them so far."""

    work: Work
    fleet: Fleet
    before_change: Callable[[], None]
    facts: dict[str, Facts] = field(default_factory=dict)
    results: dict[str, NodeResult] = field(default_factory=dict)
    #: nodes that cannot change in place, and why
    must_restart: dict[str, str] = field(default_factory=dict)

    def run(self) -> Report:
        for phase in (self._observe, self._judge, self._stage, self._stop, self._swap, self._start):
            phase()
            if self._must_end():
                break
        self._look_at_failed_nodes()
        results = tuple(self.results.get(node) or self._untouched(node) for node in self.work.nodes)
        return Report(results, self.fleet.interrupted)

    def _must_end(self) -> bool:
        return self.fleet.interrupted or bool(self._failed_nodes())

    def _failed_nodes(self) -> tuple[str, ...]:
        return tuple(node for node, result in self.results.items() if result.action is Action.FAILED)

    def _open_nodes(self) -> tuple[str, ...]:
        return tuple(node for node in self.work.bundles if node not in self.results)

    def _each(
        self,
        phase: Phase,
        nodes: tuple[str, ...],
        task: Callable[[str, Connection], T],
        then: Callable[[str, T], None],
    ) -> None:
        """Run a phase, note its failures, and hand every success to ``then``."""
        for node, outcome in self.fleet.each(phase, nodes, task).items():
            if isinstance(outcome, NodeError):
                before = self.facts[node].running if node in self.facts else ""
                self.results[node] = NodeResult(node, Action.FAILED, before, "", outcome.message, outcome)
            else:
                then(node, outcome)

    # --- the phases, in order ----------------------------------------------------------------------

    def _observe(self) -> None:
        self._each(Phase.OBSERVE, self.work.nodes, self._facts_of, self.facts.__setitem__)
        for node in set(self._failed_nodes()) & set(self.work.retired):
            error = _departed(self.results[node].error)
            self.results[node] = replace(self.results[node], error=error)

    def _facts_of(self, node: str, connection: Connection) -> Facts:
        bundle = self.work.bundles.get(node)
        if bundle is None:
            return observe(node, connection, cluster=self.work.cluster)
        link = self.work.links[node]
        facts = observe(node, connection, cluster=bundle.cluster, link=link, generation=bundle.generation)
        problems = objections(facts, link, bundle)
        if problems:
            raise NodeError(node, "; ".join(problems), hint="nothing was changed on any node")
        return facts

    def _judge(self) -> None:
        for node, bundle in self.work.bundles.items():
            if self.facts[node].serves(bundle.generation):
                # Nothing to deploy, but not all is well: whoever looks should know.
                aside = "" if self.facts[node].serving else "standing aside: it sends no heartbeats"
                self._done(node, Action.UNCHANGED, aside)
        self.before_change()

    def _stage(self) -> None:
        def task(node: str, connection: Connection) -> None:
            bundle = self.work.bundles[node]
            if not self.facts[node].is_staged:
                stage(node, connection, bundle)
            call(node, connection, bundle.cluster, bundle.generation, "check")

        def then(node: str, _: None) -> None:
            self.facts[node] = replace(self.facts[node], is_staged=True)

        self._each(Phase.STAGE, self._open_nodes(), task, then)

    def _stop(self) -> None:
        def task(node: str, connection: Connection) -> None:
            if self.facts[node].runs:
                self._take_down(node, connection)

        def then(node: str, _: None) -> None:
            facts = self.facts[node]
            message = "has left the cluster" if facts.runs else "has left the cluster; nothing ran there"
            self.results[node] = NodeResult(node, Action.STOPPED, facts.running, "", message)

        self._each(Phase.STOP, self.work.retired, task, then)
        if self.work.retired and not self._must_end():
            # A node of the inventory may be the same host, under a new name: see what runs there now.
            self._each(Phase.OBSERVE, self._open_nodes(), self._facts_of, self.facts.__setitem__)

    def _take_down(self, node: str, connection: Connection) -> None:
        call(node, connection, self.work.cluster, self.facts[node].generation, "down")

    def _swap(self) -> None:
        def task(node: str, connection: Connection) -> str:
            return swap(node, connection, self.work.bundles[node])

        def then(node: str, obstacle: str) -> None:
            if obstacle:
                self.must_restart[node] = obstacle
            else:
                self._done(node, Action.SWAPPED)

        running = [node for node in self._open_nodes() if self.facts[node].runs]
        # Without heartbeats a node holds no lease and answers nothing: nothing is lost when it begins anew.
        silent = [node for node in running if self.facts[node].keepalived != "running"]
        self.must_restart |= dict.fromkeys(silent, "keepalived was not running")
        self._each(Phase.SWAP, tuple(node for node in running if node not in silent), task, then)

    def _start(self) -> None:
        def task(node: str, connection: Connection) -> str:
            bundle = self.work.bundles[node]
            if node in self.must_restart:
                self._take_down(node, connection)
            return call(node, connection, bundle.cluster, bundle.generation, "up")

        def then(node: str, said: str) -> None:
            restarted = node in self.must_restart
            self._done(node, Action.RESTARTED if restarted else Action.STARTED, said)

        self._each(Phase.START, self._open_nodes(), task, then)

    # --- what became of the nodes ------------------------------------------------------------------

    def _done(self, node: str, action: Action, said: str = "") -> None:
        before, after = self.facts[node].running, self.work.bundles[node].generation
        message = "; ".join(filter(None, (self.must_restart.get(node), said)))
        self.results[node] = NodeResult(node, action, before, after, message)

    def _look_at_failed_nodes(self) -> None:
        """Ask what they run now, so that nobody has to guess; who cannot say keeps an empty answer."""

        def task(node: str, connection: Connection) -> str:
            return observe(node, connection, cluster=self.work.cluster).running

        nodes = tuple(node for node in self._failed_nodes() if node in self.facts)
        for node, outcome in self.fleet.each(Phase.OBSERVE, nodes, task).items():
            after = "" if isinstance(outcome, NodeError) else outcome
            self.results[node] = replace(self.results[node], after=after)

    def _untouched(self, node: str) -> NodeResult:
        facts = self.facts.get(node)
        if facts is None:
            return NodeResult(node, Action.UNTOUCHED, message="nothing was done")
        is_staged = node in self.work.bundles and facts.is_staged
        message = "staged, not activated" if is_staged else "nothing was done"
        return NodeResult(node, Action.UNTOUCHED, facts.running, facts.running, message)


def _departed(error: NodeError | None) -> NodeError:
    """The same error, of a node that is no longer in the inventory: it may still answer the neighbours."""
    assert error is not None
    hint = (
        "it has left the inventory but may still serve, so nothing was changed. Mend the connection; or power"
        f" the node off, and then say so: trscaler-gen apply --forget {error.node} INVENTORY"
    )
    return NodeError(
        error.node, error.message, hint=hint, command=error.command, status=error.status, stderr=error.stderr
    )
