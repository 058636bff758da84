"""Ask a virtual address from many sources on a fixed schedule, and count who answered what.

Runs alone inside the client's network namespace: the standard library only, one thread, one epoll, one
connected socket per source (so that an answer from any other address than the one asked does not count).
Probe k is due k/N intervals after the start, from source k modulo N. The schedule never stretches: what
could not be sent on time is sent as soon as possible and counted as late.

It says "started", works until its time is over or its standard input ends, waits for late answers, and then
writes what it saw as one line of JSON.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

#: run, source, sequence number, send time (CLOCK_MONOTONIC, ns)
PAYLOAD = struct.Struct("!IHIQ")
BATCH = 32
LATE_S = 0.010
#: after the last probe: at least this long for a second answer, at most that long for a missing first one
SHORT_GRACE_S = 0.1
LONG_GRACE_S = 1.0
RECEIVE_BUFFER_BYTES = 1 << 20


class Source:
    """One source: its socket, when its probes left (s since the start), how often each was answered."""

    def __init__(self, address: str, destination: str, port: int) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self.socket.bind((address, 0))
        self.socket.connect((destination, port))
        self.sent_at = array("d")
        self.answers = bytearray()
        self.by_node: Counter[bytes] = Counter()
        #: who has answered at all, and by sequence number which of them did first
        self.names: list[bytes] = []
        self.first = bytearray()
        #: by sequence number, of those answered again: everybody, in order
        self.everybody: dict[int, list[bytes]] = {}

    def note_sent(self, at_s: float) -> None:
        """A probe leaves so long after the start."""
        self.sent_at.append(at_s)
        self.answers.append(0)
        self.first.append(0)

    def book(self, sequence: int, node: bytes) -> bool:
        """Count an answer; whether it is the first one to this probe."""
        self.by_node[node] += 1
        if node not in self.names:
            self.names.append(node)
        times = self.answers[sequence]
        self.answers[sequence] = min(times + 1, 255)
        if times:
            first = self.names[self.first[sequence]]
            self.everybody.setdefault(sequence, [first]).append(node)
        else:
            self.first[sequence] = self.names.index(node)
        return not times

    def transmit(self, payload: bytes) -> None:
        """Send; a first failure may only report an ICMP error about an earlier probe."""
        for _ in range(2):
            try:
                self.socket.send(payload)
                return
            except OSError:
                continue  # after the second: never left, so it will count as lost

    def longest_gap_s(self) -> float:
        """The longest time without an answered probe, by send times; the first and last probe bound it."""
        if not self.sent_at:
            return 0.0
        answered = [at for at, count in zip(self.sent_at, self.answers, strict=True) if count]
        marks = [self.sent_at[0], *answered, self.sent_at[-1]]
        return max(after - before for before, after in pairwise(marks))


class Prober:
    """The schedule, and everything seen so far."""

    def __init__(
        self, destination: str, port: int, sources: list[str], interval_s: float, probes_each: int | None
    ) -> None:
        self.sources = [Source(address, destination, port) for address in sources]
        self.step_s = interval_s / len(sources)
        self.total = None if probes_each is None else probes_each * len(sources)
        self.run_id = os.getpid()
        self.next = 0
        self.unanswered = 0
        self.late = 0
        self.worst_late_s = 0.0
        self.slowest_answer_s = 0.0
        self.start = 0.0
        self.stopping = False
        self.epoll = select.epoll()
        self.index_of = {source.socket.fileno(): index for index, source in enumerate(self.sources)}
        for descriptor in (*self.index_of, sys.stdin.fileno()):
            self.epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Send everything on time, receive in between, then wait for what is still on its way."""
        self.start = time.monotonic()
        print(f"started {self.start!r}", flush=True)
        while not self.stopping and (self.total is None or self.next < self.total):
            self.send_due()
            self.receive(self.start + self.next * self.step_s - time.monotonic())
        end = time.monotonic()
        while (waited_s := time.monotonic() - end) < (LONG_GRACE_S if self.unanswered else SHORT_GRACE_S):
            self.receive(min(SHORT_GRACE_S, LONG_GRACE_S - waited_s))

    def send_due(self) -> None:
        """Send what is due by now, BATCH probes at most, so that answers never wait for long."""
        due = int((time.monotonic() - self.start) / self.step_s) + 1
        if self.total is not None:
            due = min(due, self.total)
        for number in range(self.next, min(due, self.next + BATCH)):
            self.send(number)
            self.next = number + 1

    def send(self, number: int) -> None:
        """Send probe ``number`` of the schedule."""
        sequence, index = divmod(number, len(self.sources))
        source = self.sources[index]
        now = time.monotonic()
        source.note_sent(now - self.start)
        self.unanswered += 1
        source.transmit(PAYLOAD.pack(self.run_id, index, sequence, int(now * 1e9)))
        late_s = now - self.start - number * self.step_s
        if late_s > self.worst_late_s:
            self.worst_late_s = late_s
        if late_s > LATE_S:
            self.late += 1

    def receive(self, timeout_s: float) -> None:
        """Take one waiting answer of each source, waiting for the first no longer than ``timeout_s``."""
        for descriptor, _events in self.epoll.poll(max(0.0, timeout_s)):
            index = self.index_of.get(descriptor)
            if index is None:
                self.read_stdin()
                continue
            try:
                self.count(index, self.sources[index].socket.recv(2048))
            except OSError:
                continue  # an ICMP error about a probe: not an answer

    def read_stdin(self) -> None:
        """Stop at the end of the standard input."""
        if not os.read(sys.stdin.fileno(), 4096):
            self.epoll.unregister(sys.stdin.fileno())
            self.stopping = True

    def count(self, index: int, answer: bytes) -> None:
        """Book one answer: the node's name, a blank and the payload; anything else is not one of ours."""
        try:
            run_id, source_index, sequence, _sent_ns = PAYLOAD.unpack_from(answer, len(answer) - PAYLOAD.size)
        except struct.error:
            return
        source = self.sources[index]
        if run_id != self.run_id or source_index != index or sequence >= len(source.answers):
            return
        taken_s = time.monotonic() - self.start - source.sent_at[sequence]
        if taken_s > self.slowest_answer_s:
            self.slowest_answer_s = taken_s
        self.unanswered -= source.book(sequence, answer[: -PAYLOAD.size - 1])

    def report(self) -> dict[str, Any]:
        """Everything that was seen, as JSON knows it; times in ms since the start."""
        return {
            "started_s": self.start,
            "late": self.late,
            "worst_late_ms": round(self.worst_late_s * 1000, 3),
            "slowest_answer_ms": round(self.slowest_answer_s * 1000, 3),
            "lost_at_ms": self.lost_at_ms(),
            "double_answers": [double for source in self.sources for double in report_double_answers(source)],
            "per_source": [report_source(source) for source in self.sources],
        }

    def lost_at_ms(self) -> list[float]:
        """When the probes left that nobody answered."""
        return sorted(
            round(at * 1000, 3)
            for source in self.sources
            for at, times in zip(source.sent_at, source.answers, strict=True)
            if not times
        )


def report_double_answers(source: Source) -> Iterator[dict[str, Any]]:
    """Probes that were answered more than once: when they left, and by whom, in order."""
    for sequence, nodes in source.everybody.items():
        at_ms = round(source.sent_at[sequence] * 1000, 3)
        yield {"at_ms": at_ms, "source": source.address, "nodes": [node.decode() for node in nodes]}


def report_source(source: Source) -> dict[str, Any]:
    """One source's counts."""
    unanswered, once = source.answers.count(0), source.answers.count(1)
    return {
        "source": source.address,
        "sent": len(source.answers),
        "lost": unanswered,
        "doubled": len(source.answers) - unanswered - once,
        "by_node": {name.decode(): count for name, count in sorted(source.by_node.items())},
        "longest_gap_ms": round(source.longest_gap_s() * 1000, 3),
    }


def main() -> None:
    """Probe as argv[1], a JSON object of the Prober's arguments, says."""
    prober = Prober(**json.loads(sys.argv[1]))
    gc.disable()  # nothing here makes cycles, and a collection would be a pause in the schedule
    prober.run()
    print(json.dumps(prober.report()), flush=True)


if __name__ == "__main__":
    main()
