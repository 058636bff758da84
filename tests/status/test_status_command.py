"""``trscaler-gen status`` and ``history`` as a user runs them, with nodes that answer from a script."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from trscaler_gen.bundle import LOCK
from trscaler_gen.cli import history as history_module
from trscaler_gen.cli import status as status_module
from trscaler_gen.errors import NodeError
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock
from trscaler_gen.lockfile import lock_path, write_lock
from trscaler_gen.pipeline import Compiled, compile_inventory
from trscaler_gen.transport import Completed

GONE = NodeError("?", "connection refused", hint="is sshd running?")


@dataclass
class Node:
    """A node that answers each look with the next of these texts, and the last one from then on."""

    looks: list[str | NodeError]
    lock: bytes = b""
    history: str = "current=\n"
    fetched: int = 0
    looked: int = 0

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        if "line=" in argv[2]:
            return Completed(0, self.history, "")
        look = self.looks[min(self.looked, len(self.looks) - 1)]
        self.looked += 1
        if isinstance(look, NodeError):
            raise look
        return Completed(0, look, "")

    def fetch(self, argv: Sequence[str], *, timeout_s: float) -> bytes:
        self.fetched += 1
        return self.lock

    def close(self) -> None:
        pass


@dataclass
class World:
    """Some clusters' nodes, by address."""

    folder: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    waited: list[float] = field(default_factory=list)

    def connector(
        self, inventory: Inventory, departed: Mapping[str, Any], on_new_key: object
    ) -> Callable[[str], Node]:
        def connect(name: str) -> Node:
            known = inventory.nodes | dict(departed)
            node = self.nodes.get(str(known[name].address))
            if node is None:
                raise GONE
            return node

        return connect

    def write(self, cluster: str, *hosts: int) -> Path:
        path = self.folder / f"{cluster}.yaml"
        document = {
            "cluster": cluster,
            "link": "eth0",
            "virtual_addresses": ["192.0.2.100"],
            "hash": {"buckets": 64},
            "nodes": {f"n{host}": {"address": f"192.0.2.{host}"} for host in hosts},
        }
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def build(self, path: Path) -> Compiled:
        compiled = compile_inventory(path)
        write_lock(compiled.lock_path, compiled.lock)
        return compiled

    def run_cluster(self, cluster: str, *hosts: int) -> Path:
        """Write an inventory and its lock, and let all its nodes run it."""
        path = self.write(cluster, *hosts)
        compiled = self.build(path)
        for name, bundle in compiled.bundles.items():
            address = str(compiled.inventory.nodes[name].address)
            text = facts(compiled.lock, name, bundle.generation, bundle.files[LOCK])
            self.nodes[address] = Node([text], bundle.files[LOCK])
        return path

    def status(self, *words: str | Path) -> Result:
        return CliRunner().invoke(status_module.command, [str(word) for word in words])

    def document(self, *words: str | Path) -> dict[str, Any]:
        result = self.status("--json", *words)
        document: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == document["exit"]
        return document


def facts(lock: Lock, name: str, generation: str, text: bytes, **changes: object) -> str:
    """What a node that is well says."""
    (node_id,) = (node.node_id for node in lock.nodes if node.name == name)
    digest = hashlib.sha256(text).hexdigest()
    said: dict[str, object] = {
        "uid": 0,
        "staged": "yes",
        "generation": generation,
        "loaded": generation,
        "epoch": lock.epoch,
        "serial": lock.serial,
        "ruleset": "intact",
        "keepalived": "running",
        "heartbeat": "MASTER",
        "serving": "yes",
        "attached": "yes",
        "units": "none",
        "running": "yes",
        "node_id": node_id,
        "alive": " ".join(str(node.node_id) for node in lock.nodes),
        "digest": f"{digest}  {LOCK}",
        "listed": f"{digest}  {LOCK}",
        **changes,
    }
    return "".join(f"{key}={value}\n" for key, value in said.items())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(status_module, "connector", made.connector)
    monkeypatch.setattr(history_module, "connector", made.connector)
    monkeypatch.setattr(status_module, "pause", made.waited.append)
    return made


def say(world: World, host: int, *texts: str) -> None:
    """Each text is changes to what the node says, for one look; an empty one is none."""
    node = world.nodes[f"192.0.2.{host}"]
    (usual,) = node.looks
    assert isinstance(usual, str)
    node.looks = [usual + text for text in texts]


def test_a_cluster_that_is_well_is_looked_at_once(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    result = world.status(path)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "web: healthy: 64 of 64 buckets have exactly one owner"
    assert result.stderr == ""
    assert world.waited == []
    assert [node.fetched for node in world.nodes.values()] == [0, 0, 0]


def test_a_takeover_under_way_is_looked_at_again(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    say(world, 1, "alive=1 3\n", "")
    assert world.document(path)["state"] == "healthy"
    assert len(world.waited) == 1


def test_what_lasts_is_told_after_the_second_look(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    say(world, 1, "alive=1 3\n")
    document = world.document(path)
    assert (document["state"], document["exit"]) == ("degraded", 2)
    assert document["faults"] == ["n1 does not hear n2"]
    assert len(world.waited) == 1


def test_who_cannot_be_reached_is_not_asked_again(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    del world.nodes["192.0.2.3"]
    document = world.document(path)
    assert (document["state"], document["exit"]) == ("unknown", 1)
    assert document["doubts"] == ["n3: could not be asked, but is heard by n1, n2"]
    assert document["nodes"][2]["error"] == "connection refused"
    assert [node.looked for node in world.nodes.values()] == [2, 2]


def test_the_worst_cluster_decides_the_exit_status(world: World) -> None:
    world.run_cluster("a", 1, 2)
    world.run_cluster("b", 11, 12)
    world.run_cluster("c", 21, 22)
    del world.nodes["192.0.2.12"]
    assert world.status(world.folder).exit_code == 1
    say(world, 21, "units=altered\n")
    result = world.status(world.folder, "--json")
    assert result.exit_code == 2
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["cluster"], line["exit"]) for line in lines] == [("a", 0), ("b", 1), ("c", 2)]


def test_several_clusters_are_told_one_below_the_other(world: World) -> None:
    world.run_cluster("a", 1, 2)
    world.run_cluster("b", 11, 12)
    said = world.status(world.folder).stdout
    assert said.index("a: healthy") < said.index("\n\nnode") < said.index("b: healthy")


def test_without_a_lock_the_nodes_own_is_fetched_once(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    lock_path(path).unlink()
    document = world.document(path)
    assert document["state"] == "healthy"
    assert document["buckets"]["one_owner"] == 64
    assert "lock recover" in document["notes"][0]
    assert sum(node.fetched for node in world.nodes.values()) == 1
    assert not lock_path(path).exists()


def test_a_spoilt_lock_keeps_nobody_from_asking(world: World) -> None:
    path = world.run_cluster("web", 1, 2)
    lock_path(path).write_text("<<<<<<< HEAD\n")
    document = world.document(path)
    assert document["state"] == "healthy"
    assert document["notes"] == ["what is wanted cannot be built: the lock holds a merge conflict"]


def test_a_lock_that_is_not_the_one_of_the_generation_is_not_believed(world: World) -> None:
    path = world.run_cluster("web", 1, 2)
    lock_path(path).unlink()
    for node in world.nodes.values():
        node.lock += b"\n"
    document = world.document(path)
    assert document["exit"] == 1
    assert "n1, n2: the lock of what it runs could not be read" in document["doubts"]


def test_an_inventory_that_is_ahead_is_healthy(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    world.build(world.write("web", 1, 2, 3, 4))
    world.nodes["192.0.2.4"] = Node(["uid=0\nstaged=no\n"])
    document = world.document(path)
    assert (document["state"], document["exit"]) == ("healthy", 0), document
    assert "n4: in the inventory, but not applied yet" in document["notes"]
    assert document["notes"][-1].startswith("the inventory is ahead: trscaler-gen plan")


def test_a_lock_that_is_behind_is_told_from_one_that_is_ahead(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    old = lock_path(path).read_bytes()
    world.run_cluster("web", 1, 2, 3, 4)
    world.write("web", 1, 2, 3)
    lock_path(path).write_bytes(old)
    assert any("from version control" in note for note in world.document(path)["notes"])


def test_a_node_that_left_is_asked_until_it_is_stopped(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    world.build(world.write("web", 1, 2))
    document = world.document(path)
    assert document["state"] == "healthy"
    assert document["buckets"]["one_owner"] == 64
    assert [(node["node"], node["has_left"]) for node in document["nodes"]][-1] == ("n3", True)
    assert "n3: has left the inventory; still runs, and waits to be stopped: apply" in document["notes"]


def test_only_root_can_say_what_runs(world: World) -> None:
    path = world.run_cluster("web", 1, 2)
    say(world, 2, "uid=1000\n")
    assert world.document(path)["nodes"][1]["error"] == "the SSH user is not root there"


def test_no_inventory_in_a_folder(world: World) -> None:
    assert "no inventory in the folder" in str(world.status(world.folder).exception)


A, B = "a" * 12, "b" * 12


def told(*changes: str) -> str:
    lines = (
        f"line=2026-11-23T0{hour}:00:00Z applied {change} {change} ada@desk\n"
        for hour, change in enumerate(changes)
    )
    return "".join([f"current={changes[-1]}\n", *(f"generation={change}\n" for change in changes), *lines])


def ask_history(path: Path, *options: str) -> Result:
    return CliRunner().invoke(history_module.command, [str(path), *options])


def test_history_in_a_pipe(world: World) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    for node, history in zip(world.nodes.values(), (told(A, B), told(A, B), told(A)), strict=True):
        node.history = history
    result = ask_history(path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "change        when                  by        nodes           rollback",
        f"{B}  2026-11-23T01:00:00Z  ada@desk  2 of 3, not n3  current",
        f"{A}  2026-11-23T00:00:00Z  ada@desk  all 3           possible",
        f"n3: recorded {A} last",
    ]


def test_history_of_nodes_that_do_not_answer(world: World) -> None:
    path = world.run_cluster("web", 1, 2)
    world.nodes["192.0.2.1"].history = told(A)
    del world.nodes["192.0.2.2"]
    result = ask_history(path, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["errors"] == {"n2": "connection refused"}
    assert document["changes"][0]["nodes"] == {"n1": {"at": "2026-11-23T00:00:00Z", "generation": A}}


def test_a_cluster_without_a_history(world: World) -> None:
    path = world.run_cluster("web", 1, 2)
    assert "web: no node has a history" in ask_history(path).stdout
