"""Who we are to a node: identity files, then the agent's keys; nothing is ever asked of the user."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentSSH

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import known_hosts
from trscaler_gen.transport.command import harmless
from trscaler_gen.transport.target import Target


def authenticate(target: Target, transport: paramiko.Transport) -> None:
    problems: list[str] = []
    offered = 0
    with _agent_keys(target, problems) as agent_keys:
        for key in _keys(target, agent_keys, problems):
            offered += 1
            if _try_key(target, transport, key):
                return
    raise _auth_refused(target, offered, problems)


class _AgentSilentError(paramiko.SSHException):
    """The agent has not answered; paramiko's own thread, where keys sign, dies of a TimeoutError."""


class _Agent(AgentSSH):
    """The user's agent; paramiko's own class would wait for its answers without a limit."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__()
        conn = socket.socket(socket.AF_UNIX)
        try:
            conn.settimeout(timeout_s)
            conn.connect(path)
            self._connect(conn)  # type: ignore[attr-defined]  # not in the stubs
        except BaseException:
            conn.close()
            raise

    def _send_message(self, msg: object) -> object:
        try:
            return super()._send_message(msg)  # type: ignore[misc]
        except TimeoutError as error:
            raise _AgentSilentError("timed out") from error

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _agent_keys(target: Target, problems: list[str]) -> Iterator[tuple[paramiko.PKey, ...]]:
    """The keys of the user's agent; one that does not speak the protocol counts as empty."""
    path = os.environ.get("SSH_AUTH_SOCK")
    with contextlib.ExitStack() as stack:
        keys: tuple[paramiko.PKey, ...] = ()
        try:
            if path:
                agent = _Agent(path, target.connect_timeout_s)
                keys = stack.enter_context(contextlib.closing(agent)).get_keys()
        except (paramiko.SSHException, OSError) as error:
            problems.append(f"the agent at SSH_AUTH_SOCK does not answer: {harmless(str(error))}")
        yield keys


def _try_key(target: Target, transport: paramiko.Transport, key: paramiko.PKey) -> bool:
    """Whether the node lets us in with this key; raises NodeError when no key can help."""
    # paramiko counts the agent's time as the node's: each has its own.
    peers = 2 if isinstance(key, paramiko.AgentKey) else 1
    transport.auth_timeout = target.connect_timeout_s * peers
    try:
        return not transport.auth_publickey(target.user, key)
    except paramiko.BadAuthenticationType as error:
        offers = harmless(", ".join(error.allowed_types))
        message = f"{target.place} takes no keys for {target.user}, only: {offers}"
        raise NodeError(target.node, message, hint="enable PubkeyAuthentication there") from error
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error):
            raise _stalled(target) from error
        if transport.is_active():
            return False
        raise _cut_off(target) from error
    except _AgentSilentError as error:
        message = "the agent at SSH_AUTH_SOCK does not sign in time"
        hint = "does its key wait for a touch or a confirmation?"
        raise NodeError(target.node, message, hint=hint) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _cut_off(target) from error


def _cut_off(target: Target) -> NodeError:
    hint = "too many keys in the agent? Name one: ssh.identity_file in the inventory"
    return NodeError(target.node, f"{target.place} hung up during authentication as {target.user}", hint=hint)


def _stalled(target: Target) -> NodeError:
    timeout_s = target.connect_timeout_s
    message = f"{target.place} did not decide on a key of {target.user} within {timeout_s:g} s"
    return NodeError(target.node, message, hint="is the node overloaded, or the directory it asks for users?")


def _auth_refused(target: Target, offered: int, problems: list[str]) -> NodeError:
    tried = f"{offered} key{'s' if offered != 1 else ''} refused" if offered else "no key to offer"
    message = "; ".join([f"authentication as {target.user} at {target.place}: {tried}", *problems])
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
    own = {_public_blob(path) for path in target.identity_files} if agent_keys else set()
    for key in agent_keys:
        if not target.identities_only or key.asbytes() in own:
            yield key


def _load_key(path: Path, problems: list[str]) -> paramiko.PKey | None:
    try:
        return _parse_key(path, path.read_bytes())
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


@lru_cache(maxsize=64)
def _parse_key(path: Path, content: bytes) -> paramiko.PKey:
    """The key in a file with this content: the same one for all nodes, as a rule."""
    return paramiko.PKey.from_path(path)


def _public_blob(path: Path) -> bytes:
    try:
        lines = known_hosts.parse(f"- {Path(f'{path}.pub').read_text(encoding='utf-8')}", "")
    except (OSError, UnicodeDecodeError):
        return b""
    return lines[0].blob if lines else b""
