"""A TCP connection within a time: from looking up the name to the last of its addresses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from trscaler_gen.errors import NodeError
from trscaler_gen.transport.target import Target

#: keepalives that nobody acknowledges end the connection after this long; nothing waits for ever
DEAD_PEER_S = 20

#: family, type, protocol, canonical name, address
_Address = tuple[int, int, int, str, Any]


def dial(target: Target) -> socket.socket:
    """Connect to the target's host; raises NodeError with the reason and what to do."""
    try:
        sock = _connect(target.host, target.port, target.connect_timeout_s)
    except OSError as error:
        message = f"{target.place}: {_reason(error)}"
        raise NodeError(target.node, message, hint=_hint(error)) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_S * 1000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Try the host's addresses one after the other; each has its share of the time that is left."""
    deadline = time.monotonic() + timeout_s
    addresses = _addresses(host, port, timeout_s)
    failure = OSError("the name has no address")
    for number, address in enumerate(addresses):
        share_s = (deadline - time.monotonic()) / (len(addresses) - number)
        try:
            return _connect_to(address, max(share_s, 0.001))
        except OSError as error:
            failure = error
    raise failure


def _connect_to(address: _Address, timeout_s: float) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(timeout_s)
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


def _addresses(host: str, port: int, timeout_s: float) -> list[_Address]:
    with contextlib.suppress(socket.gaierror):
        return _look_up(host, port, socket.AI_NUMERICHOST)
    answers: list[list[_Address] | OSError] = []

    def ask() -> None:
        try:
            answers.append(_look_up(host, port))
        except OSError as error:
            answers.append(error)
        except UnicodeError as error:  # a label that is too long
            answers.append(socket.gaierror(socket.EAI_NONAME, str(error)))

    # The resolver takes no time limit, and cannot be called off.
    asker = threading.Thread(target=ask, daemon=True, name="ssh-name")
    asker.start()
    asker.join(timeout_s)
    if not answers:
        raise _NoName("nobody tells the address of this name (timeout)")
    if isinstance(answers[0], OSError):
        raise answers[0]
    return answers[0]


def _look_up(host: str, port: int, flags: int = 0) -> list[_Address]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


class _NoName(OSError):
    """The resolver does not answer."""


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer (timeout)"
    return (error.strerror or str(error)).lower()


def _hint(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the host is up, but nothing listens there: is sshd running, is the port right?"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve: check ssh.host, or HostName in ssh_config"
    if isinstance(error, _NoName):
        return "does this machine's name server answer? An address in ssh.host needs none"
    return "is the node powered on, and may packets pass (route, firewall)?"
