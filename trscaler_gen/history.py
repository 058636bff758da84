"""What was applied to a cluster and when, put together from the histories that its nodes keep. Pure.

Every node writes one line for each change of its cluster, whether the change touched it or not, and one when
it goes back by itself. A node that was down misses lines, and its clock may be wrong. So the order is that of
the lines in the files: the same change is found in all of them, and what only some have is placed between.
Time decides only between lines that no file puts in an order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from enum import StrEnum

_ID = r"([0-9a-f]{12}|-)"
_LINE = re.compile(rf"(\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (applied|went-back) {_ID} {_ID} ([A-Za-z0-9@._-]+)")


class Event(StrEnum):
    """What happened to a node."""

    APPLIED = "applied"
    WENT_BACK = "went-back"


@dataclass(frozen=True)
class Entry:
    """One line of a node's history; ``at`` is UTC by the node's clock, 2026-11-23T00:05:45Z.

    ``change`` is the one applied, or the one gone back to; ``generation`` is what ran after it. Either is
    empty where there is none.
    """

    at: str
    event: Event
    change: str
    generation: str
    by: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What the lines of all nodes about one event have in common."""
        return (self.event, self.change, self.by)


@dataclass(frozen=True)
class NodeHistory:
    """What one node tells: its lines, oldest first, and the generations that lie there now.

    ``current`` is the one that is to run, empty if none; ``unreadable`` counts spoilt lines.
    """

    entries: tuple[Entry, ...] = ()
    current: str = ""
    generations: frozenset[str] = frozenset()
    unreadable: int = 0

    @property
    def change(self) -> str:
        """The change that it recorded last; empty if none."""
        return next((entry.change for entry in reversed(self.entries) if entry.event is Event.APPLIED), "")


@dataclass(frozen=True)
class Change:
    """An event, as the nodes recorded it; ``entries`` by node.

    ``lost``: the nodes that do not hold its generation any more. ``is_current``: no other change was applied
    after it.
    """

    event: Event
    change: str
    by: str
    entries: Mapping[str, Entry]
    lost: tuple[str, ...] = ()
    is_current: bool = False

    @property
    def at(self) -> str:
        """When, by the clock of the first node that tells."""
        return next(iter(self.entries.values())).at

    @property
    def can_roll_back(self) -> bool:
        """Whether a cluster can be rolled back to it: it is not current, and its generations are there."""
        return self.event is Event.APPLIED and not self.is_current and not self.lost


def parse_history(text: str) -> tuple[Entry, ...]:
    """Read the lines of a history, oldest first; spoilt ones (a full disk, a hand) are left out."""
    matches = filter(None, map(_LINE.fullmatch, text.splitlines()))
    return tuple(
        Entry(match[1], Event(match[2]), _id(match[3]), _id(match[4]), match[5]) for match in matches
    )


def _id(word: str) -> str:
    return "" if word == "-" else word


def parse_node(text: str) -> NodeHistory:
    """Read what ``history.sh`` prints: ``current=``, ``generation=`` and ``line=`` lines."""
    said: dict[str, list[str]] = {"current": [], "generation": [], "line": []}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        said.get(key, []).append(value)
    entries = parse_history("\n".join(said["line"]))
    return NodeHistory(
        entries=entries,
        current=next(iter(said["current"]), ""),
        generations=frozenset(said["generation"]),
        unreadable=len(said["line"]) - len(entries),
    )


def merge(histories: Mapping[str, NodeHistory]) -> tuple[Change, ...]:
    """All events of a cluster, newest first, in an order that agrees with every node's own."""
    rows: list[_Row] = []
    for node in sorted(histories, key=lambda name: -len(histories[name].entries)):
        entries = [_Row(entry.key, {node: entry}) for entry in reversed(histories[node].entries)]
        rows = _woven(rows, entries)
    current = next((row.key for row in rows if row.key[0] == Event.APPLIED), None)
    return tuple(_change(row, histories, is_current=row.key[:2] == (current or ())[:2]) for row in rows)


def generations_of(changes: Iterable[Change], change: str) -> dict[str, str]:
    """What each node runs when this change is current, by node; empty where no node recorded it.

    Nodes that were down when it was applied, or were none of the cluster, are not in it, unless they recorded
    the same change another time.
    """
    rows = [one for one in changes if one.event is Event.APPLIED and one.change == change]
    return {node: entry.generation for row in reversed(rows) for node, entry in row.entries.items()}


def change_before(changes: Iterable[Change]) -> str:
    """The change before the current one; empty if there is none.

    After a rollback the current change is there twice: what counts is what was before its first time.
    """
    applied = [one for one in changes if one.event is Event.APPLIED]
    first = max((place for place, one in enumerate(applied) if one.is_current), default=len(applied))
    return next((one.change for one in applied[first + 1 :]), "")


def stragglers(histories: Mapping[str, NodeHistory], changes: Iterable[Change]) -> dict[str, str]:
    """The nodes that recorded another change last than the current one, and which (empty: none)."""
    current = next((one.change for one in changes if one.is_current), "")
    return {node: told.change for node, told in histories.items() if told.change != current}


def unrecorded(histories: Mapping[str, NodeHistory]) -> dict[str, str]:
    """The nodes whose current generation is not the one that their history ends with, and which it is.

    A node that went back to running nothing may keep any generation at hand.
    """
    lasts = {node: told.entries[-1].generation if told.entries else None for node, told in histories.items()}
    return {
        node: told.current
        for node, told in histories.items()
        if lasts[node] != "" and told.current != (lasts[node] or "")
    }


@dataclass(frozen=True)
class _Row:
    """One event with the nodes that have it."""

    key: tuple[str, str, str]
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def at(self) -> str:
        return next(iter(self.entries.values())).at


def _woven(rows: Sequence[_Row], more: Sequence[_Row]) -> list[_Row]:
    """Put two sequences, each newest first, together; rows that both have become one."""
    matcher = SequenceMatcher(None, [row.key for row in rows], [row.key for row in more], autojunk=False)
    woven: list[_Row] = []
    for word, i, j, k, m in matcher.get_opcodes():
        if word == "equal":
            pairs = zip(rows[i:j], more[k:m], strict=True)
            woven += [replace(one, entries={**one.entries, **two.entries}) for one, two in pairs]
        else:
            woven += _by_time(rows[i:j], more[k:m])
    return woven


def _by_time(rows: Sequence[_Row], more: Sequence[_Row]) -> list[_Row]:
    """Rows of which no file says which came first: each sequence keeps its order."""
    left, right, merged = list(rows), list(more), []
    while left and right:
        merged.append((right if right[0].at > left[0].at else left).pop(0))
    return [*merged, *left, *right]


def _change(row: _Row, histories: Mapping[str, NodeHistory], *, is_current: bool) -> Change:
    event, change, by = row.key
    entries = {node: row.entries[node] for node in histories if node in row.entries}
    lost = tuple(
        node
        for node, entry in entries.items()
        if entry.generation and entry.generation not in histories[node].generations
    )
    return Change(Event(event), change, by, entries, lost, is_current)
