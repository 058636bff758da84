"""Hardware addresses, and the checksum-neutral pair that lets nft rewrite neighbour discovery.

The cluster address is what neighbours learn; the inner address is what the macvlan devices carry and
what never leaves a node. nft can replace one by the other inside a neighbour advertisement, but cannot
mend the ICMPv6 checksum. So the two are chosen with the same one's-complement sum (RFC 1071) over their
three 16-bit words: replacing one by the other leaves any Internet checksum valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_GROUP_BIT = 0x0100
_LOCAL_BIT = 0x0200
_OTHER_BIT = 0x0400
_ONES_COMPLEMENT = 0xFFFF

# 0x53 is "S", as in shared; the lowest bits of the byte before say group (03) or local unicast (02).
_AUTO_MULTICAST = 0x0353
_AUTO_UNICAST = 0x0253


@dataclass(frozen=True, order=True)
class HardwareAddress:
    """A 48-bit Ethernet address."""

    value: int

    @classmethod
    def parse(cls, text: str) -> HardwareAddress:
        """Read ``aa:bb:cc:dd:ee:ff``; raises ValueError on anything else."""
        if not _PATTERN.fullmatch(text):
            raise ValueError(f"{text!r} is not a hardware address like 02:00:5e:00:01:01")
        return cls(int(text.replace(":", ""), 16))

    def __str__(self) -> str:
        return ":".join(f"{byte:02x}" for byte in self.value.to_bytes(6, "big"))

    @property
    def is_group(self) -> bool:
        """True for multicast and broadcast."""
        return bool(self.words[0] & _GROUP_BIT)

    @property
    def words(self) -> tuple[int, int, int]:
        """The three 16-bit words in network order."""
        return (self.value >> 32, self.value >> 16 & 0xFFFF, self.value & 0xFFFF)


def inner_address(cluster: HardwareAddress) -> HardwareAddress:
    """Derive the macvlan's own address: unicast, locally administered, checksum-neutral to ``cluster``.

    The first word takes the bits that it must have, or another local address when it has them already;
    the second word takes up the difference in one's-complement arithmetic.
    """
    first, second, third = cluster.words
    inner_first = first & ~_GROUP_BIT | _LOCAL_BIT
    if inner_first == first:
        inner_first ^= _OTHER_BIT
    inner_second = (second + first - inner_first) % _ONES_COMPLEMENT
    return HardwareAddress(inner_first << 32 | inner_second << 16 | third)


def auto_address(
    mode: Literal["multicast", "stealth", "unicast"], virtual_addresses: Iterable[IPv4Address | IPv6Address]
) -> HardwareAddress:
    """Make a cluster address that shows the lowest virtual address in its last four bytes.

    IPv4 goes before IPv6, of which the last four bytes are taken. Raises ValueError without any address.
    """
    addresses = sorted(virtual_addresses, key=lambda address: (address.version, int(address)))
    if not addresses:
        raise ValueError("a cluster without a virtual address has no hardware address")
    prefix = _AUTO_MULTICAST if mode == "multicast" else _AUTO_UNICAST
    return HardwareAddress(prefix << 32 | int(addresses[0]) & 0xFFFFFFFF)
