"""Frames in arrays: real bytes, so that the rules read what they would read on the wire. Pure.

A frame keeps the 802.1Q tag that it came with; what the kernel calls its protocol is the packet's in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trscaler_gen.proof.words import Place

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

#: bytes of Ethernet's header, and of an 802.1Q tag
ETHER_BYTES = 14
TAG_BYTES = 4


@dataclass(frozen=True)
class Layout:
    """What frames of one kind have in common.

    ``network`` and ``transport`` are where these headers begin, in bytes; ``transport`` is -1 where the rules
    cannot read it. ``l4proto`` is -1 for what is not IP; ``state`` are the bits of nft's ``ct state``.
    """

    network: int
    transport: int
    protocol: int
    l4proto: int
    state: int


@dataclass
class Frames:
    """Frames of several kinds, one after the other; what was read of them once is kept."""

    data: Bytes
    length: Indices
    network: Indices
    transport: Indices
    protocol: Numbers
    l4proto: Indices
    state: Numbers
    kept: dict[object, tuple[Numbers, Flags]] = field(default_factory=dict)
    kept_codes: dict[object, Indices] = field(default_factory=dict)
    kept_flags: dict[object, tuple[Flags, Flags]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.length)

    def bits(self, place: Place) -> tuple[Numbers, Flags]:
        """Read at most 64 bits of each frame; the flags say where the frame is long enough."""
        if place not in self.kept:
            data, valid = self.bytes_at(Place(place.base, place.offset // 8 * 8, _whole(place)))
            number = np.zeros(self.count, np.uint64)
            for column in range(data.shape[1]):
                number = number << np.uint64(8) | data[:, column]
            behind = _whole(place) - place.offset % 8 - place.bits
            mask = (1 << place.bits) - 1
            self.kept[place] = (number >> np.uint64(behind) & np.uint64(mask), valid)
        return self.kept[place]

    def bytes_at(self, place: Place) -> tuple[Bytes, Flags]:
        """Read whole bytes of each frame, a row each."""
        start = {"ll": np.zeros(self.count, np.int64), "nh": self.network, "th": self.transport}[place.base]
        first = start + place.offset // 8
        columns = first[:, None] + np.arange(place.bits // 8)
        valid = (start >= 0) & (first + place.bits // 8 <= self.length)
        columns = np.clip(columns, 0, self.data.shape[1] - 1)
        return np.take_along_axis(self.data, columns, axis=1), valid


def _whole(place: Place) -> int:
    """How many bits the bytes have that hold these bits."""
    return (place.offset + place.bits + 7) // 8 * 8 - place.offset // 8 * 8


def frames(groups: Sequence[tuple[Layout, Bytes]]) -> Frames:
    """Put groups of frames into one array, in order."""
    width = max(data.shape[1] for _, data in groups)
    sizes = [len(data) for _, data in groups]

    def each(values: Sequence[int]) -> Indices:
        return np.repeat(np.array(values, np.int64), sizes)

    return Frames(
        data=np.concatenate([np.pad(data, ((0, 0), (0, width - data.shape[1]))) for _, data in groups]),
        length=each([data.shape[1] for _, data in groups]),
        network=each([layout.network for layout, _ in groups]),
        transport=each([layout.transport for layout, _ in groups]),
        protocol=each([layout.protocol for layout, _ in groups]).astype(np.uint64),
        l4proto=each([layout.l4proto for layout, _ in groups]),
        state=each([layout.state for layout, _ in groups]).astype(np.uint64),
    )
