"""Bringing a lab up and deploying to it, as a user at the command line would."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from e2e.cluster import Cluster, inventory_text

from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab

T = TypeVar("T")


@dataclass(frozen=True)
class Deployment:
    """Seconds for each step; ``apply_s`` is from bare nodes to all of them serving."""

    nodes: int
    up_s: float
    apply_s: float
    unchanged_s: float
    down_s: float


def measure(nodes: int, folder: Path) -> Deployment:
    """One run: each step is seconds long, and changes what the next one finds."""
    directory = Path(f"/run/trscaler-gen/bench-{nodes}")
    path = folder / f"lab-{nodes}.yaml"
    path.write_text(inventory_text(directory, nodes=nodes))
    lab, up_s = _timed(lambda: Lab.up(load_inventory(path), directory))
    try:
        cluster = Cluster(lab, path)
        _, apply_s = _timed(lambda: cluster.cli("apply", "--yes", str(path)))
        cluster.settle(timeout_s=60)
        _, unchanged_s = _timed(lambda: cluster.cli("apply", "--yes", str(path)))
    finally:
        _, down_s = _timed(lab.down)
    return Deployment(nodes, up_s, apply_s, unchanged_s, down_s)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start
