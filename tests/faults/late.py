"""Send nodes' heartbeats on late, each by a time of its own: later ones can overtake earlier ones.

Runs alone in the switch's namespace. A line of its input is a JSON object: the nodes that are late now, and
by how many ms at most; it is answered with "so be it". The switch itself drops what is sent on here.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
from frames import HEARTBEATS, packet_socket  # type: ignore[import-not-found]


class Late:
    """The nodes' ports, and the frames that wait."""

    def __init__(self, ports: dict[str, str], seed: int) -> None:
        self.random = Random(seed)
        self.sockets = {name: packet_socket(port, HEARTBEATS) for name, port in ports.items()}
        self.by_ms: dict[str, float] = {}
        self.waiting: list[tuple[float, str, bytes]] = []

    def run(self) -> None:
        """Take and send until the input ends."""
        named = {sock.fileno(): name for name, sock in self.sockets.items()}
        poll = select.epoll()
        for descriptor in (*named, sys.stdin.fileno()):
            poll.register(descriptor, select.EPOLLIN)
        while True:
            next_s = self.waiting[0][0] - time.monotonic() if self.waiting else 1.0
            for descriptor, _events in poll.poll(max(0.0, next_s)):
                if descriptor in named:
                    self.take(named[descriptor])
                elif not self.read_orders():
                    return
            self.send_due()

    def read_orders(self) -> bool:
        """Learn who is late now; False at the end of the input."""
        lines = os.read(sys.stdin.fileno(), 4096).decode().splitlines()
        for line in lines:
            self.by_ms = json.loads(line)
            print("so be it", flush=True)
        return bool(lines)

    def take(self, name: str) -> None:
        """Keep what the node sends until its time."""
        try:
            frame, address = self.sockets[name].recvfrom(2048)
        except OSError:
            return  # the port went down
        if name in self.by_ms and address[2] != socket.PACKET_OUTGOING:
            due_s = time.monotonic() + self.random.uniform(0, self.by_ms[name]) / 1000
            heapq.heappush(self.waiting, (due_s, name, frame))

    def send_due(self) -> None:
        """Send what has waited for long enough to all other nodes."""
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _due_s, sender, frame = heapq.heappop(self.waiting)
            for name, sock in self.sockets.items():
                if name != sender:
                    try:
                        sock.send(frame)
                    except OSError:
                        continue  # the port is down


def main() -> None:
    """Be the way of the heartbeats between the ports of argv[1], a JSON object."""
    late = Late(json.loads(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    late.run()


if __name__ == "__main__":
    main()
