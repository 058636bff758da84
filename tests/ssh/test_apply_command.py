"""``trscaler-gen apply`` as a user runs it.

The bundles are those of the tests: real ones would change this host's own network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ssh.nodes import CLUSTER, LINK, Lan
from trscaler_gen.cli import apply as apply_module
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.lockfile import lock_path, read_lock
from trscaler_gen.pipeline import Compiled


@dataclass(frozen=True)
class User:
    """Somebody with an inventory."""

    lan: Lan
    inventory: Path

    def write(self, *nodes: str) -> None:
        """Put these nodes into the inventory."""
        lines = [
            f"cluster: {CLUSTER}",
            f"link: {LINK}",
            "virtual_addresses: [192.0.2.100]",
            f"ssh: {{config: {self.lan.folder / 'config'}}}",
            "nodes:",
            *(f"  {name}: {{address: 192.0.2.{name.removeprefix('n')}}}" for name in nodes),
        ]
        self.inventory.write_text("\n".join(lines) + "\n")

    def compile(self, path: Path) -> Compiled:
        """As the pipeline, but with the tests' bundles; the set of nodes decides what is in them."""
        inventory = load_inventory(path)
        lock = reconcile(inventory, read_lock(lock_path(path)), seed=1)
        text = ",".join(inventory.nodes)
        bundles = {name: self.lan.bundle(name, text) for name in inventory.nodes}
        return Compiled(inventory, lock_path(path), lock, bundles)

    def apply(self, *options: str) -> Result:
        return CliRunner().invoke(apply_module.command, [str(self.inventory), *options])

    def lock(self) -> str:
        return lock_path(self.inventory).read_text()


@pytest.fixture
def user(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> User:
    lan.boot("n1", "n2")
    someone = User(lan, lan.folder / "web.yaml")
    monkeypatch.setattr(apply_module, "compile_inventory", someone.compile)
    return someone


def columns(result: Result) -> list[list[str]]:
    return [line.split()[:2] for line in result.stdout.splitlines()]


def test_it_says_per_node_what_it_did(user: User) -> None:
    user.write("n1", "n2")
    first = user.apply()
    assert (first.exit_code, columns(first)) == (0, [["n1", "started"], ["n2", "started"]])
    assert first.stderr.splitlines() == ["observe: n1, n2", "stage: n1, n2", "start: n1, n2"]
    again = user.apply()
    assert (again.exit_code, columns(again)) == (0, [["n1", "unchanged"], ["n2", "unchanged"]])


def test_json_is_all_that_is_on_standard_output(user: User) -> None:
    user.write("n1", "n2")
    user.lan.nodes["n2"].tell("fail-check", "1")
    result = user.apply("--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["cluster"], said["complete"], said["interrupted"]) == (CLUSTER, False, False)
    by_name = {node["node"]: node for node in said["nodes"]}
    assert by_name["n1"]["action"] == "untouched"
    assert by_name["n2"] | {"hint": "", "message": ""} == {
        "node": "n2",
        "action": "failed",
        "before": None,
        "after": None,
        "message": "",
        "command": "node.sh check",
        "status": 1,
        "stderr": "told to fail\n",
        "hint": "",
    }


def test_a_failure_is_told_with_all_that_is_known(user: User) -> None:
    user.write("n1", "n2")
    user.lan.nodes["n2"].tell("fail-up", "9")
    result = user.apply()
    assert result.exit_code == 1
    assert columns(result) == [["n1", "started"], ["n2", "failed"]]
    assert "error: n2: up failed: told to fail" in result.stderr
    assert "command: node.sh up (exit 9)" in result.stderr


def test_nothing_fit_means_no_lock(user: User) -> None:
    user.write("n1", "n2")
    user.lan.nodes["n2"].kill()
    assert user.apply().exit_code == 1
    assert not lock_path(user.inventory).exists()


def test_a_node_that_left_is_stopped_and_leaves_the_lock(user: User) -> None:
    user.write("n1", "n2")
    user.apply()
    user.write("n1")
    result = user.apply()
    assert (result.exit_code, columns(result)) == (0, [["n1", "swapped"], ["n2", "stopped"]])
    assert "retired" not in user.lock()


def test_a_node_that_left_and_is_dead_must_be_forgotten(user: User) -> None:
    user.write("n1", "n2")
    user.apply()
    user.write("n1")
    user.lan.nodes["n2"].kill()
    refused = user.apply()
    assert refused.exit_code == 1
    assert "apply --forget n2" in refused.stderr
    result = user.apply("--forget", "n2")
    assert (result.exit_code, columns(result)) == (0, [["n1", "swapped"]])
    assert "retired" not in user.lock()
    assert "n2" not in user.lock()


def test_only_a_node_that_left_can_be_forgotten(user: User) -> None:
    user.write("n1", "n2")
    result = user.apply("--forget", "n1")
    assert result.exit_code != 0
    assert "--forget n1" in result.stderr
    assert user.lan.journal == ()


def test_the_same_trouble_on_all_nodes_is_told_once(user: User) -> None:
    user.write("n1", "n2")
    (user.lan.folder / "config").unlink()
    result = user.apply()
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: n1, n2: no such ssh configuration: {user.lan.folder / 'config'}"]
