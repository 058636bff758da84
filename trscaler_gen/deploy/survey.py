"""Asking many nodes at once, of one cluster or of several, without touching them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from trscaler_gen.deploy.fleet import Event, Fleet, Interrupted, Phase
from trscaler_gen.deploy.locks import Locks
from trscaler_gen.deploy.node import observe
from trscaler_gen.deploy.preflight import NO_PERMISSION, not_root
from trscaler_gen.deploy.scripts import script
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import ROOT, Facts
from trscaler_gen.history import NodeHistory, parse_node
from trscaler_gen.lock import Lock

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

T = TypeVar("T")

#: to as many nodes connections stay open from one question to the next
MAX_OPEN = 64

_HISTORY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Aim:
    """A node to ask: in which cluster, and which generation is wanted there (empty: none)."""

    cluster: str
    node: str
    link: str = "lo"
    generation: str = ""


@contextmanager
def surveying(
    aims: Mapping[str, Aim],
    connect: Callable[[str], Connection],
    *,
    parallel: int,
    on_event: Callable[[Event], None] = lambda event: None,
    locks: Mapping[str, Lock] | None = None,
) -> Iterator[Survey]:
    """Ask nodes by any keys, ``parallel`` at a time; up to MAX_OPEN connections stay open to the end.

    ``connect`` opens a connection by key and raises NodeError. ``locks`` are known already, by SHA-256. A
    Ctrl-C hangs up at once: nothing is left half done.
    """

    def tell(event: Event) -> None:
        on_event(event)
        if isinstance(event, Interrupted):
            fleet.hang_up()

    with (
        ThreadPoolExecutor(parallel, thread_name_prefix="survey") as executor,
        Fleet(connect, executor=executor, on_event=tell) as fleet,
    ):
        yield Survey(fleet, aims, locks or {})


class Survey:
    """What nodes answer; every answer is by key, a NodeError where there was none."""

    def __init__(self, fleet: Fleet, aims: Mapping[str, Aim], locks: Mapping[str, Lock]) -> None:
        self._fleet = fleet
        self._aims = aims
        self._locks = Locks(locks)

    def observe(self, keys: Iterable[str] | None = None) -> dict[str, Facts | NodeError]:
        """Read the facts of all nodes, or of some, and every lock that one of them runs."""
        return self._ask(self._observe, self._aims if keys is None else keys)

    def read_histories(self) -> dict[str, NodeHistory | NodeError]:
        """Read the histories of all nodes."""
        return self._ask(self._history, self._aims)

    def lock_of(self, facts: Facts) -> Lock | None:
        """The lock by which a node's generation was built; None: it has none, or it could not be read."""
        return self._locks.of(facts)

    def _ask(self, task: Callable[[str, Connection], T], keys: Iterable[str]) -> dict[str, T | NodeError]:
        is_large = len(self._aims) > MAX_OPEN
        answers = self._fleet.each(Phase.OBSERVE, keys, task, fresh=is_large)
        if self._fleet.interrupted:
            raise KeyboardInterrupt
        return answers

    def _observe(self, key: str, connection: Connection) -> Facts:
        aim = self._aims[key]
        facts = observe(aim.node, connection, cluster=aim.cluster, link=aim.link, generation=aim.generation)
        if facts.uid != 0:
            raise not_root(aim.node)
        self._locks.learn(aim.cluster, facts, connection)
        return facts

    def _history(self, key: str, connection: Connection) -> NodeHistory:
        aim = self._aims[key]
        argv = ("sh", "-c", script("history.sh"), "sh", f"{ROOT}/{aim.cluster}")
        done = connection.run(argv, timeout_s=_HISTORY_TIMEOUT_S)
        if done.status == NO_PERMISSION:
            raise not_root(aim.node)
        if done.status != 0:
            said = (done.stderr.strip() or "without a word").splitlines()[-1]
            raise NodeError(
                aim.node,
                f"its history could not be read: {said}",
                hint=f"look at it on the node: ls -l {ROOT}/{aim.cluster}",
                command="read the history",
                status=done.status,
                stderr=done.stderr,
            )
        return parse_node(done.stdout)
