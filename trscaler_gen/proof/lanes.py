"""Many packets on their way through a ruleset, each with what was found out about it so far. Pure.

A lane is a packet under a condition: which nodes must be alive for it to come here, and which must not be.
Where a rule asks about a node that is not in the condition yet, the lane is split in two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trscaler_gen.proof.packets import Flags, Frames, Indices, Numbers
from trscaler_gen.proof.words import Place

#: what 16 bits hold
_SMALL = 1 << 16
#: above this, numbers are counted anew before they are multiplied once more
_MANY_KEYS = 1 << 40


@dataclass(frozen=True)
class Wrote:
    """An element that a rule put into a set, or took out of it; ``turn`` counts the writes to the set."""

    set: str
    turn: int
    present: bool


#: a part of the frame that a rule has set, or an element of a set -> the values, and the lanes that have one
Traces = Mapping[Place | Wrote, tuple[Numbers, Flags]]


@dataclass(frozen=True)
class Lanes:
    """Columns, a row a lane.

    ``group``: -1, or the number of a group of packets that take the same way from here on; ``frame`` stands
    for all of them then. ``states`` has a bit for each state that is looked at, the lowest for the first.
    ``yes`` and ``no`` have a bit per node id, the lowest for id 1.
    """

    frame: Indices
    group: Indices
    mark: Numbers
    priority: Numbers
    state: Numbers
    states: Numbers
    yes: Numbers
    no: Numbers
    traces: Traces

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self.frame)

    def take(self, rows: Indices) -> Lanes:
        """Some of the lanes."""
        traces = {key: (values.take(rows), wrote.take(rows)) for key, (values, wrote) in self.traces.items()}
        return with_columns([column.take(rows) for column in self.columns], traces)

    def divide(self, chosen: Flags) -> tuple[Lanes, Lanes]:
        """Those that are chosen, and the rest."""
        count = np.count_nonzero(chosen)
        if count == self.count:
            return self, self.none
        if not count:
            return self.none, self
        return self.take(np.flatnonzero(chosen)), self.take(np.flatnonzero(~chosen))

    @property
    def none(self) -> Lanes:
        """None of the lanes."""
        return with_columns([column[:0] for column in self.columns], {})

    @property
    def columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        """All but the traces."""
        packet = (self.frame, self.group, self.mark, self.priority, self.state)
        return (*packet, self.states, self.yes, self.no)

    def traced(self, key: Place | Wrote, values: Numbers) -> Lanes:
        """The same lanes, each with one trace more."""
        traces = {**self.traces, key: (values, np.ones(self.count, bool))}
        return with_columns(self.columns, traces)


@dataclass
class Groups:
    """Packets that take the same way: those of group g are ``members[bounds[g] : bounds[g + 1]]``."""

    members: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    bounds: Indices = field(default_factory=lambda: np.zeros(1, np.int64))

    def add(self, members: Indices, sizes: Indices) -> Indices:
        """Make groups of packets that stand one after the other; returns the numbers of the groups."""
        numbers = np.arange(len(sizes)) + len(self.bounds) - 1
        self.bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(sizes)])
        self.members = np.concatenate([self.members, members])
        return numbers

    def spread(self, lanes: Lanes) -> tuple[Indices, Indices]:
        """Every single packet of lanes that may stand for groups: (frame, lane), a row each."""
        alone, grouped = np.flatnonzero(lanes.group < 0), np.flatnonzero(lanes.group >= 0)
        first = self.bounds[lanes.group[grouped]]
        sizes = self.bounds[lanes.group[grouped] + 1] - first
        skipped = np.repeat(first - np.cumsum(sizes) + sizes, sizes)
        members = self.members[np.arange(len(skipped)) + skipped]
        return (
            np.concatenate([lanes.frame[alone], members]),
            np.concatenate([alone, np.repeat(grouped, sizes)]),
        )


def side_by_side(keys: Indices, columns: Iterable[npt.NDArray[Any]]) -> Indices:
    """Numbers that are the same where the keys and all columns are; nothing in them is negative."""
    for column in columns:
        if (column != column[0]).any():
            codes = column.astype(np.int64) if column.max() < _SMALL else different(column)[1]
            keys = keys * (int(codes.max()) + 1) + codes
            if keys.max() > _MANY_KEYS:
                keys = different(keys)[1]
    return keys


def different(column: npt.NDArray[Any]) -> tuple[Indices, Indices]:
    """Where each value stands first, and for every row the number of its value."""
    _, first, numbers = np.unique(column, return_index=True, return_inverse=True)
    return first, numbers.reshape(-1)


def in_order(numbers: Indices, count: int) -> Indices:
    """Rows by their numbers, which are below ``count``; numpy is quickest with numbers of 16 bits."""
    return np.argsort(numbers.astype(np.uint16) if count <= _SMALL else numbers, kind="stable")


def with_columns(columns: Sequence[Any], traces: Traces) -> Lanes:
    """Lanes of these columns, in the order of ``Lanes.columns``."""
    frame, group, mark, priority, state, states, yes, no = columns
    return Lanes(frame, group, mark, priority, state, states, yes, no, traces)


def start(frames: Frames, chosen: Indices, states: int = 1) -> Lanes:
    """Packets as they come in, under no condition."""
    zeros = np.zeros(len(chosen), np.uint64)
    group = np.full(len(chosen), -1, np.int64)
    every = np.full(len(chosen), states, np.uint64)
    return Lanes(chosen, group, zeros, zeros, frames.state[chosen], every, zeros, zeros, {})


def merge(parts: Sequence[Lanes]) -> Lanes:
    """Put lanes together; there is at least one part, and it may be empty."""
    full = [part for part in parts if part.count] or list(parts[:1])
    if len(full) == 1:
        return full[0]
    columns = [np.concatenate(column) for column in zip(*(part.columns for part in full), strict=True)]
    keys = {key for part in full for key in part.traces}
    return with_columns(columns, {key: _merged(key, full) for key in keys})


def _merged(key: Place | Wrote, parts: Sequence[Lanes]) -> tuple[Numbers, Flags]:
    found = [
        part.traces.get(key, (np.zeros(part.count, np.uint64), np.zeros(part.count, bool))) for part in parts
    ]
    return np.concatenate([values for values, _ in found]), np.concatenate([wrote for _, wrote in found])
