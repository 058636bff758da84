"""Many nodes at once: one connection each, a bounded number of threads, a barrier after every phase."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from trscaler_gen.errors import NodeError

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

T = TypeVar("T")


class Phase(StrEnum):
    """What a deployment is doing."""

    OBSERVE = "observe"
    LOCK = "lock"
    STAGE = "stage"
    STOP = "stop"
    SWAP = "swap"
    START = "start"
    SWITCH = "switch"
    PROVE = "prove"
    CONFIRM = "confirm"
    REVERT = "revert"
    RECORD = "record"


@dataclass(frozen=True)
class PhaseBegan:
    """A phase begins on these nodes."""

    phase: Phase
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class NodeDone:
    """A node has finished its part of a phase; ``error`` says why it failed."""

    phase: Phase
    node: str
    error: NodeError | None


@dataclass(frozen=True)
class Interrupted:
    """Ctrl-C was pressed: these nodes' commands are awaited, nothing new begins."""

    running: tuple[str, ...]


Event = PhaseBegan | NodeDone | Interrupted


def _say_nothing(event: Event) -> None:
    """Tell an event to nobody."""


class Fleet:
    """Connections to many nodes, opened on first use and closed together.

    ``on_event`` is called from several threads, but never by two at once.
    """

    def __init__(
        self,
        connect: Callable[[str], Connection],
        *,
        executor: Executor,
        on_event: Callable[[Event], None] = _say_nothing,
    ) -> None:
        """Work in the threads of ``executor``, which may be shared with other fleets."""
        self.interrupted = False
        self._connect = connect
        self._on_event = on_event
        self._event_lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._futures: tuple[Future[Any], ...] = ()
        self._executor = executor

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        # Hanging up comes first: commands that still run (after a second Ctrl-C) then fail at once.
        self.hang_up()
        wait(self._futures)
        # A connection that was just being opened is there by now.
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection: commands that still run fail at once."""
        for connection in tuple(self._connections.values()):
            connection.close()

    def each(
        self,
        phase: Phase,
        nodes: Iterable[str],
        task: Callable[[str, Connection], T],
        *,
        fresh: bool = False,
    ) -> dict[str, T | NodeError]:
        """Run the task on all nodes and wait for all of them; answers by node, in the order given.

        ``fresh``: over a new connection each, which is closed after the task. After Ctrl-C the tasks that run
        are awaited and those that have not begun are left out of the answer; a second Ctrl-C is raised.
        """
        names = tuple(nodes)
        if names:
            self._tell(PhaseBegan(phase, names))
        run = self._once if fresh else self._one
        futures = {node: self._executor.submit(run, phase, node, task) for node in names}
        self._futures = tuple(futures.values())
        try:
            wait(futures.values())
        except KeyboardInterrupt:
            if self.interrupted:
                raise
            self._interrupt(futures)
        return {node: future.result() for node, future in futures.items() if not future.cancelled()}

    def _interrupt(self, futures: Mapping[str, Future[T | NodeError]]) -> None:
        self.interrupted = True
        running = [node for node, future in futures.items() if not future.cancel() and not future.done()]
        self._tell(Interrupted(tuple(running)))
        wait(futures.values())

    def _one(self, phase: Phase, node: str, task: Callable[[str, Connection], T]) -> T | NodeError:
        return self._answer(phase, node, lambda: task(node, self._connection(node)))

    def _once(self, phase: Phase, node: str, task: Callable[[str, Connection], T]) -> T | NodeError:
        def over_a_new_connection() -> T:
            with self._connect(node) as connection:
                return task(node, connection)

        return self._answer(phase, node, over_a_new_connection)

    def _answer(self, phase: Phase, node: str, task: Callable[[], T]) -> T | NodeError:
        outcome: T | NodeError
        try:
            outcome = task()
        except NodeError as error:
            outcome = error
        self._tell(NodeDone(phase, node, outcome if isinstance(outcome, NodeError) else None))
        return outcome

    def _connection(self, node: str) -> Connection:
        if node not in self._connections:
            self._connections[node] = self._connect(node)
        return self._connections[node]

    def _tell(self, event: Event) -> None:
        with self._event_lock:
            try:
                self._on_event(event)
            except OSError:  # nobody reads on: no reason to leave a change half-way
                self._on_event = _say_nothing
