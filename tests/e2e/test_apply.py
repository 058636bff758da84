"""What operators do to a cluster that serves: planned, applied, rolled back, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from .cluster import Cluster, running_cluster
from .events import assert_nothing_noticed, under_probes
from .operations import FOUR, outcome, restart_keepalived, write


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e-apply"), "apply", nodes=5) as cluster:
        yield cluster


@pytest.fixture
def cluster(five: Cluster) -> Cluster:
    """Four of five nodes, whole."""
    write(five, *FOUR)
    if five.cli("plan", "--detailed-exitcode", str(five.path), expect=(0, 2)).returncode == 2:
        outcome(five, "apply")
    five.settle(FOUR)
    return five


def test_add_remove_and_replace_a_node(cluster: Cluster) -> None:
    write(cluster, *FOUR, "n5")
    with under_probes(cluster) as watched:
        assert outcome(cluster, "apply") == dict.fromkeys(FOUR, "swapped") | {"n5": "started"}
        cluster.settle()
    assert_nothing_noticed(watched.result, crossing=1)
    assert watched.result.by_node["n5"] > 0

    write(cluster, *FOUR)
    with under_probes(cluster) as watched:
        assert outcome(cluster, "apply") == dict.fromkeys(FOUR, "swapped") | {"n5": "stopped"}
        cluster.settle(FOUR)
    assert_nothing_noticed(watched.result, crossing=1)
    for trace in ("/etc/trscaler-gen/e2e", "/run/trscaler-gen/e2e"):
        assert cluster.lab.exec("n5", ["ls", trace], check=False).returncode != 0
    assert cluster.lab.exec("n5", ["nft", "list", "ruleset"]).stdout == ""

    write(cluster, "n1", "n2", "n3", "n5")
    with under_probes(cluster) as watched:
        assert outcome(cluster, "apply") == {
            **dict.fromkeys(("n1", "n2", "n3"), "swapped"),
            "n5": "started",
            "n4": "stopped",
        }
        cluster.settle(("n1", "n2", "n3", "n5"))
    assert_nothing_noticed(watched.result, crossing=2)
    assert watched.result.by_node["n5"] > 0


def test_rollback_and_apply_again(cluster: Cluster) -> None:
    generations = {node: cluster.state(node)["generation"] for node in FOUR}
    write(cluster, *FOUR, "n5")
    outcome(cluster, "apply")
    cluster.settle()
    with under_probes(cluster) as watched:
        assert outcome(cluster, "rollback") == dict.fromkeys(FOUR, "swapped") | {"n5": "stopped"}
        cluster.settle(FOUR)
    assert_nothing_noticed(watched.result, crossing=1)
    assert {node: cluster.state(node)["generation"] for node in FOUR} == generations
    with under_probes(cluster) as watched:
        assert outcome(cluster, "apply") == dict.fromkeys(FOUR, "swapped") | {"n5": "started"}
        cluster.settle()
    assert_nothing_noticed(watched.result, crossing=1)


def test_rollback_stops_a_node_that_the_inventory_does_not_have_any_more(cluster: Cluster) -> None:
    """Who takes a change back takes it out of the inventory as well, and perhaps first."""
    write(cluster, *FOUR, "n5")
    outcome(cluster, "apply")
    cluster.settle()
    write(cluster, *FOUR)
    with under_probes(cluster) as watched:
        assert outcome(cluster, "rollback") == dict.fromkeys(FOUR, "swapped") | {"n5": "stopped"}
        cluster.settle(FOUR)
    assert_nothing_noticed(watched.result, crossing=1)


def test_applying_again_changes_nothing_and_says_so(cluster: Cluster) -> None:
    before = {node: cluster.state(node)["generation"] for node in FOUR}
    done = cluster.cli("apply", str(cluster.path))
    assert "Nothing to do" in done.stdout
    assert {node: cluster.state(node)["generation"] for node in FOUR} == before
    assert cluster.cli("plan", "--detailed-exitcode", str(cluster.path)).returncode == 0


def test_rolling_restart_of_keepalived(cluster: Cluster) -> None:
    with under_probes(cluster) as watched:
        for node in FOUR:
            restart_keepalived(cluster, node)
            cluster.settle(FOUR)
    assert_nothing_noticed(watched.result, crossing=2)


def test_a_folder_of_inventories_is_planned_together_and_applied_in_turn(cluster: Cluster) -> None:
    """Two clusters on the same four hosts and the same link."""
    folder = cluster.path.parent
    document = yaml.safe_load(cluster.path.read_text())
    document |= {"cluster": "second", "virtual_addresses": ["192.0.2.98"]}
    document["heartbeat"] = {**document["heartbeat"], "first_vrid": 101}
    other = folder / "second.yaml"
    other.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        plans = [json.loads(line) for line in cluster.cli("plan", "--json", str(folder)).stdout.splitlines()]
        assert [plan["cluster"] for plan in plans] == ["e2e", "second"]
        with under_probes(cluster) as watched:
            cluster.cli("apply", "--yes", str(folder))
        assert_nothing_noticed(watched.result)
        assert "second: " in cluster.cli("apply", str(folder)).stderr
        verdicts = cluster.cli("status", "--json", str(folder)).stdout.splitlines()
        assert [json.loads(line)["state"] for line in verdicts] == ["healthy", "healthy"]
    finally:
        for node in FOUR:
            script = "/etc/trscaler-gen/second/current/node.sh"
            cluster.lab.exec(node, ["sh", "-c", f"sh {script} down; sh {script} erase"], check=False)
        other.unlink()
