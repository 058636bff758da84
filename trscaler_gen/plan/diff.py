"""Differences of files as a person reads them; those that several nodes share are told once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Literal

from trscaler_gen.inventory.text import printable
from trscaler_gen.plan.comparable import comparable, count_lines
from trscaler_gen.plan.model import FileChange, Kind, Step
from trscaler_gen.secret import redact

Mark = Literal[" ", "+", "-", "@"]

_CONTEXT = 3
#: beyond this many pairs of lines no common ones are looked for
_MOST_PAIRS = 4_000_000
_LONGEST_LINE = 400
#: where a hunk stands: a chain, a section, a function
_SECTION = re.compile(r"\s*(?:[a-z_]+ [\w .-]*\{|\[\w+\]|\w+\(\) *\{)\s*")
#: an element of a set of peers says whom it is about
_PEER = re.compile(r"  # (\S+)$")


@dataclass(frozen=True)
class Line:
    """One line of a unified diff; one marked ``@`` says where those after it stand."""

    mark: Mark
    text: str


@dataclass(frozen=True)
class Difference:
    """A change of one file that all these nodes share; the context is the first one's."""

    nodes: tuple[str, ...]
    name: str
    kind: Kind
    lines: tuple[Line, ...]

    @property
    def added(self) -> int:
        """How many lines come."""
        return sum(line.mark == "+" for line in self.lines)

    @property
    def removed(self) -> int:
        """How many lines go."""
        return sum(line.mark == "-" for line in self.lines)


@dataclass(frozen=True)
class Whole:
    """Files that come or go as a whole on all these nodes: name, least and most lines."""

    nodes: tuple[str, ...]
    kind: Kind
    files: tuple[tuple[str, int, int], ...]


def differences(steps: Iterable[Step], *, full: bool = False) -> tuple[Difference, ...]:
    """Compare all changed files, in the order of names; with ``full`` also those that come or go whole."""
    lines = _Lines(full=full)
    groups: dict[tuple[object, ...], list[_Group]] = {}
    for step in steps:
        for change in step.files:
            if change.kind == "change" or full:
                _gather(groups, step.node, change, lines.of(change))
    found = [
        Difference(tuple(group.nodes), group.change.name, group.change.kind, group.lines)
        for alike in groups.values()
        for group in alike
    ]
    return tuple(sorted(found, key=lambda difference: difference.name))


@dataclass(frozen=True)
class _Group:
    """Nodes whose changes are the same; ``peers`` holds the changed lines about each node, by its name.

    A node does not list itself: what is said of it is known only from the others.
    """

    change: FileChange
    lines: tuple[Line, ...]
    nodes: list[str]
    peers: dict[str, tuple[Line, ...]]

    def takes(self, node: str, peers: dict[str, tuple[Line, ...]]) -> bool:
        """Take a node in if it says the same of everybody but itself."""
        missing = self.peers.keys() - peers.keys()
        new = peers.keys() - self.peers.keys()
        is_same = all(self.peers[name] == peers[name] for name in self.peers.keys() & peers.keys())
        if not is_same or missing - {node} or new - {*self.nodes[:1]}:
            return False
        self.nodes.append(node)
        self.peers.update(peers)
        return True


def _gather(
    groups: dict[tuple[object, ...], list[_Group]], node: str, change: FileChange, lines: tuple[Line, ...]
) -> None:
    changed = [line for line in lines if line.mark in "+-"]
    rest = tuple(line for line in changed if not _PEER.search(line.text))
    peers: dict[str, tuple[Line, ...]] = {}
    for line in changed:
        if match := _PEER.search(line.text):
            peers[match[1]] = (*peers.get(match[1], ()), line)
    alike = groups.setdefault((change.name, change.kind, rest), [])
    if not any(group.takes(node, peers) for group in alike):
        alike.append(_Group(change, lines, [node], peers))


def whole_files(steps: Iterable[Step]) -> tuple[Whole, ...]:
    """List the files that come or go; nodes with the same names are told together."""
    groups: dict[tuple[Kind, tuple[str, ...]], list[tuple[str, tuple[int, ...]]]] = {}
    for step in steps:
        for kind in ("create", "delete"):
            changes = [change for change in step.files if change.kind == kind]
            names = tuple(change.name for change in changes)
            counts = tuple(count_lines(change.before or change.after) for change in changes)
            if names:
                groups.setdefault((kind, names), []).append((step.node, counts))
    return tuple(_whole(kind, names, members) for (kind, names), members in groups.items())


def _whole(kind: Kind, names: tuple[str, ...], members: list[tuple[str, tuple[int, ...]]]) -> Whole:
    columns = zip(*(counts for _, counts in members), strict=True)
    files = tuple((name, min(counts), max(counts)) for name, counts in zip(names, columns, strict=True))
    return Whole(tuple(node for node, _ in members), kind, files)


@dataclass(frozen=True)
class _Lines:
    """Compares each pair of texts once: many files are the same on all nodes."""

    full: bool
    _by_content: dict[tuple[str, bytes, bytes], tuple[Line, ...]] = field(default_factory=dict)

    def of(self, change: FileChange) -> tuple[Line, ...]:
        key = (change.name, change.before, change.after)
        if key not in self._by_content:
            old, new = comparable(change.before, change.after, full=self.full)
            self._by_content[key] = tuple(_unified(old, new, clip=not self.full))
        return self._by_content[key]


# One pair of texts

#: equal or not, then the range of the old lines and that of the new ones
_Piece = tuple[bool, int, int, int, int]


def _unified(old: list[str], new: list[str], *, clip: bool) -> Iterator[Line]:
    for hunk in _hunks(list(_pieces(old, new))):
        yield Line("@", _section(old, hunk))
        for is_equal, first, last, first_new, last_new in hunk:
            if is_equal:
                yield from (_line(" ", text, clip) for text in old[first:last])
                continue
            yield from (_line("-", text, clip) for text in old[first:last])
            yield from (_line("+", text, clip) for text in new[first_new:last_new])


def _pieces(old: list[str], new: list[str]) -> Iterator[_Piece]:
    """Cut off what both begin and end with, for that is cheap, and look for the rest's common lines."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    rest = shorter - head
    tail = next((at for at in range(rest) if old[-1 - at] != new[-1 - at]), rest)
    end, end_new = len(old) - tail, len(new) - tail
    yield True, 0, head, 0, head
    for is_equal, first, last, first_new, last_new in _matched(old[head:end], new[head:end_new]):
        yield is_equal, first + head, last + head, first_new + head, last_new + head
    yield True, end, len(old), end_new, len(new)


def _matched(old: list[str], new: list[str]) -> Iterator[_Piece]:
    if not old and not new:
        return
    if len(old) * len(new) > _MOST_PAIRS:
        yield False, 0, len(old), 0, len(new)
        return
    for tag, first, last, first_new, last_new in SequenceMatcher(None, old, new).get_opcodes():
        yield tag == "equal", first, last, first_new, last_new


def _hunks(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Keep some equal lines around every change; changes whose lines would meet are one hunk."""
    hunk: list[_Piece] = []
    for is_equal, first, last, first_new, last_new in pieces:
        if not is_equal:
            hunk.append((False, first, last, first_new, last_new))
            continue
        if hunk and last - first > 2 * _CONTEXT:
            hunk.append((True, first, first + _CONTEXT, first_new, first_new + _CONTEXT))
            yield from _with_change(hunk)
            hunk = []
        if hunk:
            hunk.append((True, first, last, first_new, last_new))
        else:
            kept = min(_CONTEXT, last - first)
            hunk = [(True, last - kept, last, last_new - kept, last_new)]
    if hunk and hunk[-1][0]:
        _, first, last, first_new, _ = hunk.pop()
        kept = min(_CONTEXT, last - first)
        hunk.append((True, first, first + kept, first_new, first_new + kept))
    yield from _with_change(hunk)


def _with_change(hunk: list[_Piece]) -> Iterator[list[_Piece]]:
    if not all(piece[0] for piece in hunk):
        yield hunk


def _section(lines: list[str], hunk: list[_Piece]) -> str:
    """Find the line that opens what a hunk's first change stands in; empty if the hunk shows it."""
    begin = hunk[0][1]
    changed = next(first for is_equal, first, *_ in hunk if not is_equal)
    at = next((at for at in range(changed - 1, -1, -1) if _SECTION.fullmatch(lines[at])), begin)
    return printable(redact(lines[at][:_LONGEST_LINE].strip(" {"))) if at < begin else ""


def _line(mark: Mark, text: str, clip: bool) -> Line:
    if clip and len(text) > _LONGEST_LINE:
        text = f"{text[:_LONGEST_LINE]}... ({len(text)} characters)"
    return Line(mark, printable(redact(text)))
