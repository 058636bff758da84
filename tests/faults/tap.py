"""Note every heartbeat that leaves a node or reaches one, every probe, and every answer, at the switch.

Runs alone in the switch's namespace. A line each, times in s of CLOCK_MONOTONIC:

    L time sender priority           a heartbeat left its node
    H time sender hearer priority    it reached a node (priority -1: without its ruleset's stamp)
    Q time source number             a probe left the client
    A time source number node        its answer came back

It says "ready" and ends with its input; the last line is "end" and how many frames it missed.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).parent))
from frames import DATAGRAMS, HEARTBEATS, packet_socket  # type: ignore[import-not-found]

ECHO_PORT = 7
#: of the lab's prober: run, source, sequence number, send time
PAYLOAD = struct.Struct("!IHIQ")
SOL_PACKET, PACKET_STATISTICS = 263, 6
#: struct timespec, in the message that carries the time of a frame
TIMESPEC = struct.Struct("qq")
BATCH = 200


class Tap:
    """The sockets of all ports, and the file that is written to."""

    def __init__(self, ports: dict[str, str], addresses: dict[str, str], client: str, out: TextIO) -> None:
        self.out = out
        self.sender_of = {socket.inet_aton(address): name for name, address in addresses.items()}
        self.poll = select.epoll()
        self.sockets: dict[int, tuple[socket.socket, str]] = {}
        for name, port in ports.items():
            sock = packet_socket(port, DATAGRAMS if name == client else HEARTBEATS)
            self.sockets[sock.fileno()] = (sock, "" if name == client else name)
            self.poll.register(sock.fileno(), select.EPOLLIN)
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Note everything until the input ends."""
        while True:
            for descriptor, _events in self.poll.poll():
                if descriptor == sys.stdin.fileno():
                    return
                self.drain(*self.sockets[descriptor])

    def drain(self, sock: socket.socket, node: str) -> None:
        """Note what waits at one port; the frame's own time counts, not when it is read."""
        realtime_s = time.time() - time.monotonic()
        for _ in range(BATCH):
            try:
                frame, messages, _flags, address = sock.recvmsg(256, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # the port went down
            seconds, nanoseconds = TIMESPEC.unpack_from(messages[0][2])
            at_s = seconds + nanoseconds / 1e9 - realtime_s
            if node:
                self.heartbeat(at_s, frame, node, leaves=address[2] != socket.PACKET_OUTGOING)
            else:
                self.datagram(at_s, frame)

    def heartbeat(self, at_s: float, frame: bytes, node: str, leaves: bool) -> None:
        """A heartbeat, at the port of ``node``. Congestion experienced (3) is the ruleset's stamp."""
        sender = self.sender_of.get(frame[26:30])
        if sender is None or len(frame) < 37:
            return
        priority = frame[36] if frame[15] & 3 == 3 else -1
        if leaves and sender == node:
            print("L", f"{at_s:.6f}", sender, priority, file=self.out)
        elif not leaves:
            print("H", f"{at_s:.6f}", sender, node, priority, file=self.out)

    def datagram(self, at_s: float, frame: bytes) -> None:
        """A probe, or an answer to one."""
        udp = 34 if frame[12:14] == b"\x08\x00" else 54
        source_port, destination_port = struct.unpack_from("!HH", frame, udp)
        answer = frame[udp + 8 :]
        if len(answer) < PAYLOAD.size:
            return
        _run, source, number, _sent = PAYLOAD.unpack_from(answer, len(answer) - PAYLOAD.size)
        if destination_port == ECHO_PORT:
            print("Q", f"{at_s:.6f}", source, number, file=self.out)
        elif source_port == ECHO_PORT:
            name = answer[: -PAYLOAD.size - 1].decode("ascii", "replace")
            print("A", f"{at_s:.6f}", source, number, name, file=self.out)

    def missed(self) -> int:
        """Frames for which there was no room."""
        return sum(
            struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
            for sock, _ in self.sockets.values()
        )


def main() -> None:
    """Note what passes the ports of argv[1], a JSON object, in the file argv[2]."""
    with Path(sys.argv[2]).open("w") as out:
        tap = Tap(**json.loads(sys.argv[1]), out=out)
        print("ready", flush=True)
        tap.run()
        for sock, node in tap.sockets.values():
            tap.drain(sock, node)
        print("end", tap.missed(), file=out)


if __name__ == "__main__":
    main()
