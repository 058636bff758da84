"""Starting a prober in the lab's client, and what it says, as values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from trscaler_gen.inventory.model import Address
from trscaler_gen.lab.network import source_addresses
from trscaler_gen.lab.responder import PORT as ECHO_PORT
from trscaler_gen.lab.script import ClientScript, positive

_START_DEADLINE_S = 10.0
_END_DEADLINE_S = 30.0


@dataclass(frozen=True)
class SourceResult:
    """What one source saw; ``by_node`` counts answers, second ones included."""

    source: str
    sent: int
    lost: int
    doubled: int
    by_node: dict[str, int]
    longest_gap_ms: float


@dataclass(frozen=True)
class Double:
    """A probe that was answered more than once: when it left since the start, and by whom, in order."""

    at_ms: float
    source: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class ProbeResult:
    """What all sources saw together.

    ``longest_gap_ms`` is the worst source's; ``lost_at_ms`` are the send times of those probes since the
    start (``started_s``, CLOCK_MONOTONIC); ``double_answers`` are in the order of theirs. ``late`` counts
    probes sent more than 10 ms after their time: if it is not 0, the machine was too busy for the rate that
    was asked for. ``slowest_answer_ms`` is the longest that any answer took: hosts queue packets while they
    resolve a neighbour's address.
    """

    destination: str
    sent: int
    lost: int
    doubled: int
    by_node: dict[str, int]
    longest_gap_ms: float
    late: int
    worst_late_ms: float
    slowest_answer_ms: float
    started_s: float
    lost_at_ms: tuple[float, ...]
    double_answers: tuple[Double, ...]
    per_source: tuple[SourceResult, ...]

    @property
    def doubled_at_ms(self) -> tuple[float, ...]:
        """When the probes left that were answered more than once."""
        return tuple(double.at_ms for double in self.double_answers)

    def as_json(self) -> dict[str, Any]:
        """All of it, as json.dumps takes it."""
        return asdict(self)


def parse_report(destination: Address, report: Mapping[str, Any]) -> ProbeResult:
    """The totals over a prober's report."""
    sources = tuple(SourceResult(**source) for source in report["per_source"])
    by_node: Counter[str] = Counter()
    for source in sources:
        by_node.update(source.by_node)
    return ProbeResult(
        destination=str(destination),
        sent=sum(source.sent for source in sources),
        lost=sum(source.lost for source in sources),
        doubled=sum(source.doubled for source in sources),
        by_node=dict(sorted(by_node.items())),
        longest_gap_ms=max(source.longest_gap_ms for source in sources),
        late=report["late"],
        worst_late_ms=report["worst_late_ms"],
        slowest_answer_ms=report["slowest_answer_ms"],
        started_s=report["started_s"],
        lost_at_ms=tuple(report["lost_at_ms"]),
        double_answers=_double_answers(report["double_answers"]),
        per_source=sources,
    )


def _double_answers(told: Iterable[Mapping[str, Any]]) -> tuple[Double, ...]:
    found = (Double(each["at_ms"], each["source"], tuple(each["nodes"])) for each in told)
    return tuple(sorted(found, key=lambda double: double.at_ms))


class Probe:
    """A prober at work. As a context manager it is stopped at the end."""

    def __init__(self, script: ClientScript, destination: Address, started_s: float) -> None:
        self.destination = destination
        self.started_s = started_s
        self._script = script
        self._result: ProbeResult | None = None

    @classmethod
    def start(
        cls,
        *,
        client_pid: int,
        environment: Mapping[str, str],
        destination: Address,
        sources: int,
        interval_ms: float,
        seconds: float | None,
    ) -> Probe:
        """Start probing ``destination``, and return once the first probe is due."""
        plan = {
            "destination": str(destination),
            "port": ECHO_PORT,
            "sources": [str(address) for address in source_addresses(destination.version, sources)],
            "interval_s": positive("the interval", interval_ms) / 1000,
            "probes_each": None if seconds is None else _probes_each(seconds, interval_ms),
        }
        script = ClientScript.start(
            "the prober", "prober.py", plan, client_pid=client_pid, environment=environment
        )
        return cls(script, destination, script.started_s(_START_DEADLINE_S))

    def __enter__(self) -> Probe:
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
        """The prober's own process."""
        return self._script.pid

    @property
    def elapsed_ms(self) -> float:
        """Time since the start, on the clock of ``lost_at_ms``."""
        return (time.monotonic() - self.started_s) * 1000

    def stop(self) -> ProbeResult:
        """Stop now, wait for late answers (at most 1 s), say what was seen; a second call says it again."""
        self._script.end_input()
        return self._finish(_END_DEADLINE_S)

    def wait(self) -> ProbeResult:
        """Wait until its time is over; a Ctrl-C stops it earlier."""
        try:
            return self._finish(None)
        except KeyboardInterrupt:
            return self.stop()

    def _finish(self, timeout_s: float | None) -> ProbeResult:
        if self._result is None:
            self._result = parse_report(self.destination, self._script.report(timeout_s))
            self._script.close()
        return self._result


def _probes_each(seconds: float, interval_ms: float) -> int:
    return max(1, round(positive("the time", seconds) * 1000 / interval_ms))
