"""Keeping TCP connections in use from the lab's client, and which of them broke, as values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Address
from trscaler_gen.lab.network import source_addresses
from trscaler_gen.lab.responder import PORT as ECHO_PORT
from trscaler_gen.lab.script import ClientScript, positive

_START_DEADLINE_S = 10.0
_SAY_DEADLINE_S = 10.0
_END_DEADLINE_S = 30.0


@dataclass(frozen=True)
class ConnectionCount:
    """What the connections of one kind and family saw.

    ``kind`` is "long", "idle" or "short". Every connection that was ``opened`` is ``closed`` in an orderly
    way, ``broken``, or still open. ``slow``: answers that took more than 150 ms; the first answer's time
    includes the opening. ``strayed``: answers from another node than the one before on the same connection.
    ``by_node`` counts answers; ``holding`` counts what is open, by the node that answered last.
    """

    kind: str
    family: int
    opened: int
    closed: int
    broken: int
    answered: int
    slow: int
    slowest_ms: float
    strayed: int
    by_node: dict[str, int]
    holding: dict[str, int]


@dataclass(frozen=True)
class BrokenConnection:
    """One connection that broke, ``at_ms`` after the start.

    ``node`` held it: "" if none had answered yet. ``reason`` is "reset", "closed" (by the other side), "hang"
    (no answer within the deadline), "refused", "unreachable", "wrong answer" or the kernel's name of the
    error; ``doing`` is what the client waited for: "connect", "request" (an answer), "end" (the other side's
    end) or "nothing". ``waited_ms`` counts from the oldest request without an answer; ``unheard_ms`` from the
    oldest packet that may not have been acknowledged.
    """

    kind: str
    family: int
    source: str
    destination: str
    at_ms: float
    node: str
    reason: str
    doing: str
    age_ms: float
    waited_ms: float
    unheard_ms: float


@dataclass(frozen=True)
class SlowRequest:
    """One request that left ``at_ms`` after the start, and was answered after more than 150 ms."""

    kind: str
    family: int
    source: str
    destination: str
    at_ms: float
    node: str
    taken_ms: float


@dataclass(frozen=True)
class ConnectionsResult:
    """What all connections saw together; times in ms since the start (``started_s``, CLOCK_MONOTONIC).

    ``late`` counts what the client itself did more than 10 ms after its time: if it is not 0, the machine was
    too busy, and slow requests say little about the cluster.
    """

    started_s: float
    late: int
    worst_late_ms: float
    counts: tuple[ConnectionCount, ...]
    broken: tuple[BrokenConnection, ...]
    slow: tuple[SlowRequest, ...]

    def of(self, kind: str | None = None, family: int | None = None) -> ConnectionCount:
        """The figures of one kind or family, or of all together."""
        chosen = [
            count for count in self.counts if kind in (None, count.kind) and family in (None, count.family)
        ]
        return ConnectionCount(
            kind=kind or "all",
            family=family or 0,
            opened=sum(count.opened for count in chosen),
            closed=sum(count.closed for count in chosen),
            broken=sum(count.broken for count in chosen),
            answered=sum(count.answered for count in chosen),
            slow=sum(count.slow for count in chosen),
            slowest_ms=max((count.slowest_ms for count in chosen), default=0.0),
            strayed=sum(count.strayed for count in chosen),
            by_node=_added(count.by_node for count in chosen),
            holding=_added(count.holding for count in chosen),
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, as json.dumps takes it."""
        return asdict(self)


def parse_connections(report: Mapping[str, Any]) -> ConnectionsResult:
    """A connector's report."""
    return ConnectionsResult(
        started_s=report["started_s"],
        late=report["late"],
        worst_late_ms=report["worst_late_ms"],
        counts=tuple(ConnectionCount(**count) for count in report["counts"]),
        broken=tuple(BrokenConnection(**broken) for broken in report["broken"]),
        slow=tuple(SlowRequest(**slow) for slow in report["slow"]),
    )


@dataclass(frozen=True)
class Load:
    """How many connections, and what they do.

    Both ``long`` and ``idle`` connections stay open, or for ``life_s``: then they are closed in an orderly
    way and opened anew. ``short_interval_ms``: how often a short one is opened; None: never. ``sources``: how
    many addresses of each family they come from. ``deadline_s``: what is not answered by then hangs.
    """

    long: int = 200
    idle: int = 0
    sources: int = 100
    request_interval_ms: float = 100
    idle_interval_s: float = 10
    short_interval_ms: float | None = 5
    life_s: float | None = None
    deadline_s: float = 5
    seconds: float | None = None

    def plan(self, destinations: Sequence[Address]) -> dict[str, Any]:
        """The connector's arguments; raises OperationError if they make no sense."""
        if self.long < 0 or self.idle < 0:
            raise OperationError("the number of connections must not be negative")
        short_ms = self.short_interval_ms
        return {
            "routes": _routes(destinations, self.sources),
            "port": ECHO_PORT,
            "long": self.long,
            "idle": self.idle,
            "request_interval_s": positive("the request interval", self.request_interval_ms) / 1000,
            "idle_interval_s": positive("the idle interval", self.idle_interval_s),
            "short_interval_s": None if short_ms is None else positive("the short interval", short_ms) / 1000,
            "life_s": None if self.life_s is None else positive("the life", self.life_s),
            "deadline_s": positive("the deadline", self.deadline_s),
            "seconds": None if self.seconds is None else positive("the time", self.seconds),
        }


class Connections:
    """A connector at work. As a context manager it is stopped at the end."""

    def __init__(self, script: ClientScript, load: Load, started_s: float) -> None:
        self.load = load
        self.started_s = started_s
        self._script = script
        self._result: ConnectionsResult | None = None

    @classmethod
    def start(
        cls, load: Load, destinations: Sequence[Address], *, client_pid: int, environment: Mapping[str, str]
    ) -> Connections:
        """Open connections; return once each long and idle one was answered, or has failed."""
        plan = load.plan(destinations)
        script = ClientScript.start(
            "the connector", "connector.py", plan, client_pid=client_pid, environment=environment
        )
        return cls(script, load, script.started_s(_START_DEADLINE_S + load.deadline_s))

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self._script.abandon()

    @property
    def pid(self) -> int:
        """The connector's own process."""
        return self._script.pid

    @property
    def elapsed_ms(self) -> float:
        """Time since the start, on the clock of the result."""
        return (time.monotonic() - self.started_s) * 1000

    def so_far(self) -> ConnectionsResult:
        """What was seen until now."""
        if self._result is None:
            self._script.tell("so far?")
            report = self._read(_SAY_DEADLINE_S)
            return self._result or parse_connections(report)
        return self._result

    def stop(self) -> ConnectionsResult:
        """Stop now, let finish what is under way (within the deadline), say what was seen."""
        self._script.end_input()
        return self._finish(_END_DEADLINE_S + self.load.deadline_s)

    def wait(self) -> ConnectionsResult:
        """Wait until its time is over; a Ctrl-C stops it earlier."""
        try:
            return self._finish(None)
        except KeyboardInterrupt:
            return self.stop()

    def _finish(self, timeout_s: float | None) -> ConnectionsResult:
        while self._result is None:
            self._read(timeout_s)
        return self._result

    def _read(self, timeout_s: float | None) -> dict[str, Any]:
        report = self._script.report(timeout_s)
        if report["last"]:
            self._result = parse_connections(report)
            self._script.close()
        return report


def _routes(destinations: Sequence[Address], sources: int) -> list[tuple[str, str]]:
    """Every source with every destination of its family; the families take turns."""
    if not destinations:
        raise OperationError("there is no address to connect to", "name one")
    by_family = {address.version: source_addresses(address.version, sources) for address in destinations}
    return [
        (str(by_family[destination.version][number]), str(destination))
        for number in range(sources)
        for destination in destinations
    ]


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
