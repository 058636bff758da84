"""ICMP errors find the flow that they are about, and fragments stay together.

A router's error comes from the router's address, so its own addresses say nothing about the flow. Every error
here comes from one router: placed by its own addresses, all of them would reach the same node.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from trscaler_gen.lab.responder import PORT

from .cluster import Cluster
from .wire import (
    ICMP,
    ICMP6,
    UDP,
    Address,
    Packet,
    Wire,
    answers,
    client_source,
    has_more,
    icmp,
    received,
    udp,
    virtual_address,
    wired,
)

FLOWS = range(1, 81)
ROUTER = 251
MTU = 1500


@pytest.fixture(params=["long way", "short way"])
def wire(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Wire]:
    if request.param == "short way":
        cluster.calm_down()
    with wired(cluster) as opened:
        yield opened


@dataclass(frozen=True)
class Kind:
    """A kind of error; ``rest`` is the second word of its header, e.g. the next hop's MTU."""

    name: str
    version: int
    type: int
    code: int
    rest: int = 0

    @property
    def protocol(self) -> int:
        return ICMP if self.version == 4 else ICMP6


ERRORS = [
    Kind("fragmentation needed", 4, 3, 4, 1400),
    Kind("unreachable", 4, 3, 1),
    Kind("time exceeded", 4, 11, 0),
    Kind("parameter problem", 4, 12, 0),
    Kind("packet too big", 6, 2, 0, 1400),
    Kind("unreachable", 6, 1, 0),
    Kind("time exceeded", 6, 3, 0),
    Kind("parameter problem", 6, 4, 0),
]
#: the same bytes as an error's, but an answer to an echo: nothing in it is a quote
ANSWERS = [Kind("echo reply", 4, 0, 0), Kind("echo reply", 6, 129, 0)]


def about(kind: Kind, number: int) -> Packet:
    """A message of this kind from the router that quotes an answer of the cluster's to one client."""
    vip, client = virtual_address(kind.version), client_source(number, kind.version)
    quote = bytes(udp(vip, client, PORT, b"answer"))
    return icmp(
        client_source(ROUTER, kind.version), vip, kind.type, kind.code, struct.pack("!I", kind.rest), quote
    )


def reached(wire: Wire, kind: Kind) -> dict[str, list[int]]:
    """Send one message about each flow; the flows whose message each node's stack got."""
    for number in FLOWS:
        wire.send(about(kind, number))
    got = wire.deliveries(kind.version, kind.protocol)
    messages = {node: [message_of(kind, data) for data in packets] for node, packets in got.items()}
    # Neighbours' questions and answers come at any time.
    return {
        node: [
            flow_of(kind, message) for message in found if (message[0], message[1]) == (kind.type, kind.code)
        ]
        for node, found in messages.items()
    }


def message_of(kind: Kind, data: bytes) -> bytes:
    """Raw sockets show the IPv4 header and leave the IPv6 one out."""
    return data[20:] if kind.version == 4 else data


def flow_of(kind: Kind, message: bytes) -> int:
    """The client's number in the quote."""
    quoted = message[8:]
    if kind.version == 4:
        return quoted[19]
    return int(quoted[38:40].hex())


def owned(wire: Wire, version: int) -> dict[str, list[int]]:
    """Each node's flows."""
    vip = virtual_address(version)
    owners = {number: wire.owner(client_source(number, version), vip) for number in FLOWS}
    return {node: [flow for flow in FLOWS if owners[flow] == node] for node in wire.cluster.lab.nodes}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: f"IPv{kind.version} {kind.name}")
def test_every_error_reaches_the_owner_of_the_quoted_flow(wire: Wire, kind: Kind) -> None:
    expected = owned(wire, kind.version)
    assert all(expected.values()), "flows of every node are needed"
    assert reached(wire, kind) == expected


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: f"IPv{kind.version}")
def test_what_is_no_error_is_placed_by_its_own_addresses(wire: Wire, kind: Kind) -> None:
    """The breaking twin: without the look into the quote, one node gets what all four should."""
    router, vip = client_source(ROUTER, kind.version), virtual_address(kind.version)
    expected = {
        node: [] if node != wire.owner(router, vip) else list(FLOWS) for node in wire.cluster.lab.nodes
    }
    assert reached(wire, kind) == expected


def test_an_error_makes_its_owner_send_smaller_packets(wire: Wire) -> None:
    """What it is for: the node that holds the flow learns the path's MTU, and no other node does."""
    client, vip = client_source(1, 4), virtual_address(4)
    forget(wire)  # what earlier errors taught them
    assert who_sends_less(wire, client, vip) == set()
    wire.send(about(ERRORS[0], 1))
    wire.barrier()
    assert who_sends_less(wire, client, vip) == {wire.owner(client, vip)}
    forget(wire)


def forget(wire: Wire) -> None:
    for node in wire.cluster.lab.nodes:
        wire.cluster.lab.exec(node, ["ip", "route", "flush", "cache"])


def who_sends_less(wire: Wire, client: Address, vip: Address) -> set[str]:
    """The nodes that know of a smaller MTU on the way to this client."""
    argv = ["ip", "route", "get", str(client), "from", str(vip)]
    lab = wire.cluster.lab
    return {node for node in lab.nodes if "mtu 1400" in lab.exec(node, argv).stdout}


def fragments(frames: list[bytes]) -> int:
    """How many of the frames are fragments that the client sent or got (RFC 791; RFC 8200, 4.5)."""
    v4 = [f for f in frames if f[12:14] == b"\x08\x00" and int.from_bytes(f[20:22], "big") & 0x3FFF]
    v6 = [f for f in frames if f[12:14] == b"\x86\xdd" and f[20] == 44]
    return len(v4) + len(v6)


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_reach_one_node_and_are_answered_once(wire: Wire, version: int) -> None:
    """Datagrams longer than the MTU, from forty sources; the answers are fragments as well."""
    vip, payload = virtual_address(version), bytes(1900)
    askers = {number: wire.asker(client_source(number, version)) for number in range(1, 41)}
    for sock in askers.values():
        sock.sendto(payload, (str(vip), PORT))
    for number, sock in askers.items():
        owner = wire.owner(client_source(number, version), vip)
        assert answers(sock, 1) == [f"{owner} ".encode() + payload]
    whole = wire.deliveries(version, UDP)
    assert sum(len(data) >= len(payload) for packets in whole.values() for data in packets) == len(askers)
    assert [sock for sock in askers.values() if has_more(sock)] == []
    assert fragments(received(wire.frames)) == 4 * len(askers)


@pytest.mark.parametrize("version", [4, 6])
def test_a_long_echo_request_is_answered_once(wire: Wire, version: int) -> None:
    kind, reply, protocol = (8, 0, ICMP) if version == 4 else (128, 129, ICMP6)
    vip, client = virtual_address(version), client_source(7, version)
    sock = wire.client_socket(version, socket.SOCK_RAW, protocol)
    sock.bind((str(client), 0))
    request = icmp(client, vip, kind, 0, struct.pack("!HH", 77, 1), bytes(3 * MTU))
    sock.sendto(request.payload, (str(vip), 0))
    head = 20 if version == 4 else 0
    (answer,) = answers(sock, 1)
    assert answer[head] == reply
    assert len(answer) == head + len(request.payload)
    wire.barrier()
    assert not has_more(sock)
