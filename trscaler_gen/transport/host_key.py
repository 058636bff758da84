"""Whether a node is who it should be: its host key against known_hosts, and what to say when it is not."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import paramiko

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import known_hosts
from trscaler_gen.transport.known_hosts import KnownHost, Verdict, fingerprint
from trscaler_gen.transport.target import Target

_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


def known_to(target: Target) -> tuple[KnownHost, ...]:
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


def prefer(transport: paramiko.Transport, known: tuple[KnownHost, ...]) -> None:
    """Ask for a host key of a type that is known, or a host with two keys would look like a changed one."""
    options = transport.get_security_options()
    types = {host.key_type for host in known}
    wanted = [name for name in options.key_types if _key_type(name) in types]
    options.key_types = wanted + [name for name in options.key_types if name not in wanted]


def _key_type(algorithm: str) -> str:
    return "ssh-rsa" if algorithm in _RSA_SIGNATURES else algorithm


def verify(target: Target, known: tuple[KnownHost, ...], key: paramiko.PKey) -> None:
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
