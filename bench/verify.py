"""The proof: a cluster's rulesets rendered, loaded, read back and judged for every set of dead nodes."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from bench.inventories import write_inventory
from trscaler_gen.cli.verify import verify
from trscaler_gen.pipeline import compile_inventory


@dataclass(frozen=True)
class Verified:
    """One proof; seconds on the clock, and of all processors together."""

    nodes: int
    buckets: int
    sets: int
    kinds: int
    states: int
    is_proven: bool
    seconds: float
    processor_s: float


def measure(folder: Path, nodes: int = 32, buckets: int = 1024) -> Verified:
    """Compile and verify a cluster of equal nodes once."""
    inventory = write_inventory(folder / f"verify-{nodes}" / "cluster.yaml", nodes, buckets)
    start, used = time.perf_counter(), _processor_s()
    proof = verify(compile_inventory(inventory))
    return Verified(
        nodes=nodes,
        buckets=buckets,
        sets=proof.count.sets,
        kinds=len(proof.kinds),
        states=len(proof.states),
        is_proven=proof.is_proven,
        seconds=time.perf_counter() - start,
        processor_s=_processor_s() - used,
    )


def _processor_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
