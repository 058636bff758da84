"""For how long a bucket can have two owners, or none: the formulae of docs/reliability.md.

A node answers until its own lease ends, its peer begins when the peer's ends. Both begin with the same
heartbeat: the own one as it leaves, the peer's as it arrives. So only what happens between one sender and one
peer matters, and a bucket with two owners always is one of such a pair.

Times are whole numbers of any one unit, the tick of the kernels' timers among them. A lease of T is kept as
the ticks that fit into it, counted from the last one: it ends up to a tick early, and never late.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from trscaler_gen.nodeplan import leases

US = 1000  # microseconds in a millisecond, the unit of all leases
#: CONFIG_HZ of Debian's and Ubuntu's kernels, as the length of a tick
TICK_US = 4 * US


@dataclass(frozen=True)
class Timers:
    """Both leases in ticks, and how long one is."""

    own_ticks: int
    peer_ticks: int
    tick: int

    @property
    def own(self) -> tuple[int, int]:
        """The shortest and the longest time for which a node's own lease lasts."""
        return (self.own_ticks - 1) * self.tick + 1, self.own_ticks * self.tick

    @property
    def peer(self) -> tuple[int, int]:
        """The shortest and the longest time for which a peer's lease lasts."""
        return (self.peer_ticks - 1) * self.tick + 1, self.peer_ticks * self.tick


@dataclass(frozen=True)
class Trouble:
    """What is supposed to go wrong.

    ``losses``: heartbeats in a row that do not reach one peer. ``delays``: the shortest and the longest time
    from the sender's egress hook to the peer's ingress hook. ``late``: what a heartbeat leaves too late at
    most. ``drift``: by which part of itself a clock runs too fast or too slow.
    """

    losses: int = 0
    delays: tuple[int, int] = (0, 0)
    late: int = 0
    drift: Fraction = Fraction(0)


def timers_of(interval_ms: int, missed: int, tick_us: int = TICK_US) -> Timers:
    """The leases as a kernel keeps them, in microseconds."""
    kept = leases(interval_ms, missed)
    return Timers(kept.own_ms * US // tick_us, kept.peer_ms * US // tick_us, tick_us)


def two_if_punctual(timers: Timers, interval: int, trouble: Trouble) -> int:
    """The longest time of two owners while a node sends on time, and perhaps falls silent."""
    gap = _gap(interval, trouble)
    goes_on = (trouble.losses + 1) * gap + trouble.delays[1]
    falls_silent = trouble.losses * gap + _slow(timers.own[1], trouble)
    return _whole(max(goes_on, falls_silent) - trouble.delays[0] - _fast(timers.peer[0], trouble))


def two_whatever_it_does(timers: Timers, trouble: Trouble) -> int:
    """The longest time of two owners if the sender may stall at any moment, for any time.

    Each heartbeat has to leave before the lease of the one before it is over, so all but the first of these
    leases begin at the end of a tick.
    """
    silent = ((trouble.losses + 1) * (timers.own_ticks - 1) + 1) * timers.tick
    sends = max(_slow(silent, trouble), _slow(silent - 1, trouble) + trouble.delays[1])
    return _whole(sends - trouble.delays[0] - _fast(timers.peer[0], trouble))


def two_on_return(interval: int, trouble: Trouble) -> int:
    """The longest time of two owners when a node comes back, and sends on time: until it is heard."""
    return _whole(trouble.losses * _gap(interval, trouble) + trouble.delays[1])


def two_on_return_whatever_it_does(timers: Timers, trouble: Trouble) -> int:
    """The same if it may stall again: between two heartbeats its lease is not over."""
    return _whole(trouble.losses * _slow(timers.own[1], trouble) + trouble.delays[1])


def none_after_silence(timers: Timers, trouble: Trouble) -> int:
    """The longest time without an owner when a node falls silent, and its host goes on."""
    return _whole(_slow(timers.peer[1], trouble) + trouble.delays[1] - _fast(timers.own[0], trouble))


def none_after_crash(timers: Timers, trouble: Trouble) -> int:
    """The longest time without an owner when a host dies at once, or its cable does."""
    return _whole(_slow(timers.peer[1], trouble) + trouble.delays[1])


def none_after_goodbye(trouble: Trouble) -> int:
    """The longest time without an owner when a node says goodbye, and is heard."""
    return trouble.delays[1]


def safe_spread(timers: Timers, drift: Fraction = Fraction(0)) -> int:
    """By how much delays may vary, without losses, if a node is never to have company in its buckets."""
    trouble = Trouble(drift=drift)
    return floor(_fast(timers.peer[0], trouble) - _slow(timers.own[1], trouble))


def _gap(interval: int, trouble: Trouble) -> Fraction:
    return _slow(interval, trouble) + trouble.late


def _slow(time: int, trouble: Trouble) -> Fraction:
    """How long a time lasts by a clock that is too slow."""
    return time / (1 - trouble.drift)


def _fast(time: int, trouble: Trouble) -> Fraction:
    """How long a time lasts by a clock that is too fast."""
    return time / (1 + trouble.drift)


def _whole(time: Fraction) -> int:
    return max(0, ceil(time))
