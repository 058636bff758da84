"""Bringing a lab up and deploying to it, as a user at the command line would."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from e2e.cluster import Cluster, inventory_text

from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab

T = TypeVar("T")

RUNS = 3
INTERVAL_MS = 100


@dataclass(frozen=True)
class Deployment:
    """Seconds for each step; ``apply_s`` is from bare nodes to all of them serving.

    ``*_first_s``: nothing is deployed yet; ``*_change_s``: every node gets another virtual address;
    ``*_same_s``: nothing to do. Plans and what changes nothing are measured ``RUNS`` times.
    """

    nodes: int
    up_s: float
    plan_first_s: tuple[float, ...]
    apply_first_s: float
    plan_same_s: tuple[float, ...]
    apply_same_s: tuple[float, ...]
    plan_change_s: tuple[float, ...]
    apply_change_s: float
    status_s: tuple[float, ...]
    down_s: float


def measure(nodes: int, folder: Path) -> Deployment:
    """One run: each step is seconds long, and changes what the next one finds."""
    directory = Path(f"/run/trscaler-gen/bench-{nodes}")
    path = folder / f"lab-{nodes}.yaml"
    path.write_text(inventory_text(directory, nodes=nodes, interval_ms=INTERVAL_MS))
    lab, up_s = _timed(lambda: Lab.up(load_inventory(path), directory))
    try:
        steps = _steps(Cluster(lab, path))
    finally:
        _, down_s = _timed(lab.down)
    return Deployment(nodes=nodes, up_s=up_s, down_s=down_s, **steps)


def _steps(cluster: Cluster) -> dict[str, Any]:
    def once(*verb: str) -> float:
        return _timed(lambda: cluster.cli(*verb, str(cluster.path)))[1]

    def often(*verb: str) -> tuple[float, ...]:
        return tuple(once(*verb) for _ in range(RUNS))

    steps: dict[str, Any] = {"plan_first_s": often("plan"), "apply_first_s": once("apply", "--yes")}
    cluster.settle(timeout_s=60)
    steps |= {
        "plan_same_s": often("plan"),
        "apply_same_s": often("apply", "--yes"),
        "status_s": often("status"),
    }
    document = yaml.safe_load(cluster.path.read_text())
    document["virtual_addresses"].append("192.0.2.99")
    cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
    return steps | {"plan_change_s": often("plan"), "apply_change_s": once("apply", "--yes")}


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start
