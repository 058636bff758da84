"""A cluster's state for a person: a line per node, and below it the verdict with its reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.text import printable
from trscaler_gen.secret import redact
from trscaler_gen.verdict import Member, Sight, State, Verdict, named

#: a terminal of as many columns has room for everything
_WIDE = 100
#: how many ranges of buckets a sentence names before it counts the others
_MAX_RANGES = 8
#: how many groups of nodes that share buckets are named
_MAX_GROUPS = 4

_HEADING = ("node", "generation", "epoch", "serial", "heartbeat", "sees", "buckets", "accepted", "dropped")
_NUMBERS = ("epoch", "serial", "buckets", "accepted", "dropped")
_ONLY_WIDE = ("serial",)

_WORDS = {State.HEALTHY: "healthy", State.DEGRADED: "degraded", State.UNKNOWN: "could not tell"}
_STYLES = {State.HEALTHY: "bold green", State.DEGRADED: "bold red", State.UNKNOWN: "bold yellow"}
_UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True)
class ClusterStatus:
    """A cluster as it was found; ``errors`` are those of the nodes that could not be asked, by name.

    ``remarks`` are about the inventory and its lock, not about a node.
    """

    label: str
    members: Sequence[Member]
    errors: Mapping[str, NodeError]
    verdict: Verdict
    remarks: Sequence[str] = ()


def show_status(status: ClusterStatus, console: Console | None = None) -> None:
    """Print one cluster: a table on a terminal, columns of plain text in a pipe."""
    console = console or Console()
    if console.is_terminal:
        console.print(_table(status, wide=console.width >= _WIDE))
    else:
        for line in columns([_HEADING, *(_row(status, member) for member in status.members)]):
            console.print(Text(line), soft_wrap=True)
    console.print()
    verdict = status.verdict
    headline = f"{status.label}: {_WORDS[verdict.state]}: {_counted(verdict)}"
    for text, style in (
        (headline, _STYLES[verdict.state]),
        *((f"  {text}", "") for text in _reasons(status)),
    ):
        for line in wrapped(printable(redact(text)), console):
            console.print(Text(line, style), soft_wrap=True)


def wrapped(text: str, console: Console) -> list[str]:
    """Lines for a terminal, continued further in; a pipe gets one."""
    if not console.is_terminal:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return textwrap.wrap(text, console.width, subsequent_indent=indent, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Plain lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def ranges(buckets: Iterable[int]) -> str:
    """Sorted numbers for a sentence: ``0-3, 7``; the first few ranges, and how many numbers more."""
    found: list[list[int]] = []
    for bucket in buckets:
        if found and found[-1][1] == bucket - 1:
            found[-1][1] = bucket
        else:
            found.append([bucket, bucket])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in found[:_MAX_RANGES]]
    more = sum(last - first + 1 for first, last in found[_MAX_RANGES:])
    return ", ".join(shown) + (f" and {more} more" if more else "")


# --- a line per node -----------------------------------------------------------------------------------


def _table(status: ClusterStatus, *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    kept = [column for column in range(len(_HEADING)) if wide or _HEADING[column] not in _ONLY_WIDE]
    for column in kept:
        name = _HEADING[column]
        justify = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=name not in ("node", "sees"), overflow="fold")  # type: ignore[arg-type]
    troubled = _troubled(status)
    for member in status.members:
        row = _row(status, member, compact=True)
        style = "red" if member.facts is None else "yellow" if member.name in troubled else ""
        table.add_row(*(Text(row[column], style) for column in kept))
    return table


def _troubled(status: ClusterStatus) -> set[str]:
    """Nodes that do not own what they should, at a glance: whoever owns nothing."""
    return {name for name, count in status.verdict.owned.items() if not count}


def _row(status: ClusterStatus, member: Member, *, compact: bool = False) -> tuple[str, ...]:
    facts, owned = member.facts, status.verdict.owned.get(member.name)
    if facts is None:
        return (member.name, "no answer", "-", "-", "-", "-", _share(owned, status.verdict), "-", "-")
    counter = _compact if compact else str
    return (
        member.name,
        _generation(member),
        str(facts.epoch or "-"),
        str(facts.serial or "-"),
        _heartbeat(facts),
        sight_words(status.verdict.sights.get(member.name)),
        _share(owned, status.verdict),
        counter(facts.accepted),
        counter(facts.dropped),
    )


def _heartbeat(facts: Facts) -> str:
    if facts.fenced:
        return "fenced"
    if facts.keepalived != "running":
        return "stopped"
    return "drained" if facts.draining and facts.heartbeat == "MASTER" else printable(facts.heartbeat) or "-"


def _generation(member: Member) -> str:
    assert member.facts is not None
    if not member.facts.runs:
        return "runs nothing"
    is_other = member.wanted and member.facts.generation != member.wanted
    return f"{printable(member.facts.generation)}{'*' if is_other else ''}"


def sight_words(sight: Sight | None) -> str:
    """Whom a node hears, whether they serve or are drained."""
    heard = (*sight.alive, *sight.draining) if sight else ()
    if sight is None or not (heard or sight.missing):
        return "-"
    if not sight.missing:
        return "all"
    if not heard:
        return "none"
    if len(sight.missing) == 1:
        return f"all but {sight.missing[0]}"
    return f"{len(heard)} of {len(heard) + len(sight.missing)}"


def _share(owned: int | None, verdict: Verdict) -> str:
    if owned is None:
        return "?"
    return f"{owned} {100 * owned / verdict.buckets:.3g}%" if verdict.buckets else str(owned)


def _compact(count: int) -> str:
    for unit, letter in _UNITS:
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


# --- the verdict -----------------------------------------------------------------------------------------


def _counted(verdict: Verdict) -> str:
    if not verdict.buckets:
        return "no node is known to run anything"
    return f"{verdict.one} of {verdict.buckets} buckets have exactly one owner"


def _reasons(status: ClusterStatus) -> Iterator[str]:
    verdict = status.verdict
    yield from _doubled(verdict.several)
    if verdict.none:
        yield f"{_buckets(len(verdict.none))} no owner: {ranges(verdict.none)}"
    if verdict.unknown:
        yield f"{_buckets(len(verdict.unknown))} an owner that cannot be told: {ranges(verdict.unknown)}"
    yield from (*verdict.faults, *verdict.doubts)
    yield from unanswered(status.errors)
    yield from (f"note: {text}" for text in (*verdict.notes, *status.remarks))


def _doubled(several: Mapping[tuple[str, ...], Sequence[int]]) -> Iterator[str]:
    """Which nodes share buckets, those that share most first."""
    groups = sorted(several.items(), key=lambda group: -len(group[1]))
    for owners, buckets in groups[:_MAX_GROUPS]:
        yield f"{_buckets(len(buckets))} {len(owners)} owners ({named(owners)}): {ranges(buckets)}"
    others = sum(len(buckets) for _, buckets in groups[_MAX_GROUPS:])
    if others:
        yield f"{_buckets(others)} two or more owners: {len(groups) - _MAX_GROUPS} other groups of nodes"


def _buckets(count: int) -> str:
    return "1 bucket has" if count == 1 else f"{count} buckets have"


def unanswered(errors: Mapping[str, NodeError]) -> Iterator[str]:
    """Why nodes could not be asked, and what to do; each text once."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for name, error in errors.items():
        nodes.setdefault((error.message, error.hint), []).append(name)
    for (message, hint), names in nodes.items():
        yield f"{named(names)}: {message}"
        if hint:
            yield f"  hint: {hint}"
