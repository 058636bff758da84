"""Capture files of every kind: what is counted, by which addresses, and what is said of what is broken."""

from __future__ import annotations

import gzip
import random
import struct
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import pytest

from trscaler_gen.simulate.decode import Wanted

from .captures import (
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMP6,
    VIP4,
    VIP6,
    behind,
    block,
    enhanced,
    error,
    ethernet,
    interface,
    mixed,
    obsolete,
    packet,
    pcap,
    section,
    simple,
    udp,
)
from .reads import reading

A4, B4 = IPv4Address("198.51.100.7"), IPv4Address("203.0.113.9")
A6, B6 = IPv6Address("2001:db8::7"), IPv6Address("2001:db8:9::9")
FRAME4, FRAME6 = ethernet(udp(A4, VIP4)), ethernet(udp(A6, VIP6))
FLOW4, FLOW6 = (str(A4), str(VIP4)), (str(A6), str(VIP6))
ORDERS = ["<", ">"]
OTHER_MAC = bytes.fromhex("020000000009")


def ng(order: str, *blocks: bytes) -> bytes:
    return section(order) + interface(order) + b"".join(blocks)


# --- containers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_pcap_in_both_byte_orders_and_clocks(order: str, nano: bool) -> None:
    found = reading(pcap([FRAME4] * 1501 + [FRAME6], order=order, nano=nano))
    assert Counter(found.pairs) == {FLOW4: 1501, FLOW6: 1}
    assert (found.log.records, found.told, found.log.seconds) == (1502, [], 1.501)
    assert found.octets == 1501 * len(FRAME4) + len(FRAME6)


@pytest.mark.parametrize("order", ORDERS)
def test_pcapng_with_every_kind_of_packet(order: str) -> None:
    clock = struct.pack(f"{order}HHB3x", 9, 1, 3)  # milliseconds
    data = section(order) + interface(order) + interface(order, 101, options=clock)
    data += enhanced(order, FRAME4, ticks=5_000_000, options=struct.pack(f"{order}HH", 0, 0))
    data += simple(order, FRAME4) + obsolete(order, FRAME6) + block(order, 0x0BAD, b"whatever")
    data += enhanced(order, udp(B6, VIP6), number=1, ticks=7_500)
    found = reading(data)
    assert Counter(found.pairs) == {FLOW4: 2, FLOW6: 1, (str(B6), str(VIP6)): 1}
    assert (found.log.records, found.told, found.log.seconds) == (4, [], 7.5)


def test_sections_of_both_byte_orders_follow_each_other() -> None:
    data = ng("<", enhanced("<", FRAME4)) + ng(">", enhanced(">", FRAME4)) + ng("<", enhanced("<", FRAME6))
    assert Counter(reading(data).pairs) == {FLOW4: 2, FLOW6: 1}


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
@pytest.mark.parametrize("kind", ["pcap", "pcapng", "gzip"])
def test_the_size_of_the_pieces_makes_no_difference(kind: str, piece: int) -> None:
    frames = mixed(40, seed=1)
    data = {
        "pcap": pcap(frames),
        "pcapng": ng("<", *(enhanced("<", frame) for frame in frames)),
        "gzip": gzip.compress(pcap(frames[:20])) + gzip.compress(pcap(frames[20:])[24:]),
    }[kind]
    whole, found = reading(pcap(frames)), reading(data, piece=piece)
    assert sorted(found.pairs) == sorted(whole.pairs)
    assert (found.packets, found.told) == (40, [])


# --- link types --------------------------------------------------------------------------------------

PLAIN4, PLAIN6 = udp(A4, VIP4), udp(A6, VIP6)
LINKS = {
    "ethernet": (1, FRAME4, FRAME6),
    "raw": (101, PLAIN4, PLAIN6),
    "raw, BSD": (12, PLAIN4, PLAIN6),
    "loop": (108, struct.pack(">I", 2) + PLAIN4, struct.pack(">I", 30) + PLAIN6),
    "null, little-endian": (0, struct.pack("<I", 2) + PLAIN4, struct.pack("<I", 28) + PLAIN6),
    "null, big-endian": (0, struct.pack(">I", 2) + PLAIN4, struct.pack(">I", 24) + PLAIN6),
    "cooked": (113, bytes(14) + b"\x08\x00" + PLAIN4, bytes(14) + b"\x86\xdd" + PLAIN6),
    "cooked, tagged": (113, bytes(14) + b"\x81\x00\0\5\x08\x00" + PLAIN4, bytes(14) + b"\x86\xdd" + PLAIN6),
    "cooked 2": (276, b"\x08\x00" + bytes(18) + PLAIN4, b"\x86\xdd" + bytes(18) + PLAIN6),
    "one tag": (1, ethernet(PLAIN4, [5]), ethernet(PLAIN6, [5])),
    "three tags": (1, ethernet(PLAIN4, [5, 6, 7]), ethernet(PLAIN6, [0, 6, 7])),
}


@pytest.mark.parametrize("name", LINKS)
def test_link_types(name: str) -> None:
    link, frame4, frame6 = LINKS[name]
    found = reading(pcap([frame4, frame6, frame4], link=link))
    assert Counter(found.pairs) == {FLOW4: 2, FLOW6: 1}
    assert not found.log.skipped


def test_an_unknown_link_type_is_named_and_its_frames_are_not_guessed() -> None:
    found = reading(pcap([FRAME4] * 3, link=105))
    assert found.told == [("byte 20", "link type 105 is not read")]
    assert (found.packets, found.log.skipped) == (0, {"link type 105 is not read": 3})


def test_an_unknown_interface_spoils_only_its_own_packets() -> None:
    data = section("<") + interface("<") + interface("<", 147)
    data += enhanced("<", FRAME4) + enhanced("<", FRAME4, number=1) + enhanced("<", FRAME4, number=2)
    found = reading(data)
    assert found.pairs == [FLOW4]
    assert [place.partition(",")[0] for place, _ in found.told] == ["interface 1", "record 3"]


# --- by which addresses ------------------------------------------------------------------------------

QUOTING4, QUOTING6 = error(A4, VIP4, B4), error(A6, VIP6, B6)
PLACED = {
    "an error, by its quote": (QUOTING4, FLOW4),
    "an error of IPv6": (QUOTING6, FLOW6),
    "an error behind extension headers": (behind(HOP_BY_HOP, behind(DESTINATION_OPTIONS, QUOTING6)), FLOW6),
    "an error's first fragment": (behind(FRAGMENT, QUOTING6, fragment=1), FLOW6),
    "an error's later fragment": (behind(FRAGMENT, QUOTING6, fragment=9), (str(B6), str(VIP6))),
    "a later fragment like an error": (packet(A4, VIP4, ICMP, bytes([3]) * 64, fragment=8), FLOW4),
    "an echo request": (packet(A4, VIP4, ICMP, b"\x08" + bytes(63)), FLOW4),
    "a tunnel of IPv4": (packet(A4, VIP4, 4, udp(B4, VIP4)), FLOW4),
    "6in4": (packet(A4, VIP4, 41, udp(B6, VIP6)), FLOW4),
    "GRE": (packet(A4, VIP4, 47, b"\0\0\x08\0" + udp(B4, VIP4)), FLOW4),
    "VXLAN": (udp(A4, VIP4, bytes(8) + ethernet(udp(B4, VIP4))), FLOW4),
    "an extension header": (behind(HOP_BY_HOP, PLAIN6), FLOW6),
}


@pytest.mark.parametrize("name", PLACED)
def test_packets_are_placed_as_the_ruleset_places_them(name: str) -> None:
    whole, flow = PLACED[name]
    assert reading(pcap([ethernet(whole)])).pairs == [flow]


def discovery(kind: int) -> bytes:
    return packet(A6, VIP6, ICMP6, struct.pack("!BBHI", kind, 0, 0, 0) + VIP6.packed)


SKIPPED = {
    "ARP": bytes(12) + b"\x08\x06" + bytes(28),
    "not IP": bytes(12) + b"\x88\xcc" + bytes(40),
    "PPPoE": bytes(12) + b"\x88\x64" + bytes(40),
    "cut off before its IP header": FRAME4[:13],
    "cut off before its addresses": FRAME4[:33],
    "for other destinations": ethernet(udp(A4, B4), to=OTHER_MAC),
    "sent by the cluster": ethernet(udp(VIP6, B6), to=OTHER_MAC),
    "neighbour discovery, which every node answers": ethernet(discovery(135)),
}


@pytest.mark.parametrize("reason", SKIPPED)
def test_what_is_not_counted_is_told_by_its_reason(reason: str) -> None:
    found = reading(pcap([SKIPPED[reason], FRAME4]))
    assert (found.pairs, found.log.skipped, found.told) == ([FLOW4], {reason: 1}, [])


def test_an_error_without_its_quote_is_not_guessed() -> None:
    found = reading(pcap([ethernet(QUOTING4), FRAME4], snaplen=60))
    assert (found.pairs, found.log.skipped) == ([FLOW4], {"ICMP error without its quote": 1})


def test_what_is_sent_to_the_cluster_s_mac_is_decided_by_it_whatever_its_address() -> None:
    assert reading(pcap([ethernet(udp(A4, B4))])).pairs == [(str(A4), str(B4))]
    assert reading(pcap([ethernet(udp(A4, B4), to=OTHER_MAC)])).pairs == []


def test_any_destination_counts_everything() -> None:
    found = reading(pcap([ethernet(udp(A4, B4), to=OTHER_MAC), FRAME4]), Wanted((), (), everything=True))
    assert found.packets == 2


def test_a_snaplen_loses_no_bytes() -> None:
    frame = ethernet(udp(A4, VIP4, bytes(1200)))
    found = reading(pcap([frame] * 3, snaplen=64))
    assert (found.pairs, found.octets) == ([FLOW4] * 3, 3 * len(frame))


# --- broken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", gzip.compress(b"")], ids=["empty", "packed"])
def test_an_empty_file_is_said_to_be(data: bytes) -> None:
    assert reading(data).told == [("byte 0", "the file is empty")]


def test_a_capture_without_packets_is_fine() -> None:
    found = reading(pcap([]))
    assert (found.told, found.log.records) == ([], 0)


ONE = 16 + len(FRAME4)


@pytest.mark.parametrize(
    ("kept", "records", "text"),
    [
        (24 + 2 * ONE - 1, 1, f"the file ends within a record: {len(FRAME4) - 1} of {len(FRAME4)} bytes"),
        (24 + ONE + 5, 1, "the file ends within a record's header: 5 of 16 bytes"),
        (10, 0, "the file ends within its header: 10 of 24 bytes"),
    ],
)
def test_a_capture_that_is_cut_off(kept: int, records: int, text: str) -> None:
    found = reading(pcap([FRAME4] * 2)[:kept])
    ((place, told),) = found.told
    assert (found.packets, told) == (records, text)
    assert place == (f"record 2, byte {24 + ONE}" if records else "byte 0")


def test_a_record_that_cannot_be_believed_ends_the_reading() -> None:
    data = pcap([FRAME4] * 3) + struct.pack("<IIII", 0, 0, 0xFFFFFFF0, 1) + bytes(100)
    found = reading(data)
    text = "a record of 4294967280 bytes: broken, and so nothing after it is read"
    assert (found.packets, found.told) == (3, [(f"record 4, byte {24 + 3 * ONE}", text)])


def test_interfaces_without_end_end_the_reading() -> None:
    found = reading(section("<") + interface("<") * 5000 + enhanced("<", FRAME4))
    ((_, text),) = found.told
    assert text == "more than 4096 interfaces: broken, and so nothing after it is read"


def test_a_pcapng_that_is_cut_off() -> None:
    data = ng("<", enhanced("<", FRAME4), enhanced("<", FRAME4))
    found = reading(data[:-10])
    ((place, text),) = found.told
    assert (found.packets, place) == (1, f"record 2, byte {len(ng('<', enhanced('<', FRAME4)))}")
    assert text.startswith("the file ends within a block")


@pytest.mark.parametrize(
    ("spoilt", "text"),
    [
        (block("<", 6, struct.pack("<5I", 0, 0, 0, 500, 500) + FRAME4), "a packet longer than its block"),
        (enhanced("<", FRAME4)[:-4] + b"\1\0\0\0", "a packet the block's two lengths differ"),
        (struct.pack("<II", 6, 7), "a block of 7 bytes: broken, and so nothing after it is read"),
        (
            struct.pack("<II", 6, 1 << 30),
            "a block of 1073741824 bytes: broken, and so nothing after it is read",
        ),
    ],
)
def test_a_pcapng_with_a_spoilt_block(spoilt: bytes, text: str) -> None:
    found = reading(ng("<", enhanced("<", FRAME4), spoilt.ljust(12, b"\0")))
    assert (found.packets, [told for _, told in found.told]) == (1, [text])


@pytest.mark.parametrize("kept", [30, 100])
def test_gzip_that_is_cut_off_gives_what_is_there(kept: int) -> None:
    frames = mixed(200, seed=3)
    found = reading(gzip.compress(pcap(frames))[:-kept])
    assert any("gzip" in text for _, text in found.told)
    assert 0 < found.packets < 200


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xfd7zXZ\0....", "xz -dc FILE"),
        (b"\xff\xfes\0o\0", "UTF-16"),
        (b"snoop\0\0\0\0\0\0\2", "neither pcap nor pcapng"),
    ],
)
def test_what_cannot_be_read_at_all(data: bytes, text: str) -> None:
    ((place, told),) = reading(data).told
    assert place == "byte 0"
    assert text in told


# --- at random ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [0, 1, 101, 113, 276])
def test_noise_in_frames_is_never_a_fault(link: int) -> None:
    draw = random.Random(link)
    noise = [draw.randbytes(draw.randrange(120)) for _ in range(3000)]
    found = reading(pcap(noise, link=link))
    assert found.packets + sum(found.log.skipped.values()) == 3000 == found.log.records
    everything = reading(pcap(noise, link=link), Wanted((), (), everything=True))
    assert everything.packets + sum(everything.log.skipped.values()) == 3000


@pytest.mark.parametrize("seed", range(40))
def test_captures_with_changed_bytes_are_read_to_some_end(seed: int) -> None:
    draw = random.Random(seed)
    frames = mixed(60, seed)
    kinds = [pcap(frames), ng("<", *(enhanced("<", frame) for frame in frames))]
    kinds.append(gzip.compress(kinds[0]))
    for data in kinds:
        spoilt = bytearray(data)
        for _ in range(draw.choice((1, 10, 200))):
            spoilt[draw.randrange(len(spoilt))] = draw.choice((0, 255, draw.randrange(256)))
        found = reading(bytes(spoilt), piece=draw.choice((50, 1 << 20)))
        assert len(found.log.problems) <= 20
