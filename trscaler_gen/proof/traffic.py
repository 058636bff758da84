"""The packets that a proof is made with: of each kind one for every bucket. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from trscaler_gen.jhash import HashInput
from trscaler_gen.proof.hashing import bucket_rows
from trscaler_gen.proof.packets import ETHER_BYTES, TAG_BYTES, Bytes, Frames, Layout, frames

_SENDER = bytes.fromhex("0200000000fe")
_STRANGER = bytes.fromhex("0200000000fd")
_ADDRESS_BYTES = {4: 4, 6: 16}
_ETHER_TYPE = {4: 0x0800, 6: 0x86DD}
_NETWORK_BYTES = {4: 20, 6: 40}
#: enough for every bucket to be met: about 14 of a bucket at a time
_ROUND = 14
_MOST_ROUNDS = 40

TCP, UDP, ICMP, ICMPV6, GRE = 6, 17, 1, 58, 47
_NEW, _ESTABLISHED, _RELATED, _INVALID = 8, 2, 4, 1
_SYN, _DATA = 0x02, 0x18


class Fate(Enum):
    """Who is to get a packet."""

    ONE = "exactly one node"
    CONNECTION = "the node that has the connection"
    EVERY = "every node"
    NOBODY_OF_US = "left as it is"


@dataclass(frozen=True)
class Kind:
    """Packets that differ in nothing but their addresses.

    ``known``: the node that looks at it has its connection; ``family`` is 4 or 6, or 0 for neither.
    """

    label: str
    family: int
    fate: Fate
    layout: Layout
    known: bool = False


@dataclass(frozen=True)
class HashContract:
    """Which packets a bucket has: what all nodes are to agree on, as the lock has it."""

    hash_input: HashInput
    seed: int
    buckets: int

    def hashed(self, source: Bytes, destination: Bytes) -> Bytes:
        """The bytes that are hashed, a row a packet."""
        sides = {"source": source, "destination": destination}
        return np.concatenate([sides[word] for word in self.hash_input.split("-")], axis=1)


@dataclass(frozen=True)
class Traffic:
    """Frames of all kinds: frame number = kind * buckets + bucket."""

    kinds: tuple[Kind, ...]
    buckets: int
    frames: Frames


def make_traffic(
    contract: HashContract,
    destinations: Mapping[int, Sequence[bytes]],
    cluster_mac: bytes,
    inner_mac: bytes,
) -> Traffic:
    """Make a frame of every kind for every bucket.

    ``destinations`` has the shared addresses of each family that is used; with none, any address will do.
    """
    groups: list[tuple[Kind, Bytes]] = []
    for family, shared in sorted(destinations.items()):
        source, destination = pairs(contract, family, shared)
        groups += _flows(family, source, destination, cluster_mac, inner_mac)
    groups += _others(contract.buckets, cluster_mac, inner_mac)
    made = frames([(kind.layout, data) for kind, data in groups])
    return Traffic(tuple(kind for kind, _ in groups), contract.buckets, made)


def pairs(contract: HashContract, family: int, shared: Sequence[bytes]) -> tuple[Bytes, Bytes]:
    """Find a source and a destination for every bucket; always the same ones."""
    draw = np.random.Generator(np.random.PCG64(family))
    size = _ADDRESS_BYTES[family]
    sources = np.zeros((contract.buckets, size), np.uint8)
    destinations = np.zeros((contract.buckets, size), np.uint8)
    missing = np.ones(contract.buckets, bool)
    for _ in range(_MOST_ROUNDS):
        count = _ROUND * contract.buckets
        source = _addresses(draw, family, count)
        destination = _addresses(draw, family, count)
        if shared and "source" in contract.hash_input.split("-"):
            rows = np.frombuffer(b"".join(shared), np.uint8).reshape(-1, size)
            destination = rows[np.arange(count) % len(rows)]
        bucket = bucket_rows(contract.hashed(source, destination), contract.seed, contract.buckets)
        met, first = np.unique(bucket, return_index=True)
        use = missing[met.astype(np.int64)]
        at, row = met[use].astype(np.int64), first[use]
        sources[at], destinations[at], missing[at] = source[row], destination[row], False
        if not missing.any():
            return sources, destinations
    raise ValueError("no packets were found for some buckets")  # pragma: no cover


def _addresses(draw: np.random.Generator, family: int, count: int) -> Bytes:
    rows = draw.integers(0, 256, (count, _ADDRESS_BYTES[family]), dtype=np.uint8)
    rows[:, 0] = 0x20 if family == 6 else rows[:, 0] % 126 + 1  # unicast
    return rows


# Kinds


def _flows(
    family: int, source: Bytes, destination: Bytes, cluster_mac: bytes, inner_mac: bytes
) -> Iterator[tuple[Kind, Bytes]]:
    """What is hashed: new packets, those of connections, and errors about either."""
    ether = _ether(cluster_mac, _ETHER_TYPE[family])
    name = f"IPv{family}"
    plain: list[tuple[str, Fate, int, int, bool, bytes]] = [
        ("a new TCP connection", Fate.ONE, TCP, _NEW, False, _tcp(_SYN)),
        ("UDP", Fate.ONE, UDP, _NEW, False, _UDP),
        ("an echo request", Fate.ONE, *_echo(family)),
        ("GRE", Fate.ONE, GRE, _NEW, False, bytes(8)),
        ("TCP data of an unknown connection", Fate.CONNECTION, TCP, _NEW, False, _tcp(_DATA)),
        ("TCP data of a known connection", Fate.CONNECTION, TCP, _ESTABLISHED, True, _tcp(_DATA)),
    ]
    for label, fate, protocol, state, known, transport in plain:
        kind = Kind(f"{label} over {name}", family, fate, _layout(family, protocol, state), known)
        yield kind, _join(ether, _network(family, protocol, source, destination, len(transport)), transport)
    yield from _errors(family, source, destination, ether)
    header = _network(family, UDP, source, destination, len(_UDP))
    inner = _ether(inner_mac, _ETHER_TYPE[family])
    layout = _layout(family, UDP, _NEW)
    yield Kind(f"UDP over {name} to the inner MAC", family, Fate.ONE, layout), _join(inner, header, _UDP)
    tagged = _ether(cluster_mac, _ETHER_TYPE[family], tag=0)
    layout = _layout(family, UDP, _NEW, shift=TAG_BYTES)
    yield Kind(f"UDP over {name} in VLAN 0", family, Fate.ONE, layout), _join(tagged, header, _UDP)
    if family == 4:
        later = header.copy()
        later[:, 6:8] = (0x00, 0x02)
        yield (
            Kind("a later fragment of UDP over IPv4", 4, Fate.ONE, _layout(4, UDP, _NEW)),
            _join(ether, later, _UDP),
        )
        later = _network(4, ICMP, source, destination, 64)
        later[:, 6:8] = (0x00, 0x02)
        # The netdev hook reads a later fragment as if it had a header: this one looks like an error.
        yield (
            Kind("a later fragment of ICMP over IPv4", 4, Fate.ONE, _layout(4, ICMP, _NEW)),
            _join(ether, later, bytes([3]) + bytes(63)),
        )


def _echo(family: int) -> tuple[int, int, bool, bytes]:
    return (ICMP if family == 4 else ICMPV6), _NEW, False, bytes([8 if family == 4 else 128]) + bytes(7)


def _errors(family: int, source: Bytes, destination: Bytes, ether: bytes) -> Iterator[tuple[Kind, Bytes]]:
    """ICMP errors from routers: they quote what the node sent, so source and destination are exchanged.

    Many routers: the buckets of the errors' own addresses are as many nodes' as those of what they quote.
    """
    types = {4: (3, 11, 12), 6: (1, 2, 3, 4)}[family]
    protocol = ICMP if family == 4 else ICMPV6
    router = np.tile(np.frombuffer(_ROUTERS[family], np.uint8), (len(source), 1))
    router[:, -1] = np.arange(len(source)) % 254 + 1
    size = 8 + _NETWORK_BYTES[family] + len(_UDP)
    outer = _network(family, protocol, router, destination, size)
    for number in types:
        head = bytes([number]) + bytes(7)
        for what, quoted, fate, state, known in (
            ("UDP", UDP, Fate.ONE, _NEW, False),
            ("an unknown TCP connection", TCP, Fate.ONE, _INVALID, False),
            ("a known TCP connection", TCP, Fate.CONNECTION, _RELATED, True),
        ):
            label = f"an ICMP error (type {number}) about {what} over IPv{family}"
            kind = Kind(label, family, fate, _layout(family, protocol, state), known)
            yield kind, _join(ether, outer, head, _network(family, quoted, destination, source, 8), _UDP)


def _others(count: int, cluster_mac: bytes, inner_mac: bytes) -> Iterator[tuple[Kind, Bytes]]:
    """What is not hashed: neighbours' questions and answers, and frames that are none of ours."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(20)
    layout = Layout(ETHER_BYTES, -1, 0x0806, -1, _NEW)
    for mac, label in ((cluster_mac, ""), (inner_mac, " to the inner MAC")):
        yield (
            Kind(f"ARP{label}", 0, Fate.EVERY, layout),
            _rows(count, _ether(mac, 0x0806) + arp),
        )
    header = _network(6, ICMPV6, np.zeros((1, 16), np.uint8), np.zeros((1, 16), np.uint8), 24)[0].tobytes()
    for number, label in ((135, "a neighbour solicitation"), (136, "a neighbour advertisement")):
        data = _ether(cluster_mac, 0x86DD) + header + bytes([number]) + bytes(23)
        yield Kind(label, 0, Fate.EVERY, _layout(6, ICMPV6, _NEW)), _rows(count, data)
    header = _network(4, UDP, np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8), 8)[0].tobytes()
    data = _ether(_STRANGER, 0x0800) + header + _UDP
    yield Kind("a frame to another MAC", 0, Fate.NOBODY_OF_US, _layout(4, UDP, _NEW)), _rows(count, data)
    data = _ether(cluster_mac, 0x0800, tag=5) + header + _UDP
    layout = _layout(4, UDP, _NEW, shift=TAG_BYTES)
    yield Kind("a frame of VLAN 5", 0, Fate.NOBODY_OF_US, layout), _rows(count, data)


# Bytes


_UDP = struct.pack("!HHHH", 40000, 53, 8, 0)
#: networks for documentation (RFC 5737, RFC 3849)
_ROUTERS = {4: bytes([198, 51, 100, 0]), 6: bytes.fromhex("20010db8") + bytes(12)}


def _tcp(flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, 443, 1, 0, 5 << 4, flags, 1024, 0, 0) + bytes(200)


def _ether(destination: bytes, ether_type: int, tag: int | None = None) -> bytes:
    tags = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    return destination + _SENDER + tags + struct.pack("!H", ether_type)


def _layout(family: int, protocol: int, state: int, shift: int = 0) -> Layout:
    network = ETHER_BYTES + shift
    return Layout(network, network + _NETWORK_BYTES[family], _ETHER_TYPE[family], protocol, state)


def _network(family: int, protocol: int, source: Bytes, destination: Bytes, size: int) -> Bytes:
    """IP headers for a payload of ``size`` bytes, a row a packet; the rules look at no checksum."""
    if family == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 7, 0, 64, protocol, 0)
    else:
        head = struct.pack("!IHBB", 6 << 28, size, protocol, 64)
    return np.concatenate([_rows(len(source), head), source, destination], axis=1)


def _rows(count: int, data: bytes) -> Bytes:
    return np.tile(np.frombuffer(data, np.uint8), (count, 1))


def _join(*parts: bytes | Bytes) -> Bytes:
    count = next(len(part) for part in parts if isinstance(part, np.ndarray))
    return np.concatenate([_rows(count, p) if isinstance(p, bytes) else p for p in parts], axis=1)
