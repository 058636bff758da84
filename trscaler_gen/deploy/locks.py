"""The locks that nodes run: what their tables mean, and what a node's ids are called."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trscaler_gen.bundle import LOCK
from trscaler_gen.errors import InputError, NodeError
from trscaler_gen.facts import ROOT, Facts
from trscaler_gen.lock import Lock, parse_lock

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

_FETCH_TIMEOUT_S = 60.0


class Locks:
    """Locks by the SHA-256 of their files, each read from one node; threads share it."""

    def __init__(self, known: Mapping[str, Lock]) -> None:
        """Begin with those that are known already."""
        self._locks = dict(known)
        self._being_fetched: set[str] = set()
        self._guard = threading.Lock()

    def of(self, facts: Facts) -> Lock | None:
        """The lock by which a node's generation was built; None: it has none, or it could not be read."""
        return self._locks.get(facts.listed.get(LOCK, ""))

    def learn(self, cluster: str, facts: Facts, connection: Connection) -> None:
        """Fetch the lock from the first node that has it; where that fails, the next one tries.

        What a node runs and who it sees is worth telling without it, so a failure is none of the node's.
        """
        digest = facts.listed.get(LOCK, "")
        if not digest or not self._claim(digest):
            return
        lock = None
        try:
            lock = _fetch_lock(cluster, facts.generation, digest, connection)
        except NodeError:
            pass
        finally:
            with self._guard:
                self._being_fetched.discard(digest)
                if lock is not None:
                    self._locks[digest] = lock

    def _claim(self, digest: str) -> bool:
        with self._guard:
            if digest in self._locks or digest in self._being_fetched:
                return False
            self._being_fetched.add(digest)
            return True


def _fetch_lock(cluster: str, generation: str, digest: str, connection: Connection) -> Lock | None:
    """The lock in a generation; None where it is not the one that the generation was built with."""
    path = f"{ROOT}/{cluster}/generations/{generation}/{LOCK}"
    content = connection.fetch(("cat", path), timeout_s=_FETCH_TIMEOUT_S)
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    try:
        return parse_lock(content.decode(), path)
    except (InputError, UnicodeDecodeError):
        return None
