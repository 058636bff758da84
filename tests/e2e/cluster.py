"""A cluster in a lab of its own, deployed by the command line as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lockfile import lock_path, read_lock

from .witness import Heartbeat

VIPS = ("192.0.2.100", "2001:db8::100")
UNHEALTHY = "/run/unhealthy"
#: long enough that a machine that stands still for half a second ends no lease
HEARTBEAT_MS = 250
MISSED = 3
#: a deadline for a busy machine; nothing takes a tenth of it
PATIENCE_S = 60.0
#: what nodes keep for as long as connections are kept
MEMORY = ("joining", "hosting", "hosted", "inherited", "absent", "moving")
PACE = Heartbeat(HEARTBEAT_MS / 1000, MISSED)


def inventory_text(
    directory: Path,
    *,
    nodes: int = 4,
    mode: str = "multicast",
    interval_ms: int = HEARTBEAT_MS,
    **extra: object,
) -> str:
    """Write an inventory of n1..nN whose SSH goes to the lab in ``directory``."""
    document = {
        "cluster": "e2e",
        "link": "eth0",
        "virtual_addresses": list(VIPS),
        "mac": {"mode": mode},
        "heartbeat": {"interval_ms": interval_ms, "missed": MISSED},
        "health": {"command": ["/usr/bin/test", "!", "-e", UNHEALTHY], "interval_s": 1},
        "ssh": {"config": str(directory / "ssh_config")},
        "nodes": {f"n{number}": {"address": f"192.0.2.{number}"} for number in range(1, nodes + 1)},
        **extra,
    }
    return yaml.safe_dump(document, sort_keys=False)


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until ``condition`` holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


@dataclass
class Cluster:
    """A lab and the inventory that is deployed to it."""

    lab: Lab
    path: Path
    cli_s: float = 180.0

    def cli(self, *argv: str, expect: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run trscaler-gen; another exit status than expected fails the test with its output."""
        done = subprocess.run(
            [sys.executable, "-m", "trscaler_gen", *argv],
            capture_output=True,
            text=True,
            timeout=self.cli_s,
            check=False,
        )
        assert done.returncode in expect, done.stdout + done.stderr
        return done

    def apply(self) -> str:
        """Deploy the inventory, and wait until every node hears every other."""
        output = self.cli("apply", "--yes", "--allow-disruption", str(self.path)).stdout
        self.settle()
        return output

    @property
    def ids(self) -> dict[str, int]:
        """Node ids by name."""
        lock = read_lock(lock_path(self.path))
        assert lock is not None
        return {node.name: node.node_id for node in lock.nodes}

    def script(self, node: str, verb: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a verb of a node's own script, as an operator on that node would."""
        return self.lab.exec(node, ["sh", "/etc/trscaler-gen/e2e/current/node.sh", verb], check=check)

    def state(self, node: str) -> dict[str, str]:
        """What the node's script says of itself."""
        lines = self.script(node, "state").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def alive(self, node: str) -> set[int]:
        """The ids that the node's kernel holds for alive now."""
        return self.members(node, "alive")

    def members(self, node: str, name: str) -> set[int]:
        """The ids in one of the sets in the node's kernel."""
        return set(self._elements(node, name))

    def _elements(self, node: str, name: str) -> list[Any]:
        argv = ["nft", "-j", "list", "set", "netdev", "trscaler_e2e", name]
        done = self.lab.exec(node, argv, check=False)
        if done.returncode != 0:
            return []
        found = next(item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item)
        return [element["elem"]["val"] for element in found.get("elem", [])]

    @property
    def heartbeat(self) -> Heartbeat:
        """How the nodes hear each other, by the inventory."""
        keys = yaml.safe_load(self.path.read_text())["heartbeat"]
        return Heartbeat(keys["interval_ms"] / 1000, keys["missed"])

    def sees_all(self, nodes: tuple[str, ...] | None = None) -> bool:
        """Whether each of ``nodes`` (all, by default) holds just these nodes for alive."""
        nodes = nodes or self.lab.nodes
        wanted = {self.ids[node] for node in nodes}
        return all(self.alive(node) == wanted for node in nodes)

    def is_sure(self, nodes: tuple[str, ...] | None = None) -> bool:
        """Whether none of ``nodes`` (all, by default) holds back what it would answer."""
        return not any(self._elements(node, "unsure") for node in nodes or self.lab.nodes)

    def calm_down(self) -> None:
        """Let all nodes forget what happened, and wait until almost every packet takes the short way."""
        for node in self.lab.nodes:
            flush = "".join(f"flush set netdev trscaler_e2e {name}\n" for name in MEMORY)
            self.lab.exec(node, ["nft", "-f", "-"], input=flush)
        eventually(self.is_calm, "the cluster is calm")

    def is_calm(self) -> bool:
        """Whether every node holds all nodes for settled, and says so of all at once."""
        return all(self.members(node, "calm") for node in self.lab.nodes)

    def settle(self, nodes: tuple[str, ...] | None = None, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the nodes agree that just they are alive, and answer.

        One that has just heard its first peer waits a heartbeat for the others: all do at a first start.
        """
        eventually(lambda: self.sees_all(nodes), "the nodes agree on who is alive", timeout_s)
        eventually(lambda: self.is_sure(nodes), "no node waits for more to hear", timeout_s)


@contextmanager
def running_cluster(folder: Path, name: str, **keys: object) -> Iterator[Cluster]:
    """Bring a lab up and deploy to it; it is gone at the end, whatever happens."""
    directory = Path("/run/trscaler-gen") / f"test-{name}-{os.getpid()}"  # two runs do not meet
    path = folder / "cluster.yaml"
    path.write_text(inventory_text(directory, **keys))  # type: ignore[arg-type]
    with Lab.up(load_inventory(path), directory) as lab:
        cluster = Cluster(lab, path)
        cluster.apply()
        yield cluster
