"""Looking at nodes again and again: over one connection each, and none of them waits for another.

Each node has a thread and, over its connection, one process that answers questions (``glance.sh``): a quick
one in every round, and now and then all of ``observe.sh``. A node that hangs is late for the round, and for
nothing else. A connection that breaks is opened again, after pauses that grow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trscaler_gen.deploy.locks import Locks
from trscaler_gen.deploy.preflight import TOOLS, not_root
from trscaler_gen.deploy.scripts import script
from trscaler_gen.deploy.survey import Aim
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import ROOT, Facts, parse_facts
from trscaler_gen.glance import Glance, is_of_another, is_outdated, parse_glance, refreshed, sets_to_read
from trscaler_gen.lock import Lock
from trscaler_gen.nodeplan import table_name
from trscaler_gen.watching import Sighting

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection, Session

#: a whole look takes some 5 kB
_MAX_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Pace:
    """How often and how long, in seconds.

    ``whole_every_s`` is the time between two whole looks at a node, less where a quick one asks for another,
    but never less than ``whole_rest`` times as long as it took, unless another generation runs. A node that
    fails is asked again after ``pauses_s``, the last one again and again. ``close_s`` is how long hanging up
    may take.
    """

    glance_timeout_s: float = 10.0
    whole_timeout_s: float = 30.0
    whole_every_s: float = 15.0
    whole_rest: float = 30.0
    pauses_s: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)
    close_s: float = 2.0


class Lookout:
    """Watches nodes by any keys; a context manager, that hangs up at its end.

    ``connect`` opens a connection by key and raises NodeError; ``parallel`` of them are opened at a time.
    ``on_answer`` is called, by any thread, whenever a node has answered or failed.
    """

    def __init__(
        self,
        connect: Callable[[str], Connection],
        locks: Mapping[str, Lock],
        *,
        parallel: int,
        on_answer: Callable[[], None] = lambda: None,
        pace: Pace = Pace(),
    ) -> None:
        self._connect = connect
        self._knocking = threading.BoundedSemaphore(parallel)
        self._locks = Locks(locks)
        self._on_answer = on_answer
        self._pace = pace
        self._posts: dict[str, _Post] = {}

    def __enter__(self) -> Lookout:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep({})

    def keep(self, aims: Mapping[str, Aim]) -> None:
        """Watch these nodes from now on, and no others; a node that is at another place has another key."""
        gone = [self._posts.pop(key) for key in tuple(self._posts) if key not in aims]
        closers = [threading.Thread(target=post.close, daemon=True) for post in gone]
        for closer in closers:
            closer.start()
        for key in aims.keys() - self._posts.keys():
            self._posts[key] = _Post(key, aims[key], self._open, self._locks, self._on_answer, self._pace)
        deadline = time.monotonic() + self._pace.close_s
        for closer in closers:  # whoever does not hang up by then is not waited for
            closer.join(max(0.0, deadline - time.monotonic()))

    def ask(self) -> None:
        """Begin a round: everyone who is not still at the last question is asked."""
        for post in self._posts.values():
            post.ask()

    @property
    def is_answered(self) -> bool:
        """Whether everyone has answered this round, or failed, or is waited for no more."""
        return all(post.is_idle for post in self._posts.values())

    def sightings(self) -> dict[str, Sighting]:
        """What is known now, by key; raises what a thread has stumbled over, if that was a bug."""
        found = {}
        for key, post in self._posts.items():
            if post.bug is not None:
                raise post.bug
            seen = post.sighting
            lock = self._locks.of(seen.facts) if seen.facts else None
            found[key] = replace(seen, lock=lock, late_s=post.late_s)
        return found

    def _open(self, key: str) -> Connection:
        with self._knocking:
            return self._connect(key)


class _Post:
    """One node, its connection and its thread."""

    def __init__(
        self,
        key: str,
        aim: Aim,
        connect: Callable[[str], Connection],
        locks: Locks,
        on_answer: Callable[[], None],
        pace: Pace,
    ) -> None:
        self.sighting = Sighting()
        self.bug: Exception | None = None
        self._key, self._aim, self._locks, self._pace = key, aim, locks, pace
        self._connect, self._on_answer = connect, on_answer
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._facts: Facts | None = None
        self._whole_at = self._whole_rest_until = 0.0
        self._failures = self._answers = 0
        self._not_before = 0.0
        self._asked_s = 0.0
        self._is_asked = threading.Event()
        self._is_over = False
        threading.Thread(target=self._work, daemon=True, name=f"look-{key}").start()

    def ask(self) -> None:
        """Let the thread look, unless it still does, or the node has just failed."""
        if self.is_idle and time.monotonic() >= self._not_before:
            self._asked_s = time.monotonic()
            self._is_asked.set()

    @property
    def is_idle(self) -> bool:
        """Whether no answer is waited for."""
        return not self._is_asked.is_set()

    @property
    def late_s(self) -> float:
        """How long an answer has been waited for by now."""
        return 0.0 if self.is_idle else time.monotonic() - self._asked_s

    def close(self) -> None:
        """Hang up; the thread ends when it notices."""
        self._is_over = True
        self._is_asked.set()
        self._hang_up()

    def _work(self) -> None:
        while True:
            self._is_asked.wait()
            if self._is_over:
                break
            self._look()
            if self._is_over:
                break
            self._is_asked.clear()
            self._on_answer()
        self._hang_up()

    def _look(self) -> None:
        try:
            facts, glance = self._see_at_last()
            seen, self._failures = self.sighting, 0
            before = seen.glance if seen.glance and seen.glance.uptime_s < glance.uptime_s else seen.before
            self._answers += 1
            self.sighting = Sighting(facts, glance=glance, before=before, answers=self._answers)
        except NodeError as error:
            self._hang_up()
            pauses = self._pace.pauses_s
            self._not_before = time.monotonic() + pauses[min(self._failures, len(pauses) - 1)]
            self._failures += 1
            self.sighting = Sighting(error=error)
        except Exception as error:
            self.bug = None if self._is_over else error

    def _see_at_last(self) -> tuple[Facts, Glance]:
        """A connection of old that fails says little of the node: only a new one does."""
        if self._session is not None:
            try:
                return self._see(self._session)
            except NodeError:
                self._hang_up()
                if self._is_over:
                    raise
        return self._see(self._open())

    def _hang_up(self) -> None:
        connection, self._connection, self._session, self._facts = self._connection, None, None, None
        if connection is not None:
            connection.close()

    def _open(self) -> Session:
        self._connection = self._connect(self._key)
        argv = ("sh", "-c", script("glance.sh"), "sh", f"{ROOT}/{self._aim.cluster}")
        words = (table_name(self._aim.cluster), script("observe.sh"), self._aim.link, "", *TOOLS)
        self._session = self._connection.start((*argv, *words))
        return self._session

    def _see(self, session: Session) -> tuple[Facts, Glance]:
        """Look at what changes, and at everything if that is due or explains it; raises NodeError."""
        facts = self._facts if time.monotonic() < self._whole_at else None
        facts = facts or self._whole(session)
        glance = self._glance(session, facts)
        has_rested = time.monotonic() >= self._whole_rest_until
        if is_of_another(facts, glance) or (has_rested and is_outdated(facts, glance)):
            facts = self._whole(session)
            glance = self._glance(session, facts)
        return refreshed(facts, glance), glance

    def _whole(self, session: Session) -> Facts:
        began = time.monotonic()
        text = self._answer(session, "all", self._pace.whole_timeout_s)
        took = time.monotonic() - began
        self._whole_rest_until = began + took * self._pace.whole_rest
        self._whole_at = max(began + self._pace.whole_every_s, self._whole_rest_until)
        try:
            facts = parse_facts(text)
        except ValueError as error:
            hint = f"run it on the node: sh {ROOT}/{self._aim.cluster}/current/node.sh state"
            raise NodeError(self._aim.node, f"cannot tell what runs there: {error}", hint=hint) from error
        if facts.uid != 0:
            raise not_root(self._aim.node)
        assert self._connection is not None
        self._locks.learn(self._aim.cluster, facts, self._connection)
        self._facts = facts
        return facts

    def _glance(self, session: Session, facts: Facts) -> Glance:
        question = " ".join(sets_to_read(facts))
        text = self._answer(session, question, self._pace.glance_timeout_s)
        try:
            return parse_glance(text)
        except ValueError as error:
            raise NodeError(self._aim.node, f"cannot tell what runs there: {error}") from error

    def _answer(self, session: Session, question: str, timeout_s: float) -> str:
        """What the node says until the line ``end``; raises NodeError."""
        deadline = time.monotonic() + timeout_s
        session.send(f"{question}\n".encode())
        lines: list[str] = []
        size = 0
        while (line := session.read_line(_left_s(deadline))) != "end\n":
            size += len(line)
            if size > _MAX_CHARACTERS:
                raise NodeError(self._aim.node, f"it answers with more than {_MAX_CHARACTERS} characters")
            if not line:
                said = (session.stderr.strip() or "without a word").splitlines()[-1]
                raise NodeError(self._aim.node, f"it stopped answering: {said}")
            lines.append(line)
        return "".join(lines)


def _left_s(deadline: float) -> float:
    """Rounded, for it is told when it is over."""
    return round(max(0.0, deadline - time.monotonic()), 1)
