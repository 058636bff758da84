"""Capture files as tcpdump writes them (draft-ietf-opsawg-pcap), as a stream of blocks of frames. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from trscaler_gen.simulate.blocks import Frames, Numbers, ReadLog
from trscaler_gen.simulate.decode import is_known_link, unknown_link
from trscaler_gen.simulate.source import LONGEST, Source

#: the first four octets -> struct's letter for the byte order, and nanoseconds of the times' fractions
MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}

_FILE_HEADER = 24
_RECORD_HEADER = 16


def read_pcap(source: Source, log: ReadLog) -> Iterator[Frames]:
    """All records of the capture; what is broken at its end is in the log."""
    header = source.peek(_FILE_HEADER)
    order, fraction_ns = MAGICS[header[:4]]
    if len(header) < _FILE_HEADER:
        log.problem("byte 0", f"the file ends within its header: {len(header)} of {_FILE_HEADER} bytes")
        return
    # The upper bits say whether frames end with their checksum.
    (link_type,) = struct.unpack_from(f"{order}H", header, 20 if order == "<" else 22)
    if not is_known_link(link_type):
        log.problem("byte 20", unknown_link(link_type))
    buffer, at = source.more(), _FILE_HEADER
    while True:
        starts, at = _chain(buffer, at, order)
        if starts:
            yield _frames(buffer, np.array(starts), (order, fraction_ns, link_type), log)
        if (too_long := _length(buffer, at, order)) > LONGEST:
            place = f"record {log.records + 1}, byte {source.place(buffer, at)}"
            log.problem(place, f"a record of {too_long} bytes: broken, and so nothing after it is read")
            return
        rest = buffer[at:]
        buffer, at = source.more(rest), 0
        if len(buffer) == len(rest):
            break
    if rest:
        _tell_end(rest, order, f"record {log.records + 1}, byte {source.place(rest, 0)}", log)


def _chain(buffer: bytes, at: int, order: str) -> tuple[list[int], int]:
    """Where the records that are whole begin, and where the first one that is not does."""
    unpack = struct.Struct(f"{order}I").unpack_from
    starts: list[int] = []
    add, end = starts.append, len(buffer)
    last = end - _RECORD_HEADER
    while at <= last:
        following = at + _RECORD_HEADER + unpack(buffer, at + 8)[0]
        if following > end:
            break
        add(at)
        at = following
    return starts, at


def _length(buffer: bytes, at: int, order: str) -> int:
    """What the record says that it holds; 0 where its header is not whole."""
    if at + _RECORD_HEADER > len(buffer):
        return 0
    return int(struct.unpack_from(f"{order}I", buffer, at + 8)[0])


def _frames(buffer: bytes, starts: Numbers, how: tuple[str, int, int], log: ReadLog) -> Frames:
    order, fraction_ns, link_type = how
    octets = np.frombuffer(buffer, np.uint8)
    headers = np.lib.stride_tricks.sliding_window_view(octets, _RECORD_HEADER)[starts]
    seconds, fraction, captured, original = headers.view(f"{order}u4").astype(np.int64).T
    log.records += len(starts)
    log.saw(seconds * 1_000_000_000 + fraction * fraction_ns)
    return Frames(buffer, link_type, starts + _RECORD_HEADER, captured, np.maximum(captured, original))


def _tell_end(rest: bytes, order: str, place: str, log: ReadLog) -> None:
    if len(rest) < _RECORD_HEADER:
        log.problem(place, f"the file ends within a record's header: {len(rest)} of {_RECORD_HEADER} bytes")
        return
    there, said = len(rest) - _RECORD_HEADER, _length(rest, 0, order)
    log.problem(place, f"the file ends within a record: {there} of {said} bytes")
