"""What a simulation has found: the frozen data that every view of it shows.

A *flow* is one pair of source and destination address, because that is all the hash sees: what differs in
ports alone is the same flow. Shares are 0 to 1. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: what is counted; a CSV may tell fewer (see ``Simulation.has``)
MEASURES = ("flows", "packets", "bytes")


@dataclass(frozen=True)
class Counts:
    """How much traffic: pairs of addresses, packets, and bytes of them as they were on the wire."""

    flows: int = 0
    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.flows + other.flows, self.packets + other.packets, self.bytes + other.bytes)

    def of(self, measure: str) -> int:
        """One of the three, by its name in MEASURES."""
        return {"flows": self.flows, "packets": self.packets, "bytes": self.bytes}[measure]


@dataclass(frozen=True)
class NodeShare:
    """What one node would get; ``expected`` is its share by weight among the living, 0 for the dead."""

    name: str
    node_id: int
    weight: int
    expected: float
    counts: Counts
    alive: bool


@dataclass(frozen=True)
class Scenario:
    """Who gets what in one state of the cluster.

    ``name``: "as it is", "n2 down", "with n5", "n1 at weight 2". ``moved``: what another node than before
    would get. ``worst``: measure -> the highest share / expected share of a living node; 0 without traffic.
    """

    name: str
    shares: tuple[NodeShare, ...]
    moved: Counts
    worst: Mapping[str, float]


@dataclass(frozen=True)
class HeavyClient:
    """A source that is more than its part: what its node carries at least.

    ``shares``: measure -> its share of the whole. ``nodes``: whose traffic it is now, by name; one where
    only the source is hashed or it speaks to one destination, and it then cannot be split.
    """

    address: str
    counts: Counts
    shares: Mapping[str, float]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Alternative:
    """The same traffic hashed otherwise.

    ``name``: "hash.input: source", "median of 32 other seeds", "best of 32 other seeds". ``worst`` as in a
    scenario; ``better``: its fullest node would have at most nine tenths of what it has now.
    """

    name: str
    worst: Mapping[str, float]
    better: bool


@dataclass(frozen=True)
class Problem:
    """Something that could not be read; ``position``: "record 17, byte 4711" or "line 3"."""

    position: str
    text: str


@dataclass(frozen=True)
class Simulation:
    """All that was found out about one file of traffic and one cluster.

    ``records`` counts what was read, ``skipped`` (reason -> records) what of it was not for the cluster,
    ``problems`` the first 20 of ``problem_count``. ``has``: the measures that the file tells. ``families``:
    4 and 6 -> what was counted of them. ``seconds``: from the first packet to the last, None if not told.
    The first of ``scenarios`` is "as it is". ``notes`` are whole sentences that belong below the figures.
    """

    cluster: str
    traffic: str
    records: int
    skipped: Mapping[str, int]
    problems: tuple[Problem, ...]
    problem_count: int
    has: frozenset[str]
    families: Mapping[int, Counts]
    total: Counts
    seconds: float | None
    scenarios: tuple[Scenario, ...]
    heavy: tuple[HeavyClient, ...]
    alternatives: tuple[Alternative, ...]
    notes: tuple[str, ...] = ()
    per_bucket_worst: Mapping[str, float] = field(default_factory=dict)
