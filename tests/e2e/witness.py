"""A witness of the machine, and a judge that hears it: what was lost by a fault, and what by a stall.

A test that counts probes must turn red when the product drops one, and must not when the machine stood still:
then heartbeats come late, leases end, and clients lose what every cluster loses whose hosts all stop. So a
process on each CPU sleeps a little, again and again, and notes when that took long. A stall of over half a
heartbeat interval excuses the probes that were sent from its begin until one lease after its end; what goes
wrong at another time is a fault. Without a stall nothing is excused.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.probe import Double, Probe, ProbeResult

_NAPS = Path(__file__).with_name("naps.py")
#: what was sent just before the machine stopped is dealt with after the stall
_ON_THE_WAY_S = 0.03
_DEADLINE_S = 60.0


class Span(NamedTuple):
    """A time, in s of CLOCK_MONOTONIC."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


# --- the witness ----------------------------------------------------------------------------------


class Witness:
    """A process on each CPU that notes its stalls."""

    def __init__(self) -> None:
        self.processes = [_start(cpu) for cpu in sorted(os.sched_getaffinity(0))]
        self._stalls: list[Span] = []

    def stalls(self, since_s: float) -> tuple[Span, ...]:
        """The stalls that ended after this moment (CLOCK_MONOTONIC), on any CPU."""
        for process in self.processes:
            self._stalls += _asked(process)
        return tuple(sorted(stall for stall in self._stalls if stall.end_s > since_s))

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.communicate(timeout=_DEADLINE_S)


def _start(cpu: int) -> subprocess.Popen[str]:
    argv = ["/usr/bin/python3", "-I", "-S", "-E", str(_NAPS), str(cpu)]
    pipe = subprocess.PIPE  # in a session of its own: a Ctrl-C is for who asked
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, start_new_session=True)


def _asked(process: subprocess.Popen[str]) -> Iterator[Span]:
    """What a process has noted since it was last asked."""
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    while (line := process.stdout.readline()) != "so far\n":
        start_s, end_s = line.split()
        yield Span(float(start_s), float(end_s))


@cache
def witness() -> Witness:
    """The one of this process; it watches from the first call on."""
    watching = Witness()
    watching.stalls(0)  # an answer: all of them are at work
    atexit.register(watching.close)
    return watching


# --- the judge ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heartbeat:
    """How a cluster's nodes hear each other: every ``interval_s``, and how many may be missed."""

    interval_s: float
    missed: int = 3

    @property
    def lease_s(self) -> float:
        """How long a peer that is silent counts for alive."""
        return (self.missed + 0.5) * self.interval_s

    def excused(self, stalls: Iterable[Span]) -> tuple[Span, ...]:
        """When probes may go wrong because of these stalls."""
        return tuple(
            Span(stall.start_s - _ON_THE_WAY_S, stall.end_s + self.lease_s)
            for stall in stalls
            if stall.length_s > self.interval_s / 2
        )


@dataclass(frozen=True)
class Seen(ProbeResult):
    """What all sources saw, and when that may be the machine's doing."""

    heartbeat: Heartbeat
    stalls: tuple[Span, ...]

    @classmethod
    def of(cls, result: ProbeResult, heartbeat: Heartbeat, stalls: Iterable[Span]) -> Seen:
        """The result, with what the witness says."""
        values = {item.name: getattr(result, item.name) for item in fields(ProbeResult)}
        return cls(**values, heartbeat=heartbeat, stalls=tuple(stalls))

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is excused."""
        return not self.heartbeat.excused(self.stalls)

    def losses(self, *expected: Span) -> tuple[float, ...]:
        """When probes left that were lost, in ms since the start; not those excused or ``expected``."""
        return self._unexplained(self.lost_at_ms, expected)

    def doubles(self, *expected: Span) -> tuple[float, ...]:
        """Likewise, when those left that were answered more than once."""
        return self._unexplained(self.doubled_at_ms, expected)

    def _unexplained(self, at_ms: Iterable[float], expected: Iterable[Span]) -> tuple[float, ...]:
        spans = (*self.heartbeat.excused(self.stalls), *expected)
        return tuple(at for at in at_ms if not _is_within(self.started_s + at / 1000, spans))

    def __str__(self) -> str:
        """The numbers, and when the machine stood still; the sources one by one would be pages."""
        stalls = [
            f"{stall.length_s * 1000:.0f} ms at {stall.start_s - self.started_s:.3f} s"
            for stall in self.stalls
            if stall.length_s > self.heartbeat.interval_s / 2
        ]
        losses = self.losses()
        when = f", {losses[0] / 1000:.3f}-{losses[-1] / 1000:.3f} s" if losses else ""
        wrong = f"{self.lost} of {self.sent} lost ({len(losses)} without excuse{when})"
        wrong += f", {self.doubled} answered twice ({len(self.doubles())})"
        wrong += "".join(f"; {line}" for line in self._who_doubled())
        return f"{wrong}; slowest answer {self.slowest_answer_ms:.0f} ms; stalls: {stalls or 'none'}"

    def _who_doubled(self) -> Iterator[str]:
        """Of doubles without excuse: which nodes, how often, from when to when, of how many sources."""
        unexplained = set(self.doubles())
        found: dict[tuple[str, ...], list[Double]] = defaultdict(list)
        for double in self.double_answers:
            if double.at_ms in unexplained:
                found[tuple(sorted(double.nodes))].append(double)
        for nodes, some in found.items():
            span = f"{some[0].at_ms / 1000:.3f}-{some[-1].at_ms / 1000:.3f} s"
            sources = len({double.source for double in some})
            yield f"{' and '.join(nodes)}: {len(some)} of {sources} sources, {span}"


def _is_within(at_s: float, spans: Iterable[Span]) -> bool:
    return any(span.start_s <= at_s <= span.end_s for span in spans)


class Measured(Protocol):
    """What was measured, and whether the machine let it be measured."""

    @property
    def is_quiet(self) -> bool: ...


M = TypeVar("M", bound=Measured)


def quietly(measure: Callable[[], M], times: int = 3) -> M:
    """Measure again until the machine has not stalled meanwhile; if it does each time, the last must do."""
    measured = measure()
    for _ in range(times - 1):
        if measured.is_quiet:
            break
        measured = measure()
    return measured


# --- probes before the witness --------------------------------------------------------------------


@dataclass
class Watched:
    """Probes under way, of one or both families; the results are there once the block has ended."""

    probes: list[Probe]
    results: list[Seen] = field(default_factory=list)

    @property
    def result(self) -> Seen:
        """The only one, or the first."""
        return self.results[0]


@contextmanager
def watched_probes(
    lab: Lab,
    heartbeat: Heartbeat,
    *,
    sources: int,
    interval_ms: float,
    seconds: float | None = None,
    families: tuple[int, ...] = (4,),
) -> Iterator[Watched]:
    """Probe while the block runs, before a witness; if ``seconds`` are given its end waits for them."""
    start: dict[str, Any] = {"sources": sources, "interval_ms": interval_ms, "seconds": seconds}
    watching, began_s = witness(), time.monotonic()
    with ExitStack() as stack:
        probes = [stack.enter_context(lab.probing(family=family, **start)) for family in families]
        watched = Watched(probes)
        yield watched
        results = [probe.stop() if seconds is None else probe.wait() for probe in probes]
    stalls = watching.stalls(began_s)
    watched.results += [Seen.of(result, heartbeat, stalls) for result in results]
