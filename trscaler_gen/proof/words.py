"""Where header fields stand, and the words by which nft's JSON names numbers. Pure.

Offsets are in bits from the beginning of the header: RFC 791 3.1, RFC 8200 3, RFC 826, RFC 9293 3.1, RFC 768,
RFC 792, RFC 4443 2.1, IEEE 802.1Q 9.6. Anything that is not here is unknown, and an error where it is met.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

ETHER_TYPES = {"ip": 0x0800, "arp": 0x0806, "8021q": 0x8100, "vlan": 0x8100, "ip6": 0x86DD, "8021ad": 0x88A8}
#: protocol -> the dependency that nft adds by itself, and that listings leave out: (what is read, its value)
NEEDS = {
    "ether": None,
    "vlan": ("ether type", 0x8100),
    "ip": ("protocol", 0x0800),
    "arp": ("protocol", 0x0806),
    "ip6": ("protocol", 0x86DD),
    "icmp": ("l4proto", 1),
    "tcp": ("l4proto", 6),
    "udp": ("l4proto", 17),
    "icmpv6": ("l4proto", 58),
}
#: bits of a header in Ethernet, network or transport
_PLACES: dict[str, tuple[str, int, int, str]] = {
    "ether daddr": ("ll", 0, 48, "mac"),
    "ether saddr": ("ll", 48, 48, "mac"),
    "ether type": ("ll", 96, 16, "ether type"),
    "vlan id": ("ll", 116, 12, "number"),
    "ip dscp": ("nh", 8, 6, "number"),
    "ip ecn": ("nh", 14, 2, "ecn"),
    "ip length": ("nh", 16, 16, "number"),
    "ip id": ("nh", 32, 16, "number"),
    "ip frag-off": ("nh", 48, 16, "number"),
    "ip version": ("nh", 0, 4, "number"),
    "ip6 version": ("nh", 0, 4, "number"),
    "ip ttl": ("nh", 64, 8, "number"),
    "ip protocol": ("nh", 72, 8, "number"),
    "ip saddr": ("nh", 96, 32, "address"),
    "ip daddr": ("nh", 128, 32, "address"),
    "ip6 nexthdr": ("nh", 48, 8, "number"),
    "ip6 hoplimit": ("nh", 56, 8, "number"),
    "ip6 saddr": ("nh", 64, 128, "address"),
    "ip6 daddr": ("nh", 192, 128, "address"),
    "arp operation": ("nh", 48, 16, "number"),
    "arp saddr ether": ("nh", 64, 48, "mac"),
    "icmp type": ("th", 0, 8, "icmp type"),
    "icmp code": ("th", 8, 8, "number"),
    "icmpv6 type": ("th", 0, 8, "icmpv6 type"),
    "icmpv6 code": ("th", 8, 8, "number"),
    "tcp sport": ("th", 0, 16, "number"),
    "tcp dport": ("th", 16, 16, "number"),
    "tcp sequence": ("th", 32, 32, "number"),
    "tcp flags": ("th", 104, 8, "tcp flags"),
    "udp sport": ("th", 0, 16, "number"),
    "udp dport": ("th", 16, 16, "number"),
}
_SYMBOLS: dict[str, dict[str, int]] = {
    "ether type": ETHER_TYPES,
    "ecn": {"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3},
    "icmp type": {
        "echo-reply": 0,
        "destination-unreachable": 3,
        "source-quench": 4,
        "redirect": 5,
        "echo-request": 8,
        "router-advertisement": 9,
        "router-solicitation": 10,
        "time-exceeded": 11,
        "parameter-problem": 12,
        "timestamp-request": 13,
        "timestamp-reply": 14,
    },
    "icmpv6 type": {
        "destination-unreachable": 1,
        "packet-too-big": 2,
        "time-exceeded": 3,
        "parameter-problem": 4,
        "echo-request": 128,
        "echo-reply": 129,
        "nd-router-solicit": 133,
        "nd-router-advert": 134,
        "nd-neighbor-solicit": 135,
        "nd-neighbor-advert": 136,
        "nd-redirect": 137,
    },
    "tcp flags": {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128},
    "ct state": {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64},
}
#: meta key -> the kind of its values
META = {
    "mark": "number",
    "priority": "classid",
    "protocol": "ether type",
    "l4proto": "number",
    "length": "number",
    "iif": "link",
    "oif": "link",
    "iifname": "link",
}
#: the type of a named set's key or a map's value, as nft lists it -> the kind of its values
TYPES = {
    "mark": "number",
    "integer": "number",
    "classid": "classid",
    "iface_index": "link",
    "ifname": "link",
    "ipv4_addr": "address",
    "ipv6_addr": "address",
    "ether_addr": "mac",
    "inet_proto": "number",
    "inet_service": "number",
}


class UnknownWord(Exception):
    """A word of nft's that this module has no number for."""


@dataclass(frozen=True)
class Place:
    """Bits of a frame: ``base`` is nft's word for the header they are counted from (ll, nh or th)."""

    base: str
    offset: int
    bits: int


def place_of(protocol: str, field: str) -> tuple[Place, str]:
    """Say where a named field stands, and of which kind its values are; raises UnknownWord."""
    found = _PLACES.get(f"{protocol} {field}")
    if found is None:
        raise UnknownWord(f"{protocol} {field}")
    base, offset, bits, kind = found
    return Place(base, offset, bits), kind


def number_of(word: object, kind: str) -> int | str:
    """The number that a constant stands for; a link stays a name. Raises UnknownWord."""
    if isinstance(word, bool) or not isinstance(word, (int, str)):
        raise UnknownWord(repr(word))
    if isinstance(word, int) and kind == "ether type":
        raise UnknownWord(f"the frame type {word}, which nft has no name for,")
    if isinstance(word, int) or (kind == "link" and "*" not in word):
        return word
    if word.startswith("0x"):  # what does not fit into 64 bits
        return int(word, 16)
    if word in _SYMBOLS.get(kind, {}):
        return _SYMBOLS[kind][word]
    reader = {"mac": _mac, "address": _address, "classid": _classid}.get(kind)
    if reader is None:
        raise UnknownWord(f'"{word}" as {kind}')
    try:
        return reader(word)
    except ValueError:
        raise UnknownWord(f'"{word}" as {kind}') from None


def _mac(word: str) -> int:
    return int(word.replace(":", ""), 16)


def _address(word: str) -> int:
    return int(ip_address(word))


def _classid(word: str) -> int:
    """Read a packet's priority as tc(8) writes it: major and minor, hexadecimal, or a word."""
    if word in ("none", "root"):
        return 0 if word == "none" else 0xFFFFFFFF
    major, minor = word.split(":")
    return int(major or "0", 16) << 16 | int(minor or "0", 16)
