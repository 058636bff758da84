"""The figures of failover as a section of docs/benchmarks.md, and as pictures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trscaler_gen.chart import Series, distribution, figure, keys_of
from trscaler_gen.nodeplan import leases
from trscaler_gen.render import render_figure

_EVENTS = {
    "cut": "cable pulled",
    "frozen": "keepalived hangs (SIGSTOP)",
    "killed": "keepalived killed (SIGKILL)",
    "stopped": "keepalived stopped (SIGTERM)",
    "unhealthy": "health check fails",
}
_WHO = ("trscaler-gen", "keepalived")
_RETURN = "return"
_MISSED = 3
#: how long all clients are looked at, where the goal says a part and not of what
_ALL_CLIENTS_MS = 10_000
#: what is drawn: one curve each for both
_DRAWN = ("cut", "killed", "stopped")
_WIDTH, _HEIGHT = 340.0, 260.0

Part = Mapping[str, Any]
Runs = Sequence[Mapping[str, Any]]


def section(parts: Sequence[Part]) -> str:
    """All of it, with links to the pictures."""
    return "\n".join([_head(parts), *(_size(parts, nodes) for nodes in _sizes(parts)), _targets(parts)])


def pictures(parts: Sequence[Part]) -> dict[str, bytes]:
    """SVG files by name: distributions of takeover times, one picture for each size of cluster."""
    measured = [part for part in parts if part["runs"]]
    return {_picture(nodes): _drawn(_with(measured, nodes)) for nodes in _sizes(measured)}


def _sizes(parts: Sequence[Part]) -> list[int]:
    return list(dict.fromkeys(part["nodes"] for part in parts))


def _with(parts: Sequence[Part], nodes: int) -> list[Part]:
    return [part for part in parts if part["nodes"] == nodes]


def _picture(nodes: int) -> str:
    return f"failover-{nodes}.svg"


# --- words ------------------------------------------------------------------------------------------


def _head(parts: Sequence[Part]) -> str:
    loads = [part["load"] for part in parts]
    return f"""## How long clients wait for another node

Next to plain keepalived (VRRP version 3) that moves one address between as many hosts, at the same interval,
with the same events, health check (every second) and prober, on the same machine: in turn, and from
heartbeats of 100 ms on at the same time. Four sources that
the victim answers, and two beside them (with more than eight nodes two, and one), send a probe each at short
intervals. Load of the machine: {min(loads):.1f} to {max(loads):.1f}.

- *takeover*: from the event until a source has its first answer from another node; all sources of all runs
- *lost*: the longest time in which all probes of a source were lost, in the median run and the worst; and the
  part of all probes, from 0.15 s before the event until 0.2 s or an interval after the takeover
- *doubled*: probes with two answers, and the longest time in which all of a source's had two, up to its next
  probe that had not: one alone counts a probe's interval
- *disturbed*: runs in which the prober or the machine was held up longer than the margin below. Figures are
  of the other runs; in brackets with these, where they differ
- *return*: all ways back; a new keepalived waits some intervals before it sends anything
- a node of ours that hangs stops to answer when its own lease ends, a little before its peers' lease does:
  what is lost then is the price of not having two answers meanwhile. Where an address moves, a hung host
  answers on, as a rule
- a failed health check is noticed up to a second later: that is part of its takeover
"""


def _size(parts: Sequence[Part], nodes: int) -> str:
    mine = _with(parts, nodes)
    is_drawn = any(part["runs"] for part in mine)
    picture = f"![Distributions of takeover times, {nodes} nodes](images/{_picture(nodes)})\n"
    return "\n".join([f"### {nodes} nodes\n", *([picture] if is_drawn else []), *map(_interval, mine)])


def _interval(part: Part) -> str:
    gave_up = f" It ended early: {part['gave_up']}." if part["gave_up"] else ""
    head = ["event", "", "runs", "disturbed", "takeover, ms: median", "90 %", "worst"]
    head += ["lost, ms: median", "worst", "lost", "doubled", "doubled, ms"]
    own, peer = _lease_ms(part)
    return f"""Heartbeat every {part["interval_ms"]} ms, a probe of each source every {part["probe_ms"]:g} ms,
margin {part["margin_ms"]:g} ms. A node's own lease is {own} ms, its peers' {peer} ms.{gave_up}

{_table(head, _rows(part))}"""


def _lease_ms(part: Part) -> tuple[int, int]:
    found = leases(part["interval_ms"], _MISSED)
    return found.own_ms, found.peer_ms


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    rule = ["---", "---", *("---:" for _ in head[2:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)) + "\n"


def _rows(part: Part) -> Iterator[list[str]]:
    for event in (*_EVENTS, _RETURN):
        for who in _WHO:
            if runs := _runs(part, event, who):
                yield [_EVENTS.get(event, _RETURN), who, *_cells(runs, is_return=event == _RETURN)]


def _runs(part: Part, event: str, who: str) -> list[Mapping[str, Any]]:
    return [
        run["seen"]
        for run in part["runs"]
        if run["who"] == who and (run["is_return"] if event == _RETURN else run["event"] == event)
        if event == _RETURN or not run["is_return"]
    ]


def _cells(runs: Runs, *, is_return: bool) -> Iterator[str]:
    yield str(len(runs))
    yield str(len(runs) - len(_quiet(runs)))
    for part in (50, 90, 100):
        yield "" if is_return else _both(runs, lambda some, part=part: _takeover(some, part))  # type: ignore[misc]
    yield _both(runs, lambda some: f"{statistics.median(run['lost_ms'] for run in some):.1f}")
    yield _both(runs, lambda some: f"{max(run['lost_ms'] for run in some):.1f}")
    yield _both(runs, lambda some: f"{_lost_share(some):.3%}")
    yield _both(runs, lambda some: str(sum(run["doubled"] for run in some)))
    yield _both(runs, lambda some: f"{max(run['doubled_ms'] for run in some):.1f}")


def _quiet(runs: Runs) -> Runs:
    return [run for run in runs if not run["disturbed"]]


def _both(runs: Runs, told: Callable[[Runs], str]) -> str:
    """Of the runs that were not disturbed, and in brackets of all; nothing, of none."""
    if not runs:
        return ""
    quiet = _quiet(runs)
    everything = told(runs)
    if not quiet:
        return f"({everything})"
    return everything if told(quiet) == everything else f"{told(quiet)} ({everything})"


def _takeover(runs: Runs, part: float) -> str:
    """A percentile; a run that nobody took over in time has none."""
    never = sum(not run["takeover_ms"] for run in runs)
    taken = _takeovers(runs)
    text = f"{np.percentile(taken, part):.1f}" if taken else "none"
    return f"{text}, {never} never" if never and part == 100 else text


def _takeovers(runs: Runs) -> list[float]:
    return [taken for run in runs for taken in run["takeover_ms"]]


def _lost_share(runs: Runs) -> float:
    lost, sent = (sum(run[key] for run in runs) for key in ("lost", "sent"))
    return float(lost / sent)


# --- targets ----------------------------------------------------------------------------------------


def _targets(parts: Sequence[Part]) -> str:
    fastest = min(part["interval_ms"] for part in parts)
    mine = [part for part in parts if part["interval_ms"] == fastest and part["runs"]]
    head = ["", *(f"{part['nodes']} nodes" for part in mine), "goal"]
    rows = [[name, *(cell(part) for part in mine), goal] for name, cell, goal in _GOALS]
    rule = ["---", *("---:" for _ in head[1:])]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
    return (
        f"""### Goals, with a heartbeat every {fastest} ms

The parts lost are of what the watched sources sent while they were watched, most of them the victim's, and
for less than a second. *In ten seconds*: the same time lost, once in ten seconds, by the victim's share of
all clients.

"""
        + "\n".join(lines)
        + "\n"
    )


def _of(part: Part, *events: str) -> Runs:
    return [run for event in events for run in _runs(part, event, _WHO[0])]


def _crashes(part: Part) -> Runs:
    return _of(part, "cut", "frozen", "killed")


def _median_of(event: str) -> Callable[[Part], str]:
    return lambda part: _both(_of(part, event), lambda some: _takeover(some, 50))


def _share_at(*events: str) -> Callable[[Part], str]:
    return lambda part: _both(_of(part, *events), lambda some: f"{_lost_share(some):.3%}")


def _share_of_all(part: Part, event: str) -> str:
    """What all clients lose of what they send in ten seconds; one in so many is the victim's."""

    def share(runs: Runs) -> str:
        watched = sum(len(run["gap_ms"]) for run in runs)
        lost_ms = sum(run["lost"] for run in runs) * part["probe_ms"] / watched
        return f"{lost_ms / part['nodes'] / _ALL_CLIENTS_MS:.4%}"

    return _both(_of(part, event), share)


_GOALS: list[tuple[str, Callable[[Part], str], str]] = [
    ("takeover, a cable pulled, median, ms", _median_of("cut"), "30 at 10 ms"),
    ("takeover, keepalived hangs, median, ms", _median_of("frozen"), "30 at 10 ms"),
    ("takeover, keepalived killed, median, ms", _median_of("killed"), "30 at 10 ms"),
    (
        "takeover, worst of these, ms",
        lambda part: _both(_crashes(part), lambda some: _takeover(some, 100)),
        "60 at 10 ms",
    ),
    ("lost when keepalived hangs", _share_at("frozen"), "0.010%"),
    (
        "the same, of all clients in ten seconds",
        lambda part: _share_of_all(part, "frozen"),
        "0.010%",
    ),
    ("lost when it is stopped", _share_at("stopped"), "0.010%"),
    ("lost at a return", _share_at(_RETURN), "0.010%"),
    (
        "doubled, longest, ms",
        lambda part: _both(
            _of(part, *_EVENTS, _RETURN), lambda some: f"{max(run['doubled_ms'] for run in some):.1f}"
        ),
        "the leases' difference",
    ),
]


# --- pictures ---------------------------------------------------------------------------------------


def _drawn(parts: Sequence[Part]) -> bytes:
    lines = [_series(part) for part in parts]
    charts = [
        distribution(
            series,
            heading=f"a heartbeat every {part['interval_ms']} ms",
            tick_text=lambda value: f"{value:g} ms",
            axis="log",
            width=_WIDTH,
            height=_HEIGHT,
        )
        for part, series in zip(parts, lines, strict=True)
    ]
    title = f"Takeover by another of {parts[0]['nodes']} nodes"
    description = (
        "What part of the sources had an answer of another node, by the time since the event. "
        "Runs that the machine disturbed are left out, unless there is no other."
    )
    return render_figure(figure(charts, title=title, description=description, keys=keys_of(lines[0])))


def _series(part: Part) -> list[Series]:
    found = []
    for event in _DRAWN:
        for who in _WHO:
            runs = _runs(part, event, who)
            values = _takeovers(_quiet(runs)) or _takeovers(runs)
            found.append(Series(f"{event}: {who}", values or [1.0]))
    return found
