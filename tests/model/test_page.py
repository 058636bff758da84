"""The tables of docs/reliability.md are what the formulae say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .bounds import (
    US,
    Timers,
    Trouble,
    none_after_crash,
    none_after_goodbye,
    none_after_silence,
    safe_spread,
    timers_of,
    two_if_punctual,
    two_on_return,
)

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
INTERVALS_MS = (10, 30, 100, 1000)
MISSED = 3
WELL = Trouble()


def table(name: str) -> list[list[str]]:
    """The rows of the table behind a mark, without its heading."""
    lines = PAGE.partition(f"<!-- model: {name} -->\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def timers() -> list[Timers]:
    return [timers_of(interval_ms, MISSED) for interval_ms in INTERVALS_MS]


def ms(times_us: Sequence[int]) -> list[str]:
    """As the page has them: a time that is reached but for a microsecond is reached."""
    return [str(-(-time // US)) for time in times_us]


def allowance(timers: Timers, interval_ms: int, losses: int) -> str:
    spread = timers.peer[0] - (losses + 1) * interval_ms * US
    return str(spread // US) if spread >= 0 else "-"


def test_what_is_allowed() -> None:
    rows = [
        [
            *(
                str(interval_ms),
                str(each.own[1] // US),
                str(each.peer[1] // US),
                str(safe_spread(each) // US),
            ),
            *(allowance(each, interval_ms, losses) for losses in range(4)),
        ]
        for interval_ms, each in zip(INTERVALS_MS, timers(), strict=True)
    ]
    assert table("allowed") == rows


def silent(losses: int) -> list[str]:
    """Two owners when a node falls silent after so many losses."""
    return ms(
        [max(0, losses * i * US + t.own[1] - t.peer[0]) for i, t in zip(INTERVALS_MS, timers(), strict=True)]
    )


def goes_on(losses: int) -> list[str]:
    """Two owners while heartbeats are lost, and the node goes on."""
    return ms(
        [max(0, (losses + 1) * i * US - t.peer[0]) for i, t in zip(INTERVALS_MS, timers(), strict=True)]
    )


def test_both_make_the_longest() -> None:
    for interval_ms, each in zip(INTERVALS_MS, timers(), strict=True):
        for losses in range(5):
            at = INTERVALS_MS.index(interval_ms)
            longest = ms([two_if_punctual(each, interval_ms * US, Trouble(losses))])[0]
            assert longest == max(silent(losses)[at], goes_on(losses)[at], key=int)


def test_how_long() -> None:
    returned = [ms([two_on_return(i * US, Trouble(losses)) for i in INTERVALS_MS]) for losses in (0, 1)]
    rows = [
        ms([none_after_silence(each, WELL) for each in timers()]),
        *(silent(losses) for losses in range(3)),
        ms([none_after_crash(each, WELL) for each in timers()]),
        ms([none_after_goodbye(WELL)] * 4),
        *(goes_on(losses) for losses in (2, 3, 4)),
        *returned,
        *([str(interval_ms) for interval_ms in INTERVALS_MS],) * 2,
    ]
    assert [row[1:] for row in table("longest")] == rows
