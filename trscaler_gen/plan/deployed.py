"""What the nodes run now, as the locks in their bundles tell it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from trscaler_gen.bundle import LOCK
from trscaler_gen.errors import InputError, NodeError
from trscaler_gen.lineage import used
from trscaler_gen.lock import Lock, carried, parse_lock
from trscaler_gen.plan.model import Seen, Wanted


@dataclass(frozen=True)
class Deployed:
    """The lock by which each node was built.

    ``locks`` has an entry for every node that holds a generation and whose lock can be read; ``unreadable``
    says why of the others. ``running`` are those of either kind that run, ``switched`` those that use the
    newer one of two placements.
    """

    locks: Mapping[str, Lock]
    unreadable: Mapping[str, str]
    running: tuple[str, ...]
    switched: frozenset[str] = frozenset()

    @property
    def base(self) -> Lock | None:
        """The lock that most of the running nodes run, the newest of those; None if none can be read."""
        counts = Counter(self.locks[node] for node in self.running if node in self.locks)
        if not counts:
            return None
        return max(counts, key=lambda lock: (counts[lock], lock.epoch, lock.serial))

    @property
    def live(self) -> Lock | None:
        """The base with the orders alone that its runners use, most of them if they differ."""
        base = self.base
        if base is None:
            return None
        nodes = self.runners(base)
        switched = sum(node in self.switched for node in nodes)
        return used(base, has_switched=2 * switched > len(nodes))

    def used_by(self, node: str) -> Lock:
        """The lock of a node with the orders alone that it uses."""
        return used(self.locks[node], has_switched=node in self.switched)

    @property
    def running_locks(self) -> tuple[Lock, ...]:
        """The different locks that are run."""
        return tuple(dict.fromkeys(self.locks[node] for node in self.running if node in self.locks))

    def runners(self, lock: Lock) -> tuple[str, ...]:
        """The nodes that run what was built by this lock."""
        return tuple(node for node in self.running if self.locks.get(node) == lock)


def read_deployed(wanted: Wanted, seen: Mapping[str, Seen | NodeError]) -> Deployed:
    """Read the lock of every node that holds a generation."""
    reader = _Reader(wanted)
    held = {node: each for node, each in seen.items() if isinstance(each, Seen) and each.facts.generation}
    answers = {node: reader.read(node, each) for node, each in held.items()}
    return Deployed(
        locks={node: lock for node, lock in answers.items() if isinstance(lock, Lock)},
        unreadable={node: why for node, why in answers.items() if isinstance(why, str)},
        running=tuple(node for node, each in held.items() if each.facts.runs),
        switched=frozenset(node for node, each in held.items() if each.facts.placement == "after"),
    )


class _Reader:
    """Reads each text once: most nodes have the same."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._same = carried(wanted.lock)
        # All bundles hold the same lock; without any there is no digest that could be equal.
        locks = (bundle.files.get(LOCK, b"") for bundle in wanted.bundles.values())
        self._digest = hashlib.sha256(next(locks, b"")).hexdigest()
        self._known: dict[bytes, Lock | str] = {}

    def read(self, node: str, seen: Seen) -> Lock | str:
        """Answer a node's lock, or why it cannot be read."""
        bundle = self._wanted.bundles.get(node)
        if bundle is not None and bundle.generation == seen.facts.generation:
            return self._same
        if seen.facts.digests.get(LOCK) == self._digest:
            return self._same
        content = seen.files.get(LOCK)
        if content is None:
            return f"generation {seen.facts.generation} has no lock"
        if content not in self._known:
            self._known[content] = self._parsed(content)
        return self._known[content]

    def _parsed(self, content: bytes) -> Lock | str:
        try:
            lock = carried(parse_lock(content.decode(), LOCK))
        except UnicodeDecodeError:
            return "its lock is not UTF-8"
        except InputError as error:
            return f"its lock cannot be read: {error.problems[0].message}"
        # Equal to the wanted one: the same object compares at once.
        return self._same if lock == self._same else lock
