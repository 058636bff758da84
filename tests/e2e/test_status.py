"""What an operator is told of a cluster: well, or which node and which buckets are not, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trscaler_gen.lockfile import lock_path

from .cluster import Cluster, eventually, running_cluster

#: heartbeats are frames to 224.0.0.18, by VRRP's protocol number
DEAF_TO = """table netdev deaf {{
    chain in {{
        type filter hook ingress device "eth0" priority -500
        ip saddr {} ip protocol 112 drop
    }}
}}
"""
NO_SSH = """table inet shut {
    chain in {
        type filter hook input priority 0
        tcp dport 22 reject with tcp reset
    }
}
"""
#: until its input ends; who puts rules back waits for the lock
ALTERED = "nft insert rule netdev trscaler_e2e ingress counter && echo altered && cat"
RUN = "/run/trscaler-gen/e2e"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e-status"), "status", nodes=3) as cluster:
        yield cluster


@pytest.fixture
def three(shared: Cluster) -> Cluster:
    shared.settle()
    return shared


def run(cluster: Cluster, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trscaler_gen", verb, *options, str(cluster.path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def status(cluster: Cluster) -> dict[str, Any]:
    """The document, after a look at whether its exit status is the command's."""
    done = run(cluster, "status", "--json")
    assert done.returncode < 3, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == document["exit"]
    return document


@contextmanager
def deaf(cluster: Cluster, node: str, to: str) -> Iterator[None]:
    """Heartbeats of one node do not reach another."""
    address = f"192.0.2.{to.removeprefix('n')}"
    cluster.lab.exec(node, ["nft", "-f", "-"], input=DEAF_TO.format(address))
    try:
        yield
    finally:
        cluster.lab.exec(node, ["nft", "delete", "table", "netdev", "deaf"])


def test_a_cluster_that_is_well(three: Cluster) -> None:
    document = status(three)
    assert (document["state"], document["faults"], document["doubts"]) == ("healthy", [], []), document
    assert document["buckets"]["one_owner"] == document["buckets"]["total"] == 1024
    assert sorted(node["owned_buckets"] for node in document["nodes"]) == [341, 341, 342]
    assert all(node["generation"] == node["wanted"] for node in document["nodes"])
    assert document["notes"] == []


def test_it_reads_well_in_a_pipe(three: Cluster) -> None:
    done = run(three, "status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["node", "n1", "n2", "n3"]
    assert lines[-1] == "e2e: healthy: 1024 of 1024 buckets have exactly one owner"


def test_no_secret_is_told(three: Cluster) -> None:
    text = lock_path(three.path).read_text()
    (seed,) = (line.split("0x")[1] for line in text.splitlines() if line.startswith("seed: "))
    for verb in ("status", "history"):
        for options in ((), ("--json",)):
            done = run(three, verb, *options)
            assert seed not in done.stdout + done.stderr
            assert str(int(seed, 16)) not in done.stdout + done.stderr


def test_it_works_without_a_lock_beside_the_inventory(three: Cluster) -> None:
    lock = lock_path(three.path)
    kept = lock.rename(lock.with_suffix(".kept"))
    try:
        document = status(three)
    finally:
        kept.rename(lock)
    assert document["state"] == "healthy"
    assert document["buckets"]["one_owner"] == 1024
    assert "there is no lock" in document["notes"][0]


def test_a_node_that_is_cut_off_is_named(three: Cluster) -> None:
    """Its SSH is cut with it: nobody reaches it, nobody hears it."""
    three.lab.cut("n2")
    try:
        three.settle(("n1", "n3"))
        document = status(three)
    finally:
        three.lab.mend("n2")
    assert document["state"] == "degraded"
    assert document["faults"] == ["n2: could not be asked, and no other node hears it"]
    assert document["buckets"]["one_owner"] == 1024


def test_a_node_that_cannot_be_asked_but_is_heard(three: Cluster) -> None:
    three.lab.exec("n2", ["nft", "-f", "-"], input=NO_SSH)
    try:
        document = status(three)
    finally:
        three.lab.exec("n2", ["nft", "delete", "table", "inet", "shut"])
    assert (document["state"], document["exit"]) == ("unknown", 1)
    assert document["doubts"] == ["n2: could not be asked, but is heard by n1, n3"]
    assert len(document["buckets"]["unknown"]) in (341, 342)


def test_two_nodes_that_do_not_hear_each_other_share_buckets(three: Cluster) -> None:
    def is_seen() -> bool:
        return three.alive("n1") == {1, 3} and three.alive("n2") == {2, 3}

    with deaf(three, "n1", to="n2"), deaf(three, "n2", to="n1"):
        eventually(is_seen, "n1 and n2 take each other for dead")
        document = status(three)
    assert document["state"] == "degraded"
    assert document["faults"] == ["n1 does not hear n2", "n2 does not hear n1"]
    (shared,) = document["buckets"]["several_owners"]
    assert shared["owners"] == ["n1", "n2"]
    assert len(shared["buckets"]) + document["buckets"]["one_owner"] == 1024


def test_altered_rules_are_named(three: Cluster) -> None:
    with three.lab.popen("n3", ["flock", f"{RUN}/lock", "sh", "-c", ALTERED]) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "altered\n"
        document = status(three)
        holder.stdin.close()
    eventually(lambda: three.state("n3")["ruleset"] == "intact", "the rules are back")
    assert document["state"] == "degraded"
    assert "n3: its ruleset is altered" in document["faults"]
    assert len(document["buckets"]["unknown"]) in (341, 342)


def test_a_file_edited_on_a_node_is_drift(three: Cluster) -> None:
    path = "/etc/trscaler-gen/e2e/current/peers.nft"
    three.lab.exec("n1", ["sh", "-c", f"cp -p {path} /root/kept && echo '# mine' >>{path}"])
    try:
        document = status(three)
    finally:
        three.lab.exec("n1", ["cp", "-p", "/root/kept", path])
    assert document["state"] == "degraded"
    assert document["faults"] == ["n1: files edited on the node: peers.nft"]


def test_history_tells_what_was_applied(three: Cluster) -> None:
    done = run(three, "history", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["errors"] == {}
    assert document["recorded_another_change_last"] == {}
    newest = document["changes"][0]
    assert newest["current"]
    assert set(newest["nodes"]) == {"n1", "n2", "n3"}
    assert run(three, "history").stdout.splitlines()[1].endswith("current")
