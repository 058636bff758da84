"""A node that missed a change of the cluster comes back: it stands aside, and nobody answers twice.

Each test has a twin in which the rule that it is about is taken out of the files of the node that comes back:
what that node answers is then answered twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .cluster import Cluster, eventually, running_cluster
from .events import INTERVAL_MS as PROBES_MS
from .events import assert_nothing_noticed, under_probes
from .witness import Seen, watched_probes

THREE = ("n1", "n2", "n3")
FOUR = (*THREE, "n4")
FIVE = (*FOUR, "n5")
INTERVAL_MS = 300
GENERATIONS = "/etc/trscaler-gen/e2e/generations"

#: the rules that make a node stand aside, as sed finds them
FENCE = "goto ahead"
MEMORY = "add @behind"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Five nodes, serial 1; heartbeats that a busy machine does not miss."""
    with running_cluster(tmp_path, "serial", nodes=5, interval_ms=INTERVAL_MS) as cluster:
        yield cluster


def change(cluster: Cluster, *names: str, forget: tuple[str, ...] = ()) -> None:
    """Make these nodes the cluster; ``forget`` are powered off, says the operator."""
    document = yaml.safe_load(cluster.path.read_text())
    document["nodes"] = {name: {"address": f"192.0.2.{name.removeprefix('n')}"} for name in names}
    cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
    forgotten = [word for name in forget for word in ("--forget", name)]
    if forget:  # as long as one is heard it cannot be
        gone = {own_id(name) for name in forget}
        eventually(lambda: all(not cluster.alive(name) & gone for name in names), "their leases have ended")
    cluster.cli("apply", "--yes", *forgotten, str(cluster.path))
    cluster.settle(names)


def holds(cluster: Cluster, node: str, name: str) -> set[int]:
    """The ids in one of a node's sets."""
    done = cluster.lab.exec(node, ["nft", "-j", "list", "set", "netdev", "trscaler_e2e", name])
    found = next(item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item)
    elements = found.get("elem", [])
    return {element["elem"]["val"] if isinstance(element, dict) else element for element in elements}


def own_id(node: str) -> int:
    return int(node.removeprefix("n"))


def stands_aside(cluster: Cluster, node: str) -> bool:
    number = own_id(node)
    return number in holds(cluster, node, "fenced") and number not in cluster.alive(node)


def generation(cluster: Cluster, node: str) -> str:
    return cluster.state(node)["generation"]


def run(cluster: Cluster, node: str, generation: str, verb: str) -> str:
    """Run a verb of one of the node's generations."""
    return cluster.lab.exec(node, ["sh", f"{GENERATIONS}/{generation}/node.sh", verb]).stdout


def spoil(cluster: Cluster, node: str, generation: str, rule: str) -> None:
    """Take a rule out of a generation's files."""
    path = f"{GENERATIONS}/{generation}/ruleset.nft"
    cluster.lab.exec(node, ["sh", "-c", f"grep -q '{rule}' {path} && sed -i '/{rule}/d' {path}"])


def restart_spoilt(cluster: Cluster, node: str, rule: str) -> None:
    """Let a node run on without a rule."""
    cluster.script(node, "down")
    spoil(cluster, node, generation(cluster, node), rule)
    cluster.script(node, "up")
    cluster.settle()


def a_share_is_doubled(result: Seen) -> bool:
    return len(result.doubles()) > result.sent // 100


# A node that was down while another one was added


def down_while_another_was_added(cluster: Cluster) -> str:
    """Serial 3 everywhere but on n2, which runs nothing; answers its generation of serial 2."""
    change(cluster, *FOUR)
    old = generation(cluster, "n2")
    change(cluster, *FIVE)
    cluster.script("n2", "down")
    cluster.settle(("n1", "n3", "n4", "n5"))
    return old


def test_node_that_was_down_while_another_was_added_waits_for_its_tables(cluster: Cluster) -> None:
    old = down_while_another_was_added(cluster)
    with under_probes(cluster) as watched:
        assert "standing aside" in run(cluster, "n2", old, "up")
        assert stands_aside(cluster, "n2")
    assert_nothing_noticed(watched.result)
    assert "n2" not in watched.result.by_node
    assert cluster.state("n2")["fenced"] == "yes"

    with under_probes(cluster) as watched:
        cluster.cli("apply", "--yes", str(cluster.path))
        cluster.settle()
    assert_nothing_noticed(watched.result, crossing=1)
    assert watched.result.by_node["n2"] > 0
    assert holds(cluster, "n2", "behind") == set()


def test_twin_node_that_was_down_answers_what_others_answer(cluster: Cluster) -> None:
    old = down_while_another_was_added(cluster)
    spoil(cluster, "n2", old, FENCE)
    assert "serving" in run(cluster, "n2", old, "up")
    # Of few sources it may be that none was n2's before it was n5's.
    with watched_probes(cluster.lab, cluster.heartbeat, sources=250, interval_ms=200, seconds=1) as watched:
        pass
    assert a_share_is_doubled(watched.result)


# A node that was removed while it could not be reached


def cut_and_removed(cluster: Cluster, node: str, *, silent: bool = False) -> None:
    cluster.lab.cut(node, silent=silent)
    change(cluster, *(name for name in FIVE if name != node), forget=(node,))


def test_removed_node_that_comes_back_stands_aside(cluster: Cluster) -> None:
    cut_and_removed(cluster, "n5")
    with under_probes(cluster) as watched:
        cluster.lab.mend("n5")
        eventually(lambda: stands_aside(cluster, "n5"), "n5 stands aside")
        eventually(lambda: cluster.state("n5")["heartbeat"] == "MASTER", "keepalived tries to serve")
        assert stands_aside(cluster, "n5")
    assert_nothing_noticed(watched.result)
    assert "n5" not in watched.result.by_node


def test_twin_removed_node_answers_what_others_answer(cluster: Cluster) -> None:
    restart_spoilt(cluster, "n5", FENCE)
    cut_and_removed(cluster, "n5")
    cluster.lab.mend("n5")
    eventually(lambda: 5 in cluster.alive("n5"), "n5 serves")
    with under_probes(cluster) as watched:
        pass
    assert a_share_is_doubled(watched.result)


# A node that believes that it served all the time: its cable was cut behind the next switch


def alone_for_long(cluster: Cluster, node: str) -> None:
    cut_and_removed(cluster, node, silent=True)
    eventually(lambda: holds(cluster, node, "abreast") == set(), f"{node} has heard nobody for long")
    assert cluster.alive(node) == {own_id(node)}


def test_node_that_served_alone_stands_aside_when_it_hears_the_others(cluster: Cluster) -> None:
    alone_for_long(cluster, "n5")
    cluster.lab.mend("n5")
    eventually(lambda: stands_aside(cluster, "n5"), "n5 stands aside")
    with under_probes(cluster) as watched:
        pass
    assert_nothing_noticed(watched.result)
    assert stands_aside(cluster, "n5")


def test_twin_node_that_served_alone_serves_on(cluster: Cluster) -> None:
    restart_spoilt(cluster, "n5", FENCE)
    alone_for_long(cluster, "n5")
    cluster.lab.mend("n5")
    with under_probes(cluster) as watched:
        pass
    assert a_share_is_doubled(watched.result)


# Two of them, which keep each other company while everybody else is away


def left_to_themselves(cluster: Cluster) -> None:
    """n4 and n5 stand aside, serve while the others cannot be heard, and hear them again."""
    for node in ("n4", "n5"):
        cluster.lab.cut(node)
    change(cluster, *THREE, forget=("n4", "n5"))
    for node in ("n4", "n5"):
        cluster.lab.mend(node)
        eventually(lambda node=node: stands_aside(cluster, node), f"{node} stands aside")  # type: ignore[misc]
    for node in THREE:
        cluster.lab.cut(node, silent=True)
    for node in ("n4", "n5"):
        eventually(lambda node=node: cluster.alive(node) == {4, 5}, f"{node} serves")  # type: ignore[misc]
    for node in THREE:
        cluster.lab.mend(node)
    cluster.settle(THREE)


def test_nodes_that_are_known_to_be_behind_never_serve_beside_those_that_are_not(cluster: Cluster) -> None:
    left_to_themselves(cluster)
    for node in ("n4", "n5"):
        assert stands_aside(cluster, node)
    with under_probes(cluster) as watched:
        pass
    assert_nothing_noticed(watched.result)


def test_twin_nodes_that_forgot_that_they_are_behind_serve_on(cluster: Cluster) -> None:
    for node in ("n4", "n5"):
        restart_spoilt(cluster, node, MEMORY)
    left_to_themselves(cluster)
    with under_probes(cluster) as watched:
        pass
    assert a_share_is_doubled(watched.result)


# Nodes that serve while a change is on its way


def test_nodes_that_serve_wait_in_company_and_the_last_one_stands_aside(cluster: Cluster) -> None:
    old = {node: generation(cluster, node) for node in FOUR}
    change(cluster, *FOUR)
    new = generation(cluster, "n3")
    for node in ("n2", "n3"):
        run(cluster, node, old[node], "swap")
    # abreast lasts 5 s
    probes = watched_probes(cluster.lab, cluster.heartbeat, sources=100, interval_ms=PROBES_MS, seconds=7)
    with probes as watched:
        pass
    assert_nothing_noticed(watched.result)
    assert cluster.sees_all(FOUR)

    with under_probes(cluster) as watched:
        run(cluster, "n3", new, "swap")
        eventually(lambda: stands_aside(cluster, "n2"), "n2 stands aside")
        cluster.settle(("n1", "n3", "n4"))
    # n2 is silent at once, and says goodbye with its next heartbeat.
    assert watched.result.doubles() == (), watched.result
    losers = [source.lost for source in watched.result.per_source if source.lost]
    assert len(watched.result.losses()) <= (INTERVAL_MS // PROBES_MS + 1) * len(losers), watched.result
