"""Getting a lost lock back: every generation of every node carries the one that it was made from."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trscaler_gen.bundle import LOCK
from trscaler_gen.deploy.preflight import NO_PERMISSION, not_root
from trscaler_gen.deploy.scripts import script
from trscaler_gen.deploy.unpack import contents, opened
from trscaler_gen.errors import InputError, NodeError, OperationError
from trscaler_gen.facts import ROOT
from trscaler_gen.lineage import conflict
from trscaler_gen.lock import Lock, carried, parse_lock

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class NodeLocks:
    """The locks that lie on a node: the current generation's, and all."""

    current: Lock
    every: tuple[Lock, ...]


def read_locks(node: str, connection: Connection, cluster: str) -> NodeLocks | None:
    """Read the locks of a node; None: it has none of this cluster. Raises NodeError."""
    argv = ("sh", "-c", script("locks.sh"), "sh", f"{ROOT}/{cluster}")
    try:
        archived = connection.fetch(argv, timeout_s=_TIMEOUT_S)
    except NodeError as error:
        raise not_root(node) if error.status == NO_PERMISSION else error from None
    if not archived:
        return None
    try:
        return _unpack(archived, cluster)
    except (tarfile.TarError, InputError, ValueError, KeyError) as error:
        hint = "go on without this node: --without " + node
        raise NodeError(node, f"its lock cannot be read: {error}", hint=hint) from error


def _unpack(archived: bytes, cluster: str) -> NodeLocks:
    with opened(archived) as tar:
        current = tar.getmember("current").linkname
        found = {name: _parse(content) for name, content in contents(tar)}
    foreign = [lock.cluster for lock in found.values() if lock.cluster != cluster]
    if foreign:
        raise ValueError(f"it is of cluster {foreign[0]}")
    if f"{current}/{LOCK}" not in found:
        raise ValueError(f"{current} carries none")
    return NodeLocks(found[f"{current}/{LOCK}"], tuple(found.values()))


@lru_cache(maxsize=64)
def _parse(content: bytes) -> Lock:
    """Most nodes have the same ones."""
    return parse_lock(content.decode(), "the node's lock")


def newest(held: Mapping[str, NodeLocks]) -> Lock:
    """Choose the last lock of the line that the nodes run; raises OperationError if they run two.

    It may be newer than what any node runs: after a rollback, or a change that was prepared and not made.
    """
    running = {node: locks.current for node, locks in held.items()}
    if not running:
        hint = "there is nothing to recover: apply makes one"
        raise OperationError("no node has a lock of this cluster", hint)
    known = dict.fromkeys(carried(lock) for locks in held.values() for lock in locks.every)
    deployed = dict.fromkeys(running.values())
    heirs = [lock for lock in known if all(conflict(other, lock) is None for other in deployed)]
    if not heirs:
        raise _apart(running)
    last = max(heirs, key=lambda lock: lock.serial)
    if all(conflict(lock, last) is None for lock in heirs):
        return last
    # Of changes that were only prepared, two can have the same serial: none of them counts.
    return max(map(carried, deployed), key=lambda lock: lock.serial)


def _apart(running: Mapping[str, Lock]) -> OperationError:
    last = max(running.values(), key=lambda lock: lock.serial)
    others = [node for node, lock in running.items() if conflict(lock, last)]
    hint = "leave out those that are wrong: " + " ".join(f"--without {node}" for node in others)
    message = f"{', '.join(others)} and the others run locks that have grown apart: no lock follows from both"
    return OperationError(message, hint)
