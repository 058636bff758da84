"""What nodes tell Prometheus, in all that can become of them: judged by promtool, held against the kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from exposition import Exposition, documented, judged

from .cluster import Cluster, eventually, running_cluster
from .events import assert_nothing_noticed
from .witness import watched_probes

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
FOLDER = "/var/lib/prometheus/node-exporter"
PERIOD_S = 5
FILE = f"{FOLDER}/trscaler-gen-e2e.prom"
LOCK = "/run/trscaler-gen/e2e/lock"
#: nodes have no syslog: what they note is kept here
LOG = "/run/notes"
#: the guard looks for a program once
WITH_LOG = (
    "cat >/usr/local/bin/logger; chmod 755 /usr/local/bin/logger;"
    "kill -- -$(cat /run/trscaler-gen/e2e/watch.pid)"
)
LOGGER = f'#!/bin/sh\nshift 3; printf "%s\\n" "$*" >>{LOG}\n'
ALL_STATES = {"intact", "altered", "missing", "unfinished", "unreadable"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    keys = {"textfile_directory": FOLDER, "interval_s": PERIOD_S}
    with running_cluster(tmp_path_factory.mktemp("e2e-metrics"), "metrics", nodes=3, metrics=keys) as cluster:
        for node in cluster.lab.nodes:
            cluster.lab.exec(node, ["sh", "-c", WITH_LOG], input=LOGGER)
            cluster.script(node, "up")
        yield cluster


@pytest.fixture
def three(shared: Cluster) -> Cluster:
    """All serve, and write."""
    for node in shared.lab.nodes:
        shared.lab.exec(node, ["mkdir", "-p", FOLDER])
    shared.settle()
    for node in shared.lab.nodes:
        eventually(lambda node=node: is_there(shared, node), f"{node} writes")  # type: ignore[misc]
    return shared


def is_there(cluster: Cluster, node: str, path: str = FILE) -> bool:
    return cluster.lab.exec(node, ["test", "-e", path], check=False).returncode == 0


def notes(cluster: Cluster, node: str) -> list[str]:
    done = cluster.lab.exec(node, ["cat", LOG], check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("metrics: ")]


def told(cluster: Cluster, node: str) -> Exposition:
    return judged(cluster.script(node, "metrics").stdout)


def total(cluster: Cluster, name: str, **labels: str) -> float:
    return sum(told(cluster, node).value(name, **labels) or 0 for node in cluster.lab.nodes)


def await_value(cluster: Cluster, node: str, name: str, value: float, **labels: str) -> None:
    eventually(
        lambda: told(cluster, node).value(name, **labels) == value, f"{node}: {name} {labels} is {value}"
    )


@contextmanager
def drained(cluster: Cluster, node: str) -> Iterator[None]:
    cluster.script(node, "drain")
    try:
        yield
    finally:
        cluster.script(node, "undrain")


def test_a_node_that_is_well(three: Cluster) -> None:
    said = told(three, "n1")
    assert said.value("trscaler_ruleset_state", state="intact") == 1
    assert {labels["state"] for name, labels, _ in said if name == "trscaler_ruleset_state"} == ALL_STATES
    for name, value in {"buckets": 1024, "peers": 2, "peers_alive": 2, "serving": 1, "drained": 0}.items():
        assert said.value(f"trscaler_{name}") == value, name
    state = three.state("n1")
    names = ("node_id", "epoch", "serial", "change", "generation")
    assert said.value("trscaler_node_info", **{name: state[name] for name in names}) == 1
    lease_s = said.value("trscaler_lease_seconds")
    assert lease_s == three.heartbeat.lease_s
    for peer in ("n2", "n3"):
        age_s = said.value("trscaler_lease_age_seconds", peer=peer)
        assert age_s is not None and 0 <= age_s <= lease_s


def test_the_numbers_of_connections_are_the_kernels(three: Cluster) -> None:
    said = told(three, "n1")
    limit = three.lab.exec("n1", ["sysctl", "-n", "net.netfilter.nf_conntrack_max"]).stdout
    assert said.value("trscaler_conntrack_entries_limit") == int(limit)
    entries = said.value("trscaler_conntrack_entries")
    assert entries is not None and entries >= 1, "the SSH connection that asked is one"
    assert said.value("trscaler_connections_held") == 0


def owned(cluster: Cluster) -> dict[str, float | None]:
    return {node: told(cluster, node).value("trscaler_owned_buckets") for node in cluster.lab.nodes}


def counted_by_status(cluster: Cluster) -> dict[str, float | None]:
    """Counted elsewhere, from the lock and what all kernels say."""
    document = json.loads(cluster.cli("status", "--json", str(cluster.path)).stdout)
    return {node["node"]: node["owned_buckets"] for node in document["nodes"]}


def test_every_bucket_is_counted_once(three: Cluster) -> None:
    assert total(three, "trscaler_owned_buckets") == 1024
    assert owned(three) == counted_by_status(three)
    with drained(three, "n2"):
        assert told(three, "n2").value("trscaler_owned_buckets") == 0
        eventually(lambda: total(three, "trscaler_owned_buckets") == 1024, "the others have its buckets")
    eventually(lambda: (told(three, "n2").value("trscaler_owned_buckets") or 0) > 0, "n2 has them back")
    eventually(lambda: total(three, "trscaler_owned_buckets") == 1024, "each bucket has one owner")


def test_packets_are_counted_where_they_are_accepted(three: Cluster) -> None:
    """Every node sees every probe: one accepts it, the other two drop it."""
    verdicts = ("accepted", "dropped", "kept")
    before = {word: total(three, "trscaler_packets_total", verdict=word) for word in verdicts}
    with watched_probes(three.lab, three.heartbeat, sources=60, interval_ms=100, seconds=1) as probes:
        pass
    assert_nothing_noticed(probes.result)
    after = {word: total(three, "trscaler_packets_total", verdict=word) for word in verdicts}
    grown = {word: after[word] - before[word] for word in verdicts}
    assert grown == {"accepted": probes.result.sent, "dropped": 2 * probes.result.sent, "kept": 0}


def test_a_drained_node(three: Cluster) -> None:
    with drained(three, "n2"):
        said = told(three, "n2")
        names = ("drained", "draining", "serving")
        assert [said.value(f"trscaler_{name}") for name in names] == [1, 1, 0]
        await_value(three, "n1", "trscaler_peers_draining", 1)
        await_value(three, "n1", "trscaler_peers_alive", 1)
        assert told(three, "n1").value("trscaler_peer_heard", peer="n2") == 1
    await_value(three, "n2", "trscaler_serving", 1)
    assert told(three, "n2").value("trscaler_drained") == 0


def test_a_peer_that_dies_and_returns(three: Cluster) -> None:
    three.lab.cut("n3")
    try:
        three.settle(("n1", "n2"))
        said = told(three, "n1")
        assert said.value("trscaler_peers_alive") == 1
        assert said.value("trscaler_peer_heard", peer="n3") == 0
        assert said.value("trscaler_lease_age_seconds", peer="n3") is None
        assert [told(three, "n3").value(f"trscaler_{name}") for name in ("serving", "peers_alive")] == [0, 0]
        assert total(three, "trscaler_owned_buckets") == 1024
    finally:
        three.lab.mend("n3")
    three.settle()
    assert told(three, "n3").value("trscaler_joining") == 1
    assert (told(three, "n1").value("trscaler_hosting_peers") or 0) >= 1
    assert total(three, "trscaler_owned_buckets") == 1024


def test_a_node_without_rules(three: Cluster) -> None:
    """Who puts them back waits for the lock."""
    command = "nft flush ruleset && echo flushed && cat"
    with three.lab.popen("n1", ["flock", LOCK, "sh", "-c", command]) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "flushed\n"
        said = told(three, "n1")
        holder.stdin.close()
    assert said.value("trscaler_ruleset_state", state="missing") == 1
    assert said.value("trscaler_ruleset_state", state="intact") == 0
    assert said.value("trscaler_owned_buckets") == 0
    assert "trscaler_packets_total" not in said.types
    await_value(three, "n1", "trscaler_ruleset_state", 1, state="intact")


@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"]])
def test_any_shell_says_the_same(three: Cluster, shell: list[str]) -> None:
    argv = [*shell, "/etc/trscaler-gen/e2e/current/node.sh", "metrics"]
    said = judged(three.lab.exec("n1", argv).stdout)
    assert said.labels == told(three, "n1").labels


# The file


def test_the_file_is_for_node_exporter(three: Cluster) -> None:
    for node in three.lab.nodes:
        three.script(node, "publish")
        said = judged(three.lab.exec(node, ["cat", FILE]).stdout)
        assert said.labels.keys() == told(three, node).labels.keys()
        assert three.lab.exec(node, ["stat", "-c", "%a %U", FILE]).stdout == "644 root\n"
    written = "stat -c %y " + FILE
    first = three.lab.exec("n1", ["sh", "-c", written]).stdout
    eventually(lambda: three.lab.exec("n1", ["sh", "-c", written]).stdout != first, "it is written again")


def counted_by_a_reader(cluster: Cluster, verb: str) -> list[str]:
    script = f"""cd {FOLDER}
        (for i in 1 2 3 4 5 6 7 8 9 10; do sh /etc/trscaler-gen/e2e/current/node.sh {verb}; done) &
        while kill -0 $! 2>/dev/null; do cat *.prom .*.prom 2>/dev/null | grep -c HELP; done"""
    return cluster.lab.exec("n1", ["sh", "-c", script]).stdout.split()


def test_whoever_reads_it_finds_it_whole(three: Cluster) -> None:
    """Ten writings, read without a pause, also by a look at what else is called .prom there."""
    counts = counted_by_a_reader(three, "publish")
    assert set(counts) == {str(len(told(three, "n1").types))}
    assert len(counts) > 10
    listed = ["ls", "-A", FOLDER]
    eventually(lambda: three.lab.exec("n1", listed).stdout.split() == [Path(FILE).name], "nothing is left")


def test_a_file_that_is_not_whole_is_seen(three: Cluster) -> None:
    """The twin: written in place."""
    counts = counted_by_a_reader(three, f"metrics >{FILE}")
    assert "0" in counts


def test_a_full_disk_disturbs_nothing(three: Cluster) -> None:
    node = "n2"
    command = f"mount -t tmpfs -o size=4k lab {FOLDER}"
    three.lab.exec(node, ["sh", "-c", command])
    try:
        done = three.script(node, "publish", check=False)
        assert (done.returncode, done.stderr) == (1, "")
        assert "is there room" in done.stdout
        assert three.lab.exec(node, ["ls", "-A", FOLDER]).stdout == ""
        assert three.state(node)["ruleset"] == "intact"
    finally:
        three.lab.exec(node, ["umount", FOLDER])
    three.script(node, "publish")


def test_a_missing_folder_is_told_once(three: Cluster) -> None:
    node, told_at = "n3", f"{LOG}.first"
    three.lab.exec(node, ["rm", "-rf", FOLDER, LOG])
    eventually(lambda: len(notes(three, node)) > 0, "it is told")
    three.lab.exec(node, ["sh", "-c", f": >{told_at}"])
    eventually(lambda: is_older(three, node, told_at, 2 * PERIOD_S), "two more periods have passed")
    assert notes(three, node) == [f"metrics: there is no folder {FOLDER}"]
    assert three.state(node)["ruleset"] == "intact"
    three.lab.exec(node, ["mkdir", "-p", FOLDER])
    eventually(lambda: notes(three, node)[1:] == ["metrics: written again"], "it is told that it is mended")
    assert is_there(three, node)


def is_older(cluster: Cluster, node: str, path: str, seconds: float) -> bool:
    times = cluster.lab.exec(node, ["sh", "-c", f"date +%s; stat -c %Y {path}"]).stdout.split()
    return int(times[0]) - int(times[1]) > seconds


def test_it_goes_with_the_node(three: Cluster) -> None:
    three.script("n3", "down")
    try:
        assert three.lab.exec("n3", ["ls", "-A", FOLDER]).stdout == ""
        said = told(three, "n3")
        assert said.value("trscaler_ruleset_state", state="missing") == 1
        assert said.value("trscaler_owned_buckets") == 0
    finally:
        three.script("n3", "up")
    eventually(lambda: is_there(three, "n3"), "it is written again")


def changed(cluster: Cluster, change: Callable[[dict[str, Any]], object]) -> None:
    document = yaml.safe_load(cluster.path.read_text())
    change(document)
    cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
    cluster.apply()


def test_shares_are_counted_by_the_placement_in_use(three: Cluster) -> None:
    """Also when there are two, and all nodes have gone over to the newer."""
    original = three.path.read_text()
    try:
        changed(three, lambda keys: keys["nodes"]["n1"].update(weight=2))
        eventually(lambda: owned(three)["n1"] == 512, "n1 has half of the buckets")
        assert owned(three) == counted_by_status(three)
    finally:
        three.path.write_text(original)
        three.apply()
    eventually(lambda: sorted(owned(three).values(), key=str) == [341, 341, 342], "all have equal shares")


def test_it_goes_with_the_key_and_moves_with_it(three: Cluster) -> None:
    other = f"{FOLDER}.elsewhere"
    original = three.path.read_text()
    for node in three.lab.nodes:
        three.lab.exec(node, ["mkdir", "-p", other])
    try:
        changed(three, lambda keys: keys.update(metrics={"textfile_directory": other}))
        moved = f"{other}/trscaler-gen-e2e.prom"
        eventually(lambda: all(is_there(three, node, moved) for node in three.lab.nodes), "it has moved")
        assert not any(is_there(three, node) for node in three.lab.nodes)
        changed(three, lambda keys: keys.pop("metrics"))
        assert not any(is_there(three, node, moved) for node in three.lab.nodes)
        assert three.script("n1", "publish", check=False).returncode == 1
        assert told(three, "n1").value("trscaler_serving") == 1, "the verb needs no key"
    finally:
        three.path.write_text(original)
        three.apply()
    eventually(lambda: all(is_there(three, node) for node in three.lab.nodes), "it is back")


# What is written about it


def test_the_page_lists_what_is_told(three: Cluster) -> None:
    """And with it alerts and dashboard, which tests/test_metrics.py holds against the page."""
    said = told(three, "n1")
    types, labels = said.types, said.labels
    found = {name: (types[name], labels[name] - {"cluster", "node"}) for name in types}
    assert found == documented(PAGE.read_text())
    assert all(names >= {"cluster", "node"} for names in labels.values())
