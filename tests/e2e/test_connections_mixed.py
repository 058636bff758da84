"""Connections while several things happen at once: a node is drained, and the cluster changes around it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from .cluster import Cluster, eventually, running_cluster
from .connections import LASTING, assert_nothing_broke, under_load

NODES = ("n1", "n2", "n3", "n4")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("mixed"), "mixed") as cluster:
        yield cluster


@pytest.fixture
def cluster(town: Cluster) -> Cluster:
    town.settle(NODES)
    return town


def await_split(cluster: Cluster) -> None:
    """Wait until n2 hears nobody, and nobody hears n2."""
    others = {cluster.ids[node] for node in NODES if node != "n2"}
    eventually(lambda: all(cluster.alive(node) == others for node in NODES if node != "n2"), "n2 is gone")
    eventually(lambda: cluster.alive("n2") == {cluster.ids["n2"]}, "the others are gone for n2")


def weigh(cluster: Cluster, weight: int) -> None:
    """Give n3 another weight, and apply."""
    document = yaml.safe_load(cluster.path.read_text())
    document["nodes"]["n3"]["weight"] = weight
    cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
    cluster.cli("apply", "--yes", str(cluster.path))


def test_a_drained_node_keeps_its_connections_while_weights_change(cluster: Cluster) -> None:
    """The first peer with the new lock does not silence it: what it holds is not fenced off."""
    with under_load(cluster, LASTING) as clients:
        clients.drain("n2", "n1", "n3", "n4")
        assert clients.connections.so_far().of("long").holding["n2"] > 0
        for weight in (3, 1):
            weigh(cluster, weight)
            clients.ask()
        clients.undrain("n2", *NODES)
    assert_nothing_broke(clients.service, crossing=8)


def test_who_drained_and_went_leaves_others_their_connections(cluster: Cluster) -> None:
    """n2 took new connections of n1's buckets, and keeps them when it drains and n1 goes."""
    cluster.script("n1", "drain")
    cluster.settle(("n2", "n3", "n4"))
    try:
        with under_load(cluster, LASTING) as clients:
            clients.drain("n2", "n3", "n4")
            cluster.script("n1", "down")
            clients.ask()
            cluster.script("n1", "up")
            clients.undrain("n2", "n2", "n3", "n4")
    finally:
        cluster.script("n1", "undrain")
    assert_nothing_broke(clients.service, crossing=3)


def test_a_node_that_was_cut_off_silently_comes_back(cluster: Cluster) -> None:
    """Its carrier was there all the time: it believed itself the last one."""
    cluster.lab.cut("n2", silent=True)
    await_split(cluster)
    with under_load(cluster, LASTING) as clients:
        cluster.lab.mend("n2")
        cluster.settle(NODES)
        clients.ask()
    service = clients.service
    assert service.broken == (), str(service)
    # It waits for an interval to hear everybody: its share may be silent so long, and is not answered twice.
    assert all(seen.doubles() == () for seen in service.probes), str(service)


def test_a_stop_that_is_broken_off_leaves_nothing_behind(cluster: Cluster) -> None:
    """Whoever ends `down` while it waits for connections: the node serves again by itself."""
    with under_load(cluster, LASTING) as clients:
        down = "setsid sh /etc/trscaler-gen/e2e/current/node.sh down >/dev/null 2>&1 & echo $! >/run/down"
        cluster.lab.exec("n3", ["sh", "-c", down])
        eventually(lambda: cluster.ids["n3"] not in cluster.alive("n3"), "n3 drains")
        cluster.lab.exec("n3", ["sh", "-c", "kill -TERM -$(cat /run/down)"])
        cluster.settle(NODES)
        clients.ask()
    assert cluster.state("n3")["draining"] == "no"
    assert_nothing_broke(clients.service, crossing=1)
