"""Opening a verified, authenticated SSH connection, and saying clearly why one could not be had."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from types import TracebackType

import paramiko

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import command, host_key
from trscaler_gen.transport.authentication import authenticate
from trscaler_gen.transport.command import Completed, Remote, harmless
from trscaler_gen.transport.proxy import Proxy
from trscaler_gen.transport.session import Session
from trscaler_gen.transport.target import Target

# Best first, and nothing that OpenSSH itself has retired.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_DIGESTS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)

_KEEPALIVE_S = 5
_DEAD_PEER_S = 20

# paramiko logs a traceback for every refused connection; without a handler Python prints it on the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Connection:
    """One open connection to one node; commands run one after the other or side by side."""

    def __init__(self, target: Target) -> None:
        """Connect, verify the host key, authenticate; raises NodeError."""
        self.target = target
        self._proxy: Proxy | None = None
        self._socket: socket.socket | None = None
        self._transport: paramiko.Transport | None = None
        try:
            self._transport = self._open()
        except BaseException:
            self.close()
            raise

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command; any exit status is a result. Raises NodeError on a broken connection or timeout."""
        return command.run(self._remote(), argv, stdin=stdin, timeout_s=timeout_s)

    def fetch(
        self, argv: Sequence[str], *, timeout_s: float, limit_bytes: int = command.FETCH_LIMIT_BYTES
    ) -> bytes:
        """Return a command's standard output whole and as it is; nothing in it is made safe to show.

        Raises NodeError, with what it said on standard error, unless it exits 0 within the limits.
        """
        return command.fetch(self._remote(), argv, timeout_s=timeout_s, limit_bytes=limit_bytes)

    def start(self, argv: Sequence[str]) -> Session:
        """Start a command that is to live on; the caller closes the session. Raises NodeError."""
        return Session(self._remote(), argv, timeout_s=self.target.connect_timeout_s)

    def _remote(self) -> Remote:
        if self._transport is None:
            raise NodeError(self.target.node, "the connection was closed")
        return Remote(self._transport, self.target.node, self.target.user if self.target.sudo else "")

    def close(self) -> None:
        """Hang up, and end the ProxyCommand if there is one; safe to call twice."""
        if self._socket is not None:
            # Wakes paramiko's reader at once; by itself it looks up ten times a second.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._transport is not None:
            self._transport.close()
            if self._transport.is_alive():
                self._transport.join(_DEAD_PEER_S)
        if self._socket is not None:
            self._socket.close()
        if self._proxy is not None:
            self._proxy.close()
        self._transport = self._socket = self._proxy = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> paramiko.Transport:
        known = host_key.known_to(self.target)
        self._socket = self._open_socket()
        transport = self._transport = paramiko.Transport(self._socket)
        _harden(transport)
        host_key.prefer(transport, known)
        self._negotiate(transport)
        host_key.verify(self.target, known, transport.get_remote_server_key())
        authenticate(self.target, transport)
        transport.set_keepalive(_KEEPALIVE_S)
        return transport

    def _open_socket(self) -> socket.socket:
        if self.target.proxy_command is None:
            return _tcp_socket(self.target)
        self._proxy = Proxy(self.target.proxy_command)
        return self._proxy.socket

    def _negotiate(self, transport: paramiko.Transport) -> None:
        timeout_s = self.target.connect_timeout_s
        transport.banner_timeout = transport.auth_timeout = timeout_s
        transport.handshake_timeout = transport.channel_timeout = timeout_s
        done = threading.Event()
        transport.start_client(event=done)
        if not done.wait(timeout_s):
            raise self._silence()
        if not transport.is_active():
            raise self._no_ssh(transport.get_exception())

    def _silence(self) -> NodeError:
        place, timeout_s = self.target.place, self.target.connect_timeout_s
        if self._proxy is not None:
            message = f"{place} did not answer through the ProxyCommand within {timeout_s:g} s"
            hint = self._proxy_failure() or "is the node powered on, and does the ProxyCommand reach it?"
        else:
            message = f"{place} accepted the connection but did not speak SSH within {timeout_s:g} s"
            hint = "is it an SSH server, and is it overloaded?"
        return NodeError(self.target.node, message, hint=hint)

    def _no_ssh(self, error: Exception | None) -> NodeError:
        said = self._proxy_failure()
        if said:
            message = f"the ProxyCommand for {self.target.host} failed"
            return NodeError(
                self.target.node, message, command=harmless(self.target.proxy_command or ""), stderr=said
            )
        reason = harmless(str(error or "connection closed"))
        hint = "is it an SSH server? MaxStartups in its sshd_config may refuse many connections at once"
        return NodeError(self.target.node, f"no SSH session with {self.target.place}: {reason}", hint=hint)

    def _proxy_failure(self) -> str:
        return harmless(self._proxy.failure()) if self._proxy is not None else ""


def _harden(transport: paramiko.Transport) -> None:
    options = transport.get_security_options()
    options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
    options.digests = [name for name in _DIGESTS if name in options.digests]


def connect(target: Target) -> Connection:
    """Open a connection; the caller closes it. Raises NodeError with the reason and what to do."""
    return Connection(target)


def _tcp_socket(target: Target) -> socket.socket:
    try:
        sock = socket.create_connection((target.host, target.port), timeout=target.connect_timeout_s)
    except OSError as error:
        raise NodeError(
            target.node, f"{target.place}: {_network_reason(error)}", hint=_network_hint(error)
        ) from error
    # Keepalives that nobody acknowledges end the connection after this long; nothing waits for ever.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_S * 1000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _network_reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer (timeout)"
    return (error.strerror or str(error)).lower()


def _network_hint(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the host is up, but nothing listens there: is sshd running, is the port right?"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve: check ssh.host, or HostName in ssh_config"
    return "is the node powered on, and may packets pass (route, firewall)?"
