"""What readers hand on: blocks of frames, blocks of packets for the cluster, and a log of all that they met.

Everything is an array over the records of one block, so that no record costs a step of Python more than it
must. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trscaler_gen.simulate.hashing import Words
from trscaler_gen.simulate.result import Problem

Octets = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: how many problems are told one by one
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Frames:
    """Records of one link type, as they lie in ``buffer``.

    ``starts`` is where each begins, ``captured`` how many of its octets are there, ``original`` how many were
    on the wire.
    """

    buffer: bytes
    link_type: int
    starts: Numbers
    captured: Numbers
    original: Numbers

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Block:
    """Packets of one family that are the cluster's.

    Each row of ``pairs`` is the source and the destination by which the packet is placed, as
    ``hashing.Words``; ``packets`` and ``octets`` say how much the row stands for.
    """

    family: int
    pairs: Words
    packets: Numbers
    octets: Numbers

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass
class ReadLog:
    """What has been met while reading; it grows with neither the records nor the problems.

    ``first_ns`` and ``last_ns`` are the times of the earliest and the latest packet, None if none is told.
    ``tagged`` are packets that were counted although a VLAN tag was in front of them.
    """

    records: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    has: frozenset[str] = frozenset({"flows", "packets", "bytes"})
    first_ns: int | None = None
    last_ns: int | None = None
    tagged: int = 0

    def problem(self, position: str, text: str) -> None:
        """Note what could not be read, and where."""
        self.problem_count += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(Problem(position, text))

    def skip(self, reason: str, records: int) -> None:
        """Note records that are not counted, and why."""
        if records:
            self.skipped[reason] += records

    def saw(self, times_ns: Numbers) -> None:
        """Widen the span of time."""
        if len(times_ns):
            first, last = int(times_ns.min()), int(times_ns.max())
            self.first_ns = first if self.first_ns is None else min(first, self.first_ns)
            self.last_ns = last if self.last_ns is None else max(last, self.last_ns)

    @property
    def seconds(self) -> float | None:
        """From the first packet to the last."""
        if self.first_ns is None or self.last_ns is None:
            return None
        return (self.last_ns - self.first_ns) / 1e9


Blocks = Iterator[Block]
