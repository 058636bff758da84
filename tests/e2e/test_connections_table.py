"""The kernel's table of connections is for TCP alone: a flood of datagrams does not fill it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cluster import Cluster
from .left_out import without
from .wire import UDP, Wire, client_source, udp, virtual_address, wired

SOURCES = range(1, 251)
PORTS = range(20000, 20020)


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    with wired(cluster) as made:
        yield made


def flood(wire: Wire) -> int:
    """A datagram from each of 10,000 senders; how many entries the fullest table has for such after that."""
    for version in (4, 6):
        for number in SOURCES:
            for port in PORTS:
                wire.send(udp(client_source(number, version), virtual_address(version), port, b"flood"))
        wire.deliveries(version, UDP)
    return max(entries(wire, node) for node in wire.cluster.lab.nodes)


def entries(wire: Wire, node: str) -> int:
    """The table's entries of connections without TCP, to or from a shared address."""
    rows = wire.cluster.lab.exec(node, ["cat", "/proc/net/nf_conntrack"]).stdout.splitlines()
    shared = [virtual_address(version).exploded for version in (4, 6)]
    return sum(" tcp " not in row and any(address in row for address in shared) for row in rows)


def test_a_flood_of_datagrams_leaves_no_trace(wire: Wire) -> None:
    assert flood(wire) == 0


def test_without_its_rules_it_fills_the_table(wire: Wire) -> None:
    """The breaking twin."""
    with without(wire.cluster, r"notrack"):
        assert flood(wire) > len(SOURCES) * len(PORTS) / len(wire.cluster.lab.nodes)
