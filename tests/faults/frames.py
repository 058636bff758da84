"""Packet sockets on the switch's ports. Runs alone: the standard library only."""

from __future__ import annotations

import ctypes
import socket
import struct

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
BUFFER_BYTES = 1 << 24

#: classic BPF (linux/filter.h): (code, if true, if false, operand)
_LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
HEARTBEATS = [
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 0, 3, 0x0800),
    (_LOAD_BYTE, 0, 0, 23),
    (_JUMP_EQUAL, 0, 1, 112),
    (_RETURN, 0, 0, 65535),
    (_RETURN, 0, 0, 0),
]
DATAGRAMS = [
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 0, 2, 0x0800),
    (_LOAD_BYTE, 0, 0, 23),
    (_JUMP_EQUAL, 3, 4, 17),
    (_JUMP_EQUAL, 0, 3, 0x86DD),
    (_LOAD_BYTE, 0, 0, 20),
    (_JUMP_EQUAL, 0, 1, 17),
    (_RETURN, 0, 0, 65535),
    (_RETURN, 0, 0, 0),
]


def packet_socket(port: str, program: list[tuple[int, int, int, int]]) -> socket.socket:
    """What passes a port of the switch, both ways, and is let through by the filter."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    attached = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((port, ETH_P_ALL))
    return sock
