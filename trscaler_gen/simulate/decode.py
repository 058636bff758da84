"""From frames to the pairs of addresses by which the cluster places them, as its ruleset would.

What is looked at is what ``templates/ruleset.nft.j2`` looks at: the outer IP header alone, so that fragments
and everything in a tunnel follow it; in an ICMP error the addresses of the packet that it quotes. VLAN tags
are passed over. Link types are those of tcpdump.org's list. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from trscaler_gen.mac import HardwareAddress
from trscaler_gen.simulate.blocks import Block, Flags, Frames, Numbers, Octets, ReadLog
from trscaler_gen.simulate.hashing import Words

IPV4, IPV6, NOT_IP = 0x0800, 0x86DD, 0
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
_MOST_TAGS = 4
_OTHER_PROTOCOLS = {0x0806: "ARP", 0x8863: "PPPoE", 0x8864: "PPPoE", 0x8847: "MPLS", 0x8848: "MPLS"}
#: the address family of IPv6 on Linux; NetBSD; FreeBSD; macOS
_AF_INET, _AF_INET6 = 2, (10, 24, 28, 30)

_ICMP, _ICMP6 = 1, 58
_ICMP_ERRORS, _ICMP6_ERRORS = (3, 11, 12), (1, 2, 3, 4)
_NEIGHBOUR_DISCOVERY = (135, 136)
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION_OPTIONS = 0, 43, 44, 51, 60
_EXTENSIONS = (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION_OPTIONS)
_MOST_EXTENSIONS = 16

#: at the end of each buffer, so that a read of a header that is cut off stays inside
PADDING = 64

NOT_OURS = "for other destinations"
ANSWERS = "sent by the cluster"
CUT_OFF = "cut off before its addresses"
QUOTE_CUT_OFF = "ICMP error without its quote"
DISCOVERY = "neighbour discovery, which every node answers"


@dataclass(frozen=True)
class Wanted:
    """What is for the cluster: sent to one of these addresses, or to one of these MACs; or everything."""

    addresses: Sequence[IPv4Address | IPv6Address]
    macs: Sequence[HardwareAddress]
    everything: bool = False

    def words(self, family: int) -> list[Words]:
        """The addresses of a family, as rows of words."""
        found = [address.packed for address in self.addresses if address.version == family]
        return [np.frombuffer(packed, "<u4") for packed in found]


def decode(frames: Frames, wanted: Wanted, log: ReadLog) -> Iterator[Block]:
    """The packets among the frames that are the cluster's; the log is told of all others."""
    layer = _LINKS.get(frames.link_type)
    if layer is None:
        log.skip(unknown_link(frames.link_type), len(frames))
        return
    view = _View(frames)
    network = layer(view)
    log.skip("cut off before its IP header", int((network.protocol < 0).sum()))
    others = (network.protocol != IPV4) & (network.protocol != IPV6) & (network.protocol >= 0)
    _skip_others(network.protocol[others], log)
    to_mac = _to_macs(view, wanted) if frames.link_type == _ETHERNET else np.zeros(len(frames), bool)
    for family, protocol in ((4, IPV4), (6, IPV6)):
        chosen = np.flatnonzero(network.protocol == protocol)
        if len(chosen):
            packets = _Packets(family, view.of(chosen), network.at[chosen], to_mac[chosen])
            yield from _counted(packets, network.tagged[chosen], wanted, log)


def unknown_link(link_type: int) -> str:
    """Say that a link type is not read."""
    return f"link type {link_type} is not read"


def is_known_link(link_type: int) -> bool:
    """Whether frames of this type can be read."""
    return link_type in _LINKS


def _skip_others(protocols: Numbers, log: ReadLog) -> None:
    for protocol, count in zip(*np.unique(protocols, return_counts=True), strict=True):
        log.skip(_OTHER_PROTOCOLS.get(int(protocol), "not IP"), int(count))


# --- octets at places --------------------------------------------------------------------------------


class _View:
    """Frames with the means to read fields of all of them at once; nothing is read beyond the buffer."""

    def __init__(self, frames: Frames, octets: Octets | None = None) -> None:
        self.frames = frames
        self.starts = frames.starts
        self.ends = frames.starts + frames.captured
        if octets is None:
            octets = np.frombuffer(frames.buffer + bytes(PADDING), np.uint8)
        self.octets = octets

    def of(self, chosen: Numbers) -> _View:
        """Some of the frames."""
        frames = self.frames
        part = Frames(
            frames.buffer,
            frames.link_type,
            frames.starts[chosen],
            frames.captured[chosen],
            frames.original[chosen],
        )
        return _View(part, self.octets)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, at: Numbers, width: int) -> Octets:
        """``width`` octets from each of the places ``at``, as rows."""
        rows = np.lib.stride_tricks.sliding_window_view(self.octets, width)
        taken: Octets = rows[np.minimum(at, len(rows) - 1)]
        return taken

    def number(self, at: Numbers, width: int = 1, order: str = ">") -> Numbers:
        """The unsigned number of 1, 2 or 4 octets at each place."""
        taken = self.take(at, width)
        return taken.view(f"{order}u{width}").reshape(len(at)).astype(np.int64)


# --- link layers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Network:
    """Where each frame's network header is, and its EtherType; -1 where the frame ends before it."""

    protocol: Numbers
    at: Numbers
    tagged: Flags


def _typed(view: _View, protocol_at: Numbers, at: Numbers) -> _Network:
    """A frame that has an EtherType, maybe that of a VLAN tag; 802.3's lengths are none (802.3, 3.2.6)."""
    protocol = view.number(protocol_at, 2)
    tagged = np.zeros(len(view), bool)
    for _ in range(_MOST_TAGS):
        has_tag = np.isin(protocol, _VLAN_TAGS)
        if not has_tag.any():
            break
        tagged |= has_tag
        protocol = np.where(has_tag, view.number(at + 2, 2), protocol)
        at = at + 4 * has_tag
    return _Network(np.where(at > view.ends, -1, protocol), at, tagged)


def _ethernet(view: _View) -> _Network:
    return _typed(view, view.starts + 12, view.starts + 14)


def _cooked(view: _View) -> _Network:
    return _typed(view, view.starts + 14, view.starts + 16)


def _cooked2(view: _View) -> _Network:
    return _typed(view, view.starts, view.starts + 20)


def _raw(view: _View) -> _Network:
    """The packet itself, which says in its first four bits what it is."""
    version = view.number(view.starts) >> 4
    protocol = np.select([version == 4, version == 6], [IPV4, IPV6], NOT_IP)
    return _untagged(view, protocol, view.starts)


def _loopback(view: _View) -> _Network:
    """BSD's: the address family in the byte order of the host that captured, or of the network."""
    protocol = np.full(len(view), NOT_IP)
    for order in "<>":
        family = view.number(view.starts, 4, order)
        protocol[family == _AF_INET] = IPV4
        protocol[np.isin(family, _AF_INET6)] = IPV6
    return _untagged(view, protocol, view.starts + 4)


def _untagged(view: _View, protocol: Numbers, at: Numbers) -> _Network:
    return _Network(np.where(at >= view.ends, -1, protocol), at, np.zeros(len(view), bool))


_ETHERNET = 1
_LINKS: dict[int, Callable[[_View], _Network]] = {
    0: _loopback,
    _ETHERNET: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    108: _loopback,
    113: _cooked,
    228: _raw,
    229: _raw,
    276: _cooked2,
}


# --- packets -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Packets:
    """Packets of one family; ``at`` is where each header begins."""

    family: int
    view: _View
    at: Numbers
    to_mac: Flags

    @property
    def width(self) -> int:
        """Octets of an address."""
        return 4 if self.family == 4 else 16

    @property
    def addresses_at(self) -> int:
        """Where the source is, from the header's begin; the destination follows."""
        return 12 if self.family == 4 else 8

    def of(self, chosen: Numbers) -> _Packets:
        return _Packets(self.family, self.view.of(chosen), self.at[chosen], self.to_mac[chosen])

    def pairs(self) -> Words:
        """Sources and destinations."""
        return _words(self.view.take(self.at + self.addresses_at, 2 * self.width))


def _counted(packets: _Packets, tagged: Flags, wanted: Wanted, log: ReadLog) -> Iterator[Block]:
    is_whole = packets.at + packets.addresses_at + 2 * packets.width <= packets.view.ends
    log.skip(CUT_OFF, int((~is_whole).sum()))
    packets, tagged = packets.of(np.flatnonzero(is_whole)), tagged[is_whole]
    pairs = packets.pairs()
    mine = np.flatnonzero(choose(pairs, packets.to_mac, wanted, log))
    if not len(mine):
        return
    placed, pairs = _placed(packets.of(mine), pairs[mine], log)
    mine = mine[placed]
    log.tagged += int(tagged[mine].sum())
    octets = packets.view.frames.original[mine]
    yield Block(packets.family, pairs[placed], np.ones(len(mine), np.int64), octets)


def choose(pairs: Words, to_mac: Flags, wanted: Wanted, log: ReadLog) -> Flags:
    """Which packets of one family are the cluster's; the log is told of the others."""
    half = pairs.shape[1] // 2
    known = wanted.words(4 if half == 1 else 6)
    mine = to_mac | _is_one_of(pairs[:, half:], known) | wanted.everything
    others = pairs[~mine]
    answers = int(_is_one_of(others[:, :half], known).sum())
    log.skip(ANSWERS, answers)
    log.skip(NOT_OURS, len(others) - answers)
    return mine


def _is_one_of(addresses: Words, known: Sequence[Words]) -> Flags:
    found = np.zeros(len(addresses), bool)
    if known and len(known[0]) == 1:
        return np.isin(addresses[:, 0], known)
    for address in known:
        found |= (addresses == address).all(axis=1)
    return found


def _to_macs(view: _View, wanted: Wanted) -> Flags:
    """Frames that the ruleset decides about, whatever address is inside."""
    found = np.zeros(len(view), bool)
    destinations = view.take(view.starts, 6)
    for mac in wanted.macs:
        found |= (destinations == np.frombuffer(mac.value.to_bytes(6, "big"), np.uint8)).all(axis=1)
    return found & (view.ends - view.starts >= 6)


def _placed(packets: _Packets, pairs: Words, log: ReadLog) -> tuple[Flags, Words]:
    """Which packets a hash places, and by which addresses: an ICMP error's are those that it quotes."""
    transport = _transport4(packets) if packets.family == 4 else _transport6(packets)
    errors, quoted_at = (_ICMP_ERRORS, 20) if packets.family == 4 else (_ICMP6_ERRORS, 16)
    placed = np.ones(len(pairs), bool)
    icmp = np.flatnonzero(transport.is_icmp)
    if not len(icmp):
        return placed, pairs
    at, ends = transport.at[icmp], packets.view.ends[icmp]
    kind = np.where(at < ends, packets.view.number(at), -1)
    if packets.family == 6:
        placed[icmp[np.isin(kind, _NEIGHBOUR_DISCOVERY)]] = False
        log.skip(DISCOVERY, int(np.isin(kind, _NEIGHBOUR_DISCOVERY).sum()))
    is_error = np.isin(kind, errors)
    has_quote = at + quoted_at + 2 * packets.width <= ends
    lost = (kind < 0) | (is_error & ~has_quote)
    placed[icmp[lost]] = False
    log.skip(QUOTE_CUT_OFF, int(lost.sum()))
    quoting = is_error & has_quote
    return placed, _with_quotes(packets, pairs, icmp[quoting], at[quoting] + quoted_at)


def _with_quotes(packets: _Packets, pairs: Words, rows: Numbers, at: Numbers) -> Words:
    """The quoted packet was sent by the cluster: its destination is the client."""
    quoted = _words(packets.view.take(at, 2 * packets.width))
    half = quoted.shape[1] // 2
    pairs[rows, :half], pairs[rows, half:] = quoted[:, half:], quoted[:, :half]
    return pairs


def _words(octets: Octets) -> Words:
    """Rows of octets as rows of words."""
    words: Words = octets.view("<u4")
    return words


@dataclass(frozen=True)
class _Transport:
    """Where the transport header is, and whether it is ICMP's and there at all."""

    at: Numbers
    is_icmp: Flags


def _transport4(packets: _Packets) -> _Transport:
    """As the kernel finds it (``__nft_set_pktinfo_ipv4_validate``): not in a later fragment."""
    view, at = packets.view, packets.at
    head = view.take(at, 12)
    header = (head[:, 0] & 0xF).astype(np.int64) * 4
    length = head[:, 2].astype(np.int64) << 8 | head[:, 3]
    sound = (head[:, 0] >> 4 == 4) & (header >= 20) & (length >= header) & _arrived_whole(packets, length)
    is_later = (head[:, 6] & 0x1F | head[:, 7]) != 0
    return _Transport(at + header, sound & ~is_later & (head[:, 9] == _ICMP))


def _transport6(packets: _Packets) -> _Transport:
    """As the kernel finds it: behind the extension headers (``ipv6_find_hdr``, RFC 8200, 4)."""
    view, at = packets.view, packets.at
    head = view.take(at, 8)
    length = (head[:, 4].astype(np.int64) << 8 | head[:, 5]) + 40
    following, at, first = head[:, 6].astype(np.int64), at + 40, np.ones(len(at), bool)
    active = np.flatnonzero(np.isin(following, _EXTENSIONS))
    for _ in range(_MOST_EXTENSIONS):
        if not len(active):
            break
        extension = view.take(at[active], 4).astype(np.int64)
        kind = following[active]
        offset = extension[:, 2] << 8 | extension[:, 3] & 0xF8
        first[active[(kind == _FRAGMENT) & (offset != 0)]] = False
        units = np.where(kind == _AUTHENTICATION, (extension[:, 1] + 2) * 4, (extension[:, 1] + 1) * 8)
        at[active] += np.where(kind == _FRAGMENT, 8, units)
        following[active] = extension[:, 0]
        active = active[np.isin(following[active], _EXTENSIONS) & (at[active] < view.ends[active])]
    sound = (head[:, 0] >> 4 == 6) & _arrived_whole(packets, length)
    return _Transport(at, sound & first & (following == _ICMP6))


def _arrived_whole(packets: _Packets, length: Numbers) -> Flags:
    """Whether as much was on the wire as the header says: the kernel looks no further else."""
    whole: Flags = packets.at - packets.view.starts + length <= packets.view.frames.original
    return whole
