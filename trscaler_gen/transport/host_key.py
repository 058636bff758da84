"""Whether a node is who it should be: its host key against known_hosts, and what to say when it is not."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import time
from pathlib import Path
from typing import IO

import paramiko

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import known_hosts
from trscaler_gen.transport.known_hosts import KnownHost, Verdict, fingerprint
from trscaler_gen.transport.target import Target

_LOCK_POLL_S = 0.01
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
    """Raise NodeError unless the key is known to be the node's."""
    _expect_known(target, known, key, known_hosts.judge(known, key.asbytes()))


def accept(target: Target, known: tuple[KnownHost, ...], key: paramiko.PKey) -> str:
    """As ``verify``, but a key of a host of which none is known is written down.

    Answers what was accepted, for the user to read; an empty text for a key that was known. Raises NodeError
    for any other key, and if it cannot be written down.
    """
    if known_hosts.judge(known, key.asbytes()) is not Verdict.UNKNOWN:
        verify(target, known, key)
        return ""
    if target.new_hosts is None:
        hint = "UserKnownHostsFile in ssh_config is none: name a file there"
        raise NodeError(target.node, f"no file to write the host key of {target.known_as} to", hint=hint)
    try:
        is_new = _write_down(target, target.new_hosts, key)
    except OSError as error:
        message = f"cannot write the host key of {target.known_as} to {target.new_hosts}: {error.strerror}"
        raise NodeError(target.node, message) from error
    shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
    return f"{target.node}: new host key of {target.known_as} accepted: {shown}" if is_new else ""


def _write_down(target: Target, path: Path, key: paramiko.PKey) -> bool:
    """Add a host's first key to a file, whole and on disk; answers False if somebody has just done so."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        _lock(file, target.connect_timeout_s)
        file.seek(0)
        text = file.read().decode(errors="replace")
        known = known_hosts.about(known_hosts.parse(text, str(path)), target.known_as)
        verdict = known_hosts.judge(known, key.asbytes())
        if verdict is Verdict.UNKNOWN:
            line = known_hosts.line_for(target.known_as, key.get_name(), key.asbytes())
            _append(file, (line if text.endswith("\n") or not text else f"\n{line}").encode())
            return True
    _expect_known(target, known, key, verdict)
    return False


def _lock(file: IO[bytes], timeout_s: float) -> None:
    """Keep out all others who add keys, of this process too; raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "somebody has locked it") from None
        time.sleep(_LOCK_POLL_S)


def _append(file: IO[bytes], data: bytes) -> None:
    """Add all of the data or, on a full disk, nothing."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # /dev/null is somebody's wish to keep nothing
        file.write(data)
        return
    size = os.fstat(file.fileno()).st_size
    try:
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def _expect_known(target: Target, known: tuple[KnownHost, ...], key: paramiko.PKey, verdict: Verdict) -> None:
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
        "compare with `ssh-keygen -lf` of the key on the node itself, then accept it: with all other new ones"
        f" by --accept-new, or alone: {_accept(target, key)}"
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
