"""Thirty-two nodes, the most that a cluster has, as in inventory/lab-32.yaml.

On two cores, 32 nodes hear 32 x 10 heartbeats a second each, and every probe 32 times. So nothing here is
timed: what must hold is waited for, and what was lost or doubled is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .cluster import Cluster, eventually, running_cluster
from .events import assert_nothing_noticed
from .witness import Seen, watched_probes

NODES = 32
VICTIM = "n7"
SECONDS = 3.0
SETTLE_S = 60.0


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e-32"), "e2e-32", nodes=NODES) as cluster:
        yield cluster


def probed(cluster: Cluster) -> list[Seen]:
    """Both families at once, from all of the client's sources."""
    start: dict[str, Any] = {"sources": 250, "interval_ms": 500, "seconds": SECONDS, "families": (4, 6)}
    with watched_probes(cluster.lab, cluster.heartbeat, **start) as watched:
        pass
    return watched.results


def test_every_probe_is_answered_exactly_once(crowd: Cluster) -> None:
    results = probed(crowd)
    for result in results:
        assert_nothing_noticed(result)
    answering = {node for result in results for node in result.by_node}
    assert answering == set(crowd.lab.nodes)


def test_applying_again_changes_nothing(crowd: Cluster) -> None:
    output = crowd.cli("apply", str(crowd.path)).stdout
    assert "Nothing to do: all 32 nodes" in output, output


def test_a_cut_node_is_replaced_and_returns(crowd: Cluster) -> None:
    others = tuple(node for node in crowd.lab.nodes if node != VICTIM)
    crowd.lab.cut(VICTIM)
    crowd.settle(others, SETTLE_S)
    without = probed(crowd)
    for result in without:
        assert_nothing_noticed(result)
    assert all(VICTIM not in result.by_node for result in without)
    crowd.lab.mend(VICTIM)
    crowd.settle(timeout_s=SETTLE_S)
    eventually(lambda: any(VICTIM in result.by_node for result in probed(crowd)), "the victim serves again")
