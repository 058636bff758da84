"""Answer UDP and TCP on port 7 with the node's name and what was asked, from the address that was asked.

Runs alone on a node, 32 of them on a small machine: the standard library only, one thread. The sockets are
bound to the wildcard, so that virtual addresses may come and go; each UDP answer names its source by
IP_PKTINFO / IPV6_PKTINFO (ip(7), ipv6(7)).
"""

from __future__ import annotations

import resource
import select
import socket
import sys
from collections.abc import Callable

PORT = 7
BATCH = 64
IP_PKTINFO = 8  # <linux/in.h>; Python's socket module does not name it
MAX_LINE = 65536
#: a connection on which nothing comes: when and how often the other side is asked, and when it is given up
IDLE_S = 30
ASK_EVERY_S = 5
GONE_S = 45


def udp_socket(family: socket.AddressFamily) -> socket.socket:
    """A non-blocking socket on the wildcard that tells which address each datagram was sent to."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.bind(("::", PORT))
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("0.0.0.0", PORT))
    return sock


def tcp_socket(family: socket.AddressFamily) -> socket.socket:
    """A non-blocking listener on the wildcard."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
    sock.listen(1024)
    return sock


def source_of_answer(level: int, kind: int, info: bytes) -> tuple[int, int, bytes]:
    """The control message that makes the answer leave from the address that was asked.

    in_pktinfo is ifindex, spec_dst, addr; in6_pktinfo is addr, ifindex. The interface is left to the routing
    table, except for link-local addresses, which have no meaning without it.
    """
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + info[8:12] + bytes(4)
    scoped = info[0] == 0xFE and info[1] & 0xC0 == 0x80
    return level, kind, info if scoped else info[:16] + bytes(4)


def answer_datagrams(sock: socket.socket, prefix: bytes) -> None:
    """Answer up to BATCH waiting datagrams."""
    for _ in range(BATCH):
        try:
            payload, control, _flags, peer = sock.recvmsg(2048, 64)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error about an earlier answer
        try:
            sock.sendmsg([prefix, payload], [source_of_answer(*item) for item in control], 0, peer)
        except OSError:
            continue  # the address was taken away meanwhile, or the link is cut


class Responder:
    """All sockets of one node, served by one epoll."""

    def __init__(self, name: str) -> None:
        self.prefix = name.encode() + b" "
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.sockets: dict[int, socket.socket] = {}

    def watch(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever ``sock`` has something to read."""
        self.sockets[sock.fileno()] = sock
        self.handlers[sock.fileno()] = handler
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        """Close a connection."""
        del self.sockets[sock.fileno()], self.handlers[sock.fileno()]
        self.epoll.unregister(sock.fileno())
        sock.close()

    def serve_udp(self, family: socket.AddressFamily) -> None:
        """Answer datagrams of one family."""
        sock = udp_socket(family)
        self.watch(sock, lambda: answer_datagrams(sock, self.prefix))

    def serve_tcp(self, family: socket.AddressFamily) -> None:
        """Accept connections of one family."""
        listener = tcp_socket(family)
        self.watch(listener, lambda: self.accept(listener))

    def accept(self, listener: socket.socket) -> None:
        """Take up to BATCH waiting connections."""
        for _ in range(BATCH):
            try:
                connection, _peer = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                continue  # gone before it was taken
            self.take(connection)

    def take(self, connection: socket.socket) -> None:
        """Serve one connection, until its end or until its other side is gone."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_EVERY_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_S * 1000)
        rest = bytearray()
        self.watch(connection, lambda: self.answer_lines(connection, rest))

    def answer_lines(self, connection: socket.socket, rest: bytearray) -> None:
        """Answer each whole line that has arrived; ``rest`` keeps the beginning of the next one."""
        try:
            data = connection.recv(65536)
        except BlockingIOError:
            return  # woken for nothing
        except OSError:
            data = b""
        rest += data
        *lines, remainder = bytes(rest).split(b"\n")
        rest[:] = remainder
        answered = not lines or self.answer(connection, lines)
        if not data or not answered or len(rest) > MAX_LINE:
            self.forget(connection)

    def answer(self, connection: socket.socket, lines: list[bytes]) -> bool:
        """Answer these lines; False if the other side is gone, or asks and never reads."""
        try:
            connection.sendall(b"".join(self.prefix + line + b"\n" for line in lines))
        except OSError:
            return False
        return True

    def run(self) -> None:
        """Serve for ever."""
        while True:
            for descriptor, _events in self.epoll.poll():
                handler = self.handlers.get(descriptor)
                if handler:
                    handler()


def main() -> None:
    """Serve both families and both protocols under the name in argv[1]."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    responder = Responder(sys.argv[1])
    for family in (socket.AF_INET, socket.AF_INET6):
        responder.serve_udp(family)
        responder.serve_tcp(family)
    responder.run()


if __name__ == "__main__":
    main()
