"""Addresses in a line that tcpdump or conntrack has printed. Pure.

tcpdump (tcpdump(8), "OUTPUT FORMAT") writes ``SOURCE > DESTINATION: ...`` with the port behind a further dot;
before it stand times, interfaces and, with ``-e``, hardware addresses in the same form. conntrack(8) and
/proc/net/nf_conntrack write ``src=SOURCE dst=DESTINATION`` once for the packets of a connection's first
direction and once for the answers that are expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from trscaler_gen.inventory.text import quoted

Address = IPv4Address | IPv6Address
Pair = tuple[Address, Address]

#: no line that shows a packet is longer; what follows is not read
MAX_LINE = 4096

_ARROW = " > "
_HARDWARE = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
_TUPLE = re.compile(r"\bsrc=(\S+) dst=(\S+)")
_ARP = re.compile(r"\bARP(?:, | \(0x0806\))|\b(?:who-has|is-at) ")
_NEIGHBOURS = re.compile(r"ICMP6, (?:neighbor|router) (?:solicitation|advertisement)")
_ERROR = re.compile(
    r"ICMP .*?(?:unreachable|time exceeded|parameter problem)"
    r"|ICMP6, (?:destination unreachable|packet too big|time exceeded|parameter problem)"
)
#: the first of the two lines that ``tcpdump -v`` writes for an IPv4 packet
_HEAD = re.compile(r"\(tos 0x[0-9a-f]+,.*\)$")


class LineError(ValueError):
    """A line that shows no packet to explain; says why, and what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Seen:
    """What a line shows.

    ``pairs`` are source and destination of a packet, or of both directions of a connection. ``hardware`` is
    the frame's destination, empty where the line does not have it. ``is_error``: the packet is an ICMP error,
    and ``about`` the destination of the packet that it quotes, None where the line does not tell.
    """

    pairs: tuple[Pair, ...]
    hardware: str = ""
    is_error: bool = False
    about: Address | None = None


def parse_line(text: str) -> Seen:
    """Read one line; raises LineError."""
    text = text[:MAX_LINE]
    tuples = _TUPLE.findall(text)
    if tuples:
        return Seen(tuple((_address(source), _address(destination)) for source, destination in tuples[:2]))
    if _ARP.search(text):
        raise LineError("ARP has no owner: every node receives it, and all answer alike")
    if _NEIGHBOURS.search(text):
        raise LineError("neighbour discovery has no owner: every node receives it, and all answer alike")
    return _packet(text)


def records(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number the lines, from 1, and put together what ``tcpdump -v`` writes on two.

    Blank lines are left out, and indented ones without addresses: they go on about the packet before.
    """
    head = ""
    for number, line in enumerate(lines, 1):
        if not line.strip() or _goes_on(line):
            continue
        whole = f"{head}{line.rstrip()}"
        head = ""
        if _HEAD.search(whole):
            head = f"{whole} "
        else:
            yield number, whole


def _goes_on(line: str) -> bool:
    return line[0].isspace() and _ARROW not in line and "src=" not in line and not _HEAD.search(line.rstrip())


def _packet(text: str) -> Seen:
    """The first pair of network addresses, and what stands before and behind it."""
    words: tuple[str, str] | None = None
    hardware = ""
    at = text.find(_ARROW)
    while at >= 0:
        source, destination, end = _around(text, at)
        pair = _host(source), _host(destination)
        if pair[0] is not None and pair[1] is not None:
            rest = text[end:]
            is_error = _ERROR.match(rest.partition("] ")[2] if rest.startswith(" [") else rest.lstrip())
            return Seen(((pair[0], pair[1]),), hardware, bool(is_error), _first(rest) if is_error else None)
        if _HARDWARE.fullmatch(source):
            hardware = destination.lower()
        else:
            words = words or (source, destination)
        at = text.find(_ARROW, at + 1)
    raise _no_packet(text, words)


def _no_packet(text: str, words: tuple[str, str] | None) -> LineError:
    if _HEAD.search(text):
        return LineError("tcpdump -v has written this packet on two lines: its addresses are on the next one")
    if words is None:
        return LineError(
            f"no addresses in {quoted(text.strip())}",
            "a line of tcpdump -n, of conntrack -L or -E, or of /proc/net/nf_conntrack is understood",
        )
    name = next(word for word in words if _host(word) is None)
    return LineError(f"{quoted(name)} is not an address", "let addresses be printed as numbers: tcpdump -n")


def _around(text: str, at: int) -> tuple[str, str, int]:
    """The words on both sides of an arrow, and where the second one ends."""
    source = text[text.rfind(" ", 0, at) + 1 : at].rpartition("\t")[2]
    start = at + len(_ARROW)
    end = text.find(" ", start)
    end = len(text) if end < 0 else end
    return source, text[start:end].removesuffix(":").removesuffix(","), end


def _host(word: str) -> Address | None:
    """An address, with or without a port behind a further dot; None if it is neither."""
    return _read(word) or _read(word.rpartition(".")[0])


def _read(word: str) -> Address | None:
    try:
        return ip_address(word.partition("%")[0])
    except ValueError:
        return None


def _address(word: str) -> Address:
    address = _read(word)
    if address is None:
        raise LineError(f"{quoted(word)} is not an address")
    return address


def _first(text: str) -> Address | None:
    """The first address in the words about an ICMP error."""
    return next((found for word in text.split() if (found := _read(word.strip(",:")))), None)
