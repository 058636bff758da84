"""Capture files as Wireshark writes them (draft-ietf-opsawg-pcapng), as a stream of blocks of frames.

Sections may differ in byte order, and their interfaces in link type and clock. Of options only the clock's
resolution is read. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trscaler_gen.simulate.blocks import Flags, Frames, Numbers, ReadLog
from trscaler_gen.simulate.decode import is_known_link, unknown_link
from trscaler_gen.simulate.source import LONGEST, Source

Ticks = NDArray[np.float64]

MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SHORTEST = {_SECTION: 28, _INTERFACE: 20, _OBSOLETE: 32, _SIMPLE: 16, _ENHANCED: 32}
#: where a packet's octets begin in its block
_DATA_AT = {_OBSOLETE: 28, _SIMPLE: 12, _ENHANCED: 28}
_CLOCK_RESOLUTION = 9
_BARE = 12
#: of one section; each of them is looked up for each block of frames
_MOST_INTERFACES = 4096
#: 292 years: what 64 bits hold of a time that says it is later
_LATEST_NS = 2.0**63 - 1024


@dataclass
class _Section:
    """What holds until the next section: byte order, and the interfaces in the order of their numbers.

    Each has its link type, the octets that it captures at most, and the nanoseconds of its clock's ticks.
    """

    order: str = "<"
    links: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    tick_ns: list[float] = field(default_factory=list)


def read_pcapng(source: Source, log: ReadLog) -> Iterator[Frames]:
    """All packets of the capture; what is broken is in the log."""
    reader = _Reader(source, log)
    while reader.advance():
        yield from reader.packets()
    yield from reader.packets()
    reader.tell_end()


class _Reader:
    """Goes from block to block; packets are left where they are until something changes their meaning."""

    def __init__(self, source: Source, log: ReadLog) -> None:
        self._source = source
        self._log = log
        self._section = _Section()
        self._waiting: dict[int, list[int]] = {kind: [] for kind in _DATA_AT}
        self._buffer, self._at = b"", 0
        self._is_broken = False

    def advance(self) -> bool:
        """Go on to where the waiting packets are to be taken; False when nothing comes after them."""
        while not self._is_broken:
            kind, length = self._next_block()
            if kind < 0:
                return self._load()
            if kind in self._waiting:
                self._waiting[kind].append(self._at)
            elif kind in (_SECTION, _INTERFACE):
                if any(self._waiting.values()):
                    return True
                self._note(kind, length)
            self._at += length
        return False

    def _next_block(self) -> tuple[int, int]:
        """The kind and the length of the block that begins here; -1 when it is not whole, or not a block."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < _BARE:
            return -1, 0
        order = self._section.order
        if buffer[at : at + 4] == MAGIC:
            order = _ORDERS.get(buffer[at + 8 : at + 12], "")
            if not order:
                return self._break("a section without a byte order")
        kind, length = struct.unpack_from(f"{order}II", buffer, at)
        if length % 4 or not _SHORTEST.get(kind, _BARE) <= length <= LONGEST:
            return self._break(f"a block of {length} bytes")
        return (kind, length) if at + length <= len(buffer) else (-1, 0)

    def _break(self, what: str) -> tuple[int, int]:
        place = self._source.place(self._buffer, self._at)
        self._log.problem(f"byte {place}", f"{what}: broken, and so nothing after it is read")
        self._is_broken = True
        return -1, 0

    def _load(self) -> bool:
        """Read on; packets that wait are taken first, because their places are in this buffer."""
        if self._is_broken:
            return False
        if any(self._waiting.values()):
            return True
        rest = self._buffer[self._at :]
        self._buffer, self._at = self._source.more(rest), 0
        return len(self._buffer) > len(rest)

    def _note(self, kind: int, length: int) -> None:
        """Take a section's or an interface's header in."""
        block = self._buffer[self._at : self._at + length]
        if kind == _SECTION:
            self._section = _Section(_ORDERS[block[8:12]])
            return
        section = self._section
        if len(section.links) == _MOST_INTERFACES:
            self._break(f"more than {_MOST_INTERFACES} interfaces")
            return
        link_type, _, limit = struct.unpack_from(f"{section.order}HHI", block, 8)
        section.links.append(link_type)
        section.limits.append(limit or LONGEST)
        section.tick_ns.append(_tick_ns(block[16:-4], section.order))
        if not is_known_link(link_type):
            place = self._source.place(self._buffer, self._at)
            self._log.problem(f"interface {len(section.links) - 1}, byte {place}", unknown_link(link_type))

    def packets(self) -> Iterator[Frames]:
        """The packets that wait, as one block of frames for each link type."""
        for kind, waiting in self._waiting.items():
            if waiting:
                yield from self._taken(kind, np.array(waiting))
                waiting.clear()

    def _taken(self, kind: int, at: Numbers) -> Iterator[Frames]:
        words = _Words(self._buffer, self._section.order)
        interface, captured, original, ticks = self._fields(kind, at, words)
        length = words.at(at + 4)
        known = interface < len(self._section.links)
        sound = captured <= length - _DATA_AT[kind] - 4
        agrees = words.at(at + length - 4) == length
        self._tell(at, ~known, "of an interface that the capture does not describe")
        self._tell(at, known & ~sound, "longer than its block")
        self._tell(at, known & sound & ~agrees, "the block's two lengths differ")
        self._log.records += len(at)
        good = known & sound & agrees
        at, interface, captured = at[good], interface[good], captured[good]
        if kind != _SIMPLE and len(at):
            times = ticks[good] * np.array(self._section.tick_ns)[interface]
            self._log.saw(np.minimum(times, _LATEST_NS).astype(np.int64))
        links = np.array(self._section.links, np.int64)[interface]
        original = np.maximum(original[good], captured)
        for link in np.unique(links):
            of = links == link
            starts = at[of] + _DATA_AT[kind]
            yield Frames(self._buffer, int(link), starts, captured[of], original[of])

    def _fields(self, kind: int, at: Numbers, words: _Words) -> tuple[Numbers, Numbers, Numbers, Ticks]:
        """Interface, captured and original length, and time in ticks, of packet blocks of one kind."""
        if kind == _SIMPLE:
            original = words.at(at + 8)
            limit = self._section.limits[0] if self._section.limits else LONGEST
            captured = np.minimum(np.minimum(original, limit), words.at(at + 4) - 16)
            return np.zeros_like(at), captured, original, np.zeros(len(at))
        interface = words.at(at + 8)
        if kind == _OBSOLETE:  # 16 bits, and as many of a count of drops
            interface = interface & 0xFFFF if self._section.order == "<" else interface >> 16
        ticks = words.at(at + 12).astype(np.float64) * 2**32 + words.at(at + 16)
        return interface, words.at(at + 20), words.at(at + 24), ticks

    def _tell(self, at: Numbers, bad: Flags, what: str) -> None:
        for index in np.flatnonzero(bad):
            place = self._source.place(self._buffer, int(at[index]))
            self._log.problem(
                f"record {self._log.records + int(index) + 1}, byte {place}", f"a packet {what}"
            )

    def tell_end(self) -> None:
        """Note what is left of a block that is not whole."""
        rest = len(self._buffer) - self._at
        if rest and not self._is_broken:
            place = self._source.place(self._buffer, self._at)
            self._log.problem(
                f"record {self._log.records + 1}, byte {place}",
                f"the file ends within a block: {rest} bytes of it",
            )


class _Words:
    """32-bit numbers of a buffer, at many places at once."""

    def __init__(self, buffer: bytes, order: str) -> None:
        self._rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(buffer, np.uint8), 4)
        self._type = f"{order}u4"

    def at(self, places: Numbers) -> Numbers:
        return self._rows[places].view(self._type).reshape(len(places)).astype(np.int64)


def _tick_ns(options: bytes, order: str) -> float:
    """Nanoseconds of a tick, from an interface's options; microseconds where they do not say."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(f"{order}HH", options, at)
        if code == _CLOCK_RESOLUTION and length == 1 and at + 4 < len(options):
            exponent = options[at + 4]
            return float(1e9 / (2.0 ** (exponent & 0x7F) if exponent & 0x80 else 10.0 ** min(exponent, 300)))
        if code == 0:
            break
        at += 4 + length + -length % 4
    return 1000.0
