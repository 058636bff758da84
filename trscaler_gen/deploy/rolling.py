"""A command on the nodes of a cluster, one after the other, each of them drained meanwhile.

The deployment locks of all nodes are held from the beginning to the end: nobody else drains or changes a node
while one is out of service. Each node has its turn:

1. *check*    every node is well: with another one ill, this would be the second to go.
2. *drain*    new connections go to the others; they have heard it.
3. *wait*     until its connections have ended.
4. *command*  run it, and show what it says. A connection that breaks meanwhile may mean a reboot.
5. *return*   until it can be reached, has rebooted if it was about to, and is well again while still drained.
6. *undrain*  new connections may come again.
7. *serve*    until it serves, and all are well.

The first step that fails is the last. Nothing is taken back then: what is left is said, and how to go on. A
node that was drained before its turn is left drained.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from trscaler_gen.deploy.deployment_lock import BusyError, DeploymentLocks
from trscaler_gen.deploy.drain import Crew, Draining, await_no_connections, await_serving
from trscaler_gen.deploy.scripts import script
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.facts import Facts, script_path

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

_ALIVE_TIMEOUT_S = 15.0
_HEALTH_TIMEOUT_S = 60.0


class Step(StrEnum):
    """What is done in a node's turn."""

    CHECK = "check"
    DRAIN = "drain"
    WAIT = "wait"
    COMMAND = "command"
    RETURN = "return"
    UNDRAIN = "undrain"
    SERVE = "serve"


@dataclass(frozen=True)
class StepBegan:
    """A step begins."""

    node: str
    step: Step


@dataclass(frozen=True)
class Held:
    """So many connections are left on a node."""

    node: str
    count: int


@dataclass(frozen=True)
class Output:
    """The command has said a line; safe to show, but for secrets."""

    node: str
    line: str
    is_error: bool


@dataclass(frozen=True)
class Rebooted:
    """The node has rebooted, and is back."""

    node: str


@dataclass(frozen=True)
class NotYet:
    """Why the step goes on."""

    node: str
    why: str


@dataclass(frozen=True)
class TurnEnded:
    """All is done on a node; ``stays_drained``: as it was before."""

    node: str
    stays_drained: bool


RollingEvent = StepBegan | Held | Output | Rebooted | NotYet | TurnEnded


class ConnectionsLeftError(NodeError):
    """The time for a node's connections to end is over."""


@dataclass(frozen=True)
class Tour:
    """What is to be done.

    ``command`` is run as it is, by no shell. ``timeout_s`` is how long a node's connections may take to end
    (None: as long as they take), ``return_s`` how long a node may take to be well again, ``pause_s`` the time
    between two nodes. ``must_reboot``: a node is not back before it has. ``resumed`` is a node that a tour
    before has left drained, maybe ill (empty: none). ``waits``: a drained node keeps its connections at all.
    """

    nodes: tuple[str, ...]
    command: tuple[str, ...]
    timeout_s: float | None = None
    return_s: float = 900.0
    pause_s: float = 0.0
    must_reboot: bool = False
    resumed: str = ""
    waits: bool = True


@dataclass(frozen=True)
class Patience:
    """How long to wait between two looks, and for what may clear up by itself."""

    poll_s: float = 1.0
    #: a host that is shutting down can be reached for a while after it has cut the command off
    after_cut_s: float = 60.0
    #: a lock of ours whose connection broke is let go of after a minute
    own_lock_s: float = 75.0


@dataclass(frozen=True)
class Stop:
    """Where a tour has ended early, and why; ``error`` is None after a Ctrl-C.

    ``is_drained``: the node was told to drain, and not told otherwise since. ``was_drained``: it was before
    its turn, and is to stay so. ``is_done``: the command has succeeded there.
    """

    node: str
    step: Step
    error: OperationError | None
    is_drained: bool
    was_drained: bool
    is_done: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a tour: the nodes that are done, those of them that stay drained, and the rest."""

    done: tuple[str, ...]
    stay_drained: tuple[str, ...]
    stop: Stop | None
    not_begun: tuple[str, ...]


@dataclass
class Rolling:
    """One tour under way; ``health`` says what is wrong with the cluster, leaving one node out of account."""

    crew: Crew
    locks: DeploymentLocks
    tour: Tour
    health: Callable[[str], Sequence[str]]
    tell: Callable[[RollingEvent], None]
    patience: Patience = Patience()
    _done: list[str] = field(default_factory=list)
    _stay_drained: list[str] = field(default_factory=list)
    _step: Step = Step.CHECK
    _is_drained: bool = False
    _was_drained: bool = False
    _is_done: bool = False
    _told: str = ""

    def run(self) -> Outcome:
        """Give every node its turn; what fails is told by the outcome."""
        for number, node in enumerate(self.tour.nodes):
            self._step = Step.CHECK
            self._is_drained = self._was_drained = self._is_done = False
            error: OperationError | None = None
            try:
                if number:
                    time.sleep(self.tour.pause_s)
                self._turn(node)
                self._done.append(node)
                continue
            except OperationError as failure:
                error = failure
            except KeyboardInterrupt:
                pass
            stop = Stop(node, self._step, error, self._is_drained, self._was_drained, self._is_done)
            return self._outcome(stop, self.tour.nodes[number + 1 :])
        return self._outcome(None, ())

    def _outcome(self, stop: Stop | None, not_begun: tuple[str, ...]) -> Outcome:
        return Outcome(tuple(self._done), tuple(self._stay_drained), stop, not_begun)

    def _begin(self, node: str, step: Step) -> None:
        self._step, self._told = step, ""
        self.tell(StepBegan(node, step))

    def _turn(self, node: str) -> None:
        self._begin(node, Step.CHECK)
        self._hold_locks(self.crew.names)
        self._require_health(node)
        before = self.crew.facts_of(node)
        self._is_drained = before.draining
        self._was_drained = before.draining and node != self.tour.resumed
        if self._was_drained and (missing := _missing(node, before)):
            raise NodeError(node, f"it is drained, and not well: {missing}", hint=self._hint)
        self._begin(node, Step.DRAIN)
        self._drain(node, before)
        if self.tour.waits:
            self._begin(node, Step.WAIT)
            self._wait(node)
        self._begin(node, Step.COMMAND)
        self._command(node)
        self._await_health(node)
        if self._was_drained:
            self._stay_drained.append(node)
        else:
            self._undrain(node)
        self.tell(TurnEnded(node, self._was_drained))

    # --- before the command ------------------------------------------------------------------------

    def _hold_locks(self, names: Sequence[str]) -> None:
        """Also those that were lost: of a node that rebooted, or to which the connection broke."""
        deadline = time.monotonic() + (self.patience.own_lock_s if self._done or self._is_done else 0)
        while True:
            try:
                self.crew.take_locks(self.locks, names, names)
            except BusyError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(self.patience.poll_s)

    def _require_health(self, node: str) -> None:
        reasons = self.health(node if node == self.tour.resumed else "")
        if reasons:
            message = f"the cluster is not well: {'; '.join(reasons)}"
            raise NodeError(node, message, hint=self._hint)

    @property
    def _hint(self) -> str:
        return f"mend that first: trscaler-gen status {self.crew.inventory}"

    def _drain(self, node: str, before: Facts) -> None:
        told: list[str] = []
        try:
            if not before.draining:
                Draining(self.crew, told).drain([node], force=False)
        finally:
            self._is_drained |= bool(told)

    def _wait(self, node: str) -> None:
        left = await_no_connections(
            self.crew,
            [node],
            lambda held: self.tell(Held(node, held[node])),
            timeout_s=self.tour.timeout_s,
        )
        if left[node]:
            message = f"it still holds {left[node]} connections after {self.tour.timeout_s:g} s"
            raise ConnectionsLeftError(node, message, hint="they stay; wait longer, or end them there")

    # --- the command -------------------------------------------------------------------------------

    def _command(self, node: str) -> None:
        """Run it, and wait for the reboot that it has brought about, if it has."""
        cut: NodeError | None = None
        with self.crew.lines.connect(node) as connection:
            boot, _ = _look(node, connection)
            try:
                status = connection.stream(
                    self.tour.command, lambda line, is_error: self.tell(Output(node, line, is_error))
                )
                _, is_going = _look(node, connection)
            except NodeError as error:
                cut, is_going = error, False
        if cut is None and status != 0 and not (is_going and status > 128):
            shown = shlex.join(self.tour.command)
            raise NodeError(node, f"the command failed: exit {status}", command=shown, status=status)
        self._is_done = cut is None
        self._begin(node, Step.RETURN)
        if cut is not None or is_going or self.tour.must_reboot:
            self._await_reboot(node, boot, cut, must=is_going or self.tour.must_reboot)

    def _await_reboot(self, node: str, boot: str, cut: NodeError | None, *, must: bool) -> None:
        """Wait until a node can be reached and has rebooted; a cut without a reboot is the command's end."""
        self.crew.lines.drop(node)
        deadline = time.monotonic() + self.tour.return_s
        up_since: float | None = None
        while True:
            now_s = time.monotonic()
            try:
                with self.crew.lines.connect(node) as connection:
                    now, is_going = _look(node, connection)
            except NodeError as error:
                last, up_since = error.message, None
            else:
                if now != boot:
                    self._is_done = True
                    self.tell(Rebooted(node))
                    return
                last = "it can be reached, and has not rebooted"
                up_since = None if is_going else up_since or now_s
                if cut and not must and up_since and now_s - up_since > self.patience.after_cut_s:
                    self._step = Step.COMMAND
                    raise _cut_off(node, cut)
            self._go_on_waiting(node, last, deadline)

    def _go_on_waiting(self, node: str, why: str, deadline: float) -> None:
        """Sleep until the next look, and say once why; raises NodeError if the time is over."""
        if time.monotonic() > deadline:
            hint = "look at its console; how long it may take: --return-within"
            raise NodeError(node, f"not back and well after {self.tour.return_s:g} s: {why}", hint=hint)
        if why != self._told:
            self._told = why
            self.tell(NotYet(node, why))
        time.sleep(self.patience.poll_s)

    # --- after the command -------------------------------------------------------------------------

    def _await_health(self, node: str) -> None:
        """Until it is well, and its peers hear that it drains."""
        deadline = time.monotonic() + self.tour.return_s
        while True:
            try:
                facts = self.crew.facts_of(node)
                missing = _missing(node, facts) or self._ask_health(node, facts) or "; ".join(self.health(""))
            except _UndrainedError:
                self._is_drained = False
                raise
            except NodeError as error:
                missing = error.message
            if not missing:
                self._hold_locks([node])
                return
            self._go_on_waiting(node, missing, deadline)

    def _ask_health(self, node: str, facts: Facts) -> str:
        """Why it would not serve; empty if it would. What keepalived says may be older than the command."""
        argv = ("sh", script_path(self.crew.cluster, facts.generation), "health")
        done = self.crew.lines.use(node, lambda _, line: line.run(argv, timeout_s=_HEALTH_TIMEOUT_S))
        said = (done.stderr.strip() or "without a word").splitlines()[-1]
        return "" if done.status == 0 else f"its health check fails: exit {done.status}, {said}"

    def _undrain(self, node: str) -> None:
        self._begin(node, Step.UNDRAIN)
        self.crew.call(node, self.crew.facts_of(node), "undrain")
        self._is_drained = False
        self._begin(node, Step.SERVE)
        facts = await_serving(self.crew, node)
        if not facts.serving:
            message = f"it does not serve: keepalived says {facts.heartbeat or 'nothing'}"
            raise NodeError(node, message, hint=f"see trscaler-gen status {self.crew.inventory}")
        deadline = time.monotonic() + self.crew.settle_s
        while reasons := self.health(""):
            if time.monotonic() > deadline:
                raise NodeError(node, f"it serves, but the cluster is not well: {'; '.join(reasons)}")
            time.sleep(self.patience.poll_s)


class _UndrainedError(NodeError):
    """Somebody has undrained a node that is worked on."""


def _missing(node: str, facts: Facts) -> str:
    """What a drained node lacks to be ready to serve; empty: nothing. Raises NodeError if it is undrained."""
    if facts.runs and not facts.draining:
        raise _UndrainedError(node, "somebody has undrained it, or it has lost what told it to drain")
    if not facts.runs:
        return "it runs nothing"
    if not facts.is_whole:
        return f"its ruleset is {facts.ruleset}, keepalived {facts.keepalived}"
    if facts.heartbeat != "MASTER":
        return f"keepalived says {facts.heartbeat or 'nothing'}"
    return ""


def _look(node: str, connection: Connection) -> tuple[str, bool]:
    """Which boot this is, and whether the host is about to go down; raises NodeError."""
    done = connection.run(("sh", "-c", script("alive.sh")), timeout_s=_ALIVE_TIMEOUT_S)
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if "boot" not in said or "going" not in said:
        message = f"it does not tell whether it has rebooted: {done.stderr.strip() or 'no answer'}"
        raise NodeError(node, message, status=done.status, stderr=done.stderr)
    return said["boot"], said["going"] == "yes"


def _cut_off(node: str, error: NodeError) -> NodeError:
    message = f"{error.message}; the host has not rebooted, so nobody knows how far the command came"
    return NodeError(node, message, hint="look at it there: it may be running still", command=error.command)
