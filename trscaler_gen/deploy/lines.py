"""Connections to nodes over a long time: one that has broken is opened again when it is needed next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait
from typing import TYPE_CHECKING, TypeVar

from trscaler_gen.errors import NodeError

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

T = TypeVar("T")


class Lines:
    """One connection per node, opened on first use; a context manager that closes all of them."""

    def __init__(self, connect: Callable[[str], Connection], *, executor: Executor) -> None:
        """Connect by ``connect``, which raises NodeError; ask several nodes in threads of ``executor``."""
        self.connect = connect
        self._executor = executor
        self._open: dict[str, Connection] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection: commands that still run fail at once."""
        for node in tuple(self._open):
            self.drop(node)

    def drop(self, node: str) -> None:
        """Close a node's connection; the next use opens another."""
        connection = self._open.pop(node, None)
        if connection is not None:
            connection.close()

    def use(self, node: str, task: Callable[[str, Connection], T]) -> T:
        """Run the task over the node's connection; raises NodeError: what failed is not used again."""
        connection = self._open.get(node)
        if connection is None:
            connection = self._open[node] = self.connect(node)
        try:
            return task(node, connection)
        except NodeError:
            self.drop(node)
            raise

    def each(self, nodes: Iterable[str], task: Callable[[str, Connection], T]) -> dict[str, T | NodeError]:
        """Run the task on all nodes side by side; answers by node, in the order given.

        After a Ctrl-C all connections are closed, and it is raised when no task runs any more.
        """
        futures = {node: self._executor.submit(self._try, node, task) for node in nodes}
        try:
            wait(futures.values())
        except KeyboardInterrupt:
            for future in futures.values():
                future.cancel()
            self.hang_up()
            wait(futures.values())
            self.hang_up()  # what was just being opened
            raise
        return {node: future.result() for node, future in futures.items()}

    def _try(self, node: str, task: Callable[[str, Connection], T]) -> T | NodeError:
        try:
            return self.use(node, task)
        except NodeError as error:
            return error
