"""Opening a verified, authenticated SSH connection, and saying clearly why one could not be had."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

import paramiko

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import command, host_key
from trscaler_gen.transport.authentication import authenticate
from trscaler_gen.transport.command import Completed, Remote, harmless
from trscaler_gen.transport.dial import DEAD_PEER_S, dial
from trscaler_gen.transport.known_hosts import KnownHost
from trscaler_gen.transport.patience import TurnedAwayError, insist
from trscaler_gen.transport.proxy import Proxy
from trscaler_gen.transport.session import Session
from trscaler_gen.transport.stream import Tell, stream
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
_MARGIN_S = 10

_NO_BANNER = "Error reading SSH protocol banner"
_TURNED_AWAY = (
    "is it an SSH server? It was asked several times; MaxStartups in its sshd_config refuses many connections"
    " at once: raise it there, or lower --parallel here"
)
_KEY_REFUSED = "Host key verification failed"
_PROXY_ALONE = "run that command by itself; does sshd listen there?"
_JUMP_UNKNOWN = (
    "the key of the jump host is not known, or it has changed: connect to it once with ssh, and look"
)

# What ssh(1) says when a jump host hangs up on it; and when that was for a reason that will not pass.
_JUMP_TURNED_AWAY = re.compile(r"_exchange_identification|banner exchange|Connection (closed|reset) by")
_JUMP_REFUSED = re.compile(
    rf"{_KEY_REFUSED}|Permission denied|Too many auth|refused|timed out|not resolve|No route|unreachable"
)

# paramiko logs a traceback for every refused connection; without a handler Python prints it on the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Connection:
    """One open connection to one node; commands run one after the other or side by side."""

    def __init__(self, target: Target, on_accept: Callable[[str], None] | None = None) -> None:
        """Connect, verify the host key, authenticate; raises NodeError.

        With ``on_accept`` the key of a host that is new is accepted, and it is told so.
        """
        self.target = target
        self._on_accept = on_accept
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

    def stream(self, argv: Sequence[str], tell: Tell) -> int:
        """Run a command for as long as it takes and tell every line of its output; answers its exit status.

        Raises NodeError on a broken connection, or when the command was killed.
        """
        return stream(self._remote(), argv, tell, start_timeout_s=self.target.connect_timeout_s)

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
                self._transport.join(DEAD_PEER_S)
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
        self._verify(known, transport.get_remote_server_key())
        authenticate(self.target, transport)
        transport.set_keepalive(_KEEPALIVE_S)
        return transport

    def _verify(self, known: tuple[KnownHost, ...], key: paramiko.PKey) -> None:
        if self._on_accept is None:
            host_key.verify(self.target, known, key)
        elif accepted := host_key.accept(self.target, known, key):
            self._on_accept(accepted)

    def _open_socket(self) -> socket.socket:
        if self.target.proxy_command is None:
            return dial(self.target)
        self._proxy = Proxy(self.target.proxy_command)
        return self._proxy.socket

    def _negotiate(self, transport: paramiko.Transport) -> None:
        timeout_s = self.target.connect_timeout_s
        # We are the ones who wait: paramiko's own limits would make silence look like a hang-up.
        transport.banner_timeout = transport.handshake_timeout = timeout_s + _MARGIN_S
        done = threading.Event()
        transport.start_client(event=done)
        if not done.wait(timeout_s):
            raise self._silence(transport)
        if not transport.is_active():
            raise self._no_ssh(transport.get_exception())

    def _silence(self, transport: paramiko.Transport) -> NodeError:
        place, timeout_s = self.target.place, self.target.connect_timeout_s
        if transport.remote_version:
            message = f"{place} began to speak SSH and then fell silent for {timeout_s:g} s"
            hint = "is it overloaded? Large packets that get lost on the way (MTU) look like this too"
        elif self._proxy is not None:
            message = f"{place} did not answer through the ProxyCommand within {timeout_s:g} s"
            hint = self._proxy_failure() or "is the node powered on, and does the ProxyCommand reach it?"
        else:
            message = f"{place} accepted the connection but did not speak SSH within {timeout_s:g} s"
            hint = "is it an SSH server, and is it overloaded?"
        return NodeError(self.target.node, message, hint=hint)

    def _no_ssh(self, error: Exception | None) -> NodeError:
        said = self._proxy_failure()
        if said:
            return self._proxy_error(said)
        reason = harmless(str(error or "connection closed"))
        message = f"no SSH session with {self.target.place}: {reason}"
        kind = TurnedAwayError if _is_hang_up(error) else NodeError
        return kind(self.target.node, message, hint=_TURNED_AWAY)

    def _proxy_error(self, said: str) -> NodeError:
        message = f"the ProxyCommand for {self.target.host} failed"
        shown = harmless(self.target.proxy_command or "")
        if _JUMP_TURNED_AWAY.search(said) and not _JUMP_REFUSED.search(said):
            return TurnedAwayError(self.target.node, message, hint=_TURNED_AWAY, command=shown, stderr=said)
        hint = _JUMP_UNKNOWN if _KEY_REFUSED in said else _PROXY_ALONE
        return NodeError(self.target.node, message, hint=hint, command=shown, stderr=said)

    def _proxy_failure(self) -> str:
        return harmless(self._proxy.failure()) if self._proxy is not None else ""


def _is_hang_up(error: Exception | None) -> bool:
    # paramiko puts whatever it meets instead of a banner into words.
    return error is None or isinstance(error, (EOFError, OSError)) or _NO_BANNER in str(error)


def _harden(transport: paramiko.Transport) -> None:
    options = transport.get_security_options()
    options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
    options.digests = [name for name in _DIGESTS if name in options.digests]


def connect(
    target: Target, *, accept_new: bool = False, on_accept: Callable[[str], None] | None = None
) -> Connection:
    """Open a connection; the caller closes it. Raises NodeError with the reason and what to do.

    With ``accept_new`` the key of a host of which none is known is written to the first known_hosts file, and
    ``on_accept`` is called, in the caller's thread, with a sentence that has its fingerprint.
    A server that is too busy to let us in is asked again until ``connect_timeout_s`` has passed. At a jump
    host a few knock at a time.
    """
    teller = (on_accept or _tell_nobody) if accept_new else None
    return insist(lambda: Connection(target, teller), jump=target.jump, timeout_s=target.connect_timeout_s)


def _tell_nobody(_: str) -> None:
    pass
