"""How evenly buckets are spread, and how many move: arithmetic, the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from trscaler_gen.placement import Placement, add_node, moved, owners, place, remove_node


@dataclass(frozen=True)
class Spread:
    """Shares of the fullest node as a multiple of the mean; movements as parts of all buckets."""

    nodes: int
    buckets: int
    all_alive: float
    after_worst_failure: float
    moved_by_adding: float
    least_for_adding: float
    moved_by_removing: float
    least_for_removing: float


def measure(nodes: int, buckets: int) -> Spread:
    """Equal weights; the node that is added is one more, the one removed is the worst to remove."""
    placement = place(dict.fromkeys(range(1, nodes + 1), 1), buckets)
    everybody = set(placement.weights)
    added = add_node(placement, nodes + 1, 1)
    removals = [len(moved(placement, remove_node(placement, node))) for node in everybody]
    return Spread(
        nodes=nodes,
        buckets=buckets,
        all_alive=_max_to_mean(placement, everybody),
        after_worst_failure=max(_max_to_mean(placement, everybody - {node}) for node in everybody),
        moved_by_adding=len(moved(placement, added)) / buckets,
        least_for_adding=1 / (nodes + 1),
        moved_by_removing=max(removals) / buckets,
        least_for_removing=1 / nodes,
    )


def _max_to_mean(placement: Placement, alive: Collection[int]) -> float:
    shares = Counter(owners(placement, alive))
    return max(shares.values()) * len(alive) / placement.buckets
