"""Other weights move buckets between nodes that live: one event for all of them, whatever else happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml
from click.testing import CliRunner

from trscaler_gen.cli import apply as apply_module
from trscaler_gen.deploy import rollout
from trscaler_gen.lab import Load
from trscaler_gen.lock import Lock
from trscaler_gen.lockfile import lock_path, read_lock

from .cluster import HEARTBEAT_MS, Cluster, eventually, running_cluster
from .events import SOURCES, assert_nothing_noticed, under_probes

NODES = ("n1", "n2", "n3", "n4")
#: a frame can take a busy machine 2 ms to deliver, and so long two nodes differ
FEW = 5
LONG = Load(long=200, sources=100, short_interval_ms=20)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e-switch"), "switch") as cluster:
        yield cluster


@pytest.fixture
def four(shared: Cluster) -> Iterator[Cluster]:
    """Four nodes of equal weight that serve, also after a test that failed."""
    yield shared
    for node in NODES:
        shared.lab.exec(node, ["nft", "delete", "table", "netdev", "fault"], check=False)
        shared.script(node, "undrain", check=False)
    weigh(shared, 1)
    shared.apply()


def weigh(cluster: Cluster, weight: int) -> None:
    """Write another weight of n4 into the inventory."""
    document = yaml.safe_load(cluster.path.read_text())
    document["nodes"]["n4"]["weight"] = weight
    cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))


def apply(cluster: Cluster) -> str:
    """As an operator does: a switch needs no consent to a disruption."""
    return cluster.cli("apply", "--yes", str(cluster.path)).stdout


def lock_of(cluster: Cluster) -> Lock:
    lock = read_lock(lock_path(cluster.path))
    assert lock is not None
    return lock


def placements(cluster: Cluster) -> dict[str, str]:
    return {node: cluster.state(node)["placement"] for node in NODES}


def all_use(placement: str) -> dict[str, str]:
    return dict.fromkeys(NODES, placement)


def stage_switch(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, weight: int = 3) -> None:
    """Bring both placements to all nodes, and stop just before the switch."""
    weigh(cluster, weight)
    with monkeypatch.context() as patch:
        patch.setattr(rollout._Rollout, "_switch", lambda self: None)
        done = CliRunner().invoke(apply_module.command, ["--yes", str(cluster.path)])
    assert done.exit_code == 0, done.output
    assert placements(cluster) == all_use("before")


def shares(cluster: Cluster) -> dict[str, int]:
    """Sources that each node answers, as a probe sees it."""
    with under_probes(cluster) as watched:
        pass
    assert_nothing_noticed(watched.result)
    return dict(Counter(node for source in watched.result.per_source for node in source.by_node))


def test_a_weight_goes_up_and_down_and_hardly_a_frame_is_lost(four: Cluster) -> None:
    before = lock_of(four).orders
    owners = shares(four)
    for weight in (3, 1):
        weigh(four, weight)
        with under_probes(four, interval_ms=20) as watched:
            output = apply(four)
        assert "4 to switch together" in output
        seen = watched.result
        assert len(seen.losses()) <= FEW and len(seen.doubles()) <= FEW, seen
        assert placements(four) == all_use("after")
        if weight == 3:
            assert shares(four)["n4"] > owners["n4"]
    assert lock_of(four).orders == before
    assert shares(four) == owners


def test_connections_stay_through_both_switches(four: Cluster) -> None:
    with four.lab.connecting(LONG) as connections:
        eventually(lambda: connections.so_far().of("long").opened >= LONG.long, "all are open")
        for weight in (3, 1):
            weigh(four, weight)
            apply(four)
        result = connections.stop()
    assert result.of("long").broken == 0, result.broken
    assert result.of("short").broken == 0, result.broken


def test_a_node_that_boots_in_the_middle_ends_up_with_the_others(
    four: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_switch(four, monkeypatch)
    four.script("n3", "down")
    four.settle(("n1", "n2", "n4"))
    four.script("n1", "switch")
    with under_probes(four) as watched:
        four.script("n3", "up")
        four.settle()
    assert placements(four) == all_use("after")
    assert_nothing_noticed(watched.result, crossing=1)


def test_a_node_that_misses_the_frame_learns_it_from_the_next(
    four: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_switch(four, monkeypatch)
    epoch = int(four.state("n3")["epoch"])
    four.lab.exec(
        "n3",
        [
            "nft",
            "add table netdev fault; add chain netdev fault in { type filter hook ingress device eth0 "
            "priority -300; policy accept; }; add rule netdev fault in ip protocol 112 ip id "
            f"{2 * epoch + 1} limit rate 1/hour burst 1 packets counter drop",
        ],
    )
    with under_probes(four, interval_ms=20) as watched:
        four.script("n1", "switch")
        eventually(lambda: placements(four) == all_use("after"), "all have switched")
    assert "packets 1 " in four.lab.exec("n3", ["nft", "list", "table", "netdev", "fault"]).stdout
    # For one interval n3 goes by the orders of before: at most its sources of either placement are concerned.
    per_interval = SOURCES * HEARTBEAT_MS // 20
    assert len(watched.result.losses()) + len(watched.result.doubles()) <= per_interval, watched.result
    with under_probes(four) as afterwards:
        pass
    assert_nothing_noticed(afterwards.result)


def test_a_drained_node_switches_with_the_others(four: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_switch(four, monkeypatch)
    four.script("n2", "drain")
    output = apply(four)
    assert "4 to switch together" in output
    assert placements(four) == all_use("after")
    with under_probes(four) as watched:
        four.script("n2", "undrain")
        four.settle()
    assert_nothing_noticed(watched.result, crossing=1)


def test_nodes_that_all_go_down_and_come_back_have_switched(four: Cluster) -> None:
    weigh(four, 3)
    apply(four)
    for node in NODES:
        four.script(node, "down")
    for node in NODES:
        four.script(node, "up")
    four.settle()
    assert placements(four) == all_use("after")


@pytest.mark.parametrize("moment", ["confirm", "switch"])
def test_a_deployer_who_is_killed_leaves_one_placement(four: Cluster, moment: str) -> None:
    """At the switch he may be too late to keep it from happening: then it has happened to all."""
    weigh(four, 3)
    with under_probes(four) as watched:
        argv = [sys.executable, "-m", "trscaler_gen", "apply", "--yes", "--json", str(four.path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line).get("phase") == moment:
                    process.send_signal(signal.SIGKILL)
                    break
        eventually(lambda: len(set(placements(four).values())) == 1, "all use one placement")
    seen = watched.result
    assert len(seen.losses()) <= FEW and len(seen.doubles()) <= FEW, seen
    eventually(lambda: not any(four.state(node)["unconfirmed"] for node in NODES), "nothing is open", 120)
    apply(four)
    assert placements(four) == all_use("after")


def test_the_twin_a_swap_that_moves_buckets_is_seen(four: Cluster) -> None:
    """Tables that are exchanged one after the other: packets have two owners, or none."""
    weigh(four, 3)
    apply(four)
    folders = {node: four.state(node)["generation"] for node in NODES}
    old = {
        node: four.lab.exec(node, ["sh", "-c", "ls -t /etc/trscaler-gen/e2e/generations"]).stdout.split()
        for node in NODES
    }
    with under_probes(four) as watched:
        for node in NODES:
            earlier = next(name for name in old[node] if name != folders[node])
            four.lab.exec(node, ["sh", f"/etc/trscaler-gen/e2e/generations/{earlier}/node.sh", "swap"])
    seen = watched.result
    assert len(seen.losses()) + len(seen.doubles()) > FEW, seen
