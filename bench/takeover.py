"""Watching a few sources closely while a node goes or comes: when others took over, and what was lost.

The prober is ``probes.c``. Beside it the witness of the tests notes when the machine stood still; how late
the prober itself was is a second witness. An observation in which either was worse than ``margin_s`` says
more of the machine than of the cluster: it is ``disturbed``, which is told as well.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from e2e.witness import Span
from numpy.typing import NDArray

from trscaler_gen.errors import OperationError

#: struct probe of probes.c; times in ns of CLOCK_MONOTONIC, 0 for never
PROBE = np.dtype(
    [
        ("source", "u2"),
        ("answers", "u1"),
        ("node", "u1"),
        ("second_node", "u1"),
        ("unused", "u1", 3),
        ("due", "i8"),
        ("sent", "i8"),
        ("answered", "i8"),
        ("answered_again", "i8"),
    ]
)
Probes = NDArray[np.void]
_START_DEADLINE_S = 10.0
_END_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Observation:
    """What became of the probes of the sources watched; ``takeover_ms`` and ``gap_ms``: one number a source.

    ``takeover_ms``: from the event to the first answer of another node, or of the node that returns; empty
    if some source had none in time. ``gap_ms``: the longest time between two probes that were answered; it
    counts what the prober itself was late. ``lost_ms`` does not: the longest time in which all that some
    source sent was lost; ``doubled_ms``: in which all of it was answered twice. ``late_ms`` and ``stall_ms``:
    how long the prober, and the machine, were held up at worst.
    """

    takeover_ms: list[float]
    gap_ms: list[float]
    sent: int
    lost: int
    lost_ms: float
    doubled: int
    doubled_ms: float
    late_ms: float
    stall_ms: float
    disturbed: bool


# --- the prober -------------------------------------------------------------------------------------


def compile_prober(folder: Path) -> Path:
    """Make the program; raises CalledProcessError if there is no gcc."""
    program = folder / "probes"
    source = Path(__file__).with_name("probes.c")
    subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True, timeout=60)
    return program


@dataclass
class Watch:
    """A prober at work: who answers each source now, by the numbers in the nodes' names."""

    process: subprocess.Popen[bytes]
    file: Path
    answering: dict[int, int] = field(default_factory=dict)
    _heard: bytes = b""

    def until(self, condition: Callable[[dict[int, int]], bool], timeout_s: float) -> bool:
        """Whether who answers comes to fulfil the condition in time."""
        deadline = time.monotonic() + timeout_s
        while not condition(self.answering):
            if not self._hear(deadline - time.monotonic()):
                return False
        return True

    def go_on(self, seconds: float) -> None:
        """Probe so much longer."""
        self.until(lambda _: False, seconds)

    def _hear(self, timeout_s: float) -> bool:
        """Take what the prober has said; False if it says nothing in time."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], max(0.0, timeout_s))[0]:
            return False
        said = os.read(self.process.stdout.fileno(), 65536)
        if not said:
            raise OperationError(f"the prober died: {self._complaint()}")
        *lines, self._heard = (self._heard + said).split(b"\n")
        for line in lines:
            source, node = line.split()
            if source != b"started":
                self.answering[int(source)] = int(node)
        return True

    def _complaint(self) -> str:
        self.process.kill()
        _, told = self.process.communicate(timeout=_END_DEADLINE_S)
        return told.decode(errors="replace").strip() or "it says nothing"

    def result(self) -> Probes:
        """Stop, wait for late answers, and read what was written."""
        _, told = self.process.communicate(timeout=_END_DEADLINE_S)
        if self.process.returncode:
            raise OperationError(f"the prober failed: {told.decode(errors='replace').strip()}")
        probes = np.fromfile(self.file, dtype=PROBE)
        self.file.unlink()
        return probes


@contextmanager
def watching(prober: Sequence[str], file: Path, plan: Sequence[str]) -> Iterator[Watch]:
    """Run ``prober`` (the program and what runs it where) on address, port, interval in ns and sources."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([*prober, str(file), *plan], stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        watch = Watch(process, file)
        if not watch.until(bool, _START_DEADLINE_S):
            raise OperationError("nobody answers the prober")
        yield watch
    finally:
        process.kill()
        process.communicate()


# --- what it saw ------------------------------------------------------------------------------------


def observed(
    probes: Probes,
    *,
    event_ns: int,
    watched: Sequence[int],
    taken_by: Callable[[int], bool],
    stalls: Sequence[Span],
    margin_s: float,
) -> Observation:
    """Judge what was seen; ``watched`` sources are to be ``taken_by`` a node of a number that it accepts."""
    takeovers = [_takeover_ms(_of(probes, source), event_ns, taken_by) for source in watched]
    done = [taken for taken in takeovers if taken is not None]
    late_ms = float((probes["sent"] - probes["due"]).max()) / 1e6
    stall_ms = 1000 * max((stall.length_s for stall in stalls), default=0.0)
    answers = probes["answers"]
    return Observation(
        takeover_ms=done if len(done) == len(takeovers) else [],
        gap_ms=[_gap_ms(_of(probes, source)) for source in watched],
        sent=len(probes),
        lost=int((answers == 0).sum()),
        lost_ms=_longest_ms(probes, answers == 0),
        doubled=int((answers > 1).sum()),
        doubled_ms=_longest_ms(probes, answers > 1),
        late_ms=round(late_ms, 3),
        stall_ms=round(stall_ms, 3),
        disturbed=max(late_ms, stall_ms) > 1000 * margin_s,
    )


def _of(probes: Probes, source: int) -> Probes:
    mine: Probes = probes[probes["source"] == source]
    return mine


def _takeover_ms(probes: Probes, event_ns: int, taken_by: Callable[[int], bool]) -> float | None:
    """From the event to the first answer, of any that were sent after it, by a node that takes over."""
    later = probes[probes["sent"] >= event_ns]
    arrivals = [
        int(at)
        for node, at in (("node", "answered"), ("second_node", "answered_again"))
        for who, at in zip(later[node], later[at], strict=True)
        if who and taken_by(int(who))
    ]
    return round((min(arrivals) - event_ns) / 1e6, 3) if arrivals else None


def _gap_ms(probes: Probes) -> float:
    """By send times; the first and the last probe bound it."""
    sent = probes["sent"]
    marks = np.concatenate([sent[:1], sent[probes["answers"] > 0], sent[-1:]])
    return round(float(np.diff(marks).max()) / 1e6, 3)


def _longest_ms(probes: Probes, wrong: NDArray[np.bool_]) -> float:
    """The longest time in which every probe of some source was ``wrong``, up to its next one that was not."""
    longest = 0
    for source in np.unique(probes["source"]):
        mine = probes["source"] == source
        sent, began = probes["sent"][mine], None
        for at, bad in zip(sent, wrong[mine], strict=True):
            if bad and began is None:
                began = at
            elif began is not None and not bad:
                longest, began = max(longest, int(at - began)), None
        if began is not None:
            longest = max(longest, int(sent[-1] - began))
    return round(longest / 1e6, 3)
