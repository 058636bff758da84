"""Cluster and inner hardware addresses: what must hold for a packet's checksum to survive the exchange."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trscaler_gen.mac import HardwareAddress, auto_address, inner_address

any_mac = st.integers(0, 2**48 - 1).map(HardwareAddress)
any_ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)


def internet_checksum(data: bytes) -> int:
    """RFC 1071, in the plainest way."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def neighbour_advert(source: IPv6Address, target: IPv6Address, flags: int, mac: HardwareAddress) -> bytes:
    """Pseudo header and ICMPv6 advertisement with a target link-layer option (RFC 4861, 4.4), checksum 0."""
    option = struct.pack("!BB", 2, 1) + mac.value.to_bytes(6, "big")
    message = struct.pack("!BBHI", 136, 0, 0, flags) + target.packed + option
    return source.packed + IPv6Address("ff02::1").packed + struct.pack("!II", len(message), 58) + message


@pytest.mark.parametrize(
    ("cluster", "inner"),
    [
        ("03:00:5d:00:01:01", "02:00:5e:00:01:01"),
        ("02:00:5e:00:01:01", "06:00:5a:00:01:01"),
        ("00:00:5e:00:01:01", "02:00:5c:00:01:01"),  # universally administered: gets the local bit
        ("03:00:ff:ff:00:00", "02:00:01:00:00:00"),  # carries around the end
        ("ff:ff:ff:ff:ff:ff", "fe:ff:01:00:ff:ff"),
    ],
)
def test_inner_address_of_known_clusters(cluster: str, inner: str) -> None:
    assert str(inner_address(HardwareAddress.parse(cluster))) == inner


@given(any_mac)
@example(HardwareAddress(0))
@example(HardwareAddress(2**48 - 1))
def test_inner_address_is_a_local_unicast_address_of_its_own(cluster: HardwareAddress) -> None:
    inner = inner_address(cluster)
    assert not inner.is_group
    assert inner.words[0] & 0x0200
    assert inner != cluster
    assert 0 <= inner.value < 2**48
    assert sum(inner.words) % 0xFFFF == sum(cluster.words) % 0xFFFF


@given(any_mac, any_ipv6, any_ipv6, st.integers(0, 2**32 - 1))
@example(HardwareAddress(0), IPv6Address(0), IPv6Address(0), 0)
def test_exchanging_the_pair_leaves_an_advertisement_valid(
    cluster: HardwareAddress, source: IPv6Address, target: IPv6Address, flags: int
) -> None:
    sent = neighbour_advert(source, target, flags, inner_address(cluster))
    seen = neighbour_advert(source, target, flags, cluster)
    assert internet_checksum(sent) == internet_checksum(seen)


def test_exchanging_any_other_pair_breaks_the_checksum() -> None:
    address = IPv6Address("2001:db8::100")
    cluster = HardwareAddress.parse("03:00:5d:00:01:01")
    other = HardwareAddress.parse("02:00:5d:00:01:01")
    assert internet_checksum(neighbour_advert(address, address, 0, cluster)) != internet_checksum(
        neighbour_advert(address, address, 0, other)
    )


@pytest.mark.parametrize(
    ("mode", "addresses", "expected"),
    [
        ("multicast", ["192.0.2.100"], "03:53:c0:00:02:64"),
        ("stealth", ["192.0.2.100"], "02:53:c0:00:02:64"),
        ("unicast", ["2001:db8::1", "203.0.113.9", "192.0.2.100"], "02:53:c0:00:02:64"),
        ("multicast", ["2001:db8::102", "2001:db8::100"], "03:53:00:00:01:00"),
        ("multicast", ["198.51.100.9", "198.51.100.10"], "03:53:c6:33:64:09"),  # by number, not by text
    ],
)
def test_auto_address_shows_the_lowest_virtual_address(
    mode: Literal["multicast", "stealth", "unicast"], addresses: list[str], expected: str
) -> None:
    found: list[IPv4Address | IPv6Address] = [ip_address(address) for address in addresses]
    mac = auto_address(mode, found)
    assert str(mac) == expected
    assert mac.is_group == (mode == "multicast")


def test_auto_address_needs_an_address() -> None:
    with pytest.raises(ValueError, match="virtual address"):
        auto_address("multicast", [])


@given(any_mac)
def test_text_form_can_be_read_back(mac: HardwareAddress) -> None:
    assert HardwareAddress.parse(str(mac)) == mac


@pytest.mark.parametrize(
    "text", ["", "02:00:5e:00:01", "02:00:5e:00:01:0g", "02005e000101", "02:00:5e:00:01:01\n"]
)
def test_parse_refuses_what_is_no_hardware_address(text: str) -> None:
    with pytest.raises(ValueError, match="not a hardware address"):
        HardwareAddress.parse(text)
