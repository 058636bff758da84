"""The witness notices when the machine stands still, and the judge sees a fault all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.lab.probe import Double, ProbeResult

from .cluster import PACE, Cluster, eventually
from .events import DAEMONS, VICTIM, assert_nothing_noticed, on, under_probes
from .wire import unhealed
from .witness import Heartbeat, Seen, Span, quietly, witness

MOMENTS_S = st.floats(1000, 1010)
NOTHING = ProbeResult("192.0.2.100", 1000, 0, 0, {}, 100.0, 0, 0.0, 1.0, 1000.0, (), (), ())


@contextmanager
def standstill() -> Iterator[None]:
    """Let the witness sleep through the block, as it does when the machine stops."""
    pids = [process.pid for process in witness().processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def wait(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until_s, "time passes")


def wait_without_excuse(seconds: float) -> None:
    """Until so much time has passed that no stall excuses, be it one of the machine's own."""
    began_s = time.monotonic()

    def excused_until_s() -> float:
        spans = PACE.excused(witness().stalls(began_s - 10))
        return max((span.end_s for span in spans), default=began_s)

    eventually(lambda: time.monotonic() > max(began_s, excused_until_s()) + seconds, "nothing excuses")


# --- what is noticed, and what that excuses ---------------------------------------------------------


def test_a_stall_is_noticed_on_every_cpu_with_its_time_and_length() -> None:
    began_s = time.monotonic()
    with standstill():
        begun_s = time.monotonic()
        wait(0.2)
        ended_s = time.monotonic()
    noticed = [
        stall
        for stall in witness().stalls(began_s)
        if stall.start_s <= begun_s + 0.02 and stall.end_s >= ended_s
    ]
    assert len(noticed) >= len(os.sched_getaffinity(0))


def test_it_is_asked_for_what_is_new() -> None:
    with standstill():
        wait(0.1)
    assert witness().stalls(0)
    assert witness().stalls(time.monotonic()) == ()
    assert witness().stalls(0), "it forgets nothing"


def seen(*stalls: Span, lost_at_ms: tuple[float, ...] = (), doubled_at_ms: tuple[float, ...] = ()) -> Seen:
    doubles = tuple(Double(at_ms, "198.51.100.1", ("n1", "n3")) for at_ms in doubled_at_ms)
    result = replace(NOTHING, lost_at_ms=lost_at_ms, double_answers=doubles)
    return Seen.of(result, Heartbeat(0.1), stalls)


def test_a_stall_excuses_its_own_time_and_a_lease_after_it() -> None:
    stalled = seen(Span(1001.0, 1001.2), lost_at_ms=(900, 1000, 1100, 1500, 1600), doubled_at_ms=(500, 1540))
    assert stalled.losses() == (900, 1600)
    assert stalled.doubles() == (500,)
    assert not stalled.is_quiet


def test_without_a_stall_nothing_is_excused() -> None:
    quiet = seen(Span(1001.0, 1001.04), lost_at_ms=(1000, 1010), doubled_at_ms=(1020,))
    assert quiet.is_quiet
    assert (quiet.losses(), quiet.doubles()) == ((1000, 1010), (1020,))


@given(st.lists(st.tuples(MOMENTS_S, st.floats(0, 1)), max_size=5), st.lists(MOMENTS_S), st.floats(0.01, 1))
def test_what_is_excused_is_near_a_stall(
    stalls: list[tuple[float, float]], lost_s: list[float], interval_s: float
) -> None:
    """Every loss is excused or not; whatever is has a long stall within one lease before it."""
    spans = [Span(start_s, start_s + length_s) for start_s, length_s in stalls]
    lost_at_ms = tuple((at_s - NOTHING.started_s) * 1000 for at_s in lost_s)
    judged = Seen.of(replace(NOTHING, lost_at_ms=lost_at_ms), Heartbeat(interval_s), spans)
    long_ones = [span for span in spans if span.length_s > interval_s / 2]
    for at_ms in set(lost_at_ms) - set(judged.losses()):
        at_s = NOTHING.started_s + at_ms / 1000
        assert any(span.start_s - 0.04 < at_s < span.end_s + 3.6 * interval_s for span in long_ones)
    assert set(judged.losses()) <= set(lost_at_ms)


@dataclass
class Runs:
    """Measurements of which so many are disturbed."""

    disturbed: int
    made: int = 0

    def measure(self) -> Seen:
        self.made += 1
        return seen(Span(1001.0, 1001.2)) if self.made <= self.disturbed else seen()


@pytest.mark.parametrize(("disturbed", "made"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_a_measurement_is_made_again_until_it_is_quiet(disturbed: int, made: int) -> None:
    runs = Runs(disturbed)
    assert quietly(runs.measure).is_quiet == (disturbed < made)
    assert runs.made == made


# --- faults of a cluster, with and without a stall --------------------------------------------------


@contextmanager
def faulty(cluster: Cluster, rule: str) -> Iterator[None]:
    """The victim decides wrongly while the block runs, and nobody mends it."""
    with unhealed(cluster, VICTIM):
        on(cluster, f"nft insert rule netdev trscaler_e2e decide {rule}")
        yield
    eventually(lambda: cluster.state(VICTIM)["ruleset"] == "intact", "the rules are back")
    cluster.settle()


@pytest.mark.parametrize("rule", ["drop", "goto every_node"])
@pytest.mark.parametrize("stall_s", [0.0, 0.3])
def test_a_fault_is_seen(cluster: Cluster, rule: str, stall_s: float) -> None:
    """The twin of all tests that count: one stall does not excuse what goes wrong for longer."""
    with under_probes(cluster) as watched, faulty(cluster, rule):
        wait(0.5)
        with standstill():
            wait(stall_s)
        wait_without_excuse(1)
    with pytest.raises(AssertionError):
        assert_nothing_noticed(watched.result)
    assert not stall_s or not watched.result.is_quiet


def test_what_a_machine_that_stands_still_does_is_excused(cluster: Cluster) -> None:
    """All that beats stops for longer than a lease, and goes on."""
    with under_probes(cluster) as watched:
        with standstill():
            for node in cluster.lab.nodes:
                cluster.lab.exec(node, ["sh", "-c", f"kill -STOP {DAEMONS}"])
            wait(1.2 * PACE.lease_s)
            for node in cluster.lab.nodes:
                cluster.lab.exec(node, ["sh", "-c", f"kill -CONT {DAEMONS}"])
        cluster.settle()
        wait(PACE.lease_s)
    assert watched.result.lost > 0
    assert_nothing_noticed(watched.result)
