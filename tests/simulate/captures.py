"""Frames and capture files, made by hand: for the readers' tests, and for what is replayed in the lab."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
HOP_BY_HOP, FRAGMENT, DESTINATION_OPTIONS = 0, 44, 60
VIP4, VIP6 = IPv4Address("192.0.2.100"), IPv6Address("2001:db8::100")
CLUSTER_MAC = bytes.fromhex("03005d000101")
CLIENT_MAC = bytes.fromhex("020000000001")

Address = IPv4Address | IPv6Address


# --- packets -----------------------------------------------------------------------------------------


def packet(
    source: Address, destination: Address, protocol: int = UDP, payload: bytes = b"", fragment: int = 0
) -> bytes:
    """An IP packet; ``fragment`` is IPv4's word of flags and offset. Its checksum is right."""
    ends = source.packed + destination.packed
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0) + ends
    checksum = ~folded(head) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + head[12:] + payload


def folded(octets: bytes) -> int:
    """The one's-complement sum of 16-bit words (RFC 1071)."""
    padded = octets + bytes(len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def udp(source: Address, destination: Address, payload: bytes = b"question") -> bytes:
    """A datagram to a port that nobody listens at."""
    return packet(source, destination, UDP, struct.pack("!HHHH", 4321, 9, 8 + len(payload), 0) + payload)


def syn(source: Address, destination: Address) -> bytes:
    """A TCP segment that wants a connection."""
    return packet(source, destination, TCP, struct.pack("!HHIIBBHHH", 4321, 9, 1, 0, 5 << 4, 2, 512, 0, 0))


def error(client: Address, virtual: Address, router: Address) -> bytes:
    """A router's ICMP error about an answer of the cluster's to a client: too big."""
    quote = udp(virtual, client)
    if client.version == 4:
        return packet(router, virtual, ICMP, struct.pack("!BBHI", 3, 4, 0, 1400) + quote)
    # A switch that listens for groups drops ICMPv6 whose checksum is wrong.
    message = struct.pack("!BBHI", 2, 0, 0, 1400) + quote
    ends = router.packed + virtual.packed + struct.pack("!II", len(message), ICMP6)
    checksum = ~folded(ends + message) & 0xFFFF
    return packet(router, virtual, ICMP6, struct.pack("!BBHI", 2, 0, checksum, 1400) + quote)


def behind(header: int, whole: bytes, fragment: int = 0) -> bytes:
    """An IPv6 packet with an extension header put in front of what it carries (RFC 8200, 4)."""
    following, carried = whole[6], whole[40:]
    if header == FRAGMENT:
        extension = struct.pack("!BBHI", following, 0, fragment, 7)
    else:
        extension = struct.pack("!BBBB", following, 0, 1, 4) + bytes(4)
    length = struct.pack("!HB", len(extension) + len(carried), header)
    return whole[:4] + length + whole[7:40] + extension + carried


def ethernet(whole: bytes, tags: Iterable[int] = (), to: bytes = CLUSTER_MAC) -> bytes:
    """A frame, behind 802.1Q tags."""
    kind = b"\x08\x00" if whole[0] >> 4 == 4 else b"\x86\xdd"
    return to + CLIENT_MAC + b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags) + kind + whole


def source4(draw: random.Random) -> IPv4Address:
    """Somebody in the networks for documentation."""
    return IPv4Address(draw.choice(("198.51.100.0", "203.0.113.0"))) + draw.randrange(256)


def source6(draw: random.Random) -> IPv6Address:
    """Somebody in the network for documentation."""
    return IPv6Address("2001:db8::") + draw.getrandbits(96)


def mixed(count: int, seed: int, to: bytes = CLUSTER_MAC) -> list[bytes]:
    """Frames of every kind that the ruleset tells apart, from random sources."""
    draw = random.Random(seed)
    return [ethernet(_any(draw), draw.choice(((), (), (0,), (0xE000,))), to) for _ in range(count)]


def _any(draw: random.Random) -> bytes:
    client4, client6 = source4(draw), source6(draw)
    quoting6 = error(client6, VIP6, source6(draw))
    return draw.choice(
        (
            udp(client4, VIP4),
            syn(client4, VIP4),
            error(client4, VIP4, source4(draw)),
            packet(client4, VIP4, UDP, bytes(64), fragment=0x2000),
            packet(client4, VIP4, UDP, bytes(64), fragment=8),
            packet(client4, VIP4, ICMP, bytes([3]) * 64, fragment=8),
            packet(client4, VIP4, ICMP, b"\x08" + bytes(63)),
            packet(client4, VIP4, 4, udp(source4(draw), VIP4)),  # a tunnel: IP in IP
            udp(client6, VIP6),
            syn(client6, VIP6),
            quoting6,
            behind(HOP_BY_HOP, quoting6),
            behind(DESTINATION_OPTIONS, behind(HOP_BY_HOP, quoting6)),
            behind(FRAGMENT, quoting6, fragment=1),
            behind(FRAGMENT, quoting6, fragment=8 | 1),
            behind(HOP_BY_HOP, udp(client6, VIP6)),
        )
    )


# --- files -------------------------------------------------------------------------------------------


def pcap(
    frames: Iterable[bytes], *, order: str = "<", nano: bool = False, link: int = 1, snaplen: int = 65535
) -> bytes:
    """A capture as tcpdump writes it, a frame each millisecond."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    unit = 1_000_000 if nano else 1000
    written = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for number, frame in enumerate(frames):
        seconds, rest = divmod(number, 1000)
        kept = frame[:snaplen]
        written.append(
            struct.pack(f"{order}IIII", 1_700_000_000 + seconds, rest * unit, len(kept), len(frame))
        )
        written.append(kept)
    return b"".join(written)


def block(order: str, kind: int, body: bytes) -> bytes:
    """A block of a pcapng file."""
    padded = body + bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", 12 + len(padded))
    return struct.pack(f"{order}I", kind) + length + padded + length


def section(order: str) -> bytes:
    """A section header, of unknown length."""
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    """An interface description."""
    return block(order, 1, struct.pack(f"{order}HHI", link, 0, snaplen) + options)


def enhanced(order: str, frame: bytes, number: int = 0, ticks: int = 0, options: bytes = b"") -> bytes:
    """A packet of interface ``number``."""
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 6, head + frame + bytes(-len(frame) % 4) + options)


def simple(order: str, frame: bytes) -> bytes:
    """A packet of the first interface, without a time."""
    return block(order, 3, struct.pack(f"{order}I", len(frame)) + frame)


def obsolete(order: str, frame: bytes, number: int = 0) -> bytes:
    """A packet as it was written before there were enhanced ones."""
    head = struct.pack(f"{order}HHIIII", number, 0, 0, 0, len(frame), len(frame))
    return block(order, 2, head + frame)
