"""The prober of the benchmarks sees what happens: a takeover, losses and second answers of known length."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))
from bench.failover import EVENTS, Part, Run
from bench.failover_report import pictures, section
from bench.takeover import Observation, compile_prober, observed, watching

#: answers as n2; told HOLE or BOTH it is silent, or two nodes at once, for so many ms, and n3 from then on
NODES = """
import select, socket, sys, time
SO_RCVBUFFORCE = 33
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
sock.bind(("127.0.0.1", 7777))
print("ready", flush=True)
names, until = [b"n2 "], None
def answer_all():
    try:
        while True:
            question, peer = sock.recvfrom(2048)
            for name in names:
                sock.sendto(name + question, peer)
    except BlockingIOError:
        pass
while True:
    wait = None if until is None else max(0, until - time.monotonic())
    ready = select.select([sock, sys.stdin], [], [], wait)[0]
    over = until is not None and time.monotonic() >= until
    answer_all()
    if over:
        names, until = [b"n3 "], None
    if sys.stdin in ready:
        mode, ms = sys.stdin.readline().split() or sys.exit()
        until = time.monotonic() + float(ms) / 1000
        names = [] if mode == "HOLE" else [b"n2 ", b"n3 "]
"""
LENGTH_MS = 200.0
INTERVAL_MS = 2.0


class Twin:
    """Two nodes that are one script in a namespace of its own."""

    def __init__(self, folder: Path) -> None:
        pipe = subprocess.PIPE
        argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "-"]
        script = [sys.executable, "-u", "-c", NODES]
        self.process = subprocess.Popen([*argv, *script], stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"
        self.file = folder / "probes.bin"
        enter = ["nsenter", f"--target={self.process.pid}", "--net", "--"]
        self.prober = [*enter, str(compile_prober(folder))]

    def observe(self, mode: str, margin_s: float = 1) -> Observation:
        """Watch four sources while n2 goes this way."""
        sources = [f"127.0.0.{number}" for number in range(11, 15)]
        with watching(
            self.prober, self.file, ["127.0.0.1", "7777", f"{INTERVAL_MS * 1e6:.0f}", *sources]
        ) as watch:
            assert watch.until(lambda by: len(by) == 4, 10)
            event_ns = time.monotonic_ns()
            assert self.process.stdin
            self.process.stdin.write(f"{mode} {LENGTH_MS}\n")
            self.process.stdin.flush()
            assert watch.until(lambda by: set(by.values()) == {3}, 30)
            watch.go_on(0.05)
            probes = watch.result()
        return observed(
            probes,
            event_ns=event_ns,
            watched=range(4),
            taken_by=lambda node: node == 3,
            stalls=(),
            margin_s=margin_s,
        )


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    twin = Twin(tmp_path)
    yield twin
    twin.process.kill()
    twin.process.communicate()


def test_a_hole_is_seen_in_its_length(twin: Twin) -> None:
    seen = twin.observe("HOLE")
    assert len(seen.takeover_ms) == len(seen.gap_ms) == 4
    assert min(seen.takeover_ms) >= LENGTH_MS
    assert min(seen.gap_ms) >= LENGTH_MS
    # What the machine adds, it adds to both, and the prober knows how late it was itself.
    assert max(seen.gap_ms) <= max(seen.takeover_ms) + seen.late_ms + 2 * INTERVAL_MS
    assert seen.lost_ms >= LENGTH_MS - seen.late_ms - 2 * INTERVAL_MS
    assert (seen.doubled, seen.doubled_ms) == (0, 0)


def test_two_nodes_at_once_are_seen_as_long_as_they_are(twin: Twin) -> None:
    seen = twin.observe("BOTH")
    assert (seen.lost, seen.lost_ms) == (0, 0)
    assert seen.doubled >= 4
    assert seen.doubled_ms >= LENGTH_MS - seen.late_ms - 2 * INTERVAL_MS


def test_a_machine_that_was_slow_is_told(twin: Twin) -> None:
    assert twin.observe("HOLE", margin_s=0).disturbed
    assert not twin.observe("HOLE", margin_s=60).disturbed


def a_run(who: str, event: str, *takeover_ms: float, disturbed: bool = False) -> Run:
    seen = Observation(
        takeover_ms=list(takeover_ms),
        gap_ms=[31.0],
        sent=1000,
        lost=30,
        lost_ms=30.0,
        doubled=0,
        doubled_ms=0.0,
        late_ms=1.0,
        stall_ms=0.0,
        disturbed=disturbed,
    )
    return Run(who, event, False, seen)


def told(runs: list[Run], gave_up: str = "") -> str:
    return section([asdict(Part(10, 4, 1.0, 5.0, 60.0, 0.1, runs, gave_up))])


def test_disturbed_runs_are_in_brackets() -> None:
    page = told([a_run("trscaler-gen", "cut", 28.0), a_run("trscaler-gen", "cut", 90.0, disturbed=True)])
    assert "| cable pulled | trscaler-gen | 2 | 1 | 28.0 (59.0) | 28.0 (83.8) | 28.0 (90.0) |" in page
    assert "| takeover, worst of these, ms | 28.0 (90.0) | 60 at 10 ms |" in page


def test_what_nobody_took_over_and_what_ended_early_is_told() -> None:
    page = told([a_run("keepalived", "cut", 28.0), a_run("keepalived", "cut")], "the lab burned down")
    assert "| cable pulled | keepalived | 2 | 0 | 28.0 | 28.0 | 28.0, 1 never |" in page
    assert "It ended early: the lab burned down." in page


def test_the_picture_has_a_curve_for_each() -> None:
    runs = [a_run(who, event, 28.0, 30.0) for who in ("trscaler-gen", "keepalived") for event in EVENTS]
    drawn = pictures([asdict(Part(10, 4, 1.0, 5.0, 60.0, 0.1, runs))])
    assert list(drawn) == ["failover-4.svg"]
    assert b"stopped: keepalived" in drawn["failover-4.svg"]
