"""Lists of traffic as text: ``source,destination[,packets][,bytes]``, a line each, as a stream.

The first line may name the columns; then they stand in any order, and others among them are passed over.
Fields are separated by commas, semicolons, tabs or bars, and may be quoted (RFC 4180), but hold no line
break. Empty lines and those that begin with # are none.
"""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from trscaler_gen.inventory.text import quoted
from trscaler_gen.simulate.blocks import Block, ReadLog
from trscaler_gen.simulate.decode import Wanted, choose
from trscaler_gen.simulate.hashing import PAIR_WORDS
from trscaler_gen.simulate.source import Source

EXPECTED = "source,destination[,packets][,bytes]"

_NAMES = {
    "source": ("source", "src", "saddr", "source address", "ip.src", "ipv6.src"),
    "destination": ("destination", "dst", "daddr", "destination address", "ip.dst", "ipv6.dst"),
    "packets": ("packets", "pkts"),
    "bytes": ("bytes", "octets"),
}
_SEPARATORS = ",;\t|"
_LONGEST_LINE = 65536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: of one line, and of all lines: sums are kept in 64 bits
_HIGHEST, _HIGHEST_SUM = 2**48, 2.0**62
_MOST_REMEMBERED = 65536


def read_listing(source: Source, wanted: Wanted, log: ReadLog) -> Iterator[Block]:
    """All lines of the list; those that cannot be read are in the log."""
    columns: _Columns | None = None
    counted = 0.0
    for number, lines in _batches(source, log):
        if columns is None:
            first = next((at for at, line in enumerate(lines) if _has_content(line)), None)
            if first is None:
                continue
            columns, is_header = _columns(lines[first], f"line {number + first}", log)
            if columns is None:
                return
            number, lines = number + first + is_header, lines[first + is_header :]
        rows = _Rows(columns, log).read(number, lines)
        counted += rows.most
        if counted > _HIGHEST_SUM:
            log.problem(
                f"line {number}", "the counts add up to more than any traffic; nothing after it is read"
            )
            return
        yield from rows.blocks(wanted, log)


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _batches(source: Source, log: ReadLog) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line, from 1, and lines; one that is too long is an empty one."""
    number, rest, is_cut = 1, b"", False
    has_mark = source.peek(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK
    while len(buffer := source.more(rest)) > len(rest):
        if has_mark:
            buffer, has_mark = buffer.removeprefix(_BYTE_ORDER_MARK), False
        *whole, rest = buffer.split(b"\n")
        if whole and is_cut:
            whole[0], is_cut = b"", False
        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
        yield number, lines
        number += len(lines)
        if len(rest) > _LONGEST_LINE:
            if not is_cut:
                log.problem(f"line {number}", f"longer than {_LONGEST_LINE} bytes")
            rest, is_cut = b"", True
    if rest and not is_cut:
        yield number, [rest.decode("utf-8", "replace").rstrip("\r")]


@dataclass(frozen=True)
class _Columns:
    """Where the fields are; ``packets`` and ``bytes`` are -1 where they are not told."""

    separator: str
    count: int
    source: int = 0
    destination: int = 1
    packets: int = -1
    bytes: int = -1

    @property
    def has(self) -> frozenset[str]:
        """The measures that can be counted."""
        told = {"packets": self.packets, "bytes": self.bytes}
        return frozenset({"flows", *(name for name, at in told.items() if at >= 0)})

    def fields(self, line: str) -> Sequence[str]:
        """The fields of a line."""
        if '"' not in line:
            return line.split(self.separator)
        return next(csv.reader([line], delimiter=self.separator, skipinitialspace=True))


def _columns(line: str, place: str, log: ReadLog) -> tuple[_Columns | None, bool]:
    """Read the first line; none, and a line in the log, if it does not say where the addresses are."""
    separator = max(_SEPARATORS, key=line.count)
    try:
        fields = [field.strip() for field in _Columns(separator, 0).fields(line)]
    except csv.Error as error:
        log.problem(place, f"not a line of CSV: {error}")
        return None, False
    columns: _Columns | None
    if _packed(fields[0]) is None:
        columns = _named(fields, separator)
        trouble = (
            "the header has no source and destination"
            if len(fields) > 1
            else "neither addresses nor a header"
        )
    else:
        places = {"packets": 2, "bytes": 3}
        known = {name: at for name, at in places.items() if at < len(fields)}
        columns = _Columns(separator, len(fields), **known) if 2 <= len(fields) <= 4 else None
        trouble = f"{len(fields)} columns and no header that names them"
    if columns is None:
        log.problem(place, f"{trouble}: {quoted(line)}; expected {EXPECTED}")
        return None, False
    log.has = columns.has
    return columns, _packed(fields[0]) is None


def _named(fields: Sequence[str], separator: str) -> _Columns | None:
    names = [field.lower() for field in fields]
    found = {
        column: next((at for at, name in enumerate(names) if name in known), -1)
        for column, known in _NAMES.items()
    }
    if found["source"] < 0 or found["destination"] < 0:
        return None
    return _Columns(separator, len(fields), **found)


@dataclass
class _Rows:
    """The rows of one batch, gathered by family."""

    columns: _Columns
    log: ReadLog
    addresses: dict[int, list[bytes]] = field(default_factory=lambda: {4: [], 6: []})
    packets: dict[int, list[int]] = field(default_factory=lambda: {4: [], 6: []})
    octets: dict[int, list[int]] = field(default_factory=lambda: {4: [], 6: []})

    def read(self, number: int, lines: Iterable[str]) -> _Rows:
        """Take lines in; the first one's number is ``number``."""
        for place, line in enumerate(lines, number):
            if not _has_content(line):
                continue
            self.log.records += 1
            try:
                self._add(self.columns.fields(line))
            except (ValueError, csv.Error) as error:
                self.log.problem(f"line {place}", str(error))
        return self

    def _add(self, fields: Sequence[str]) -> None:
        """Raises ValueError, and then nothing was added."""
        columns = self.columns
        if len(fields) != columns.count:
            raise ValueError(f"{len(fields)} columns where {columns.count} are expected")
        source = self._address(fields[columns.source])
        destination = self._address(fields[columns.destination])
        if len(source) != len(destination):
            raise ValueError("source and destination are of different families")
        packets = _count(fields[columns.packets]) if columns.packets >= 0 else 0
        octets = _count(fields[columns.bytes]) if columns.bytes >= 0 else 0
        family = 4 if len(source) == 4 else 6
        self.addresses[family] += (source, destination)
        self.packets[family].append(packets)
        self.octets[family].append(octets)

    @staticmethod
    def _address(text: str) -> bytes:
        packed = _packed(text.strip())
        if packed is None:
            raise ValueError(f"{quoted(text)} is not an address")
        return packed

    @property
    def most(self) -> float:
        """The larger of all packets and all bytes."""
        return float(max(sum(map(sum, counts.values())) for counts in (self.packets, self.octets)))

    def blocks(self, wanted: Wanted, log: ReadLog) -> Iterator[Block]:
        """What of the rows is the cluster's."""
        for family, addresses in self.addresses.items():
            if addresses:
                pairs = np.frombuffer(b"".join(addresses), "<u4").reshape(-1, PAIR_WORDS[family])
                mine = choose(pairs, np.zeros(len(pairs), bool), wanted, log)
                packets, octets = np.array(self.packets[family]), np.array(self.octets[family])
                yield Block(family, pairs[mine], packets[mine], octets[mine])


@lru_cache(_MOST_REMEMBERED)
def _packed(text: str) -> bytes | None:
    """The octets of an address; None if it is none."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None


def _count(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 17 or int(text) > _HIGHEST:
        raise ValueError(f"{quoted(text)} is not a count")
    return int(text)
