"""Everything that can happen between one sender and one peer, searched through to the end.

Time goes in units. In each of them the sender may send or not, and the network lose the heartbeat or take any
of its times. All states are visited, breadth first, so that the trace to one is as short as any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .bounds import Timers, Trouble

#: what lasts longer lasts for ever, in the small cases that are searched
ENDLESS = 120


@dataclass(frozen=True)
class Pair:
    """What may happen. ``skew``: how far the peer's ticks are from the sender's, in units.

    ``stalls``: the sender may send late, as late as it likes; otherwise it sends on time until it falls
    silent. ``returns``: a sender whose own lease is over may send again. ``own_expires``: False is a mistake,
    for twins.
    """

    timers: Timers
    interval: int
    trouble: Trouble
    skew: int = 0
    stalls: bool = False
    returns: bool = False
    own_expires: bool = True


class State(NamedTuple):
    """What is left of the leases, in ticks, and of the times of what is on the wire, in units."""

    time: int
    due: int
    own: int
    peer: int
    flight: tuple[int, ...]
    lost: int
    silent: bool
    run: int


@dataclass(frozen=True)
class Trace:
    """The longest run of what was looked for (ENDLESS: it never ends), and the shortest way there."""

    length: int
    events: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((*self.events, f"length {self.length}"))


Wrong = Callable[[State], bool]


def two_owners(state: State) -> bool:
    """The sender still answers, and the peer already does."""
    return state.own > 0 and state.peer == 0


def no_owner(state: State) -> bool:
    """The sender does not answer any more, and the peer does not yet."""
    return state.own == 0 and state.peer > 0


def longest(pair: Pair, wrong: Wrong) -> Trace:
    """Visit every state, and find the longest time for which something is wrong."""
    on_the_wire = (pair.trouble.delays[0],) if pair.trouble.delays[0] else ()
    start = State(0, pair.interval, pair.timers.own_ticks, pair.timers.peer_ticks, on_the_wire, 0, False, 0)
    came: dict[State, tuple[State, str] | None] = {start: None}
    waiting, worst = deque([start]), start
    while waiting and worst.run < ENDLESS:
        state = waiting.popleft()
        for event, following in _step(pair, state, wrong):
            if following not in came:
                came[following] = (state, event)
                waiting.append(following)
                worst = max(worst, following, key=lambda each: each.run)
    return Trace(worst.run, _events(came, worst))


def _events(came: dict[State, tuple[State, str] | None], last: State) -> tuple[str, ...]:
    steps = []
    before = came[last]
    while before is not None:
        steps.append(before[1])
        before = came[before[0]]
    named = enumerate(reversed(steps), 1)
    return tuple(f"{time:4} {event}" for time, event in named if event)


def _step(pair: Pair, state: State, wrong: Wrong) -> Iterator[tuple[str, State]]:
    """One unit later: what the sender may do, and what becomes of it."""
    waited = _wait(pair, state)
    may_send = waited.due == 0 and not waited.silent
    if not may_send or pair.stalls:
        yield _judge(waited, "", state, wrong)
    elif waited.due == 0:
        yield _judge(waited._replace(silent=True), "falls silent", state, wrong)
    if may_send:
        for event, sent in _send(pair, waited):
            yield _judge(sent, event, state, wrong)


def _wait(pair: Pair, state: State) -> State:
    """A unit passes: leases lose a tick where one begins, and a heartbeat arrives."""
    tick = pair.timers.tick
    time = (state.time + 1) % tick
    own = state.own - 1 if time == 0 and state.own and pair.own_expires else state.own
    peer = state.peer - 1 if (time + pair.skew) % tick == 0 and state.peer else state.peer
    arrives = 1 in state.flight
    return state._replace(
        time=time,
        due=max(0, state.due - 1),
        own=own,
        peer=pair.timers.peer_ticks if arrives else peer,
        flight=tuple(sorted(left - 1 for left in state.flight if left > 1)),
        silent=state.silent or (own == 0 and not pair.returns),
    )


def _send(pair: Pair, state: State) -> Iterator[tuple[str, State]]:
    sent = state._replace(own=pair.timers.own_ticks, due=pair.interval)
    if state.lost < pair.trouble.losses:
        yield "heartbeat leaves, and is lost", sent._replace(lost=state.lost + 1)
    first, last = pair.trouble.delays
    for delay in range(first, last + 1):
        event = f"heartbeat leaves, arrives after {delay}"
        if delay == 0:
            yield event, sent._replace(lost=0, peer=pair.timers.peer_ticks)
        else:
            yield event, sent._replace(lost=0, flight=tuple(sorted({*state.flight, delay})))


def _judge(state: State, event: str, before: State, wrong: Wrong) -> tuple[str, State]:
    is_wrong = wrong(state)
    run = before.run + 1 if is_wrong else 0
    begins = is_wrong and before.run == 0
    ends = before.run > 0 and not is_wrong
    told = "; ".join(
        word
        for word in (
            event,
            "own lease ends" if before.own and not state.own else "",
            "peer's lease ends" if before.peer and not state.peer else "",
            f"{wrong.__name__.replace('_', ' ')}" if begins else "",
            "over" if ends else "",
        )
        if word
    )
    return told, state._replace(run=run)
