"""What breaks when nodes crash, and what does not: also when they return, flap, or when others drain.

A connection that is reset on a node that has crashed is the crash's price. Nothing else may break, and
nothing may hang: clients that hear nothing wait for minutes.

A client repeats what nobody acknowledges 0.2 s, 0.4 s, 0.8 s and so on after it was sent first: the first
copy that is sent after a lease comes before twice its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from trscaler_gen.lab.connections import BrokenConnection

from .cluster import Cluster, eventually, running_cluster
from .connections import LASTING, Service, assert_nothing_broke, owner_of, under_load
from .events import OTHERS, VICTIM
from .witness import quietly

FLAPS = 20
#: as leases are by default
FAST_MS = 100
REPEATED_MS = 200
#: when the fifth copy is sent that comes after a lease, and half as much again
FIFTH_COPY_S = 40
#: clients that have the patience, and some more that come later
PATIENT = replace(LASTING, deadline_s=FIFTH_COPY_S)
LATER = replace(PATIENT, idle=0, short_interval_ms=None)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("crashes"), "crashes") as cluster:
        yield cluster


@pytest.fixture
def cluster(town: Cluster) -> Cluster:
    """All serve, also after a test that failed."""
    for node in town.lab.nodes:
        town.lab.mend(node)
        town.script(node, "undrain")
    town.settle()
    return town


def assert_only_of(
    service: Service, crashed: Sequence[str], *, away: Sequence[str] = (), within_ms: float | None = None
) -> None:
    """Something broke, on these nodes alone, and was reset; by default at the first copy after a lease."""
    within_ms = within_ms or 2 * service.heartbeat.lease_s * 1000 + REPEATED_MS
    assert service.broken or not service.is_quiet, str(service)
    assert all(was_on(service, each, crashed, away) for each in service.broken), str(service)
    assert {each.reason for each in service.broken} <= {"reset"}, str(service)
    assert max((each.unheard_ms for each in service.broken), default=0) <= within_ms, str(service)
    assert service.connections.of().strayed == 0, str(service)


def was_on(service: Service, broken: BrokenConnection, nodes: Sequence[str], away: Sequence[str]) -> bool:
    """Whether one of these nodes had it; one that nobody has answered was on the owner of its bucket."""
    node = broken.node or owner_of(service.cluster, broken.source, broken.destination, away)
    return node in nodes


def cut_and_lost(cluster: Cluster) -> Service:
    """Cut a node under load; every connection that it held is broken at the end."""
    with under_load(cluster) as clients:
        before = clients.connections.so_far().of("long").holding[VICTIM]
        clients.cut(VICTIM, *OTHERS)
    broken = [each for each in clients.service.connections.broken if each.kind == "long"]
    assert len(broken) == before or not clients.service.is_quiet, str(clients.service)
    return clients.service


def test_a_cut_resets_the_nodes_own_connections_and_its_return_nothing(cluster: Cluster) -> None:
    assert_only_of(cut_and_lost(cluster), [VICTIM])
    with under_load(cluster) as clients:
        held = clients.connections.so_far().of("long").holding
        clients.mend(VICTIM)
    assert VICTIM not in held
    assert_nothing_broke(clients.service, crossing=1)
    assert clients.service.connections.of("long").holding == held
    assert VICTIM in clients.service.connections.of("short").by_node


def test_resets_come_within_a_lease_and_a_repeated_packet(tmp_path: Path) -> None:
    """With leases as they are by default: 0.35 s and 0.2 s after the first packet that nobody has heard."""
    with running_cluster(tmp_path, "resets", interval_ms=FAST_MS) as cluster:

        def cut_once() -> Service:
            cluster.lab.mend(VICTIM)
            cluster.settle()
            return cut_and_lost(cluster)

        service = quietly(cut_once)
        assert_only_of(service, [VICTIM], within_ms=cluster.heartbeat.lease_s * 1000 + REPEATED_MS)


@pytest.mark.parametrize("first", ["n1", "n2"])
def test_two_cut_one_after_the_other_return_in_either_order(cluster: Cluster, first: str) -> None:
    """Connections that the second one took over from the first break with it; the returns break nothing."""
    with under_load(cluster) as clients:
        clients.cut("n1", "n2", "n3", "n4")
        clients.cut("n2", "n3", "n4")
    assert_only_of(clients.service, ["n1", "n2"])
    with under_load(cluster) as clients:
        clients.mend(first, first, "n3", "n4")
        clients.mend("n2" if first == "n1" else "n1")
    assert_nothing_broke(clients.service, crossing=2)


def test_a_node_that_keeps_connections_for_one_that_returned_is_cut(cluster: Cluster) -> None:
    """The owner cannot know that these were lost: it resets them at the fifth copy of what clients send."""
    cluster.lab.cut(VICTIM)
    cluster.settle(OTHERS)
    with under_load(cluster) as clients:
        clients.mend(VICTIM)
        clients.cut("n1", "n2", "n3", "n4")
    assert_only_of(clients.service, ["n1"], within_ms=FIFTH_COPY_S * 1000)
    cluster.lab.mend("n1")


def test_a_node_is_cut_while_another_drains(cluster: Cluster) -> None:
    """What the draining one holds stays. In its buckets the cut one's are reset at the fifth copy only."""
    with under_load(cluster, PATIENT) as early:
        early.drain("n3", "n1", "n2", "n4")
        held = early.connections.so_far().of("long").holding
        with under_load(cluster, LATER) as late:
            before = late.connections.so_far().of("long").holding["n1"]
            late.cut("n1", "n2", "n4")
            eventually(
                lambda: len(late.connections.so_far().broken) >= before, "all of its connections broke"
            )
    assert_only_of(early.service, ["n1"], away=["n3"], within_ms=FIFTH_COPY_S * 1000)
    assert_only_of(late.service, ["n1"], away=["n3"], within_ms=FIFTH_COPY_S * 1000)
    assert early.service.connections.of("long").holding["n3"] == held["n3"]
    with under_load(cluster) as clients:
        clients.mend("n1", "n1", "n2", "n4")
        clients.undrain("n3")
    assert_nothing_broke(clients.service, crossing=2)


def test_a_draining_node_is_cut(cluster: Cluster) -> None:
    """It takes what it still holds with it, and nothing else.

    Its peers take one that drained and is gone for one that had nothing left: they reset at the fifth copy.
    """
    with under_load(cluster, PATIENT) as clients:
        clients.drain(VICTIM, *OTHERS)
        before = clients.connections.so_far().of("long").holding[VICTIM]
        cluster.lab.cut(VICTIM)
        eventually(lambda: len(clients.connections.so_far().broken) >= before, "all that it held broke")
    assert_only_of(clients.service, [VICTIM], within_ms=FIFTH_COPY_S * 1000)
    with under_load(cluster) as clients:
        cluster.lab.mend(VICTIM)
        clients.ask()
        clients.undrain(VICTIM)
    assert_nothing_broke(clients.service, crossing=1)


def test_a_planned_change_while_a_node_is_away(cluster: Cluster) -> None:
    """What the drained node took over from the one that is away stays with it as well."""
    cluster.lab.cut(VICTIM)
    cluster.settle(OTHERS)
    with under_load(cluster) as clients:
        clients.drain("n3", "n1", "n4")
        clients.mend(VICTIM, "n1", "n2", "n4")
        clients.undrain("n3")
    assert_nothing_broke(clients.service, crossing=3)


def test_a_node_that_flaps(cluster: Cluster) -> None:
    """Each time it loses what it has taken since it came back, and the others lose nothing."""
    with under_load(cluster) as clients:
        for _ in range(FLAPS):
            cluster.lab.cut(VICTIM)
            cluster.settle(OTHERS)
            cluster.lab.mend(VICTIM)
            cluster.settle()
    assert_only_of(clients.service, [VICTIM])
