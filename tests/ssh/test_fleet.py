"""Several hundred nodes in many inventories: planned together, a bounded number of them at a time."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ssh.nodes import LINK, Lan
from trscaler_gen.cli import plan as plan_module
from trscaler_gen.deploy import look as look_module
from trscaler_gen.deploy.node import observe
from trscaler_gen.facts import Facts
from trscaler_gen.transport import Connection

CLUSTERS = 6
NODES = 32
PARALLEL = 12


class Crowd:
    """How many are observed now, and how many there were at most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def observe(self, node: str, connection: Connection, **words: Any) -> Facts:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return observe(node, connection, **words)
        finally:
            with self.lock:
                self.now -= 1


def test_many_inventories_share_the_threads(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes are one sshd here: it is the deployer's side that is looked at."""
    lan.boot("host")
    lan.write_config(f"Host n*\n  HostName 127.0.0.1\n  Port {lan.nodes['host'].port}\n")
    folder = lan.folder / "fleet"
    folder.mkdir()
    for number in range(CLUSTERS):
        nodes = {f"n{index}": {"address": f"192.0.2.{index}"} for index in range(1, NODES + 1)}
        document = {
            "cluster": f"c{number}",
            "link": LINK,
            "virtual_addresses": ["192.0.2.100"],
            "hash": {"buckets": 64},
            "ssh": {"config": str(lan.folder / "config")},
            "nodes": nodes,
        }
        (folder / f"c{number}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    crowd = Crowd()
    monkeypatch.setattr(look_module, "observe", crowd.observe)
    result = CliRunner().invoke(plan_module.command, ["--json", "--parallel", str(PARALLEL), str(folder)])
    assert result.exit_code == 0, result.output
    plans = [json.loads(line) for line in result.stdout.splitlines()]
    assert [plan["cluster"] for plan in plans] == [f"c{number}" for number in range(CLUSTERS)]
    assert all(len(plan["nodes"]) == NODES for plan in plans)
    assert 1 < crowd.most <= PARALLEL
