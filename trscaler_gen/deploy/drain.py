"""Taking nodes out of service with their connections, and back.

A drained node says so in its heartbeats: the others answer for its buckets from then on, and it keeps the TCP
connections that it has. It stays drained, also over a reboot, until it is undrained. It is told under the
deployment locks of the whole cluster, so that two operators do not drain each other's last node; they are let
go before the connections are waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trscaler_gen.deploy.deployment_lock import BusyError, DeploymentLocks
from trscaler_gen.deploy.lines import Lines
from trscaler_gen.deploy.node import call, observe
from trscaler_gen.deploy.preflight import not_root
from trscaler_gen.deploy.scripts import script
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.facts import ROOT, Facts, script_path

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

Answers = Mapping[str, Facts | NodeError]

_POLL_S = 0.25
_HELD_EVERY_S = 1.0
_HELD_TIMEOUT_S = 30.0
#: a node that is waited for may be silent for so long
_SILENCE_S = 60.0


@dataclass(frozen=True)
class Crew:
    """The nodes of a cluster, and how to reach them.

    ``names`` are those that are asked, ``settle_s`` is how long a node may take until its heartbeats are
    heard, ``inventory`` the file's name, for hints.
    """

    cluster: str
    names: tuple[str, ...]
    lines: Lines
    settle_s: float
    inventory: str

    def without(self, silent: Iterable[str]) -> Crew:
        """The same crew, but these are not asked again: each would cost the time of a vain connection."""
        return replace(self, names=tuple(name for name in self.names if name not in set(silent)))

    def observe(self, names: Sequence[str]) -> Answers:
        """Read the facts of nodes; raises NodeError where the login is not root's."""

        def task(node: str, connection: Connection) -> Facts:
            facts = observe(node, connection, cluster=self.cluster)
            if facts.uid != 0:
                raise not_root(node)
            return facts

        return self.lines.each(names, task)

    def facts_of(self, node: str) -> Facts:
        """Read the facts of one node; raises NodeError."""
        answer = self.observe([node])[node]
        if isinstance(answer, NodeError):
            raise answer
        return answer

    def call(self, node: str, facts: Facts, verb: str, *words: str) -> str:
        """Run a verb of what a node runs; raises NodeError."""
        path = script_path(self.cluster, facts.generation)
        return self.lines.use(node, lambda name, connection: call(name, connection, path, verb, *words))

    @contextmanager
    def locked(self, token: str, who: str, needed: Sequence[str]) -> Iterator[DeploymentLocks]:
        """Hold the deployment locks of all nodes that answer; raises NodeError where somebody else does.

        Without those of ``needed`` nothing begins.
        """
        with DeploymentLocks(self.cluster, token, who) as locks:
            self.take_locks(locks, self.names, needed)
            yield locks

    def take_locks(self, locks: DeploymentLocks, names: Sequence[str], needed: Sequence[str]) -> None:
        """Take the locks that are not held yet; the first alone: of two who begin, one goes on."""
        missing = [name for name in names if not locks.holds(name)]
        for group in (missing[:1], missing[1:]):
            for node, answer in self.lines.each(group, locks.take).items():
                if isinstance(answer, BusyError) or (isinstance(answer, NodeError) and node in needed):
                    raise answer


@dataclass
class Draining:
    """Nodes on their way out of service; ``told`` gets those that were told, whatever came of it."""

    crew: Crew
    told: list[str] = field(default_factory=list)

    def drain(self, nodes: Sequence[str], *, force: bool) -> None:
        """Tell nodes to drain, and see that the others know; raises OperationError, or NodeError.

        To be called under the deployment locks.
        """
        seen = self.crew.observe(self.crew.names)
        refuse(nodes, seen, self.crew, force=force)
        for node in nodes:
            facts = seen[node]
            assert isinstance(facts, Facts)
            if not facts.draining:
                self._tell(node, facts, force=force)
        self._prove([node for node in nodes if node in self.told])

    def _tell(self, node: str, facts: Facts, *, force: bool) -> None:
        self.told.append(node)
        try:
            self.crew.call(node, facts, "drain", *(["force"] if force else []))
        except NodeError as error:
            if error.status is not None:  # it has answered that it does not
                self.told.remove(node)
            raise

    def _prove(self, nodes: Sequence[str]) -> None:
        deadline = time.monotonic() + self.crew.settle_s
        while True:
            trouble = _unheard(nodes, self.crew.observe(self.crew.names))
            if trouble is None:
                return
            if time.monotonic() > deadline:
                raise trouble
            time.sleep(_POLL_S)


def refuse(nodes: Sequence[str], seen: Answers, crew: Crew, *, force: bool) -> None:
    """Raise OperationError if nodes cannot be drained or nobody would be left, NodeError if one is silent."""
    for node in nodes:
        facts = seen[node]
        if isinstance(facts, NodeError):
            raise facts
        if not facts.runs:
            message = f"it does not run cluster {crew.cluster}: there is nothing to drain"
            raise NodeError(node, message, hint=f"see trscaler-gen status {crew.inventory}")
    old = [name for name, facts in seen.items() if isinstance(facts, Facts) and _is_old(facts)]
    if old:
        message = f"{', '.join(old)} runs files of an earlier release, which do not know of draining"
        raise OperationError(
            message, f"bring all nodes up to date first: trscaler-gen apply {crew.inventory}"
        )
    if not force:
        for node in nodes:
            _refuse_last(node, nodes, seen)


def _is_old(facts: Facts) -> bool:
    return facts.runs and not facts.can_drain


def _refuse_last(node: str, nodes: Sequence[str], seen: Answers) -> None:
    """Somebody has to be left whom the node hears, and who does not say himself that he does not serve."""
    facts = seen[node]
    assert isinstance(facts, Facts)
    if not facts.serving:
        return
    going = {seen[name].node_id for name in nodes}  # type: ignore[union-attr]  # they have answered
    idle = {one.node_id for one in seen.values() if isinstance(one, Facts) and not one.serving}
    if not facts.alive - going - idle:
        all_ = "it" if len(nodes) == 1 else "these nodes"
        message = f"no other node serves: with {all_} drained nobody would take new connections"
        raise NodeError(node, message, hint="bring another node back first; or drain all the same: --force")


def _unheard(nodes: Sequence[str], seen: Answers) -> NodeError | None:
    """Why new connections may still come to a drained node, if they may."""
    for node in nodes:
        facts = seen[node]
        if isinstance(facts, NodeError):
            return facts.with_node(node, "it was told to drain; whether it does: trscaler-gen status")
        if not facts.draining or facts.serving:
            return NodeError(node, "it was told to drain, and serves still", hint=_LOG_HINT)
        deaf = [name for name, one in seen.items() if isinstance(one, Facts) and _is_deaf(one, facts)]
        if deaf and facts.heartbeat == "MASTER":
            message = f"it is drained, but {', '.join(deaf)} does not hear its heartbeats say so"
            return NodeError(node, message, hint="who hears whom: trscaler-gen status")
    return None


def _is_deaf(one: Facts, drained: Facts) -> bool:
    is_peer = one.runs and one.node_id != drained.node_id and one.epoch == drained.epoch and not one.fenced
    return is_peer and drained.node_id not in one.peers_draining


_LOG_HINT = "look at its log: journalctl -t 'trscaler-gen-*' -n 50"


# --- back into service ---------------------------------------------------------------------------------


def undrain(crew: Crew, node: str, facts: Facts) -> Facts:
    """Tell a drained node to serve again, and wait for it; answers what it is then, serving or not.

    To be called under its deployment lock. Raises NodeError.
    """
    crew.call(node, facts, "undrain")
    return await_serving(crew, node)


def await_serving(crew: Crew, node: str) -> Facts:
    """Wait until an undrained node serves, as long as it may take; answers what it is then."""
    deadline = time.monotonic() + crew.settle_s
    while True:
        facts = crew.facts_of(node)
        if (facts.serving and not facts.draining) or not facts.runs or time.monotonic() > deadline:
            return facts
        time.sleep(_POLL_S)


# --- waiting for connections to end --------------------------------------------------------------------


def await_no_connections(
    crew: Crew,
    nodes: Sequence[str],
    tell: Callable[[Mapping[str, int]], None],
    *,
    timeout_s: float | None = None,
) -> dict[str, int]:
    """Wait until drained nodes hold no TCP connection; answers how many each holds then.

    ``tell`` is called with every count. Raises NodeError if a node is silent for a minute, or somebody has
    undrained it.
    """
    began = time.monotonic()
    held: dict[str, int] = dict.fromkeys(nodes, -1)
    heard = dict.fromkeys(nodes, began)
    while True:
        waiting = [node for node in nodes if held[node] != 0]
        for node, answer in crew.lines.each(waiting, lambda node, line: _held(crew, node, line)).items():
            if isinstance(answer, int):
                held[node], heard[node] = answer, time.monotonic()
            elif isinstance(answer, NotDrainedError) or time.monotonic() - heard[node] > _SILENCE_S:
                raise answer
        tell(held)
        is_over = timeout_s is not None and time.monotonic() - began >= timeout_s
        if not any(held.values()) or is_over:
            return held
        time.sleep(_HELD_EVERY_S if timeout_s is None else min(_HELD_EVERY_S, timeout_s))


class NotDrainedError(NodeError):
    """A node that is waited for takes new connections again."""


def _held(crew: Crew, node: str, connection: Connection) -> int:
    argv = ("sh", "-c", script("held.sh"), "sh", f"{ROOT}/{crew.cluster}")
    done = connection.run(argv, timeout_s=_HELD_TIMEOUT_S)
    said = done.stdout.strip()
    if done.status == 0 and said == "undrained":
        raise NotDrainedError(node, "somebody has undrained it: it takes new connections again")
    if done.status != 0 or not (said.isascii() and said.isdigit()):
        message = (
            f"it does not tell how many connections it holds: {(done.stderr or said).strip() or 'nothing'}"
        )
        raise NodeError(node, message, command="node.sh held", status=done.status, stderr=done.stderr)
    return int(said)
