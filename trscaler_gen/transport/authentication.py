"""Who we are to a node: identity files, then the agent's keys; nothing is ever asked of the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import known_hosts
from trscaler_gen.transport.command import harmless
from trscaler_gen.transport.target import Target


def authenticate(target: Target, transport: paramiko.Transport) -> None:
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
        message = f"{target.place} takes no keys for {target.user}, only: {offers}"
        raise NodeError(target.node, message, hint="enable PubkeyAuthentication there") from error
    except paramiko.AuthenticationException as error:
        if transport.is_active() and "timeout" not in str(error):
            return False
        raise _cut_off(target) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _cut_off(target) from error


def _cut_off(target: Target) -> NodeError:
    hint = "too many keys in the agent? Name one: ssh.identity_file in the inventory"
    return NodeError(target.node, f"{target.place} hung up during authentication as {target.user}", hint=hint)


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
