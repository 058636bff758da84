"""Opening a verified, authenticated SSH connection, and saying clearly why one could not be had."""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import command, known_hosts
from trscaler_gen.transport.command import Completed, harmless
from trscaler_gen.transport.known_hosts import KnownHost, Verdict, fingerprint
from trscaler_gen.transport.proxy import Proxy
from trscaler_gen.transport.target import Target

# Best first, and nothing that OpenSSH itself has retired.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_DIGESTS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")

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
        assert self._transport is not None
        return command.run(self._transport, self.target.node, argv, stdin=stdin, timeout_s=timeout_s)

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
        known = _known_to(self.target)
        self._socket = self._open_socket()
        transport = self._transport = paramiko.Transport(self._socket)
        _prefer(transport, known)
        self._negotiate(transport)
        _verify(self.target, known, transport.get_remote_server_key())
        _authenticate(self.target, transport)
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
        place, timeout_s = _place(self.target), self.target.connect_timeout_s
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
        return NodeError(self.target.node, f"no SSH session with {_place(self.target)}: {reason}", hint=hint)

    def _proxy_failure(self) -> str:
        return harmless(self._proxy.failure()) if self._proxy is not None else ""


def connect(target: Target) -> Connection:
    """Open a connection; the caller closes it. Raises NodeError with the reason and what to do."""
    return Connection(target)


def _place(target: Target) -> str:
    return f"{target.host} port {target.port}"


def _tcp_socket(target: Target) -> socket.socket:
    try:
        sock = socket.create_connection((target.host, target.port), timeout=target.connect_timeout_s)
    except OSError as error:
        raise NodeError(
            target.node, f"{_place(target)}: {_network_reason(error)}", hint=_network_hint(error)
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


def _known_to(target: Target) -> tuple[KnownHost, ...]:
    hosts: list[KnownHost] = []
    for path in target.known_hosts:
        with contextlib.suppress(FileNotFoundError):
            hosts += known_hosts.parse(_read(target, path), str(path))
    return known_hosts.about(hosts, target.known_as)


def _read(target: Target, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NodeError(target.node, f"cannot read {path}: {error.strerror}") from error


def _prefer(transport: paramiko.Transport, known: tuple[KnownHost, ...]) -> None:
    """Ask for a host key of a type that is known, or a host with two keys would look like a changed one."""
    options = transport.get_security_options()
    options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
    options.digests = [name for name in _DIGESTS if name in options.digests]
    types = {host.key_type for host in known}
    wanted = [name for name in options.key_types if _key_type(name) in types]
    options.key_types = wanted + [name for name in options.key_types if name not in wanted]


def _key_type(algorithm: str) -> str:
    return "ssh-rsa" if algorithm in _RSA_SIGNATURES else algorithm


def _verify(target: Target, known: tuple[KnownHost, ...], key: paramiko.PKey) -> None:
    verdict = known_hosts.judge(known, key.asbytes())
    if verdict is Verdict.UNKNOWN:
        raise _unknown_key(target, key)
    if verdict is Verdict.CHANGED:
        raise _changed_key(target, known, key)
    if verdict is Verdict.REVOKED:
        shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
        hint = (
            "the key was marked @revoked as stolen or retired: do not connect; give the node a new host key"
        )
        raise NodeError(target.node, f"THE HOST KEY OF {target.known_as} IS REVOKED: {shown}", hint=hint)


def _unknown_key(target: Target, key: paramiko.PKey) -> NodeError:
    message = f"host key of {target.known_as} is not known: {key.get_name()} {fingerprint(key.asbytes())}"
    hint = (
        f"compare with `ssh-keygen -lf` of the key on the node itself, then accept it: {_accept(target, key)}"
    )
    return NodeError(target.node, message, hint=hint)


def _accept(target: Target, key: paramiko.PKey) -> str:
    if target.proxy_command is None and target.known_as == known_hosts.name_of(target.host, target.port):
        kind = key.get_name().removeprefix("ssh-").split("-")[0]
        scan = ["ssh-keyscan", "-p", str(target.port), "-t", kind, target.host]
        return f"{shlex.join(scan)} >>{_file(target)}"
    config = ["-F", str(target.config)] if target.config else []
    return shlex.join(["ssh", *config, "-p", str(target.port), "-l", target.user, target.alias, "true"])


def _file(target: Target) -> str:
    return shlex.quote(str(target.known_hosts[0])) if target.known_hosts else "~/.ssh/known_hosts"


def _changed_key(target: Target, known: tuple[KnownHost, ...], key: paramiko.PKey) -> NodeError:
    shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
    old = next(host for host in known if not host.marker)
    expected = f"{old.key_type} {fingerprint(old.blob)} ({old.source}:{old.line})"
    message = f"THE HOST KEY OF {target.known_as} HAS CHANGED: it shows {shown}, known is {expected}"
    forget = shlex.join(["ssh-keygen", "-R", target.known_as, "-f", old.source])
    hint = (
        "someone may be listening in. Only if you know that the node was installed anew, and have compared"
        f" the fingerprint on the node itself: {forget} && {_accept(target, key)}"
    )
    return NodeError(target.node, message, hint=hint)


def _authenticate(target: Target, transport: paramiko.Transport) -> None:
    problems: list[str] = []
    offered = 0
    with _agent_keys(problems) as agent_keys:
        for key in _keys(target, agent_keys, problems):
            offered += 1
            if _try_key(target, transport, key):
                return
    raise _auth_refused(target, offered, problems)


@contextlib.contextmanager
def _agent_keys(problems: list[str]) -> Iterator[tuple[paramiko.PKey, ...]]:
    """The keys of the user's agent; one that does not speak the protocol counts as empty."""
    with contextlib.ExitStack() as stack:
        keys: tuple[paramiko.PKey, ...] = ()
        try:
            keys = stack.enter_context(contextlib.closing(paramiko.Agent())).get_keys()
        except (paramiko.SSHException, OSError) as error:
            problems.append(f"the agent at SSH_AUTH_SOCK does not answer: {harmless(str(error))}")
        yield keys


def _try_key(target: Target, transport: paramiko.Transport, key: paramiko.PKey) -> bool:
    """Whether the node lets us in with this key; raises NodeError when no key can help."""
    try:
        return not transport.auth_publickey(target.user, key)
    except paramiko.BadAuthenticationType as error:
        offers = harmless(", ".join(error.allowed_types))
        message = f"{_place(target)} takes no keys for {target.user}, only: {offers}"
        raise NodeError(target.node, message, hint="enable PubkeyAuthentication there") from error
    except paramiko.AuthenticationException as error:
        if transport.is_active() and "timeout" not in str(error):
            return False
        raise _cut_off(target) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _cut_off(target) from error


def _cut_off(target: Target) -> NodeError:
    hint = "too many keys in the agent? Name one: ssh.identity_file in the inventory"
    return NodeError(
        target.node, f"{_place(target)} hung up during authentication as {target.user}", hint=hint
    )


def _auth_refused(target: Target, offered: int, problems: list[str]) -> NodeError:
    tried = f"{offered} key{'s' if offered != 1 else ''} refused" if offered else "no key to offer"
    message = "; ".join([f"authentication as {target.user} at {_place(target)}: {tried}", *problems])
    copy = f"ssh-copy-id -p {target.port} {target.user}@{target.host}"
    hint = f"let a key in with: {copy}; or name another in the inventory: ssh.identity_file"
    return NodeError(target.node, message, hint=hint)


def _keys(
    target: Target, agent_keys: tuple[paramiko.PKey, ...], problems: list[str]
) -> Iterator[paramiko.PKey]:
    """The identity files, then the agent's keys: with IdentitiesOnly, only those that belong to a file."""
    for path in target.identity_files:
        key = _load_key(path, problems)
        if key is not None:
            yield key
    own = {_public_blob(path) for path in target.identity_files}
    for key in agent_keys:
        if not target.identities_only or key.asbytes() in own:
            yield key


def _load_key(path: Path, problems: list[str]) -> paramiko.PKey | None:
    try:
        return paramiko.PKey.from_path(path)
    except FileNotFoundError:
        problems.append(f"identity file {path} does not exist")
    except OSError as error:
        problems.append(f"identity file {path}: {(error.strerror or '').lower()}")
    except (paramiko.PasswordRequiredException, TypeError):
        # cryptography says TypeError when a passphrase is wanted.
        problems.append(f"identity file {path} is encrypted and no agent holds it (`ssh-add {path}`)")
    except (paramiko.SSHException, ValueError, UnsupportedAlgorithm, paramiko.pkey.UnknownKeyType):
        problems.append(f"identity file {path} is not a private key that can be read")
    return None


def _public_blob(path: Path) -> bytes:
    try:
        lines = known_hosts.parse(f"- {Path(f'{path}.pub').read_text(encoding='utf-8')}", "")
    except (OSError, UnicodeDecodeError):
        return b""
    return lines[0].blob if lines else b""
