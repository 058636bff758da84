"""What 100 clients notice while an operator changes a cluster that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from e2e.cluster import Cluster, running_cluster
from e2e.operations import FOUR, restart_keepalived, write

from bench.events import EventRow, row, watched
from trscaler_gen.lab.probe import ProbeResult

INTERVAL_MS = 100
REPLACED = ("n1", "n2", "n3", "n5")


def measure(runs: int, folder: Path) -> list[EventRow]:
    """All operations in turn, so many times over, on a lab of five hosts: four are nodes at first."""
    here = folder / "changes"
    here.mkdir()
    seen: dict[str, list[ProbeResult]] = {}
    with running_cluster(here, "bench-changes", nodes=5, interval_ms=INTERVAL_MS) as cluster:
        for _ in range(runs):
            for name, result in _round(cluster):
                seen.setdefault(name, []).append(result)
    return [row(name, INTERVAL_MS, results) for name, results in seen.items()]


def _round(cluster: Cluster) -> Iterator[tuple[str, ProbeResult]]:
    to_four = _to(cluster, *FOUR)
    to_four()
    cluster.settle(FOUR)
    yield "node added", watched(cluster, _to(cluster, *FOUR, "n5"))
    rollback = ("rollback", "--yes", str(cluster.path))
    yield "rolled back", watched(cluster, lambda: cluster.cli(*rollback), FOUR)
    yield "applied again", watched(cluster, _to(cluster, *FOUR, "n5"))
    yield "node removed", watched(cluster, to_four, FOUR)
    yield "node replaced by another", watched(cluster, _to(cluster, *REPLACED), REPLACED)
    yield "and replaced back", watched(cluster, to_four, FOUR)
    yield (
        "keepalived restarted, node by node",
        watched(cluster, lambda: _restart(cluster), FOUR),
    )


def _restart(cluster: Cluster) -> None:
    for node in FOUR:
        restart_keepalived(cluster, node)
        cluster.settle(FOUR)


def _to(cluster: Cluster, *nodes: str) -> Callable[[], object]:
    def apply() -> None:
        write(cluster, *nodes)
        cluster.cli("apply", "--yes", str(cluster.path))

    return apply
