"""Held against the kernel: the node that ``explain`` names is the one that answers, whatever is asked about.

Lines are those that tcpdump and conntrack print in the lab, of requests, answers, errors and connections.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster import VIPS, Cluster, eventually, running_cluster
from e2e.wire import captured, socket_in

from trscaler_gen.lab.network import source_addresses
from trscaler_gen.lab.responder import PORT

SOURCES = 30
FAMILIES = {4: VIPS[0], 6: VIPS[1]}
#: heartbeats are frames to 224.0.0.18, by VRRP's protocol number
DEAF_TO = """table netdev deaf {{
    chain in {{
        type filter hook ingress device "eth0" priority -500
        ip saddr {} ip protocol 112 drop
    }}
}}
"""
NO_SSH = (
    "table inet shut { chain in { type filter hook input priority 0; tcp dport 22 reject with tcp reset; }; }"
)

Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("explain"), "explain", nodes=3) as cluster:
        yield cluster


@pytest.fixture
def three(shared: Cluster) -> Cluster:
    shared.settle()
    return shared


def run(cluster: Cluster, *words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trscaler_gen", "explain", str(cluster.path), *words]
    return subprocess.run(argv, input=lines, capture_output=True, text=True, timeout=120, check=False)


def documents(cluster: Cluster, *words: str, lines: str = "") -> Documents:
    done = run(cluster, "--json", *words, lines=lines)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def answers(cluster: Cluster, family: int) -> dict[str, str]:
    """The one node that answers each source."""
    with cluster.lab.probing(sources=SOURCES, interval_ms=100, seconds=0.2, family=family) as probe:
        result = probe.wait()
    return {source.source: next(iter(source.by_node), "nobody") for source in result.per_source}


def named(found: Documents) -> dict[str, str]:
    return {one["source"]: one["owner"] for one in found}


def requests(family: int) -> str:
    sources = source_addresses(family, SOURCES)
    return "".join(f"IP {source}.4000 > {FAMILIES[family]}.{PORT}: UDP, length 18\n" for source in sources)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_owner_is_who_answers(three: Cluster, family: int) -> None:
    seen = answers(three, family)
    assert named(documents(three, "-", lines=requests(family))) == seen
    assert len(set(seen.values())) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_with_nodes_down_it_is_who_takes_over(three: Cluster, family: int) -> None:
    with without(three, "n2"):
        seen = answers(three, family)
    assert named(documents(three, "--down", "n2", "-", lines=requests(family))) == seen
    assert set(seen.values()) == {"n1", "n3"}


@contextmanager
def without(cluster: Cluster, node: str) -> Iterator[None]:
    cluster.lab.cut(node)
    try:
        cluster.settle(tuple(name for name in cluster.lab.nodes if name != node))
        yield
    finally:
        cluster.lab.mend(node)


def printed(path: Path, *options: str) -> str:
    """What tcpdump prints of a capture."""
    done = subprocess.run(["tcpdump", *options, "-r", path], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_what_tcpdump_prints(three: Cluster, family: int, tmp_path: Path) -> None:
    """Requests and answers alike; what is left over are the neighbours' questions."""
    path = tmp_path / "pcap"
    with captured(three.lab, path, ["-B", "16384", "udp", "or", "arp", "or", "icmp6"]):
        seen = answers(three, family)
    for options in (
        ["-n"],
        ["-nn", "-e"],
        ["-n", "-v"],
        ["-n", "-tttt", "-q"],
        ["-n", "-t", "-xx"],
        ["-#", "-n"],
    ):
        done = run(three, "--json", "-", lines=printed(path, *options))
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert named(found) == seen
        assert len(found) >= 2 * SOURCES
        strange = [line for line in done.stderr.splitlines() if "every node receives it" not in line]
        assert [line for line in strange if line.startswith("line ")] == [], options


def ask(cluster: Cluster, source: str, destination: str) -> str:
    """The node that answers a new TCP connection; it is open until the answer has come."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket_in(cluster.lab, "client", family, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.bind((source, 0))
        client.connect((destination, PORT))
        client.sendall(b"whose\n")
        return client.recv(100).split()[0].decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_conntrack_prints(three: Cluster, family: int) -> None:
    source, destination = str(source_addresses(family, 7)[-1]), FAMILIES[family]
    node = ask(three, source, destination)
    for argv in (
        ["conntrack", "-L", "-f", f"ipv{family}", "-p", "tcp", "-s", source],
        ["conntrack", "-L", "-o", "extended", "-f", f"ipv{family}", "-p", "tcp", "-s", source],
    ):
        lines = three.lab.exec(node, argv).stdout.splitlines()
        assert lines, f"{node} answered and knows no connection"
        for line in lines:
            (found,) = documents(three, line)
            assert (found["owner"], found["source"], found["destination"]) == (node, source, destination)


def test_an_icmp_error_belongs_to_the_flow_that_it_quotes(three: Cluster, tmp_path: Path) -> None:
    """The client's own: answers to a port that is closed again."""
    seen = answers(three, 4)
    path = tmp_path / "pcap"
    with captured(three.lab, path, ["-B", "16384", "icmp"]):
        watched = socket_in(three.lab, "client", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        with watched:
            watched.settimeout(20)
            for source in seen:
                abandon(three, source)
                watched.recv(100)  # the answer; the error has left by the time the next one is asked
    for options in (["-n"], ["-nn", "-e", "-v"]):
        done = run(three, "--json", "-", lines=printed(path, *options))
        found = [json.loads(line) for line in done.stdout.splitlines()]
        # The kernel limits how many errors it sends.
        assert found and named(found).items() <= seen.items(), done.stderr
        notes = [one["notes"][0] for one in found if one["notes"]]
        assert any("an ICMP error" in note for note in notes)


def abandon(cluster: Cluster, source: str) -> None:
    """Send from a port that is closed when the answer comes: the client's kernel sends an error."""
    with socket_in(cluster.lab, "client", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
        sock.bind((source, 0))
        sock.sendto(struct.pack("!HHHH", 4999, PORT, 12, 0) + b"gone", (VIPS[0], 0))


# --- asked of the nodes -------------------------------------------------------------------------------------


def live(cluster: Cluster, source: str, destination: str = VIPS[0]) -> dict[str, Any]:
    done = run(cluster, "--json", "--live", source, destination)
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == document["exit"], done.stderr
    return document


def packets(document: dict[str, Any]) -> dict[str, str]:
    return {node["node"]: node["packet"] for node in document["nodes"]}


def owned_by(cluster: Cluster, node: str) -> str:
    """A source whose packets are this node's."""
    return next(
        source for source, owner in named(documents(cluster, "-", lines=requests(4))).items() if owner == node
    )


def test_live_all_name_the_node_that_answers(three: Cluster) -> None:
    for source, node in list(answers(three, 4).items())[:4]:
        document = live(three, source)
        assert (document["state"], document["answering"]) == ("healthy", [node])
        assert {one["owner"] for one in document["nodes"]} == {node}
        assert document["said"][0] == f"{node} answers; all 3 nodes that serve agree"


def test_live_a_stand_in_answers(three: Cluster) -> None:
    source = owned_by(three, "n2")
    with without(three, "n2"):
        seen = answers(three, 4)[source]
        document = live(three, source)
    assert document["answering"] == [seen] != ["n2"]
    assert packets(document)["n2"] == "drops"
    assert any(said.startswith("n2 comes before it and is not alive") for said in document["said"])
    three.settle()
    document = live(three, source)
    assert document["answering"] == ["n2"]
    assert any(f"most likely {seen}" in said for said in document["said"]), document


def test_live_a_drained_node_keeps_its_own(three: Cluster) -> None:
    source = owned_by(three, "n1")
    three.cli("drain", "n1", "--inventory", str(three.path))
    try:
        eventually(lambda: three.members("n2", "draining") == {three.ids["n1"]}, "n2 hears it")
        seen = ask(three, source, VIPS[0])
        document = live(three, source)
        assert document["answering"] == [seen] != ["n1"]
        assert packets(document)["n1"] == "keeps its own"
        assert any(said.startswith("n1 is drained: TCP connections") for said in document["said"])
    finally:
        three.cli("undrain", "n1", "--inventory", str(three.path))


def test_live_two_nodes_answer(three: Cluster) -> None:
    """The twin of agreement: one does not hear the other."""
    source = owned_by(three, "n2")
    behind = documents(three, source, VIPS[0])[0]["next"][0]
    three.lab.exec(behind, ["nft", "-f", "-"], input=DEAF_TO.format("192.0.2.2"))
    try:
        eventually(lambda: three.ids["n2"] not in three.alive(behind), f"{behind} does not hear n2")
        document = live(three, source)
        done = run(three, "--live", source, VIPS[0])
    finally:
        three.lab.exec(behind, ["nft", "delete", "table", "netdev", "deaf"])
    assert (document["state"], document["exit"]) == ("degraded", 2)
    assert set(document["answering"]) == {"n2", behind}
    assert done.returncode == 2
    assert "2 nodes answer" in done.stdout and "they do not agree on the owner" in done.stdout


def test_live_a_node_that_is_heard_and_cannot_be_asked(three: Cluster) -> None:
    source = owned_by(three, "n3")
    three.lab.exec("n3", ["nft", "-f", "-"], input=NO_SSH)
    try:
        document = live(three, source)
    finally:
        three.lab.exec("n3", ["nft", "delete", "table", "inet", "shut"])
    assert (document["state"], document["exit"], document["presumed"]) == ("unknown", 1, ["n3"])
    assert document["said"][0].startswith("n3 should answer: so n")
    assert "n3" in document["errors"]


def test_live_lines_are_told_as_they_come(three: Cluster) -> None:
    """A line is answered before the next one is there."""
    argv = [sys.executable, "-m", "trscaler_gen", "explain", str(three.path), "--live", "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        for line in requests(4).splitlines()[:3]:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert "all 3 nodes that serve agree" in process.stdout.readline()
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_live_no_secret_is_told(three: Cluster) -> None:
    text = three.path.with_suffix(".lock").read_text()
    (seed,) = re.findall(r"^seed: 0x([0-9a-f]+)", text, re.MULTILINE)
    for words in ((), ("--json",), ("--live",), ("--live", "--json")):
        done = run(three, *words, "192.0.2.201", VIPS[0])
        assert seed not in done.stdout + done.stderr
        assert str(int(seed, 16)) not in done.stdout + done.stderr


def test_live_after_a_switch_of_placements(three: Cluster) -> None:
    """The last test: from here on n1 weighs more."""
    before = named(documents(three, "-", lines=requests(4)))
    document = yaml.safe_load(three.path.read_text())
    document["nodes"]["n1"]["weight"] = 3
    three.path.write_text(yaml.safe_dump(document, sort_keys=False))
    told = documents(three, "-", lines=requests(4))
    three.apply()
    seen = answers(three, 4)
    assert named(told) == seen
    moved = next(source for source in seen if seen[source] != before[source])
    (one,) = [one for one in told if one["source"] == moved]
    assert one["before_switch"][0] == before[moved]
    found = live(three, moved)
    assert found["answering"] == [seen[moved]]
    assert {node["placement"] for node in found["nodes"]} == {"after"}
    assert any(f"{before[moved]} had it before the switch" in said for said in found["said"])


def test_what_is_asked_of_no_node(three: Cluster) -> None:
    assert "put the line in quotes" in run(three, "a", "b", "c").stderr
    assert "--live what is" in run(three, "--live", "--down", "n1", "-").stderr
    assert "its nodes are n1, n2, n3" in run(three, "--down", "n9", "-").stderr
