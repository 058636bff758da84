"""The short way of packets: open while all nodes are settled, and closed before anybody's lease ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cluster import Cluster, eventually, running_cluster
from .events import DAEMONS, OTHERS, VICTIM, assert_nothing_noticed, on, start, under_probes
from .left_out import without
from .test_events import Takeover, taken_over
from .wire import counters
from .witness import Seen, quietly

FAST_MS = 20


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("calm"), "calm") as cluster:
        yield cluster


@pytest.fixture
def cluster(town: Cluster) -> Cluster:
    town.settle()
    town.calm_down()
    return town


def stopped(cluster: Cluster) -> Seen:
    """A node says goodbye, and comes back."""
    cluster.calm_down()
    with under_probes(cluster, FAST_MS) as watched:
        on(cluster, f"kill {DAEMONS}")
        cluster.settle(OTHERS)
    eventually(lambda: cluster.state(VICTIM)["keepalived"] == "stopped", "keepalived has ended")
    start(cluster)
    cluster.settle()
    return watched.result


def cut(cluster: Cluster) -> Takeover:
    cluster.calm_down()
    seen = taken_over(cluster, lambda: cluster.lab.cut(VICTIM), lambda: cluster.settle(OTHERS), FAST_MS)
    cluster.lab.mend(VICTIM)
    cluster.settle()
    return seen


def test_a_goodbye_closes_it_at_once(cluster: Cluster) -> None:
    assert_nothing_noticed(quietly(lambda: stopped(cluster)), crossing=1)


def test_a_goodbye_that_does_not_close_it_loses_packets(cluster: Cluster) -> None:
    with without(cluster, "jump no_calm"):
        assert quietly(lambda: stopped(cluster)).lost > 1


def test_without_a_look_at_every_peer_it_never_closes(cluster: Cluster) -> None:
    """What the look is for: the cut node's share would stay lost for good."""
    with without(cluster, "meta mark != @fresh"):
        blind = quietly(lambda: cut(cluster))
    assert blind.seen.losses(blind.span) != ()
    seen = quietly(lambda: cut(cluster))
    assert seen.seen.losses(seen.span) == ()


def test_it_is_closed_while_anything_is_to_be_considered(cluster: Cluster) -> None:
    cluster.lab.cut(VICTIM)
    cluster.settle(OTHERS)
    assert not any(cluster.members(node, "calm") for node in OTHERS)
    cluster.lab.mend(VICTIM)
    cluster.settle()
    assert not any(cluster.members(node, "calm") for node in cluster.lab.nodes), (
        "there may be connections to keep"
    )
    cluster.calm_down()
    cluster.script(VICTIM, "drain")
    eventually(lambda: not any(cluster.members(node, "calm") for node in cluster.lab.nodes), "it is closed")
    cluster.script(VICTIM, "undrain")


def test_a_ruleset_that_is_loaded_begins_without_it(cluster: Cluster) -> None:
    """It may know a node that the one before did not."""
    folder = cluster.lab.exec(VICTIM, ["readlink", "-f", "/etc/trscaler-gen/e2e/current"]).stdout.strip()
    text = cluster.lab.exec(VICTIM, ["cat", f"{folder}/ruleset.nft"]).stdout
    assert text.index("delete set netdev trscaler_e2e calm") < text.index("hook ingress")


def dropped(cluster: Cluster) -> dict[str, int]:
    return {node: int(cluster.state(node)["dropped"]) for node in cluster.lab.nodes}


def test_almost_all_packets_take_it_and_all_are_counted(cluster: Cluster) -> None:
    before, said_before = {node: counters(cluster.lab, node) for node in OTHERS}, dropped(cluster)
    with under_probes(cluster) as watched:
        pass
    after, said = {node: counters(cluster.lab, node) for node in OTHERS}, dropped(cluster)
    for node in OTHERS:
        grown = {name: after[node][name] - before[node][name] for name in ("accepted", "dropped")}
        assert grown["accepted"] + grown["dropped"] >= watched.result.sent
        assert said[node] - said_before[node] == grown["dropped"] > 0


def test_what_was_counted_outlives_a_swap(cluster: Cluster) -> None:
    with under_probes(cluster):
        pass
    before = dropped(cluster)[VICTIM]
    assert before > 0
    with without(cluster, "# Not these, for what they hold is judged anew"):
        assert dropped(cluster)[VICTIM] >= before
