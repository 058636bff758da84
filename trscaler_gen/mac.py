"""Hardware addresses, and the checksum-neutral pair that lets nft rewrite neighbour discovery.

The cluster address is what neighbours learn; the inner address is what the macvlan devices carry and
what never leaves a node. nft can replace one by the other inside a neighbour advertisement, but cannot
mend the ICMPv6 checksum. So the two are chosen with the same one's-complement sum (RFC 1071) over their
three 16-bit words: replacing one by the other leaves any Internet checksum valid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_GROUP_BIT = 0x0100
_LOCAL_BIT = 0x0200


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
