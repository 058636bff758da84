"""The formulae say exactly what a search through everything that can happen finds: neither less nor more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .bounds import (
    Timers,
    Trouble,
    none_after_silence,
    timers_of,
    two_if_punctual,
    two_on_return_whatever_it_does,
    two_whatever_it_does,
)
from .search import ENDLESS, Pair, Trace, Wrong, longest, no_owner, two_owners

DELAYS = [(0, 0), (0, 1), (0, 3), (1, 4)]
#: units in a tick: 1 has no time within one, 2 has
TICKS = [1, 2]
INTERVAL_MS, MISSED, TICK_MS = 20, 2, 4


def timers(tick: int) -> Timers:
    """The product's leases at 250 Hz, the tick that many units long."""
    return replace(timers_of(INTERVAL_MS, MISSED), tick=tick)


def interval(tick: int) -> int:
    return INTERVAL_MS * tick // TICK_MS


def worst(pair: Pair, wrong: Wrong) -> Trace:
    """The longest of all, however the ticks of the two kernels stand to each other."""
    traces = [longest(replace(pair, skew=skew), wrong) for skew in range(pair.timers.tick)]
    return max(traces, key=lambda trace: trace.length)


@pytest.mark.parametrize("tick", TICKS)
@pytest.mark.parametrize("losses", [0, 1, 2])
@pytest.mark.parametrize("delays", DELAYS, ids=str)
class TestFormulae:
    """What is found is what the formula says."""

    def test_two_owners_if_it_sends_on_time(self, tick: int, losses: int, delays: tuple[int, int]) -> None:
        trouble = Trouble(losses, delays)
        found = worst(Pair(timers(tick), interval(tick), trouble), two_owners)
        assert found.length == two_if_punctual(timers(tick), interval(tick), trouble), found

    def test_two_owners_whatever_it_does(self, tick: int, losses: int, delays: tuple[int, int]) -> None:
        trouble = Trouble(losses, delays)
        found = worst(Pair(timers(tick), interval(tick), trouble, stalls=True), two_owners)
        assert found.length == two_whatever_it_does(timers(tick), trouble), found

    def test_two_owners_when_it_comes_back(self, tick: int, losses: int, delays: tuple[int, int]) -> None:
        trouble = Trouble(losses, delays)
        found = worst(Pair(timers(tick), interval(tick), trouble, stalls=True, returns=True), two_owners)
        without = two_whatever_it_does(timers(tick), trouble)
        assert found.length == max(without, two_on_return_whatever_it_does(timers(tick), trouble)), found

    def test_no_owner(self, tick: int, losses: int, delays: tuple[int, int]) -> None:
        trouble = Trouble(losses, delays)
        found = worst(Pair(timers(tick), interval(tick), trouble, stalls=True), no_owner)
        assert found.length == none_after_silence(timers(tick), trouble), found


def pair(**changes: object) -> Pair:
    """Small enough to be read: 5 ticks between heartbeats, leases of 10 and 12."""
    return replace(Pair(timers(1), interval(1), Trouble()), **changes)  # type: ignore[arg-type]


def test_the_shortest_way_to_two_owners() -> None:
    """A heartbeat is lost, and then the sender falls silent: its lease began later than its peer's."""
    assert longest(pair(trouble=Trouble(losses=1)), two_owners).events == (
        "   5 heartbeat leaves, and is lost",
        "  10 falls silent",
        "  12 peer's lease ends; two owners",
    )


def test_the_shortest_way_there_without_a_loss() -> None:
    """A heartbeat leaves just before its sender's lease is over, and takes longer than any before."""
    assert longest(pair(trouble=Trouble(delays=(0, 4)), stalls=True), two_owners).events == (
        "   9 heartbeat leaves, arrives after 4",
        "  12 peer's lease ends; two owners",
    )


def test_delay_alone_does_no_harm_while_it_does_not_vary() -> None:
    for delay in range(8):
        trouble = Trouble(delays=(delay, delay))
        assert longest(pair(trouble=trouble, stalls=True), two_owners).length == 0


def test_as_many_losses_as_are_allowed() -> None:
    """On time, and going on: the last of ``missed`` heartbeats in a row has to arrive."""
    on_time = two_if_punctual(timers(1), interval(1), Trouble(losses=MISSED - 1))
    silent_then = (MISSED - 1) * interval(1) + timers(1).own[1] - timers(1).peer[0]
    assert on_time == silent_then, "two owners only if it falls silent right after the losses"


# --- twins ------------------------------------------------------------------------------------------


def test_twin_a_lease_that_is_not_shorter() -> None:
    """Of two leases of one length the own one may be kept longer, as ticks differ."""
    same = replace(timers(2), own_ticks=timers(2).peer_ticks)
    assert worst(pair(timers=timers(2), interval=interval(2)), two_owners).length == 0
    assert worst(pair(timers=same, interval=interval(2)), two_owners).length > 0


def test_twin_a_lease_of_its_own_that_heartbeats_do_not_renew() -> None:
    """A node that holds itself for alive whatever becomes of its heartbeats has company for ever."""
    assert longest(pair(), two_owners).length == 0
    assert longest(pair(own_expires=False), two_owners).length == ENDLESS
