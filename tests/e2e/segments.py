"""TCP segments made by hand, for a connection that a socket has; shared with the benchmarks."""

from __future__ import annotations

import socket
import struct

from .wire import Address, pseudo_header, with_checksum

TCP = socket.IPPROTO_TCP
ACK, PUSH = 0x10, 0x08
#: <linux/tcp.h>: to read a connection's sequence numbers
_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQ = 19, 20, 21
_RECEIVED, _SENT = 1, 2


def sequence(sock: socket.socket) -> tuple[int, int]:
    """The numbers of the next byte to send and to receive. The socket itself rests from now on."""
    sock.setsockopt(TCP, _REPAIR, 1)
    numbers = []
    for queue in (_SENT, _RECEIVED):
        sock.setsockopt(TCP, _REPAIR_QUEUE, queue)
        numbers.append(sock.getsockopt(TCP, _QUEUE_SEQ) & 0xFFFFFFFF)
    return numbers[0], numbers[1]


def segment(
    ends: tuple[Address, Address],
    ports: tuple[int, int],
    numbers: tuple[int, int],
    payload: bytes = b"",
    flags: int = ACK | PUSH,
) -> bytes:
    """A segment without options from the first end to the second (RFC 9293, 3.1)."""
    head = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 512, 0, 0)
    return with_checksum(head + payload, 16, pseudo_header(*ends, TCP, 20 + len(payload)))
