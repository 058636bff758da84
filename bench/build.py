"""`trscaler-gen build`, from a cold interpreter: time, memory, size; one cluster, and folders of many."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.inventories import write_inventory

BUCKETS = 1024
#: what a cluster of 32 nodes needs on the disk, and some more
_MIB_PER_CLUSTER = 20


@dataclass(frozen=True)
class Build:
    """``first_s`` makes the lock as well; ``again_s`` finds it. ``peak_mib`` is the larger of both."""

    nodes: int
    buckets: int
    first_s: float
    again_s: float
    peak_mib: float
    largest_ruleset_kb: float


@dataclass(frozen=True)
class FolderBuild:
    """A folder of inventories in one command, without locks at first; ``cpu_s`` is of all its processes.

    ``is_equal``: all nodes have the same weight in all clusters, so one placement is made for all; otherwise
    one node in each weighs more, another one from cluster to cluster. ``peak_mib`` is of the largest process.
    """

    clusters: int
    nodes: int
    is_equal: bool
    wall_s: float
    cpu_s: float
    peak_mib: float
    written_mb: float


@dataclass(frozen=True)
class _Run:
    wall_s: float
    cpu_s: float
    peak_mib: float


def measure(sizes: Sequence[int], runs: int, folder: Path) -> list[Build]:
    """Medians over the runs; the largest peak of any."""
    return [_measure(nodes, runs, folder / f"build-{nodes}") for nodes in sizes]


def measure_folders(counts: Sequence[int], folder: Path, nodes: int = 32) -> list[FolderBuild]:
    """One run each: equal clusters of all counts, and unequal ones of the smaller counts.

    Raises OSError where the disk has no room for the largest.
    """
    needed = max(counts) * _MIB_PER_CLUSTER << 20
    if shutil.disk_usage(folder).free < needed:
        raise OSError(f"{folder} has no room for {needed >> 30} GiB of bundles")
    equal = [_measure_folder(count, nodes, folder / "folder", is_equal=True) for count in counts]
    unequal = [_measure_folder(count, nodes, folder / "folder", is_equal=False) for count in counts[:-1]]
    return equal + unequal


def _measure(nodes: int, runs: int, folder: Path) -> Build:
    inventory = write_inventory(folder / "bench.yaml", nodes, BUCKETS)
    first: list[float] = []
    again: list[float] = []
    peaks: list[float] = []
    for _ in range(runs):
        inventory.with_suffix(".lock").unlink(missing_ok=True)
        for times in (first, again):
            run = _run(["build", str(inventory), "-o", str(folder / "out")])
            times.append(run.wall_s)
            peaks.append(run.peak_mib)
    size = max(path.stat().st_size for path in folder.glob("out/*/ruleset.nft"))
    return Build(nodes, BUCKETS, statistics.median(first), statistics.median(again), max(peaks), size / 1000)


def _measure_folder(clusters: int, nodes: int, folder: Path, *, is_equal: bool) -> FolderBuild:
    """All that was written is gone at the end: a thousand clusters are many gigabytes."""
    try:
        for number in range(clusters):
            name = f"c{number}"
            heavy = 0 if is_equal else 1 + number % nodes
            write_inventory(folder / "in" / f"{name}.yaml", nodes, BUCKETS, cluster=name, heavy=heavy)
        run = _run(["build", str(folder / "in"), "-o", str(folder / "out")])
        manifests = len(list(folder.glob("out/*/*/MANIFEST")))
        if manifests != clusters * nodes:
            raise RuntimeError(f"{manifests} bundles instead of {clusters * nodes}")
        written = sum(path.stat().st_size for path in folder.glob("out/*/*/*"))
        return FolderBuild(clusters, nodes, is_equal, run.wall_s, run.cpu_s, run.peak_mib, written / 1e6)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: Sequence[str]) -> _Run:
    """Run the product: seconds, and the peak of resident memory in MiB of its largest process."""
    command = [sys.executable, "-m", "trscaler_gen", *argv]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    return _Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
