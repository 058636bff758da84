"""What operators do to a cluster; shared with the benchmarks."""

from __future__ import annotations

import json

import yaml

from .cluster import Cluster, eventually
from .events import DAEMONS

FOUR = ("n1", "n2", "n3", "n4")


def write(cluster: Cluster, *names: str, **keys: object) -> None:
    """Put these nodes into the inventory."""
    document = yaml.safe_load(cluster.path.read_text())
    document["nodes"] = {name: {"address": f"192.0.2.{name.removeprefix('n')}"} for name in names}
    cluster.path.write_text(yaml.safe_dump({**document, **keys}, sort_keys=False))


def outcome(cluster: Cluster, *verb: str) -> dict[str, str]:
    """Node -> what became of it."""
    lines = cluster.cli(*verb, str(cluster.path), "--yes", "--json").stdout.splitlines()
    last = json.loads(lines[-1])
    assert last["event"] == "outcome", lines
    return {node["node"]: node["action"] for node in last["nodes"]}


def restart_keepalived(cluster: Cluster, node: str) -> None:
    """Stop it in an orderly way, and start it again once it has gone."""
    cluster.lab.exec(node, ["sh", "-c", f"kill {DAEMONS}"])
    eventually(lambda: cluster.state(node)["keepalived"] == "stopped", f"keepalived of {node} has stopped")
    assert "serving" in cluster.script(node, "up").stdout
