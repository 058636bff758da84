"""What ``simulate`` counts for each node is what the nodes' kernels count when the same packets are sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from simulate.captures import mixed, pcap

from trscaler_gen.lockfile import lock_path, write_lock

from .cluster import Cluster
from .wire import Wire, counters, octets, wired

FRAMES = 1000
#: no more than a CPU's queue for frames holds, with every copy that the switch makes
BATCH = 100
CUT = "n2"


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    with wired(cluster) as opened:
        yield opened


@pytest.fixture
def traffic(wire: Wire, tmp_path: Path) -> tuple[list[bytes], Path]:
    """Frames of all kinds, and the capture that holds them."""
    frames = mixed(FRAMES, seed=20240229, to=octets(wire.cluster_mac))
    path = tmp_path / "traffic.pcap"
    path.write_bytes(pcap(frames))
    return frames, path


def accepted(wire: Wire, nodes: tuple[str, ...]) -> dict[str, int]:
    """What each node's ruleset has taken for its own."""
    return {node: counters(wire.cluster.lab, node)["accepted"] for node in nodes}


def replayed(wire: Wire, frames: list[bytes], nodes: tuple[str, ...]) -> dict[str, int]:
    """Send the frames; how many each node accepted."""
    before = accepted(wire, nodes)
    for start in range(0, len(frames), BATCH):
        for frame in frames[start : start + BATCH]:
            wire.frames.send(frame)
        wire.barrier(nodes)
    return {node: count - before[node] for node, count in accepted(wire, nodes).items()}


def simulated(cluster: Cluster, inventory: Path, traffic: Path, *options: str) -> dict[str, int]:
    """The packets of each living node, in the last scenario."""
    argv = ["simulate", str(inventory), "--traffic", str(traffic), "--json", *options]
    *_, last = json.loads(cluster.cli(*argv).stdout)["scenarios"]
    return {share["name"]: share["counts"]["packets"] for share in last["shares"] if share["alive"]}


def test_each_node_gets_what_was_foretold(wire: Wire, traffic: tuple[list[bytes], Path]) -> None:
    frames, path = traffic
    foretold = simulated(wire.cluster, wire.cluster.path, path)
    assert sum(foretold.values()) == FRAMES
    assert replayed(wire, frames, wire.cluster.lab.nodes) == foretold


def test_with_a_node_cut_the_others_get_what_was_foretold(
    wire: Wire, traffic: tuple[list[bytes], Path]
) -> None:
    frames, path = traffic
    others = tuple(node for node in wire.cluster.lab.nodes if node != CUT)
    foretold = simulated(wire.cluster, wire.cluster.path, path, "--down", CUT)
    wire.cluster.lab.cut(CUT)
    try:
        wire.cluster.settle(others)
        found = replayed(wire, frames, others)
    finally:
        wire.cluster.lab.mend(CUT)
        wire.cluster.settle()
    assert set(foretold) == set(others)
    assert sum(foretold.values()) == FRAMES
    assert found == foretold


def test_another_seed_foretells_something_else(
    wire: Wire, traffic: tuple[list[bytes], Path], tmp_path: Path
) -> None:
    """The breaking twin."""
    frames, path = traffic
    other = tmp_path / "cluster.yaml"
    other.write_bytes(wire.cluster.path.read_bytes())
    write_lock(lock_path(other), replace(wire.lock, seed=wire.lock.seed ^ 1))
    assert simulated(wire.cluster, other, path) != replayed(wire, frames, wire.cluster.lab.nodes)
