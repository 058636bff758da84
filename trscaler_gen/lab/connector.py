"""Keep TCP connections to virtual addresses in use, and see which of them break, when and how.

Runs alone inside the client's network namespace: the standard library only, one thread, one epoll. There are
three kinds of connections: long ones ask every interval, idle ones ask seldom, short ones ask once. A request
is a line with the number of the connection and of the request; the answer is that line after the node's name.
Where a long or idle connection ends or breaks, the next one is opened from the same source.

A request waits for its answer, as a client's does. While it waits, there is always a packet on its way: the
kernel repeats what nobody has acknowledged, and if all is acknowledged, the next request is sent. So a
connection that nobody knows any more always gives an occasion to be reset, and silence is a hang.

It says "started" once every long and idle connection has been answered or has failed. It writes what it has
seen so far as one line of JSON whenever it is told anything, and for the last time after its time is over or
its standard input has ended.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import heapq
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

BATCH = 32
LATE_S = 0.010
SLOW_S = 0.150
#: how often a connection that waits is looked at
LOOK_S = 0.1
RETRY_S = 0.1
OPENING_S = 0.2
NEVER = float("inf")
IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; Python's socket module does not name it
SIOCOUTQ = 0x5411  # <linux/sockios.h>: bytes not acknowledged yet; the end of the stream counts as one
NO_LINGER = struct.pack("ii", 1, 0)

CONNECT, REQUEST, NOTHING, END = "connect", "request", "nothing", "end"
REASONS = {
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EPROTO: "wrong answer",
}


class Tally:
    """What the connections of one kind and family have seen so far."""

    def __init__(self) -> None:
        self.opened = self.closed = self.broken = self.answered = self.slow = self.strayed = 0
        self.slowest_s = 0.0
        self.by_node: Counter[bytes] = Counter()


class Seat:
    """A place where one long-lived connection follows the other."""

    def __init__(
        self, load: Connector, kind: str, route: tuple[str, str], interval_s: float, part: float
    ) -> None:
        self.load, self.kind, self.route, self.interval_s = load, kind, route, interval_s
        self.due = part * interval_s  # ``part``: its place among all of its kind, from 0, less than 1
        self.life_s = load.life_s * (1 - part)  # the first lives end one after the other
        self.ready = False

    def open(self, now: float) -> None:
        """Open a connection, unless it is the end."""
        if self.load.stopping:
            return
        connection = Connection(self.load, self.kind, self.route, self)
        connection.interval_s = self.interval_s
        connection.due = self.load.start + self.due
        connection.life_until = now + self.life_s
        self.life_s = self.load.life_s
        connection.open()

    def is_ready(self) -> None:
        """Its first connection was answered, or has failed."""
        if not self.ready:
            self.ready = True
            self.load.unready -= 1

    def is_vacant(self, answered: bool) -> None:
        """Open the next connection: at once, or after a while if nobody ever answered."""
        self.is_ready()
        self.load.at(time.monotonic() + (0 if answered else RETRY_S), self.open)


class Connection:
    """One connection and its requests."""

    interval_s = life_until = due = NEVER

    def __init__(self, load: Connector, kind: str, route: tuple[str, str], seat: Seat | None = None) -> None:
        self.load, self.kind, self.seat = load, kind, seat
        self.source, self.destination = route
        self.family = 6 if ":" in self.destination else 4
        self.tally = load.tallies[kind, self.family]
        self.tally.opened += 1
        self.number = load.next_number()
        self.node = b""
        self.doing = CONNECT
        self.begun = self.unheard = time.monotonic()
        self.asked = deque([self.begun])  # when; the first request begins with the connection
        self.heard = 0
        self.rest = b""
        self.socket: socket.socket | None = None

    def open(self) -> None:
        """Begin."""
        try:
            self.socket = client_socket(self.family, self.source)
            self.load.watch(self.socket, self)
            code = self.socket.connect_ex((self.destination, self.load.port))
            if code != errno.EINPROGRESS:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self.break_off(error)
        else:
            self.load.at(self.begun + LOOK_S, self.look)

    def handle(self) -> None:
        """Go on, now that the kernel has something to say."""
        try:
            if self.doing == CONNECT:
                self.established()
            else:
                self.read()
        except BlockingIOError:
            return  # woken for nothing
        except OSError as error:
            self.break_off(error)

    def established(self) -> None:
        """Send the first request; raises OSError if the connection came to nothing."""
        assert self.socket is not None
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.doing = REQUEST
        self.load.epoll.modify(self.socket, select.EPOLLIN)
        self.unheard = time.monotonic()
        self.socket.send(b"%d 0\n" % self.number)

    def read(self) -> None:
        """Take what has arrived; raises OSError if the connection is broken."""
        assert self.socket is not None
        data = self.socket.recv(4096)
        if not data:
            self.ended()
            return
        now = time.monotonic()
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.take(line, now)
        if self.doing == REQUEST and not self.asked:
            self.satisfied(now)

    def take(self, line: bytes, now: float) -> None:
        """Book one answer; raises OSError if that is not what was asked for."""
        node, _, request = line.partition(b" ")
        if not self.asked or request != b"%d %d" % (self.number, self.heard):
            raise OSError(errno.EPROTO, "the answer to something else")
        self.heard += 1
        self.load.book_answer(self, node, now - self.asked.popleft())
        self.node = node

    def satisfied(self, now: float) -> None:
        """Everything is answered: rest, or end."""
        self.doing = NOTHING
        if self.seat:
            self.seat.is_ready()
        if not self.seat or now >= self.life_until:
            self.finish(now)

    def look(self, now: float) -> None:
        """Do what is due, or see whether what it waits for is overdue; and say when to look again."""
        if self.socket is None or (self.doing == NOTHING and self.load.stopping):
            return
        if self.doing == NOTHING:
            self.do_what_is_due(now)
        elif now - self.waiting_since() > self.load.deadline_s:
            self.give_up()
        elif self.doing == REQUEST and not self.unacknowledged():
            self.ask(now)
        if self.socket is not None:
            self.keep_to_schedule(now)
            soon = self.life_until if self.doing == NOTHING else now + LOOK_S
            self.load.at(min(self.due, soon), self.look)

    def do_what_is_due(self, now: float) -> None:
        """Everything is answered: end, or ask again, or go on resting."""
        if now >= self.life_until:
            self.finish(now)
        elif now >= self.due:
            self.ask(now)

    def keep_to_schedule(self, now: float) -> None:
        """What was missed is not made up for: the next request is due at the next moment of the schedule."""
        if self.due <= now:
            self.due += ((now - self.due) // self.interval_s + 1) * self.interval_s

    def ask(self, now: float) -> None:
        """Send a further request."""
        assert self.socket is not None
        self.doing = REQUEST
        self.unheard = now
        self.asked.append(now)
        try:
            self.socket.send(b"%d %d\n" % (self.number, self.heard + len(self.asked) - 1))
        except OSError as error:
            self.break_off(error)

    def finish(self, now: float) -> None:
        """Say that it is over, and wait for the other side to say the same."""
        assert self.socket is not None
        self.doing = END
        self.unheard = now
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.break_off(error)

    def ended(self) -> None:
        """The other side has closed: as it was asked to, or of its own accord."""
        if self.doing == END:
            self.close()
        else:
            self.break_off("closed")

    def waiting_since(self) -> float:
        """When what it waits for was asked: the oldest answer, or the other side's end."""
        return self.asked[0] if self.asked else self.unheard

    def unacknowledged(self) -> int:
        """Bytes that the kernel repeats until somebody takes them."""
        assert self.socket is not None
        (count,) = struct.unpack("i", fcntl.ioctl(self.socket, SIOCOUTQ, bytes(4)))
        return int(count)

    def give_up(self) -> None:
        """Nothing came in time; but whoever knows that his end has arrived has lost nothing."""
        if self.doing == END and not self.unacknowledged():
            self.close()
        else:
            self.break_off("hang")

    def break_off(self, why: str | OSError) -> None:
        """Book a broken connection; what the other side may still have of it is reset."""
        self.tally.broken += 1
        self.load.book_broken(self, why if isinstance(why, str) else reason(why))
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.leave()

    def close(self) -> None:
        """Book an orderly end."""
        self.tally.closed += 1
        self.leave()

    def leave(self) -> None:
        """Free the socket and the seat."""
        if self.socket is not None:
            self.load.unwatch(self.socket)
            self.socket.close()
            self.socket = None
        if self.seat:
            self.seat.is_vacant(bool(self.heard))


class Connector:
    """All connections, what is due when, and everything seen so far; times in s."""

    def __init__(
        self,
        *,
        routes: list[tuple[str, str]],
        port: int,
        long: int,
        idle: int,
        request_interval_s: float,
        idle_interval_s: float,
        short_interval_s: float | None,
        life_s: float | None,
        deadline_s: float,
        seconds: float | None,
    ) -> None:
        self.routes, self.port, self.deadline_s = routes, port, deadline_s
        self.short_interval_s, self.seconds = short_interval_s, seconds
        self.life_s = NEVER if life_s is None else life_s
        self.broken: list[dict[str, Any]] = []
        self.slow: list[dict[str, Any]] = []
        self.late = self.numbers = self.shorts = 0
        self.worst_late_s = self.start = self.first_short = 0.0
        self.hung_up = self.stopping = False
        self.tallies = {(kind, family): Tally() for kind in ("long", "short", "idle") for family in (4, 6)}
        self.seats = [
            *self.make_seats("long", long, 0, request_interval_s),
            *self.make_seats("idle", idle, long, idle_interval_s),
        ]
        self.unready = len(self.seats)
        self.calls: list[tuple[float, int, Callable[[float], None]]] = []
        self.connections: dict[int, Connection] = {}
        self.epoll = select.epoll()
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN)

    def make_seats(self, kind: str, count: int, first: int, interval_s: float) -> list[Seat]:
        """Seats on one route after the other, from the ``first`` on."""
        return [
            Seat(self, kind, self.routes[(first + index) % len(self.routes)], interval_s, index / count)
            for index in range(count)
        ]

    def next_number(self) -> int:
        """A number that nothing else has."""
        self.numbers += 1
        return self.numbers

    def at(self, when: float, call: Callable[[float], None]) -> None:
        """Call ``call`` with the time, when it is time."""
        heapq.heappush(self.calls, (when, self.next_number(), call))

    def watch(self, sock: socket.socket, connection: Connection) -> None:
        """Tell the connection when it is established, or has failed."""
        self.connections[sock.fileno()] = connection
        self.epoll.register(sock, select.EPOLLOUT)

    def unwatch(self, sock: socket.socket) -> None:
        """Before a socket is closed."""
        del self.connections[sock.fileno()]
        self.epoll.unregister(sock)

    def run(self) -> None:
        """Open everything, work until it is time or told to stop, and let finish what is under way."""
        self.start = time.monotonic()
        for index, seat in enumerate(self.seats):
            self.at(self.start + OPENING_S * index / len(self.seats), seat.open)
        self.step_until(lambda: self.hung_up or not self.unready)
        print(f"started {self.start!r}", flush=True)
        self.first_short = time.monotonic()
        if self.short_interval_s:
            self.at(self.first_short, self.open_short)
        if self.seconds is not None:
            self.at(self.first_short + self.seconds, self.hang_up)
        self.step_until(lambda: self.hung_up)
        self.stopping = True
        self.step_until(lambda: all(each.doing == NOTHING for each in self.connections.values()))

    def step_until(self, over: Callable[[], bool]) -> None:
        """Do what is due and receive, in turn."""
        while not over():
            self.call_due()
            soonest = self.calls[0][0] if self.calls else NEVER
            self.receive(soonest - time.monotonic())

    def call_due(self) -> None:
        """Do what is due by now, BATCH things at most, so that answers never wait for long."""
        for _ in range(BATCH):
            now = time.monotonic()
            if not self.calls or self.calls[0][0] > now:
                return
            when, _number, call = heapq.heappop(self.calls)
            self.worst_late_s = max(self.worst_late_s, now - when)
            self.late += now - when > LATE_S
            call(now)

    def receive(self, timeout_s: float) -> None:
        """Let everybody go on who has been answered, waiting for the first no longer than ``timeout_s``."""
        for descriptor, _events in self.epoll.poll(max(0.0, min(timeout_s, LOOK_S))):
            connection = self.connections.get(descriptor)
            if connection is not None:
                connection.handle()
            elif descriptor == sys.stdin.fileno():
                self.read_stdin()

    def read_stdin(self) -> None:
        """Say what was seen so far; stop at the end of the standard input."""
        if os.read(sys.stdin.fileno(), 4096):
            self.say()
        else:
            self.epoll.unregister(sys.stdin.fileno())
            self.hung_up = True

    def hang_up(self, _now: float) -> None:
        """The time is over."""
        self.hung_up = True

    def open_short(self, now: float) -> None:
        """Open a short connection, and say when the next one is due; the schedule never stretches."""
        if self.stopping or not self.short_interval_s:
            return
        route = self.routes[self.shorts % len(self.routes)]
        self.shorts += 1
        self.at(self.first_short + self.shorts * self.short_interval_s, self.open_short)
        Connection(self, "short", route).open()

    def book_answer(self, connection: Connection, node: bytes, taken_s: float) -> None:
        """Count an answer; one from another node than before should never be."""
        tally = connection.tally
        tally.answered += 1
        tally.by_node[node] += 1
        tally.strayed += connection.node not in (b"", node)
        tally.slowest_s = max(tally.slowest_s, taken_s)
        if taken_s > SLOW_S:
            tally.slow += 1
            about = {"node": node.decode(), "taken_ms": in_ms(taken_s)}
            self.slow.append(self.described(connection, time.monotonic() - taken_s) | about)

    def book_broken(self, connection: Connection, why: str) -> None:
        """Keep what is known about a connection that broke."""
        now = time.monotonic()
        resting = connection.doing == NOTHING
        about = {
            "node": connection.node.decode(),
            "reason": why,
            "doing": connection.doing,
            "age_ms": in_ms(now - connection.begun),
            "waited_ms": 0.0 if resting else in_ms(now - connection.waiting_since()),
            "unheard_ms": 0.0 if resting else in_ms(now - connection.unheard),
        }
        self.broken.append(self.described(connection, now) | about)

    def described(self, connection: Connection, at: float) -> dict[str, Any]:
        """Which connection, and when."""
        return {
            "kind": connection.kind,
            "family": connection.family,
            "source": connection.source,
            "destination": connection.destination,
            "at_ms": in_ms(at - self.start),
        }

    def say(self, *, last: bool = False) -> None:
        """Write everything that was seen; times in ms since the start."""
        counts = [self.count(kind, family, tally) for (kind, family), tally in self.tallies.items()]
        report = {
            "last": last,
            "started_s": self.start,
            "late": self.late,
            "worst_late_ms": in_ms(self.worst_late_s),
            "counts": counts,
            "broken": self.broken,
            "slow": self.slow,
        }
        print(json.dumps(report), flush=True)

    def count(self, kind: str, family: int, tally: Tally) -> dict[str, Any]:
        """One kind and family; ``holding``: what is open now, by the node that answered last."""
        own = (each for each in self.connections.values() if each.tally is tally)
        return {
            "kind": kind,
            "family": family,
            "opened": tally.opened,
            "closed": tally.closed,
            "broken": tally.broken,
            "answered": tally.answered,
            "slow": tally.slow,
            "slowest_ms": in_ms(tally.slowest_s),
            "strayed": tally.strayed,
            "by_node": by_name(tally.by_node),
            "holding": by_name(Counter(each.node for each in own if each.node)),
        }


def client_socket(family: int, source: str) -> socket.socket:
    """A non-blocking socket that speaks from ``source``; its port is chosen when it connects."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    sock = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
    except OSError:
        sock.close()
        raise
    return sock


def reason(error: OSError) -> str:
    """A word for what the kernel said."""
    return REASONS.get(error.errno or 0) or errno.errorcode.get(error.errno or 0, str(error))


def by_name(counts: Counter[bytes]) -> dict[str, int]:
    """Counts as JSON knows them, in the nodes' order."""
    return {name.decode(): count for name, count in sorted(counts.items())}


def in_ms(seconds: float) -> float:
    """As it is reported."""
    return round(seconds * 1000, 3)


def main() -> None:
    """Work as argv[1], a JSON object of the Connector's arguments, says."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connector = Connector(**json.loads(sys.argv[1]))
    gc.disable()  # a collection would be a pause in the schedule
    connector.run()
    connector.say(last=True)


if __name__ == "__main__":
    main()
