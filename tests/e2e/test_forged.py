"""Heartbeats that somebody on the link made by hand, against a cluster in which every node serves.

Whatever is wrong with one, it changes nothing: no set, no counter, no heartbeat that a node sends. The twins
at the end forge one perfectly, with a peer's address and the right stamp: that does change something, as
docs/reliability.md says.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from trscaler_gen.mac import HardwareAddress

from .cluster import HEARTBEAT_MS, PATIENCE_S, Cluster, eventually
from .test_frames import (
    DAEMONS,
    HEARER,
    PRIORITY_TAG,
    STRANGER,
    VICTIM,
    VLAN,
    VRRP_GROUP,
    elements,
    give_lease,
    heartbeat,
)
from .wire import (
    VRRP,
    VRRP_GROUP_MAC,
    Packet,
    Wire,
    ethernet,
    octets,
    own_address,
    own_mac,
    pseudo_header,
    received,
    wired,
    with_checksum,
)

#: what a heartbeat could change; who serves holds the others in `alive` all the time
SETS = (
    *("alive", "draining", "settled", "fenced", "behind"),
    *("announcing", "drained", "joining", "hosting", "unsure"),
)
COUNTERS = ("accepted", "kept", "dropped")
BROADCAST = HardwareAddress.parse("ff:ff:ff:ff:ff:ff")
VRRP6_GROUP, VRRP6_GROUP_MAC = IPv6Address("ff02::12"), HardwareAddress.parse("33:33:00:00:00:12")
HIGHEST = 255
#: the priority of a node that serves
SERVES = 100
#: more than it takes until a node that has heard a better one says so, or ends
HEARTBEATS = 6


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    with wired(cluster) as opened:
        yield opened


# --- what is forged ---------------------------------------------------------------------------------


def claim(wire: Wire, node: str, source: IPv4Address | IPv6Address = STRANGER) -> Packet:
    """What makes keepalived give way, if it hears it: its own router's advertisement, of a better one."""
    vrid = wire.lock.first_vrid + wire.cluster.ids[node] - 1
    group = VRRP_GROUP if source.version == 4 else VRRP6_GROUP
    message = struct.pack("!BBBBHH", 0x31, vrid, HIGHEST, 1, HEARTBEAT_MS // 10, 0)
    message += bytes([127, 84, 83, vrid]) if source.version == 4 else source.packed
    pseudo = pseudo_header(source, group, VRRP, len(message))
    return Packet(source, group, VRRP, with_checksum(message, 6, pseudo), ttl=255)


@dataclass(frozen=True)
class Forgery:
    """Frames that are wrong in one way."""

    name: str
    frames: Callable[[Wire], list[bytes]]


def to_group(spoil: Callable[[Packet], Packet]) -> Callable[[Wire], list[bytes]]:
    """A later epoch, a goodbye and a claim, each spoilt: whichever counted would be seen."""

    def frames(wire: Wire) -> list[bytes]:
        true = heartbeat(wire)
        harmful = (
            replace(true, identification=true.identification + 2),
            heartbeat(wire, priority=0),
            heartbeat(wire, priority=1),
            claim(wire, HEARER, own_address(VICTIM, 4)),
        )
        return [ethernet(VRRP_GROUP_MAC, wire.client_mac, spoil(packet)) for packet in harmful]

    return frames


def with_vrid(vrid: int) -> Callable[[Packet], Packet]:
    return lambda packet: replace(packet, payload=packet.payload[:1] + bytes([vrid]) + packet.payload[2:])


def claims(to: Callable[[Wire], HardwareAddress], vlan: int | None = None) -> Callable[[Wire], list[bytes]]:
    """A claim to the place of the node that hears it, to another MAC or with a tag."""

    def frames(wire: Wire) -> list[bytes]:
        sources = (STRANGER, own_address(VICTIM, 4))
        return [ethernet(to(wire), wire.client_mac, claim(wire, HEARER, source), vlan) for source in sources]

    return frames


def claims6(wire: Wire) -> list[bytes]:
    packet = claim(wire, HEARER, IPv6Address("fe80::77"))
    return [ethernet(VRRP6_GROUP_MAC, wire.client_mac, packet)]


def cut(length: int) -> Callable[[Wire], list[bytes]]:
    """A goodbye of a peer of which so many bytes are left: its header tells all of them, or those."""

    def frames(wire: Wire) -> list[bytes]:
        whole = bytes(heartbeat(wire, priority=0))
        honest = (
            with_checksum(whole[:2] + struct.pack("!H", length) + whole[4:], 10) if length >= 4 else whole
        )
        head = octets(VRRP_GROUP_MAC) + octets(wire.client_mac) + b"\x08\x00"
        return [head + whole[:length], head + honest[:length]]

    return frames


def hearers_mac(wire: Wire) -> HardwareAddress:
    return own_mac(wire.cluster.lab, HEARER)


FORGERIES = [
    Forgery("of a stranger", to_group(lambda p: replace(p, source=STRANGER))),
    Forgery("off the link", to_group(lambda p: replace(p, source=IPv4Address("203.0.113.7")))),
    Forgery("routed once", to_group(lambda p: replace(p, ttl=254))),
    Forgery("routed often", to_group(lambda p: replace(p, ttl=1))),
    Forgery("unstamped", to_group(lambda p: replace(p, ecn=0))),
    Forgery("of an epoch that is over", to_group(lambda p: replace(p, identification=0))),
    Forgery("of a router that is none of ours", to_group(with_vrid(200))),
    Forgery("of a VLAN", claims(lambda _: VRRP_GROUP_MAC, VLAN)),
    Forgery("IPv6", claims6),
]
#: heartbeats that are right in all but where the frame goes: keepalived alone would believe them
UNGUARDED = [
    Forgery("to the node's own MAC", claims(hearers_mac)),
    Forgery("to everybody's MAC", claims(lambda _: BROADCAST)),
    Forgery("with a priority tag", claims(lambda _: VRRP_GROUP_MAC, PRIORITY_TAG)),
]


# --- what it may not change --------------------------------------------------------------------------


def state(wire: Wire) -> dict[str, object]:
    """The sets and counters of all nodes."""
    cluster = wire.cluster
    sets = {(node, name): cluster.members(node, name) for node in cluster.lab.nodes for name in SETS}
    counted = {node: {name: found[name] for name in COUNTERS} for node, found in wire.counters().items()}
    return {"sets": sets, "counters": counted}


def told(frames: list[bytes], macs: dict[bytes, str]) -> Counter[tuple[str, int]]:
    """Whose heartbeats are among these frames, and with which priority."""
    mine = (frame for frame in frames if frame[:6] == octets(VRRP_GROUP_MAC) and frame[6:12] in macs)
    return Counter((macs[frame[6:12]], frame[14 + 20 + 2]) for frame in mine)


def send_until_all_have_sent(wire: Wire, frames: list[bytes], timeout_s: float) -> Counter[tuple[str, int]]:
    """Forge while every node sends some heartbeats: which they were."""
    macs = {octets(own_mac(wire.cluster.lab, node)): node for node in wire.cluster.lab.nodes}
    seen: Counter[tuple[str, int]] = Counter()
    received(wire.frames)

    def all_have() -> bool:
        for frame in frames:
            wire.frames.send(frame)
        seen.update(told(received(wire.frames), macs))
        sent = Counter[str]()
        for (node, _), count in seen.items():
            sent[node] += count
        return all(sent[node] >= HEARTBEATS for node in macs.values())

    eventually(all_have, "every node has gone on sending heartbeats", timeout_s)
    return seen


def changes_nothing(wire: Wire, frames: list[bytes], timeout_s: float) -> None:
    before = state(wire)
    sent = send_until_all_have_sent(wire, frames, timeout_s)
    wire.barrier()
    assert {priority for _, priority in sent} == {SERVES}, sent
    assert state(wire) == before


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_it_changes_nothing(wire: Wire, forgery: Forgery) -> None:
    changes_nothing(wire, forgery.frames(wire), PATIENCE_S)


def test_cut_at_any_length_it_changes_nothing(wire: Wire) -> None:
    # The priority is the third byte of VRRP: with it, it is a heartbeat that can be read.
    changes_nothing(wire, [frame for length in range(20 + 3) for frame in cut(length)(wire)], PATIENCE_S)


@pytest.mark.parametrize("forgery", UNGUARDED, ids=lambda forgery: forgery.name)
def test_what_keepalived_alone_would_believe_changes_nothing(wire: Wire, forgery: Forgery) -> None:
    changes_nothing(wire, forgery.frames(wire), 20 * HEARTBEAT_MS / 1000)


# --- twins: what is right in all that the rules look at ------------------------------------------------


@dataclass(frozen=True)
class Odd(Packet):
    """A packet with IP options, or one that says that it is a fragment."""

    options: bytes = b""
    fragment: int = 0

    def __bytes__(self) -> bytes:
        plain = super().__bytes__()
        size = 20 + len(self.options)
        length = struct.pack("!H", size + len(self.payload))
        head = bytes([0x40 | size // 4, plain[1]]) + length + plain[4:6] + struct.pack("!H", self.fragment)
        return with_checksum(head + plain[8:20] + self.options, 10) + self.payload


def odd(packet: Packet, *, options: bytes = b"", fragment: int = 0) -> Packet:
    return Odd(**vars(packet), options=options, fragment=fragment)


def with_neighbours_vrid(packet: Packet) -> Packet:
    return with_vrid(packet.payload[1] + 1)(packet)


#: goodbyes with the address and the stamp of a peer; what else is odd makes no difference
PERFECT: dict[str, Callable[[Packet], Packet]] = {
    "in every respect": lambda p: p,
    "with an option": lambda p: odd(p, options=bytes([0x94, 4, 0, 0])),
    "as a first fragment": lambda p: odd(p, fragment=0x2000),
    "as a later fragment": lambda p: odd(p, fragment=1),
    "with a wrong VRRP checksum": lambda p: replace(p, payload=p.payload[:6] + bytes(2) + p.payload[8:]),
    "of another node's router": with_neighbours_vrid,
    "as VRRPv2": lambda p: replace(p, payload=bytes([0x21]) + p.payload[1:]),
    "cut after the priority": lambda p: replace(p, payload=p.payload[:3]),
}


@pytest.fixture(scope="module")
def muted(shared_cluster: Cluster) -> Iterator[Wire]:
    """The wire of a cluster in which the victim sends no heartbeats."""
    shared_cluster.settle()
    shared_cluster.lab.exec(VICTIM, ["sh", "-c", f"kill -STOP {DAEMONS}"])
    with wired(shared_cluster) as wire:
        yield wire
    shared_cluster.lab.exec(VICTIM, ["sh", "-c", f"kill -CONT {DAEMONS}"])
    shared_cluster.settle()


@pytest.mark.parametrize("name", PERFECT)
def test_twin_a_perfect_one_ends_a_lease(muted: Wire, name: str) -> None:
    """A forger on the link with a peer's address and stamp speaks for that peer."""
    victim = muted.cluster.ids[VICTIM]
    give_lease(muted.cluster, victim)
    assert victim in elements(muted.cluster, "alive")
    muted.send(PERFECT[name](heartbeat(muted, priority=0)), VRRP_GROUP_MAC)
    muted.barrier()
    assert victim not in elements(muted.cluster, "alive")
