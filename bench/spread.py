"""How evenly buckets are spread, and how many move: arithmetic, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bench.hashing import Owners, Scheme, jump, maglev, rendezvous
from trscaler_gen.placement import add_node, owners, place

BUCKETS = 1024
#: the largest prime below: Maglev's tables have a prime size
_PRIME = 1021


@dataclass(frozen=True)
class Spread:
    """Shares of the fullest node as a multiple of the mean; movements as parts of all buckets.

    ``after_one``, ``after_two`` and ``moved_by_removing``: the worst that any nodes can cause.
    """

    scheme: str
    nodes: int
    buckets: int
    all_alive: float
    after_one: float
    after_two: float
    moved_by_adding: float
    least_for_adding: float
    moved_by_removing: float
    least_for_removing: float


def measure(sizes: Sequence[int]) -> list[Spread]:
    """Equal weights, numbers of nodes of 2 or more; nodes are numbered from 1."""
    rivals: dict[str, tuple[Scheme, int]] = {
        "rendezvous hashing": (rendezvous, BUCKETS),
        "Maglev": (maglev, _PRIME),
        "jump hash": (jump, BUCKETS),
    }
    rows = []
    for size in sizes:
        rows.append(_ours(size))
        for name, (scheme, buckets) in rivals.items():
            rows.append(_row(name, size, buckets, lambda alive, s=scheme, b=buckets: s(alive, b)))  # type: ignore[misc]
    return rows


def _ours(size: int) -> Spread:
    placement = place(dict.fromkeys(range(1, size + 1), 1), BUCKETS)
    grown = add_node(placement, size + 1, 1)

    def owners_among(alive: Sequence[int]) -> Owners:
        return np.array(owners(grown if size + 1 in alive else placement, alive))

    return _row("trscaler-gen", size, BUCKETS, owners_among)


def _row(name: str, size: int, buckets: int, owners_among: Callable[[Sequence[int]], Owners]) -> Spread:
    nodes = tuple(range(1, size + 1))
    before = owners_among(nodes)
    after_one = [owners_among(_without(nodes, node)) for node in nodes]
    pairs = combinations(nodes, 2) if size > 2 else ()
    after_two = [_max_to_mean(owners_among(_without(_without(nodes, a), b)), size - 2) for a, b in pairs]
    return Spread(
        scheme=name,
        nodes=size,
        buckets=buckets,
        all_alive=_max_to_mean(before, size),
        after_one=max(_max_to_mean(after, size - 1) for after in after_one),
        after_two=max(after_two, default=1.0),
        moved_by_adding=_moved(before, owners_among((*nodes, size + 1))),
        least_for_adding=1 / (size + 1),
        moved_by_removing=max(_moved(before, after) for after in after_one),
        least_for_removing=1 / size,
    )


def _without(nodes: tuple[int, ...], failed: int) -> tuple[int, ...]:
    """The last one takes its slot, which only jump hash knows: that moves the least there."""
    return tuple(nodes[-1] if node == failed else node for node in nodes[:-1])


def _max_to_mean(found: Owners, alive: int) -> float:
    return float(np.bincount(found).max() * alive / len(found))


def _moved(before: Owners, after: Owners) -> float:
    return float((before != after).mean())
