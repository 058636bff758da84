"""Where nothing has happened for a while, a packet pays nothing for connections that would be kept.

It meets the same rules as with `connections: hash-only`; one set has another name. What a node accepts passes
its own table as well, where TCP is tracked and nothing else: figures are in docs/benchmarks.md.
"""

from __future__ import annotations

import re
from pathlib import Path

from trscaler_gen.lockfile import lock_path, write_lock
from trscaler_gen.pipeline import compile_inventory

from .cluster import Cluster, eventually, inventory_text, running_cluster

KEEP_S = 10
#: what a packet meets whose owner is settled, from the wire to the node's own stack
STEADY = ("ingress", "shared", "tagged", "ipv4", "ipv6", "quoted4", "quoted6", "decide", "every_node")


def steady_rules(folder: Path, connections: str) -> dict[str, str]:
    """The chains that decide about a packet in steady state."""
    path = folder / "cluster.yaml"
    path.write_text(inventory_text(folder, connections=connections))
    compiled = compile_inventory(path)
    write_lock(lock_path(path), compiled.lock)  # the next one has the same seed
    text = compiled.bundles["n1"].files["ruleset.nft"].decode().partition("\ntable inet")[0]
    (tag,) = set(re.findall(r"map first_(\w+)", text))
    chains = re.findall(
        r"^    chain (\w+) \{\n(.*?)^    \}$", text.replace(tag, "TAG"), re.MULTILINE | re.DOTALL
    )
    found = dict(chains)
    return {name: found[name] for name in STEADY}


def test_a_steady_packet_meets_the_same_rules(tmp_path: Path) -> None:
    kept, hashed = (steady_rules(tmp_path, word) for word in ("preserve", "hash-only"))
    assert all("meta mark @settled goto decide" in kept[name] for name in ("ipv4", "ipv6"))
    assert {name: rules.replace("@settled", "@alive") for name, rules in kept.items()} == hashed


def test_nodes_are_settled_when_nothing_has_happened_for_a_while(tmp_path: Path) -> None:
    """Then every packet ends with the rules above: its first choice is settled."""
    with running_cluster(tmp_path, "cost", keep_connections_s=KEEP_S) as cluster:
        assert not is_settled(cluster)
        eventually(lambda: is_settled(cluster), "everybody is settled in everybody's eyes")
        assert {state["joining"] for state in states(cluster)} == {"no"}
        assert {state["hosting"] for state in states(cluster)} == {""}
        cluster.script("n2", "drain")
        cluster.settle(("n1", "n3", "n4"))
        cluster.script("n2", "undrain")
        cluster.settle()
        assert not is_settled(cluster)
        eventually(lambda: is_settled(cluster), "they are again")


def states(cluster: Cluster) -> list[dict[str, str]]:
    return [cluster.state(node) for node in cluster.lab.nodes]


def is_settled(cluster: Cluster) -> bool:
    """Whether every node holds all nodes for settled."""
    wanted = set(cluster.ids.values())
    return all(cluster.members(node, "settled") == wanted for node in cluster.lab.nodes)
