"""Each state of the machine left out, and connections break: what each of them is for.

The rules of every node are changed as by an ordinary swap, so that nothing else happens to the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from .cluster import MEMORY, Cluster, eventually, running_cluster
from .connections import LASTING, Clients, Service, under_load
from .events import OTHERS, VICTIM
from .left_out import without
from .operations import FOUR
from .test_switch import stage_switch, weigh
from .wire import TABLE

#: answers on each connection, one every 100 ms: by then what nobody knows has been reset
LONG_ENOUGH = 40
#: long enough that what is reset late is told from what hangs
LOAD = replace(LASTING, idle=0, short_interval_ms=None, deadline_s=8)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("twins"), "twins") as cluster:
        yield cluster


@pytest.fixture
def cluster(town: Cluster) -> Cluster:
    """All serve, and nobody remembers what the test before did."""
    town.settle()
    for node in FOUR:
        flush = "".join(f"flush set netdev {TABLE} {name}\n" for name in MEMORY)
        town.lab.exec(node, ["nft", "-f", "-"], input=flush)
    return town


# --- what happens ---------------------------------------------------------------------------------


def linger(clients: Clients) -> None:
    """Wait until something breaks, or nothing has for as long as it would take."""
    wanted = clients.connections.so_far().of().answered + LONG_ENOUGH * LOAD.long

    def enough() -> bool:
        now = clients.connections.so_far()
        return bool(now.broken) or now.of().answered > wanted

    eventually(enough, "something breaks, or nothing does")


def returned(cluster: Cluster) -> Service:
    """A node comes back, in whose buckets others have connections."""
    cluster.lab.cut(VICTIM)
    cluster.settle(OTHERS)
    with under_load(cluster, LOAD) as clients:
        clients.mend(VICTIM)
        linger(clients)
    return clients.service


def drained(cluster: Cluster) -> Service:
    with under_load(cluster, LOAD) as clients:
        clients.drain(VICTIM, *OTHERS)
        linger(clients)
        clients.undrain(VICTIM)
    return clients.service


def drained_while_one_is_away(cluster: Cluster) -> Service:
    cluster.lab.cut(VICTIM)
    cluster.settle(OTHERS)
    with under_load(cluster, LOAD) as clients:
        clients.drain("n3", "n1", "n4")
        linger(clients)
        clients.undrain("n3", *OTHERS)
    cluster.lab.mend(VICTIM)
    return clients.service


def cut_off_after_changes(cluster: Cluster) -> Service:
    """The others have come back lately, and could take what was lost for a connection of somebody else's."""
    for node in OTHERS:
        cluster.script(node, "drain")
        eventually(lambda: not cluster.sees_all(), "it drains")
        cluster.script(node, "undrain")
        cluster.settle()
    with under_load(cluster, LOAD) as clients:
        clients.cut(VICTIM, *OTHERS)
    cluster.lab.mend(VICTIM)
    return clients.service


def keeper_cut_off(cluster: Cluster) -> Service:
    cluster.lab.cut(VICTIM)
    cluster.settle(OTHERS)
    with under_load(cluster, LOAD) as clients:
        clients.mend(VICTIM)
        clients.cut("n1", "n2", "n3", "n4")
    cluster.lab.mend("n1")
    return clients.service


# --- and what breaks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twin:
    """``rule``: what is in the lines that are left out; ``breaks``: nodes whose connections break."""

    state: str
    rule: str
    happens: Callable[[Cluster], Service]
    breaks: tuple[str, ...]


TWINS = [
    Twin("joining", r"@joining goto newcomer", returned, OTHERS),
    Twin("hosting", r"update @hosting ", returned, OTHERS),
    Twin("hosted", r"update @hosted ", returned, OTHERS),
    Twin("draining, at peers", r"meta mark @draining goto newcomer", drained, (VICTIM,)),
    Twin("draining, at the node", r"@draining goto keep$", drained, (VICTIM,)),
    Twin("absent", r"update @absent ", drained_while_one_is_away, ("n3",)),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.state)
def test_without_it_connections_break(cluster: Cluster, twin: Twin) -> None:
    with without(cluster, twin.rule):
        service = twin.happens(cluster)
    assert {each.node for each in service.broken} & set(twin.breaks), str(service)


@pytest.mark.parametrize("happens", [returned, drained, drained_while_one_is_away])
def test_with_everything_nothing_breaks(cluster: Cluster, happens: Callable[[Cluster], Service]) -> None:
    assert happens(cluster).broken == ()


def at_once(service: Service) -> bool:
    """Whether everything was reset at the first packet after the lease."""
    return all(each.unheard_ms < 2 * service.heartbeat.lease_s * 1000 + 200 for each in service.broken)


def test_what_died_is_reset_late_where_nobody_is_known_to_have_died(cluster: Cluster) -> None:
    with without(cluster, r"!= @absent goto take"):
        assert not at_once(cut_off_after_changes(cluster))
    assert at_once(cut_off_after_changes(cluster))


def test_what_nobody_has_hangs_where_copies_are_not_counted(cluster: Cluster) -> None:
    with without(cluster, r"update @unanswered "):
        assert {each.reason for each in keeper_cut_off(cluster).broken} == {"hang", "reset"}
    assert {each.reason for each in keeper_cut_off(cluster).broken} == {"reset"}


def switched(cluster: Cluster) -> Service:
    """All nodes go over to other weights at once."""
    with under_load(cluster, LOAD) as clients:
        cluster.script("n1", "switch")
        clients.ask()
        linger(clients)
    return clients.service


def test_a_switch_breaks_connections_that_nobody_knows_to_have_moved(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        stage_switch(cluster, monkeypatch)
        with without(cluster, r"update @moving "):
            broken = switched(cluster).broken
        assert {each.reason for each in broken} == {"reset"}
        stage_switch(cluster, monkeypatch, weight=1)
        assert switched(cluster).broken == ()
    finally:
        weigh(cluster, 1)
        cluster.apply()


def test_hash_only_breaks_what_is_drained(cluster: Cluster) -> None:
    """The whole machine left out, as the inventory can have it."""
    original = cluster.path.read_text()
    cluster.path.write_text(original + "connections: hash-only\n")
    try:
        cluster.apply()
        assert {each.node for each in drained(cluster).broken} > {VICTIM}
    finally:
        cluster.path.write_text(original)
        cluster.apply()
