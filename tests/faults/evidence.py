"""What was seen of a run, as values: who was asked and answered, who heard whom, what happened. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from e2e.witness import Heartbeat, Span

from .schedule import Fault

#: a heartbeat's VRRP priority: 0 says goodbye, 1 that its sender drains; unstamped ones count for nothing
LIVES = 2
DRAINS = 1
_UNSTAMPED = -1


class Probe(NamedTuple):
    """One question of a source, and the nodes that answered it, each as often as it did."""

    asked_s: float
    nodes: tuple[str, ...]


class Beat(NamedTuple):
    """A heartbeat that was seen."""

    at_s: float
    priority: int


@dataclass(frozen=True)
class Happened:
    """A fault's begin or end: from when to when it was done, and why it could not be ("" if it could)."""

    fault: Fault
    word: str
    at_s: float
    done_s: float
    failed: str = ""


@dataclass(frozen=True)
class Verdict:
    """What `status` said, asked in this time: its exit status, and what was wrong with the answer itself."""

    at_s: float
    done_s: float
    status: int
    wrong: str = ""


@dataclass(frozen=True)
class Evidence:
    """A run. ``calm_s``: from then on nothing was wrong any more; ``unreturned``: what was, for good.

    ``orders``: of each source, the nodes in the order in which its probes are theirs.
    """

    pace: Heartbeat
    started_s: float
    calm_s: float
    sources: Mapping[int, Sequence[Probe]]
    heard: Mapping[tuple[str, str], Sequence[Beat]]
    left: Mapping[str, Sequence[Beat]]
    orders: Mapping[int, tuple[str, ...]]
    happened: tuple[Happened, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    unreturned: tuple[str, ...] = ()
    stalls: tuple[Span, ...] = ()


@dataclass
class Seen:
    """What the tap has written."""

    sources: dict[int, list[Probe]] = field(default_factory=dict)
    heard: dict[tuple[str, str], list[Beat]] = field(default_factory=lambda: defaultdict(list))
    left: dict[str, list[Beat]] = field(default_factory=lambda: defaultdict(list))
    missed: int = 0


def read_tap(lines: Iterable[str], probes_s: float) -> Seen:
    """The tap's lines (see tap.py); a source asks every ``probes_s``. Raises ValueError without their end."""
    seen, asked, answered, is_whole = Seen(), {}, defaultdict(list), False
    for line in lines:
        word, *rest = line.split()
        match word, rest:
            case "L", [at, sender, priority]:
                seen.left[sender].append(Beat(float(at), int(priority)))
            case "H", [at, sender, hearer, priority]:
                seen.heard[hearer, sender].append(Beat(float(at), int(priority)))
            case "Q", [at, source, number]:
                asked[int(source), int(number)] = float(at)
            case "A", [_at, source, number, node]:
                answered[int(source), int(number)].append(node)
            case "end", [missed]:
                seen.missed, is_whole = int(missed), True
    if not is_whole:
        raise ValueError("the tap did not come to its end")
    seen.sources = _probes(asked, answered, probes_s)
    return seen


def _probes(
    asked: Mapping[tuple[int, int], float], answered: Mapping[tuple[int, int], list[str]], probes_s: float
) -> dict[int, list[Probe]]:
    """By source, in order; one that never left the client was asked when it was due."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for source, number in asked:
        numbers[source].append(number)
    found = {}
    for source, mine in numbers.items():
        first = min(mine)
        due_s = asked[source, first]
        found[source] = [
            Probe(
                asked.get((source, number), due_s + (number - first) * probes_s),
                tuple(answered.get((source, number), ())),
            )
            for number in range(first, max(mine) + 1)
        ]
    return found


def leases(beats: Iterable[Beat], lease_s: float) -> list[Span]:
    """When these heartbeats make their sender count for alive."""
    spans: list[Span] = []
    for at_s, priority in sorted(beats):
        if priority == _UNSTAMPED:
            continue
        goes_on = bool(spans) and at_s <= spans[-1].end_s
        start_s = spans.pop().start_s if goes_on else at_s
        lives = priority >= LIVES
        if lives or goes_on:
            spans.append(Span(start_s, at_s + lease_s if lives else at_s))
    return spans


def span_at(spans: Sequence[Span], at_s: float) -> Span | None:
    """The one of the spans, in order and apart, in which a moment lies."""
    place = bisect_right(spans, (at_s, float("inf"))) - 1
    return spans[place] if place >= 0 and at_s <= spans[place].end_s else None
