"""A file or a pipe of traffic, read piece by piece: never more than a few megabytes of it are in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from trscaler_gen.simulate.blocks import ReadLog

#: octets that are read at a time
CHUNK = 2 << 20
#: the longest record, block or line that is believed in; libpcap writes 262144 octets at most
LONGEST = 16 << 20

Read = Callable[[int], bytes]


class Source:
    """Octets with their places.

    ``offset`` is where what ``more`` and ``peek`` give next begins, in octets from the begin of the traffic
    (what is compressed counts as unpacked).
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._ahead = b""
        self.offset = 0

    def peek(self, size: int) -> bytes:
        """What comes next, without taking it; shorter only at the end."""
        while len(self._ahead) < size and (piece := self._read(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead[:size]

    def more(self, rest: bytes = b"") -> bytes:
        """``rest`` of what was taken before, and the next piece behind it; ``rest`` alone at the end."""
        piece = self._ahead or self._read(CHUNK)
        self._ahead = b""
        self.offset += len(piece)
        return rest + piece if rest else piece

    def more_of(self, size: int) -> bytes:
        """At most ``size`` octets or what was looked at ahead, for a reader of its own."""
        return self.more() if self._ahead else self._read(size)

    def place(self, buffer: bytes, at: int) -> int:
        """Where the octet ``at`` of the latest piece with its rest is."""
        return self.offset - len(buffer) + at


def unpacked(read: Read, log: ReadLog) -> Read:
    """Read what gzip has packed (RFC 1952); where it is broken it ends, and the log says so."""
    return _Gunzip(read, log).read


class _Gunzip:
    def __init__(self, read: Read, log: ReadLog) -> None:
        self._read = read
        self._log = log
        self._packed = b""
        self._position = 0
        self._member = self._new_member()
        self._is_over = False

    @staticmethod
    def _new_member() -> zlib._Decompress:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def read(self, size: int) -> bytes:
        """At most ``size`` octets; none at the end."""
        while not self._is_over:
            if self._member.eof:
                self._packed = self._member.unused_data or self._next_piece()
                self._member = self._new_member()
                if not self._packed.strip(b"\0"):
                    self._is_over = True
                    break
            elif not self._packed:
                self._packed = self._next_piece()
                if not self._packed:
                    self._end("the file ends within its gzip stream")
                    break
            if octets := self._unpack(size):
                return octets
        return b""

    def _next_piece(self) -> bytes:
        piece = self._read(CHUNK)
        self._position += len(piece)
        return piece

    def _unpack(self, size: int) -> bytes:
        try:
            octets = self._member.decompress(self._packed, size)
        except zlib.error as error:
            self._end(f"gzip's stream is broken: {error}")
            return b""
        self._packed = self._member.unconsumed_tail
        return octets

    def _end(self, text: str) -> None:
        self._is_over = True
        self._log.problem(f"byte {self._position} of the packed file", text)
