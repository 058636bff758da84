"""A cluster that changes while something goes wrong: how to change it, to disturb it, and to judge it then.

n1 and n2 stay, n3 and n4 take turns, and an address comes and goes: so every change stops a node, swaps two
and starts one. The node that something happens to is n2, or the one that joins.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trscaler_gen.bundle import MANIFEST
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.pipeline import compile_inventory

from .by_hand import HOME, OURS, TIMER, asked, deploy_script
from .cluster import VIPS, Cluster, eventually, inventory_text
from .events import CROSSING, under_probes
from .witness import Seen

STAYING = ("n1", "n2")
TURNS = ("n3", "n4")
VICTIM = "n2"
ADDRESS = "192.0.2.101"
#: soon enough for tests of what does not answer, late enough for a busy machine
CONNECT_TIMEOUT_S = 8
DEADLINE_S = 100.0
#: a change on its way, for `pgrep -f`
VERBS = "generations/.*/node.s[h] (swap|up|down|confirm|revert|record|erase)"


#: takes back what was done to a node
Undo = Callable[[], object]


@dataclass(frozen=True)
class Change:
    """What ran before and what is to run, by node; empty: nothing."""

    old: Mapping[str, str]
    new: Mapping[str, str]

    @property
    def joins(self) -> str:
        """The node that is to start."""
        return next(node for node, generation in self.old.items() if not generation)

    @property
    def leaves(self) -> str:
        """The node that is to stop."""
        return next(node for node, generation in self.new.items() if not generation)


@dataclass
class Site:
    """A lab of four nodes of which three serve, and what every generation that was made consists of."""

    cluster: Cluster
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True

    @property
    def lab(self) -> Lab:
        return self.cluster.lab

    @property
    def document(self) -> dict[str, Any]:
        """The inventory."""
        document = yaml.safe_load(self.cluster.path.read_text())
        assert isinstance(document, dict)
        return document

    def write(self, document: Mapping[str, object]) -> None:
        """Replace the inventory."""
        self.cluster.path.write_text(yaml.safe_dump(dict(document), sort_keys=False))

    def set_node(self, node: str, **keys: object) -> None:
        """Give a node settings of its own."""
        document = self.document
        document["nodes"][node] = {"address": document["nodes"][node]["address"], **keys}
        self.write(document)

    def change(self) -> Change:
        """Want the other state: n3 and n4 change places, and the address is there or gone."""
        document = self.document
        member = next(name for name in TURNS if name not in document["nodes"])
        names = (*STAYING, member)
        document["nodes"] = {name: {"address": f"192.0.2.{name.removeprefix('n')}"} for name in names}
        extra = [] if ADDRESS in document["virtual_addresses"] else [ADDRESS]
        document["virtual_addresses"] = [*VIPS, *extra]
        self.write(document)
        old = self.wanted
        self.wanted = self._compile()
        self.is_whole = False
        return Change(old, self.wanted)

    def _compile(self) -> dict[str, str]:
        bundles = compile_inventory(self.cluster.path).bundles
        for bundle in bundles.values():
            files = {name: data for name, data in bundle.files.items() if name != MANIFEST}
            digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
            self.digests[bundle.generation] = digests
        return {node: bundles[node].generation if node in bundles else "" for node in self.lab.nodes}

    def sh(self, node: str, command: str, *words: str, check: bool = True, input: str | None = None) -> str:
        """Run a shell command on a node."""
        argv = ["sh", "-c", command, "sh", *words]
        return self.lab.exec(node, argv, check=check, input=input, timeout_s=60).stdout

    def facts(self, node: str) -> Facts:
        """What a node says of itself."""
        return asked(lambda: self.sh(node, deploy_script("observe"), HOME, "eth0", "", "nft"))

    def all_facts(self) -> dict[str, Facts]:
        """What all nodes say, by node."""
        with ThreadPoolExecutor() as executor:
            return dict(zip(self.lab.nodes, executor.map(self.facts, self.lab.nodes), strict=True))

    def await_rest(self, *, timers_end: bool = False) -> None:
        """Wait until nothing is open on any node and nobody deploys; ``timers_end``: their time is over."""

        def rests() -> bool:
            if timers_end:
                self.end_timers()
            busy = any(self.sh(node, f"pgrep -f '{VERBS}'", check=False) for node in self.lab.nodes)
            return not busy and not any(
                facts.unconfirmed or facts.deployer for facts in self.all_facts().values()
            )

        eventually(rests, "every node has gone back or stays", DEADLINE_S)

    def replace_tool(self, node: str, name: str, script: str) -> Undo:
        """Put a shell script before one of a node's programs, which is "$REAL" there."""
        path = f"/usr/local/sbin/{name}"
        real = self.sh(node, f"PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v {name}").strip()
        # Whole or not at all: the node calls it several times a second.
        put = f"cat >{path}.new && chmod 755 {path}.new && mv {path}.new {path}"
        self.sh(node, put, input=f"#!/bin/sh\nREAL={real}\n{script}\n")
        return lambda: self.sh(node, f"rm -f {path}")

    def end_timers(self) -> None:
        """Let the time of all changes be over that wait for a confirmation."""
        for node in self.lab.nodes:
            self.sh(node, f"pgrep -f '{TIMER}' | xargs -r -n 1 pkill -x sleep -P", check=False)

    def become(self, change: Change) -> dict[str, str]:
        """Node -> "old" or "new": which state it has, whole; fails where it has neither."""
        return {node: self._state(node, facts, change) for node, facts in self.all_facts().items()}

    def _state(self, node: str, facts: Facts, change: Change) -> str:
        assert (facts.unconfirmed, facts.way_back, facts.deployer) == ("", "none", ""), (node, facts)
        names = {change.old[node]: "old", change.new[node]: "new"}
        assert facts.running in names, (node, facts, change)
        if facts.running:
            assert facts.is_whole, (node, facts)
            assert dict(facts.digests) == self.digests[facts.running], node
        else:
            look = f"nft list tables; ip -o link show vip-e2e; pgrep -f {OURS}current"
            assert self.sh(node, look, check=False) == "", node
        return names[facts.running]

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run trscaler-gen on the inventory, whatever comes of it."""
        argv = [sys.executable, "-m", "trscaler_gen", verb, *options, str(self.cluster.path)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)

    def apply(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `apply`, whatever comes of it."""
        return self.run("apply", "--yes", *options)

    def assert_served(self) -> None:
        """Every bucket has one owner, says `status`."""

        def is_served() -> bool:
            buckets = json.loads(self.run("status", "--json").stdout)["buckets"]
            return bool(buckets["one_owner"] == buckets["total"])

        eventually(is_served, "every bucket has one owner", DEADLINE_S)

    def assert_complete(self) -> None:
        """Every node runs what is wanted, whole."""
        assert set(self.become(Change(self.wanted, self.wanted)).values()) == {"new"}
        self.is_whole = True

    def mend(self) -> None:
        """Nothing, unless a test has failed and left something."""
        if not self.is_whole:
            self.await_rest(timers_end=True)
            self.apply()
            self.wanted = self._compile()
            self.is_whole = True

    def recover(self) -> None:
        """With the fault gone, `apply` makes the change after all."""
        done = self.apply()
        assert done.returncode == 0, done.stdout + done.stderr
        self.cluster.settle(tuple(node for node, generation in self.wanted.items() if generation))
        self.assert_complete()


@contextmanager
def running_faulty_site(folder: Path, name: str) -> Iterator[Site]:
    """Bring up four nodes of which n1, n2 and n3 serve; gone at the end."""
    directory = Path("/run/trscaler-gen") / f"test-{name}-{os.getpid()}"
    path = folder / "cluster.yaml"
    ssh = {"config": str(directory / "ssh_config"), "connect_timeout_s": CONNECT_TIMEOUT_S}
    path.write_text(inventory_text(directory, nodes=4, ssh=ssh))
    with Lab.up(load_inventory(path), directory) as lab:
        site = Site(Cluster(lab, path))
        document = site.document
        del document["nodes"][TURNS[1]]
        site.write(document)
        assert site.apply().returncode == 0
        site.wanted = site._compile()
        yield site


@contextmanager
def watched(site: Site, *, lost_per_source: int = 0) -> Iterator[None]:
    """Probe while the block runs: no source loses more than it may, and nothing is answered twice.

    But for what crosses the heartbeats by which nodes leave and join.
    """
    with under_probes(site.cluster) as seen:
        yield
    result = seen.result
    assert len(result.doubles()) <= CROSSING, _lost(result)
    if lost_per_source and result.is_quiet:
        assert max(source.lost for source in result.per_source) <= lost_per_source + CROSSING, _lost(result)
    losers = sum(1 for source in result.per_source if source.lost)
    assert len(result.losses()) <= lost_per_source * losers + CROSSING, _lost(result)


def _lost(seen: Seen) -> str:
    """How many probes were lost in which half second, and by how many sources; how late the machine was."""
    when = Counter(int(at_ms // 500) / 2 for at_ms in seen.lost_at_ms)
    sources = sum(1 for source in seen.per_source if source.lost)
    return f"{seen}; lost by {sources} sources; at s: {dict(when)}"


class Run:
    """`apply --json` at work, followed line by line."""

    def __init__(self, site: Site, *options: str) -> None:
        argv = [sys.executable, "-m", "trscaler_gen", "apply", "--yes", "--json", *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*argv, str(site.cluster.path)], stdout=pipe, stderr=pipe, text=True)
        self.lines: list[dict[str, Any]] = []
        self._coming: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed at the end
            for line in self.process.stdout:
                self._coming.put(json.loads(line))
        self._coming.put(None)

    def await_moment(self, step: str, phase: str, nodes: int) -> None:
        """Wait until so many nodes have done their part of a phase (0: it begins) within a step.

        ``step`` is the phase that changes something (stop, swap or start) before it, or the phase itself.
        """
        current, done = "", 0
        while True:
            line = self.next_line()
            if line["event"] == "phase":
                done = 0
                current = line["phase"] if line["phase"] not in ("prove", "confirm") else current
            done += line["event"] == "node"
            if (current, line.get("phase"), done) == (step, phase, nodes):
                return

    def next_line(self) -> dict[str, Any]:
        """The next event; fails when there is none in time, or none any more."""
        line = self._coming.get(timeout=DEADLINE_S)
        assert line is not None, self.lines[-5:]
        self.lines.append(line)
        return line

    def kill(self) -> None:
        """As by `kill -9`."""
        self.process.kill()
        self.process.wait(timeout=DEADLINE_S)

    def finish(self) -> tuple[int, str, dict[str, Any]]:
        """Wait for the end: exit status, standard error, last line."""
        assert self.process.stderr is not None
        stderr = self.process.stderr.read()
        status = self.process.wait(timeout=DEADLINE_S)
        while (line := self._coming.get(timeout=DEADLINE_S)) is not None:
            self.lines.append(line)
        return status, stderr, self.lines[-1]
