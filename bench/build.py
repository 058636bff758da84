"""`trscaler-gen build`, from a cold interpreter: time, memory, size."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.inventories import write_inventory


@dataclass(frozen=True)
class Build:
    """``first_s`` makes the lock as well; ``again_s`` finds it. ``peak_mib`` is the larger of both."""

    nodes: int
    buckets: int
    first_s: float
    again_s: float
    peak_mib: float
    largest_ruleset_kb: float


def measure(sizes: Sequence[int], runs: int, folder: Path) -> list[Build]:
    """Medians over the runs; the largest peak of any."""
    return [_measure(nodes, runs, folder / f"build-{nodes}") for nodes in sizes]


def _measure(nodes: int, runs: int, folder: Path) -> Build:
    inventory = write_inventory(folder / "bench.yaml", nodes)
    first: list[float] = []
    again: list[float] = []
    peaks: list[float] = []
    for _ in range(runs):
        inventory.with_suffix(".lock").unlink(missing_ok=True)
        for times in (first, again):
            wall_s, peak_mib = _run(["build", str(inventory), "-o", str(folder / "out")])
            times.append(wall_s)
            peaks.append(peak_mib)
    size = max(path.stat().st_size for path in folder.glob("out/*/ruleset.nft"))
    return Build(nodes, 1024, statistics.median(first), statistics.median(again), max(peaks), size / 1000)


def _run(argv: Sequence[str]) -> tuple[float, float]:
    """Seconds and the peak of resident memory in MiB of one process."""
    command = [sys.executable, "-m", "trscaler_gen", *argv]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    return wall_s, usage.ru_maxrss / 1024
