"""Flows through routers, for a client and a server in namespaces of their own.

flows.py serve | ask JSON | hold | ping. Standard library alone. ``ask`` prints how many flows of each kind
are answered; ``hold`` opens TCP connections and, for each line that it reads, says how many of them still
answer; ``ping`` says for each line how many sources are answered, and how often.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread

SOURCES = 40
PORT = 7
WAIT_S = 3.0
HOSTS = {4: "203.0.113.200", 6: "2001:db8:2::200"}
#: what the routers translate into the host's addresses
PUBLIC = {4: "192.0.2.77", 6: "2001:db8:3::77"}
FORBIDDEN = {4: "192.0.2.99", 6: "2001:db8:3::99"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def source(family: int, number: int) -> str:
    """The client's addresses."""
    return f"198.51.100.{100 + number}" if family == 4 else f"2001:db8:1::{100 + number}"


def connected(family: int, number: int, kind: socket.SocketKind, host: str, wait_s: float) -> socket.socket:
    """A socket from one of the client's addresses to a host."""
    opened = socket.socket(FAMILIES[family], kind)
    opened.settimeout(wait_s)
    try:
        opened.bind((source(family, number), 0))
        opened.connect((host, PORT))
    except OSError:
        opened.close()
        raise
    return opened


def tcp(family: int, number: int, wait_s: float, hosts: Mapping[int, str] = HOSTS) -> bool:
    """Whether a connection opens and answers."""
    with connected(family, number, socket.SOCK_STREAM, hosts[family], wait_s) as opened:
        opened.sendall(b"x" * 4000)
        got = 0
        while data := opened.recv(4000):
            got += len(data)
            if got == 4000:
                return True
        return False


def udp(family: int, number: int, wait_s: float, hosts: Mapping[int, str] = HOSTS) -> bool:
    """Whether a datagram is answered."""
    with connected(family, number, socket.SOCK_DGRAM, hosts[family], wait_s) as opened:
        opened.send(b"x")
        return opened.recv(10) == b"x"


def icmp(family: int, number: int, wait_s: float) -> bool:
    """Whether an ICMP error about a datagram, from another address than it went to, comes back.

    The kernel sends some fifty at once, and then few: so it is asked again.
    """
    with connected(family, number, socket.SOCK_DGRAM, FORBIDDEN[family], wait_s / 10) as opened:
        for _ in range(10):
            try:
                opened.send(b"x")
                opened.recv(10)
            except TimeoutError:
                continue
            except OSError:
                return True
        return False


KINDS: dict[str, Callable[[int, int, float], bool]] = {
    "tcp": tcp,
    "udp": udp,
    "icmp": icmp,
    "nat-tcp": partial(tcp, hosts=PUBLIC),
    "nat-udp": partial(udp, hosts=PUBLIC),
}


def answered(kind: str, family: int, number: int, wait_s: float) -> bool:
    """Whether one flow works."""
    try:
        return KINDS[kind](family, number, wait_s)
    except OSError:
        return False


def ask(kinds: Sequence[str] = ("tcp", "udp", "icmp"), wait_s: float = WAIT_S) -> None:
    """Try every kind from every source."""
    jobs = [(kind, family, number) for kind in kinds for family in FAMILIES for number in range(SOURCES)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        results = list(pool.map(lambda job: answered(job[0], job[1], job[2], wait_s), jobs))
    counts = {f"{kind}{family}": 0 for kind in kinds for family in FAMILIES}
    for (kind, family, _), result in zip(jobs, results, strict=True):
        counts[f"{kind}{family}"] += result
    print(json.dumps(counts))


def hold() -> None:
    """Open connections, and ask on all of them for each line."""
    held = [
        connected(family, number, socket.SOCK_STREAM, HOSTS[family], 20.0)
        for family in FAMILIES
        for number in range(SOURCES)
    ]
    for _ in sys.stdin:
        with ThreadPoolExecutor(len(held)) as pool:
            print(sum(pool.map(still_answers, held)), flush=True)


def still_answers(opened: socket.socket) -> bool:
    """Whether a connection answers."""
    try:
        opened.sendall(b"x")
        return opened.recv(1) == b"x"
    except OSError:
        return False


def ping() -> None:
    """Send an echo request from each IPv4 source for each line; prints how many are answered, and answers."""
    raw = []
    for number in range(SOURCES):
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        opened.bind((source(4, number), 0))
        raw.append(opened)
    print("ready", flush=True)
    for sequence, _ in enumerate(sys.stdin):
        for number, opened in enumerate(raw):
            opened.sendto(echo_request(number, sequence), (HOSTS[4], 0))
        answers = list(echo_replies(raw, sequence))
        print(len(set(answers)), len(answers), flush=True)


def echo_request(number: int, sequence: int) -> bytes:
    """An ICMP message (RFC 792) of no data."""
    words = (0x0800, 0, number, sequence)
    total = sum(words)
    return struct.pack("!4H", words[0], ~(total + (total >> 16)) & 0xFFFF, *words[2:])


def echo_replies(raw: Sequence[socket.socket], sequence: int) -> Iterator[int]:
    """The sources that are answered, until nothing more has come for half a second."""
    while ready := select.select(raw, [], [], 0.5)[0]:
        for opened in ready:
            kind, number, got = struct.unpack("!B3xHH", opened.recv(100)[20:28])
            if kind == 0 and got == sequence:
                yield number


def serve() -> None:
    """Answer everything with itself, for ever."""
    listening = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=500)
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind(("::", PORT))
    Thread(target=echo_datagrams, args=(datagrams,), daemon=True).start()
    print("ready", flush=True)
    while True:
        connection, _ = listening.accept()
        Thread(target=echo, args=(connection,), daemon=True).start()


def echo_datagrams(datagrams: socket.socket) -> None:
    """Answer datagrams."""
    while True:
        data, sender = datagrams.recvfrom(2000)
        datagrams.sendto(data, sender)


def echo(connection: socket.socket) -> None:
    """Answer one connection."""
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["ask", options]:
            ask(**json.loads(options))
        case ["hold"]:
            hold()
        case ["ping"]:
            ping()
