"""Changes of the inventory, applied to a cluster that serves: under probes, and nobody answers twice."""

from __future__ import annotations

import re

import pytest
import yaml

from .cluster import Cluster, eventually
from .events import assert_nothing_noticed, under_probes


def apply(cluster: Cluster, document: dict[str, object]) -> str:
    cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
    return cluster.cli("apply", "--yes", "--allow-disruption", str(cluster.path)).stdout


def actions(output: str) -> dict[str, str]:
    """Node -> what `apply` says that it did."""
    rows = [line.split() for line in output.splitlines()]
    return {
        row[0]: row[1] for row in rows if len(row) > 1 and row[0].startswith("n") and row[0][1:].isdigit()
    }


def test_node_removed_and_added(cluster: Cluster, inventory: dict[str, dict[str, object]]) -> None:
    removed = inventory["nodes"].pop("n4")
    with under_probes(cluster) as watched:
        output = apply(cluster, inventory)  # type: ignore[arg-type]
        cluster.settle(("n1", "n2", "n3"))
    assert actions(output)["n4"] == "stopped"
    assert_nothing_noticed(watched.result, crossing=1)
    assert "vip-e2e" not in cluster.lab.exec("n4", ["ip", "-o", "link"]).stdout
    assert cluster.lab.exec("n4", ["nft", "list", "ruleset"]).stdout == ""

    inventory["nodes"]["n4"] = removed
    with under_probes(cluster) as watched:
        output = apply(cluster, inventory)  # type: ignore[arg-type]
        cluster.settle()
    assert actions(output) == {"n1": "swapped", "n2": "swapped", "n3": "swapped", "n4": "started"}
    assert_nothing_noticed(watched.result, crossing=1)
    assert watched.result.by_node["n4"] > 0


def renamed(inventory: dict[str, object], names: dict[str, str]) -> dict[str, object]:
    """The same machines under other names."""
    nodes = inventory["nodes"]
    assert isinstance(nodes, dict)
    return {**inventory, "nodes": {names.get(name, name): node for name, node in nodes.items()}}


def by_address(cluster: Cluster) -> dict[str, str]:
    """SSH settings that know the machines by their addresses alone, and not by what they were called."""
    path = cluster.path.with_name("ssh_by_address")
    path.write_text(re.sub(r"^Host n\d ", "Host ", cluster.lab.ssh_config.read_text(), flags=re.MULTILINE))
    return {"config": str(path)}


@pytest.mark.parametrize("names", [{"n4": "web"}, {"n1": "n2", "n2": "n1"}], ids=["one", "two exchanged"])
def test_another_name_is_no_event(
    cluster: Cluster, inventory: dict[str, object], names: dict[str, str]
) -> None:
    """Heartbeats go on: no line of keepalived's configuration has changed but comments."""
    ids = set(cluster.ids.values())
    inventory["ssh"] = by_address(cluster)
    with under_probes(cluster) as watched:
        output = apply(cluster, renamed(inventory, names))
    rows = [line.split() for line in output.splitlines()]
    assert {row[0] for row in rows if row[1:2] == ["swapped"]} >= set(cluster.ids)
    assert_nothing_noticed(watched.result)
    assert set(cluster.ids.values()) == ids
    assert all(cluster.alive(node) == ids for node in cluster.lab.nodes)


def test_names_that_lead_to_other_machines_change_nothing(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    """ssh_config still has the old names: each of the two machines would get the other's files."""
    before = {node: cluster.state(node)["generation"] for node in cluster.lab.nodes}
    cluster.path.write_text(yaml.safe_dump(renamed(inventory, {"n1": "n2", "n2": "n1"})))
    with under_probes(cluster) as watched:
        refused = cluster.cli("apply", "--yes", str(cluster.path), expect=(1,))
    assert "this host has no address 192.0.2.2 on eth0: does SSH reach the right machine for n1?" in " ".join(
        (refused.stdout + refused.stderr).split()
    )
    assert_nothing_noticed(watched.result)
    assert {node: cluster.state(node)["generation"] for node in cluster.lab.nodes} == before


def test_virtual_address_added_in_place(cluster: Cluster, inventory: dict[str, object]) -> None:
    inventory["virtual_addresses"] = ["192.0.2.100", "2001:db8::100", "192.0.2.99"]
    with under_probes(cluster) as watched:
        output = apply(cluster, inventory)
    assert set(actions(output).values()) == {"swapped"}
    assert_nothing_noticed(watched.result)
    addresses = cluster.lab.exec("n1", ["ip", "-o", "addr", "show", "dev", "vip-e2e"]).stdout
    assert "192.0.2.99/32" in addresses


def test_changed_contract_has_a_new_epoch_and_nobody_answers_twice(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    """Other leases, and other buckets: nodes of the old epoch stand aside for those of the new one."""
    inventory["heartbeat"] = {"interval_ms": 200, "missed": 3}
    inventory["hash"] = {"buckets": 512}
    epoch = int(cluster.state("n1")["epoch"])
    with under_probes(cluster, interval_ms=20) as watched:
        output = apply(cluster, inventory)
        cluster.settle()
    assert set(actions(output).values()) == {"swapped"}
    assert {cluster.state(node)["epoch"] for node in cluster.lab.nodes} == {str(epoch + 1)}
    # A frame can take a busy machine 2 ms to deliver, and so long two nodes can differ; at 5,000 probes/s.
    # Without the announcement or the assumed leases it is 50 to 200.
    assert len(watched.result.doubles()) <= 10, watched.result


def test_other_cluster_mac_restarts_every_node(cluster: Cluster, inventory: dict[str, object]) -> None:
    """It cannot be done in place: neighbours must learn another address, and are told."""
    inventory["mac"] = {"mode": "multicast", "address": "03:00:5d:00:01:01"}
    output = apply(cluster, inventory)
    cluster.settle()
    assert set(actions(output).values()) == {"restarted"}
    with under_probes(cluster) as watched:
        pass
    assert_nothing_noticed(watched.result)


def test_what_is_put_back_is_the_generation_that_was_applied_last(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    """The watcher was started by the generation before."""
    inventory["virtual_addresses"] = ["192.0.2.100", "2001:db8::100", "192.0.2.98"]
    apply(cluster, inventory)
    generation = cluster.state("n1")["generation"]
    cluster.lab.exec("n1", ["nft", "flush", "ruleset"])
    eventually(lambda: cluster.state("n1")["ruleset"] == "intact", "the rules are back")
    assert cluster.state("n1")["loaded"] == generation
    cluster.settle()
