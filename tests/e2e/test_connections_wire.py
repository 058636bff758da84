"""What belongs to a connection follows it: fragments and ICMP errors reach the node that holds it.

Another node owns its bucket meanwhile: the holder drains, or the owner has come back.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from trscaler_gen.lab.responder import PORT

from .cluster import Cluster, eventually
from .connections import owner_of
from .events import OTHERS, VICTIM
from .segments import TCP, segment, sequence
from .wire import (
    ICMP,
    ICMP6,
    Address,
    Packet,
    Wire,
    answers,
    client_source,
    icmp,
    octets,
    own_mac,
    received,
    virtual_address,
    wired,
    with_checksum,
)

FRAGMENT = 44  # IPv6's header of fragments (RFC 8200, 4.5)
ROUTER = 251
MTU = 1400


@dataclass
class Held:
    """A connection and the node that holds it."""

    wire: Wire
    sock: socket.socket
    source: Address
    holder: str

    @property
    def destination(self) -> Address:
        return virtual_address(self.source.version)

    def ask(self) -> str:
        """The node that answers."""
        self.sock.sendall(b"who\n")
        return answers(self.sock, 1)[0].split()[0].decode()

    @property
    def port(self) -> int:
        """The client's."""
        return int(self.sock.getsockname()[1])

    def segment(self, payload: bytes) -> bytes:
        """The next segment that the client would send."""
        return segment((self.source, self.destination), (self.port, PORT), sequence(self.sock), payload)

    def quote(self) -> bytes:
        """The next packet that the holder would send."""
        sent, got = sequence(self.sock)
        answer = segment((self.destination, self.source), (PORT, self.port), (got, sent))
        return bytes(Packet(self.destination, self.source, TCP, answer))


def opened(wire: Wire, version: int) -> Held:
    """A connection whose bucket is the victim's, wherever it goes now."""
    cluster, destination = wire.cluster, str(virtual_address(version))
    sources = (client_source(number, version) for number in count(1))
    source = next(each for each in sources if owner_of(cluster, str(each), destination) == VICTIM)
    sock = wire.client_socket(version, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.bind((str(source), 0))
    sock.connect((destination, PORT))
    held = Held(wire, sock, source, "")
    held.holder = held.ask()
    return held


@contextmanager
def draining(wire: Wire, version: int) -> Iterator[Held]:
    """The holder drains, and another node owns its buckets."""
    held = opened(wire, version)
    wire.cluster.script(VICTIM, "drain")
    try:
        wire.cluster.settle(OTHERS)
        yield held
    finally:
        wire.cluster.script(VICTIM, "undrain")
        wire.cluster.settle()


@contextmanager
def returned(wire: Wire, version: int) -> Iterator[Held]:
    """The owner was away, and is back."""
    wire.cluster.lab.cut(VICTIM)
    try:
        wire.cluster.settle(OTHERS)
        held = opened(wire, version)
    finally:
        wire.cluster.lab.mend(VICTIM)
        wire.cluster.settle()
    yield held


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    with wired(cluster) as made:
        yield made


@pytest.fixture(params=[draining, returned], ids=lambda made: made.__name__)
def preserved(request: pytest.FixtureRequest, wire: Wire, version: int) -> Iterator[Held]:
    make: Callable[..., object] = request.param
    with make(wire, version) as held:  # type: ignore[attr-defined]
        assert held.ask() == held.holder
        assert (held.holder == VICTIM) == (make is draining)
        yield held


both_families = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@both_families
def test_fragments_reach_the_holder(preserved: Held, version: int) -> None:
    """A line in two fragments is answered, by the node that has the connection."""
    wire = preserved.wire
    line = b"x" * 1200 + b"\n"
    whole = preserved.segment(line)
    received(wire.frames)
    for fragment in fragments(preserved, whole):
        wire.send(fragment)
    said = f"{preserved.holder} xxx".encode()
    seen: list[bytes] = []

    def answered() -> bool:
        seen.extend(received(wire.frames))
        return any(said in frame for frame in seen)

    eventually(answered, "the holder answers the line")
    sources = {frame[6:12] for frame in seen if b" xxx" in frame and frame[6:12] != own(wire, "client")}
    assert sources == {own(wire, preserved.holder)}


def own(wire: Wire, member: str) -> bytes:
    return octets(own_mac(wire.cluster.lab, member))


def fragments(held: Held, segment: bytes) -> list[Packet]:
    """The segment in two packets, cut at a multiple of 8 bytes."""
    parts, at = [], 600
    for offset, more, part in ((0, 1, segment[:at]), (at, 0, segment[at:])):
        if held.source.version == 6:
            head = struct.pack("!BBHI", TCP, 0, offset | more, 4711)
            parts.append(Packet(held.source, held.destination, FRAGMENT, head + part))
        else:
            parts.append(FragmentOf4(held.source, held.destination, TCP, part, offset=offset, more=more))
    return parts


@dataclass(frozen=True)
class FragmentOf4(Packet):
    """Part of an IPv4 packet; ``offset`` in bytes, ``more``: 1 for all parts but the last."""

    offset: int = 0
    more: int = 0

    def __bytes__(self) -> bytes:
        head = bytearray(super().__bytes__()[:20])
        struct.pack_into("!HH", head, 4, 4711, self.more << 13 | self.offset // 8)
        return with_checksum(bytes(head), 10) + self.payload


@both_families
def test_an_error_reaches_the_holder(preserved: Held, version: int) -> None:
    """A router on the way says that packets are too big: the holder sends smaller ones from then on."""
    kind, code = (3, 4) if version == 4 else (2, 0)
    error = icmp(
        client_source(ROUTER, version),
        preserved.destination,
        kind,
        code,
        struct.pack("!I", MTU),
        preserved.quote(),
    )
    preserved.wire.deliveries(version, ICMP if version == 4 else ICMP6)
    preserved.wire.send(error)
    got = preserved.wire.deliveries(version, ICMP if version == 4 else ICMP6)
    assert any(bytes(error)[-60:] in packet for packet in got[preserved.holder])
    shared = str(preserved.destination) if version == 4 else f"[{preserved.destination}]"
    argv = ["ss", "-Htin", "state", "established", "src", shared]
    said = preserved.wire.cluster.lab.exec(preserved.holder, argv).stdout
    assert f"pmtu:{MTU}" in said, said
