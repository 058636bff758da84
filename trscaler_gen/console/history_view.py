"""What was applied to a cluster, newest first, and where its nodes disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trscaler_gen.console.status_view import columns
from trscaler_gen.errors import NodeError
from trscaler_gen.history import Change, Event, NodeHistory, stragglers, unrecorded
from trscaler_gen.inventory.text import printable
from trscaler_gen.verdict import named

_HEADING = ("change", "when", "by", "nodes", "rollback")


@dataclass(frozen=True)
class ClusterHistory:
    """The histories of the nodes that answered, what they come to, and why the others did not."""

    cluster: str
    nodes: Mapping[str, NodeHistory]
    changes: Sequence[Change]
    errors: Mapping[str, NodeError]


def show_history(history: ClusterHistory, console: Console | None = None) -> None:
    """Print a table on a terminal, columns of plain text in a pipe."""
    console = console or Console()
    rows = [_row(history, change) for change in history.changes]
    if not rows:
        console.print(Text(f"{history.cluster}: no node has a history"), soft_wrap=True)
    elif console.is_terminal:
        console.print(_table(history.changes, rows))
    else:
        for line in columns([_HEADING, *rows]):
            console.print(Text(line), soft_wrap=True)
    for text in _disagreements(history):
        console.print(Text(printable(text)), soft_wrap=not console.is_terminal)


def _table(changes: Sequence[Change], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in _HEADING:
        table.add_column(name, no_wrap=name in ("change", "when"), overflow="fold")
    for change, row in zip(changes, rows, strict=True):
        style = "bold" if change.is_current else "yellow" if change.event is Event.WENT_BACK else ""
        table.add_row(*(Text(cell, style) for cell in row))
    return table


def _row(history: ClusterHistory, change: Change) -> tuple[str, ...]:
    newest = next((one for one in history.changes if one.is_current), None)
    remark = _remark(change, is_newest=change is newest)
    return (change.change or "nothing", change.at, change.by, _nodes(history, change), remark)


def _nodes(history: ClusterHistory, change: Change) -> str:
    """How many recorded it; a few are named: those that did, or those that did not."""
    there, everybody = list(change.entries), list(history.nodes)
    absent = [node for node in everybody if node not in change.entries]
    if not absent:
        return f"all {len(there)}"
    if change.event is Event.WENT_BACK or len(there) < len(absent):
        return named(there)
    return f"{len(there)} of {len(everybody)}, not {named(absent)}"


def _remark(change: Change, *, is_newest: bool) -> str:
    if change.event is Event.WENT_BACK:
        return "went back"
    if change.is_current:
        return "current" if is_newest else "same as current"
    return "possible" if change.can_roll_back else f"gone from {named(change.lost)}"


def _disagreements(history: ClusterHistory) -> Iterator[str]:
    nodes: dict[str, list[str]] = {}
    for node, change in stragglers(history.nodes, history.changes).items():
        text = f"recorded {change} last" if change else "has no history"
        nodes.setdefault(text, []).append(node)
    for node, generation in unrecorded(history.nodes).items():
        text = f"generation {generation} is current" if generation else "no generation is current"
        nodes.setdefault(f"{text}, which its history does not say", []).append(node)
    for node, told in history.nodes.items():
        if told.unreadable:
            nodes.setdefault(f"{told.unreadable} lines of its history cannot be read", []).append(node)
    for text, names in nodes.items():
        yield f"{named(names)}: {text}"
    for node, error in history.errors.items():
        yield f"{node}: {error.message}"
