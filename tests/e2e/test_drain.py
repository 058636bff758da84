"""Nodes are drained and undrained: nobody notices, and what a node has stays with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from trscaler_gen.lab import Load

from .cluster import Cluster, eventually, running_cluster
from .events import assert_nothing_noticed, under_probes

NODES = ("n1", "n2", "n3")
FEW = Load(long=60, sources=30, short_interval_ms=20)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e-drain"), "drain", nodes=3) as cluster:
        yield cluster


@pytest.fixture
def three(shared: Cluster) -> Iterator[Cluster]:
    """Three nodes that serve, also after a test that failed."""
    yield shared
    for node in NODES:
        shared.script(node, "up", check=False)
        shared.script(node, "undrain", check=False)
    shared.settle()


def drain(cluster: Cluster, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    return cluster.cli("drain", *words, "--inventory", str(cluster.path), expect=(expect,))


def undrain(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return cluster.cli("undrain", *words, "--inventory", str(cluster.path))


def status(cluster: Cluster) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cluster.cli("status", "--json", str(cluster.path)).stdout)
    return document


def held(cluster: Cluster, node: str) -> int:
    return int(cluster.script(node, "held").stdout)


def test_drain_and_undrain_are_not_noticed(three: Cluster) -> None:
    with under_probes(three) as watched:
        drain(three, "n2")
        assert three.alive("n1") == {three.ids["n1"], three.ids["n3"]}
        undrain(three, "n2")
        three.settle()
    assert_nothing_noticed(watched.result, crossing=1)


def test_a_drained_node_gets_nothing_new(three: Cluster) -> None:
    drain(three, "n2")
    with under_probes(three) as watched:
        pass
    assert_nothing_noticed(watched.result, crossing=1)
    assert watched.result.by_node.get("n2", 0) == 0
    undrain(three, "n2")
    with under_probes(three) as watched:
        pass
    assert_nothing_noticed(watched.result, crossing=1)
    assert watched.result.by_node["n2"] > 0


def test_connections_stay_while_new_ones_go_elsewhere(three: Cluster) -> None:
    with three.lab.connecting(FEW) as connections:
        before = connections.so_far().of("long").holding["n2"]
        assert before > 0
        assert held(three, "n2") >= before
        drain(three, "n2")
        short = connections.so_far().of("short").by_node.get("n2", 0)
        drained = drain(three, "n2", "--wait", "--timeout", "1", expect=124)
        seen = connections.so_far()
        undrain(three, "n2")
        three.settle()
        result = connections.stop()
    assert seen.of("long").holding["n2"] == before
    assert seen.of("short").by_node.get("n2", 0) <= short + 1, "what was being opened at the time"
    assert f"n2: {before} connections left after 1 s" in drained.stderr
    assert (result.of().broken, result.of().strayed) == (0, 0), result.broken


def test_it_waits_for_a_real_connection_to_end(three: Cluster) -> None:
    with three.lab.connecting(Load(long=30, sources=30, short_interval_ms=None)) as connections:
        argv = [
            sys.executable,
            "-u",
            "-m",
            "trscaler_gen",
            "drain",
            "n1",
            "--inventory",
            str(three.path),
            "--wait",
        ]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiter:
            assert waiter.stderr is not None
            assert int(waiter.stderr.readline().split()[1]) == connections.so_far().of("long").holding["n1"]
            assert waiter.poll() is None
            result = connections.stop()
            stdout, _ = waiter.communicate(timeout=60)
    assert waiter.returncode == 0
    assert "n1: holds no connection: it can be stopped or rebooted" in stdout
    assert result.of().broken == 0


def test_status_says_what_a_drained_node_holds(three: Cluster) -> None:
    with three.lab.connecting(Load(long=30, sources=30, short_interval_ms=None)) as connections:
        drain(three, "n2")
        document = status(three)
        holding = connections.so_far().of("long").holding["n2"]
    assert (document["state"], document["exit"], document["faults"]) == ("healthy", 0, [])
    assert (
        f"n2: drained: takes no new connections, and still holds {holding} connections" in document["notes"]
    )
    node = next(node for node in document["nodes"] if node["node"] == "n2")
    assert (node["draining"], node["held"], node["serving"], node["owned_buckets"]) == (
        True,
        holding,
        False,
        0,
    )
    assert 0 < node["tracked"] < 10_000 < node["most_tracked"]
    others = [node for node in document["nodes"] if node["node"] != "n2"]
    assert all(other["sees_draining"] == ["n2"] and other["does_not_see"] == [] for other in others)
    assert document["buckets"]["one_owner"] == document["buckets"]["total"]


def test_it_stays_drained_over_down_and_up(three: Cluster) -> None:
    """As over a reboot: what lasts is a file."""
    drain(three, "n3", "--wait")
    with under_probes(three) as watched:
        three.script("n3", "down")
        assert three.state("n3")["draining"] == "yes"
        three.script("n3", "up")
        eventually(lambda: three.state("n1")["peers_draining"] == str(three.ids["n3"]), "n1 hears n3 drain")
    assert_nothing_noticed(watched.result, crossing=1)
    assert watched.result.by_node.get("n3", 0) == 0
    assert three.state("n3")["serving"] == "no"
    assert status(three)["state"] == "healthy"
    undrain(three, "n3")
    three.settle()


def test_an_apply_leaves_it_drained(three: Cluster) -> None:
    drain(three, "n2")
    original = three.path.read_text()
    document = yaml.safe_load(original)
    document["virtual_addresses"].append("192.0.2.97")
    three.path.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        with under_probes(three) as watched:
            output = three.cli("apply", "--yes", str(three.path)).stdout
        assert "n2 is drained, and stays so" in " ".join(output.split())
        assert three.state("n2")["draining"] == "yes"
        three.script("n2", "down")
        output = three.cli("apply", "--yes", str(three.path)).stdout
        assert "started" in output, "a start of a drained node is complete though it does not serve"
        assert (three.state("n2")["draining"], three.state("n2")["serving"]) == ("yes", "no")
    finally:
        three.path.write_text(original)
        undrain(three, "n2")
        three.apply()
    assert_nothing_noticed(watched.result, crossing=1)


def test_the_last_node_that_serves(three: Cluster) -> None:
    drain(three, "n1", "n2")
    refused = drain(three, "n3", expect=1)
    assert "no other node serves" in refused.stderr
    assert three.state("n3")["serving"] == "yes"
    drain(three, "n3", "--force")
    assert three.state("n3")["draining"] == "yes"
    undrain(three, *NODES)
    three.settle()


def test_a_node_that_leaves_the_inventory_can_be_drained_first(three: Cluster) -> None:
    """Its plan says so: the stop would break what it holds."""
    original = three.path.read_text()
    document = yaml.safe_load(original)
    del document["nodes"]["n3"]
    try:
        with three.lab.connecting(FEW) as connections:
            three.path.write_text(yaml.safe_dump(document, sort_keys=False))
            plan = " ".join(three.cli("plan", str(three.path)).stdout.split())
            assert "would break" in plan
            assert "trscaler-gen drain n3 --inventory cluster.yaml --wait" in plan
            drain(three, "n3")
            plan = " ".join(three.cli("plan", str(three.path)).stdout.split())
            assert "trscaler-gen drain n3" in plan
            connections.stop()
        drain(three, "n3", "--wait")
        plan = " ".join(three.cli("plan", str(three.path)).stdout.split())
        assert "would break" not in plan
    finally:
        three.path.write_text(original)
        undrain(three, "n3")
