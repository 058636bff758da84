"""Many packets on their way through a ruleset, each with what was found out about it so far. Pure.

A lane is a packet under a condition: which nodes must be alive for it to come here, and which must not be.
Where a rule asks about a node that is not in the condition yet, the lane is split in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trscaler_gen.proof.packets import Flags, Frames, Indices, Numbers
from trscaler_gen.proof.words import Place


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
    for all of them then. ``yes`` and ``no`` have a bit per node id, the lowest for id 1.
    """

    frame: Indices
    group: Indices
    mark: Numbers
    priority: Numbers
    state: Numbers
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
        if chosen.all():
            return self, self.none
        if not chosen.any():
            return self.none, self
        return self.take(np.flatnonzero(chosen)), self.take(np.flatnonzero(~chosen))

    @property
    def none(self) -> Lanes:
        """None of the lanes."""
        return with_columns([column[:0] for column in self.columns], {})

    @property
    def columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        """All but the traces."""
        return (self.frame, self.group, self.mark, self.priority, self.state, self.yes, self.no)

    def traced(self, key: Place | Wrote, values: Numbers) -> Lanes:
        """The same lanes, each with one trace more."""
        traces = {**self.traces, key: (values, np.ones(self.count, bool))}
        return with_columns(self.columns, traces)


def with_columns(columns: Sequence[Any], traces: Traces) -> Lanes:
    """Lanes of these columns, in the order of ``Lanes.columns``."""
    frame, group, mark, priority, state, yes, no = columns
    return Lanes(frame, group, mark, priority, state, yes, no, traces)


def start(frames: Frames, chosen: Indices) -> Lanes:
    """Packets as they come in, under no condition."""
    zeros = np.zeros(len(chosen), np.uint64)
    group = np.full(len(chosen), -1, np.int64)
    return Lanes(chosen, group, zeros, zeros, frames.state[chosen], zeros, zeros, {})


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
