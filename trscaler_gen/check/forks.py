"""Work dealt out to a process per processor: numbers are crunched, and nothing outside is touched."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: what the forked processes inherit; one piece of work at a time
_work: list[tuple[Callable[[Any], Any], Sequence[Any]]] = []


def in_processes(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results in order; an exception of ``function`` is raised here.

    Only results cross between processes, so they must be picklable; ``function`` and ``items`` need not be.
    """
    workers = min(len(items), len(os.sched_getaffinity(0)))
    if workers < 2:
        yield from map(function, items)
        return
    _work.append((function, items))
    try:
        with multiprocessing.get_context("fork").Pool(workers, _leave_interrupts) as pool:
            yield from pool.imap(_one, range(len(items)))
    finally:
        _work.pop()


def _leave_interrupts() -> None:
    """A Ctrl-C is for the parent, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _one(number: int) -> Any:
    function, items = _work[-1]
    return function(items[number])
