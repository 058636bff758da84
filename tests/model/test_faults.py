"""What happens to a model cluster when something goes wrong, and for how long."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.nodeplan import Leases

from .bounds import (
    US,
    Trouble,
    none_after_crash,
    none_after_goodbye,
    none_after_silence,
    timers_of,
    two_if_punctual,
    two_on_return,
    two_on_return_whatever_it_does,
    two_whatever_it_does,
)
from .cluster import TICK_MS, Clock, World, changed, plans, serving

INTERVALS_MS = [10, 30, 100, 1000]
MISSED = 3


def begin(interval_ms: int, delay: int = 100, connections: str = "preserve", nodes: int = 3) -> World:
    """A cluster that serves, with heartbeats that take a tenth of a millisecond."""
    begun = serving(plans(nodes, interval_ms, MISSED, connections), fate=lambda *_: delay)
    assert (begun.longest(two=True), begun.longest(two=False)) == (0, 0)
    return begun


def let_pass(begun: World, intervals: float = 12) -> World:
    begun.run(begun.now + int(intervals * begun.nodes[1].plan.interval_ms * US))
    return begun


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
class TestOneEvent:
    """Nothing is lost, and every heartbeat takes as long as any other."""

    def test_nothing(self, interval_ms: int) -> None:
        begun = let_pass(begin(interval_ms))
        assert begun.stretches == [] and len(begun.owners(0)) == 1

    def test_a_node_falls_silent(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.stop(1)
        let_pass(begun)
        bound = none_after_silence(timers_of(interval_ms, MISSED), Trouble(delays=(100, 100)))
        assert begun.longest(two=True) == 0, begun.log
        assert 0 < begun.longest(two=False) <= bound, begun.log

    def test_a_host_dies(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.crash(1)
        let_pass(begun)
        bound = none_after_crash(timers_of(interval_ms, MISSED), Trouble(delays=(100, 100)))
        assert begun.longest(two=True) == 0, begun.log
        assert interval_ms * US < begun.longest(two=False) <= bound, begun.log

    def test_a_node_says_goodbye(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.leave(1)
        let_pass(begun)
        assert begun.longest(two=True) == 0, begun.log
        assert begun.longest(two=False) == none_after_goodbye(Trouble(delays=(100, 100))), begun.log

    def test_twin_without_a_goodbye_it_takes_a_lease(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.nodes[1].stand_down()
        begun.stop(1)
        let_pass(begun)
        assert begun.longest(two=False) > interval_ms * US, begun.log

    def test_a_node_comes_back(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.stop(1)
        let_pass(begun)
        begun.forget()
        begun.start(1)
        let_pass(begun)
        assert begun.longest(two=False) == 0, begun.log
        assert begun.longest(two=True) == two_on_return(interval_ms * US, Trouble(delays=(100, 100)))

    def test_a_node_drains_and_comes_back(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.nodes[1].drain()
        let_pass(begun)
        assert (begun.longest(two=True), begun.longest(two=False)) == (0, 100), begun.log
        begun.nodes[1].delete("drained", 1)
        let_pass(begun)
        assert (begun.longest(two=True), begun.longest(two=False)) == (100, 100), begun.log

    def test_all_but_one_fall_silent(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.stop(1)
        begun.stop(2)
        let_pass(begun)
        assert begun.longest(two=True) == 0, begun.log
        assert [begun.owners(bucket) for bucket in range(6)] == [(3,)] * 6

    def test_ticks_of_two_kernels(self, interval_ms: int) -> None:
        """Wherever the ticks are: the own lease ends first."""
        for phase in range(0, TICK_MS * US, 400):
            clocks = [Clock(phase_us=phase), Clock(), Clock(phase_us=TICK_MS * US - 1)]
            begun = serving(plans(3, interval_ms), clocks, fate=lambda *_: 0)
            begun.stop(1)
            let_pass(begun)
            assert begun.longest(two=True) == 0, begun.log

    def test_twin_a_lease_that_is_not_shorter(self, interval_ms: int) -> None:
        same = [Leases(plan.leases.peer_ms, plan.leases.peer_ms) for plan in plans(3, interval_ms)]
        seen = []
        for phase in range(0, TICK_MS * US, 400):
            begun = serving(
                changed(plans(3, interval_ms), leases=same[0]),
                [Clock(), Clock(phase_us=phase), Clock()],
                fate=lambda *_: 0,
            )
            begun.stop(1)
            seen.append(let_pass(begun).longest(two=True))
        assert max(seen) > 0


# --- what cannot be prevented ----------------------------------------------------------------------


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
class TestWhatCannotBePrevented:
    """How long it lasts."""

    def test_one_way_loss_has_two_owners_for_ever(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.fate = lambda sender, receiver: None if (sender, receiver) == (1, 2) else 100
        let_pass(begun, 100)
        assert begun.longest(two=True) > 90 * interval_ms * US
        assert {stretch.owners for stretch in begun.stretches} <= {(), (1, 2)}

    def test_a_switch_in_two_halves(self, interval_ms: int) -> None:
        begun = begin(interval_ms)
        begun.sides = (frozenset({1}), frozenset({2, 3}))
        let_pass(begun)
        begun.forget()
        let_pass(begun)
        assert (begun.longest(two=True), begun.longest(two=False)) == (0, 0), "each side has its owner"
        begun.sides = ()
        let_pass(begun)
        assert 0 < begun.longest(two=True) <= interval_ms * US + 100, begun.log

    @pytest.mark.parametrize(("connections", "at_most_intervals"), [("preserve", 0), ("hash-only", 1)])
    def test_a_cut_that_nobody_noticed(
        self, interval_ms: int, connections: str, at_most_intervals: int
    ) -> None:
        """The node sends, but it is not heard; it sees no packets and hears nobody."""
        begun = begin(interval_ms, connections=connections)
        begun.blind.add(1)
        begun.sides = (frozenset({1}), frozenset({2, 3}))
        let_pass(begun)
        begun.forget()
        begun.blind.clear()
        begun.sides = ()
        let_pass(begun)
        longest = begun.longest(two=True)
        assert longest <= at_most_intervals * interval_ms * US + 100, begun.log
        assert bool(longest) == (connections == "hash-only"), begun.log

    @pytest.mark.parametrize("clock_stood", [True, False])
    def test_a_virtual_machine_that_was_paused(self, interval_ms: int, clock_stood: bool) -> None:
        """If time stood still for it, its lease has not ended: it goes on answering until it is heard.

        Otherwise its lease is over, and it waits until it has heard its peers.
        """
        begun = begin(interval_ms)
        since = begun.now
        begun.freeze(1)
        let_pass(begun)
        begun.forget()
        begun.thaw(1, since, clock_stood=clock_stood)
        let_pass(begun)
        longest = begun.longest(two=True)
        assert longest == interval_ms * US + 100 if clock_stood else longest <= 100, begun.log

    def test_a_goodbye_that_was_overtaken(self, interval_ms: int) -> None:
        """A heartbeat that left before the goodbye and arrives after it brings the node back for a lease."""
        begun = begin(interval_ms)
        begun.fate = lambda *_: 300
        begun.send(1)
        begun.fate = lambda *_: 100
        begun.leave(1)
        let_pass(begun)
        bound = none_after_crash(timers_of(interval_ms, MISSED), Trouble(delays=(0, 300)))
        assert begun.longest(two=True) == 0
        assert interval_ms * US < begun.longest(two=False) <= bound, begun.log


# --- anything ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    interval_ms=st.sampled_from(INTERVALS_MS),
    losses=st.integers(0, 3),
    shortest=st.integers(0, 2000),
    spread=st.integers(0, 30_000),
    ppm=st.integers(0, 500),
    stalls=st.booleans(),
)
def test_no_two_owners_for_longer_than_the_formulae_say(
    seed: int, interval_ms: int, losses: int, shortest: int, spread: int, ppm: int, stalls: bool
) -> None:
    """Three nodes that stop, crash, stall and come back while heartbeats are lost, late and out of order."""
    random = Random(seed)
    trouble = Trouble(losses, (shortest, shortest + spread), drift=Fraction(ppm, 10**6))
    begun = _troubled(random, interval_ms, trouble)
    if stalls:
        begun.late = lambda: random.choice((0, 0, 0, random.randrange(5 * interval_ms * US)))
    for _ in range(12):
        something(begun, random)
        let_pass(begun, random.uniform(0, 6))
    timers = timers_of(interval_ms, MISSED)
    assert not any(node.disputes for node in begun.nodes.values()), begun.log
    bound = max(two_whatever_it_does(timers, trouble), two_on_return_whatever_it_does(timers, trouble))
    assert begun.longest(two=True) <= bound, (bound, begun.log)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    interval_ms=st.sampled_from(INTERVALS_MS),
    losses=st.integers(0, 4),
    spread=st.integers(0, 30_000),
    late=st.integers(0, 5000),
)
def test_nodes_that_send_on_time(seed: int, interval_ms: int, losses: int, spread: int, late: int) -> None:
    """Nothing stops: lost and late heartbeats alone, and nodes that fall silent at the end."""
    random = Random(seed)
    trouble = Trouble(losses, (0, spread), late=late)
    begun = _troubled(random, interval_ms, trouble)
    begun.late = lambda: random.choice((0, late))
    let_pass(begun, 40)
    begun.stop(random.choice((1, 2, 3)))
    let_pass(begun)
    bound = two_if_punctual(timers_of(interval_ms, MISSED), interval_ms * US, trouble)
    assert begun.longest(two=True) <= bound, (bound, begun.log)


def _troubled(random: Random, interval_ms: int, trouble: Trouble) -> World:
    """A cluster whose clocks differ, and in which heartbeats begin to be lost and late."""
    ppm = int(trouble.drift * 10**6)
    clocks = [Clock(random.choice((-ppm, ppm)), random.randrange(TICK_MS * US)) for _ in range(3)]
    begun = serving(plans(3, interval_ms, MISSED), clocks, fate=lambda *_: trouble.delays[0])
    lost: dict[tuple[int, int], int] = {}

    def fate(sender: int, receiver: int) -> int | None:
        in_a_row = lost.get((sender, receiver), 0)
        if in_a_row < trouble.losses and random.random() < 0.4:
            lost[sender, receiver] = in_a_row + 1
            return None
        lost[sender, receiver] = 0
        return random.choice((*trouble.delays, random.randint(*trouble.delays)))

    begun.fate = fate
    return begun


def something(begun: World, random: Random) -> None:
    node = random.choice(sorted(begun.nodes))
    if node in begun.frozen:
        begun.boot(node)
    elif node in begun.silent:
        begun.start(node)
    else:
        random.choice((begun.stop, begun.leave, begun.crash))(node)
