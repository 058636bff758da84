"""Clusters that are watched while things happen to them: real nodes, real sshds, a real terminal."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import PATIENCE_S, Cluster, eventually, inventory_text, running_cluster

from .screen import seated

#: SSH is neither answered nor refused
NO_SSH = """table inet shut {
    chain in {
        type filter hook input priority 0
        tcp dport 22 drop
    }
}
"""
COMMAND = [sys.executable, "-m", "trscaler_gen", "watch"]
LOOKER = "read -r question"

Document = dict[str, Any]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("watch"), "watch", nodes=3) as cluster:
        yield cluster


@pytest.fixture
def three(shared: Cluster) -> Cluster:
    shared.settle()
    return shared


class Watcher:
    """``watch --json`` in a pipe: every document that has come, and those that are waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[Document] = []
        self.looks: list[Document] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def end(self) -> None:
        """End the process, and let the reader come to the end of the pipe before anyone closes it."""
        self.process.kill()
        self._reader.join(PATIENCE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, condition: Callable[[Document], bool], what: str) -> Document:
        """Read on until a document is such."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"not in time: {what}; told: {self.told}"
            try:
                document: Document = json.loads(self._lines.get(timeout=1))
            except queue.Empty:
                continue
            (self.looks if document["event"] == "look" else self.events).append(document)
            if condition(document):
                return document

    def event(self, kind: str, node: str | None = None) -> Document:
        return self.until(lambda d: d["event"] == kind and d["node"] == node, f"{kind} of {node}")

    def look(self, **wanted: object) -> Document:
        """The next look that is so."""
        return self.until(lambda d: d["event"] == "look" and wanted.items() <= d.items(), f"a look: {wanted}")

    @property
    def told(self) -> list[tuple[str, str | None]]:
        return [(event["event"], event["node"]) for event in self.events if event["event"] != "health"]


@contextmanager
def watching(*paths: Path, options: tuple[str, ...] = ()) -> Iterator[Watcher]:
    argv = [*COMMAND, "--json", "--interval", "0.5", *options, *map(str, paths)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watcher = Watcher(process)
        try:
            yield watcher
            assert process.poll() is None, process.stderr and process.stderr.read()
        finally:
            watcher.end()


def lookers(cluster: Cluster, node: str) -> int:
    """Processes on a node that wait for questions."""
    return int(cluster.lab.exec(node, ["pgrep", "-c", "-f", LOOKER], check=False).stdout)


def test_a_node_that_is_cut_off_and_comes_back(three: Cluster) -> None:
    with watching(three.path) as watcher:
        began = watcher.event("began")
        assert "healthy: 1024 of 1024 buckets have exactly one owner" in began["text"]
        three.lab.cut("n2")
        try:
            lost = watcher.event("lost", "n2")
            takeover = watcher.event("takeover", "n2")
            degraded = watcher.look(state="degraded", one_owner=1024)
        finally:
            three.lab.mend("n2")
        watcher.event("back", "n2")
        again = watcher.event("takeover", "n2")
        watcher.look(state="healthy")
    assert lost["bad"] and "no other node hears it" in lost["text"]
    assert set(takeover["buckets"]) == {"n1", "n3"}
    assert sum(takeover["buckets"].values()) in (341, 342)
    assert [node["state"] for node in degraded["nodes"]][1] == "lost"
    assert set(again["buckets"]) == {"n2"}
    assert {node for kind, node in watcher.told if kind in ("lost", "takeover", "back")} == {"n2"}


def test_draining_is_told_and_nothing_else(three: Cluster) -> None:
    with watching(three.path) as watcher:
        watcher.event("began")
        three.cli("drain", "n1", "--inventory", str(three.path))
        watcher.event("drained", "n1")
        watcher.event("takeover", "n1")
        three.cli("undrain", "n1", "--inventory", str(three.path))
        watcher.event("undrained", "n1")
        watcher.event("takeover", "n1")
        watcher.look(state="healthy")
    assert [told for told in watcher.told if told[0] not in ("began", "deploying", "deployed")] == [
        ("drained", "n1"),
        ("takeover", "n1"),
        ("undrained", "n1"),
        ("takeover", "n1"),
    ]


def test_a_node_that_does_not_answer_holds_nobody_up(three: Cluster) -> None:
    with watching(three.path) as watcher:
        watcher.event("began")
        three.lab.exec("n2", ["nft", "-f", "-"], input=NO_SSH)
        try:
            watcher.event("unreachable", "n2")
            looks = len(watcher.looks)
            watcher.until(lambda _: len(watcher.looks) > looks + 5, "the others are looked at")
            states = [node["state"] for node in watcher.looks[-1]["nodes"]]
            heard = [node["heard_ms"] for node in watcher.looks[-1]["nodes"]]
        finally:
            three.lab.exec("n2", ["nft", "delete", "table", "inet", "shut"])
        watcher.event("reachable", "n2")
    assert states[1] == "no answer"
    assert states[0] == states[2] != "no answer"
    assert None not in heard, "its peers hear it all the time"
    assert ("lost", "n2") not in watcher.told


def test_drift_is_told_within_a_few_looks(three: Cluster) -> None:
    path = "/etc/trscaler-gen/e2e/current/peers.nft"
    with watching(three.path) as watcher:
        watcher.event("began")
        three.lab.exec("n3", ["sh", "-c", f"cp -p {path} /root/kept && echo '# mine' >>{path}"])
        try:
            drift = watcher.event("drift", "n3")
        finally:
            three.lab.exec("n3", ["cp", "-p", "/root/kept", path])
        watcher.event("mended", "n3")
    assert drift["text"] == "files edited on the node: peers.nft"


def test_shares_are_those_of_the_traffic(three: Cluster) -> None:
    with watching(three.path) as watcher:
        watcher.event("began")
        with threading_probe(three):
            busy = watcher.until(
                lambda d: d["event"] == "look" and all((n["accepted_pps"] or 0) > 20 for n in d["nodes"]),
                "packets on all nodes",
            )
    assert sum(node["share"] for node in busy["nodes"]) == pytest.approx(1, abs=0.001)
    assert busy["dropped_pps"] > busy["accepted_pps"], "each of three nodes drops what is not its own"


@contextmanager
def threading_probe(cluster: Cluster) -> Iterator[None]:
    """Packets from many sources, until the end."""
    argv = [sys.executable, "-m", "trscaler_gen", "lab", "probe", "--sources", "100", "--interval-ms", "50"]
    environment = {**os.environ, "TRSCALER_LAB_DIR": str(cluster.lab.directory)}
    with subprocess.Popen([*argv, "--seconds", "600"], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)


def test_two_clusters_one_of_which_nobody_reaches(three: Cluster, tmp_path: Path) -> None:
    (tmp_path / "ssh_config").write_text("Host *\n  ProxyCommand false\n")
    dark = tmp_path / "dark.yaml"
    dark.write_text(inventory_text(tmp_path, nodes=2).replace("cluster: e2e", "cluster: dark", 1))
    with watching(three.path, dark) as watcher:
        watcher.until(
            lambda d: d["event"] == "began" and d["cluster"] == "e2e", "the one that can be reached"
        )
        lit = watcher.until(lambda d: d["event"] == "look" and d["cluster"] == "e2e", "a look")
        other = watcher.until(
            lambda d: d["event"] == "look" and d["cluster"] == "dark" and d["complete"], "the other one"
        )
    assert (lit["state"], other["state"]) == ("healthy", "unknown")
    assert all("ProxyCommand" in node["error"] for node in other["nodes"])


def test_once_in_a_pipe(three: Cluster) -> None:
    done = subprocess.run(
        [*COMMAND, "--once", "--interval", "0.5", str(three.path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["node", "n1", "n2", "n3"]
    assert lines[-1] == "e2e: healthy: 1024 of 1024 buckets have exactly one owner"
    assert "\x1b" not in done.stdout


def test_lines_in_a_pipe_and_a_reader_who_leaves(three: Cluster) -> None:
    with subprocess.Popen(
        [*COMMAND, "--interval", "0.5", str(three.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = next(line for line in process.stdout if " began " in line)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE_S) == 1
    assert line.split(" ")[1:4] == ["e2e", "began", "-"]


def test_nothing_stays_on_the_nodes(three: Cluster) -> None:
    with watching(three.path) as watcher:
        watcher.look(state="healthy")
        assert all(lookers(three, node) >= 1 for node in three.lab.nodes)
    # It was killed: nobody could say goodbye.
    for node in three.lab.nodes:
        eventually(lambda node=node: lookers(three, node) == 0, f"{node} looks no more")  # type: ignore[misc]


# --- a terminal --------------------------------------------------------------------------------------


def test_a_person_at_a_terminal(three: Cluster) -> None:
    with seated("watch", "--interval", "0.5", str(three.path)) as seat:
        seat.await_words("e2e: healthy", "n1", "n2", "n3", "by name", "began")
        seat.type("s")
        seat.await_words("by share")
        seat.type("?")
        seat.await_words("this help")
        seat.type("?p")
        seat.await_words("PAUSED")
        seat.type(" ")
        seat.await_words("every 0.5 s")
        three.lab.cut("n3")
        try:
            shown = seat.await_words("lost", "takeover", "its ")
        finally:
            three.lab.mend("n3")
        assert any(line.startswith("n3 ") and " lost " in line for line in shown)
        seat.await_words("back")
        seat.resize(30, 6)
        seat.await_words("40x8 needed")
        seat.resize(160, 40)
        seat.await_words("generation", "e2e: healthy")
        seat.type("q")
        assert seat.await_end() == 0
        assert seat.is_as_found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_is_as_it_was_after_a_signal(three: Cluster, number: signal.Signals) -> None:
    with seated("watch", str(three.path)) as seat:
        seat.await_words("e2e: ")
        assert not seat.is_as_found
        seat.signal(number)
        assert seat.await_end() == 130
        assert seat.is_as_found


def test_a_terminal_without_unicode(three: Cluster) -> None:
    with seated("watch", "--interval", "0.5", str(three.path), PYTHONIOENCODING="ascii") as seat:
        shown = seat.await_words("e2e: healthy", "began")
        assert all(line.isascii() for line in shown)
        seat.type("q")
        assert seat.await_end() == 0


def test_it_ends_at_once_while_nobody_answers(three: Cluster) -> None:
    """Also in the middle of a connection that is being opened: it takes ten seconds to give up."""
    for node in three.lab.nodes:
        three.lab.exec(node, ["nft", "-f", "-"], input=NO_SSH)
    try:
        with seated("watch", str(three.path)) as seat:
            seat.await_words("asking: 0 of 3 nodes have answered")
            seat.type("q")
            assert seat.await_end() == 0
            assert seat.is_as_found
    finally:
        for node in three.lab.nodes:
            three.lab.exec(node, ["nft", "delete", "table", "inet", "shut"])
