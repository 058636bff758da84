"""Reading of traffic from memory, for tests."""

from __future__ import annotations

import io
from dataclasses import dataclass
from ipaddress import ip_address

from trscaler_gen.mac import HardwareAddress
from trscaler_gen.simulate.blocks import Block, ReadLog
from trscaler_gen.simulate.decode import Wanted
from trscaler_gen.simulate.reading import read_traffic

from .captures import CLUSTER_MAC, VIP4, VIP6

WANTED = Wanted((VIP4, VIP6), (HardwareAddress(int.from_bytes(CLUSTER_MAC, "big")),))


@dataclass
class Reading:
    """Everything that came out."""

    blocks: list[Block]
    log: ReadLog

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and destination by which each packet is placed, in order within each block."""
        return [
            (str(ip_address(row[: len(row) // 2])), str(ip_address(row[len(row) // 2 :])))
            for block in self.blocks
            for row in (pair.tobytes() for pair in block.pairs)
        ]

    @property
    def packets(self) -> int:
        """All packets."""
        return sum(int(block.packets.sum()) for block in self.blocks)

    @property
    def octets(self) -> int:
        """All octets."""
        return sum(int(block.octets.sum()) for block in self.blocks)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Problems, as position and text."""
        return [(problem.position, problem.text) for problem in self.log.problems]


def reading(data: bytes, wanted: Wanted = WANTED, piece: int = 1 << 30) -> Reading:
    """Read ``data``, in pieces of at most ``piece`` octets."""
    stream, log = io.BytesIO(data), ReadLog()
    blocks = list(read_traffic(lambda size: stream.read(min(size, piece)), wanted, log))
    return Reading(blocks, log)
