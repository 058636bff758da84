"""Lists of nodes as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: so many consecutive names are written as a range
_LEAST_RANGE = 4
_NUMBERED = re.compile(r"(.*?)(0|[1-9][0-9]{0,8})")


def listed(nodes: Sequence[str]) -> str:
    """Write names in their order; four or more consecutive ones as a range: ``n1..n4, n6``."""
    return ", ".join(_ranges(nodes))


def counted(count: int, noun: str) -> str:
    """Write a number with its noun, which takes an s for all but one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def headed(nodes: Sequence[str]) -> str:
    """Write names with their number, where they are several."""
    return listed(nodes) if len(nodes) == 1 else f"{listed(nodes)} ({len(nodes)} nodes)"


def _ranges(nodes: Sequence[str]) -> Iterator[str]:
    run: list[str] = []
    for node in nodes:
        if run and _follows(run[-1], node):
            run.append(node)
            continue
        yield from _written(run)
        run = [node]
    yield from _written(run)


def _written(run: list[str]) -> list[str]:
    return run if len(run) < _LEAST_RANGE else [f"{run[0]}..{run[-1]}"]


def _follows(first: str, second: str) -> bool:
    one, two = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(second)
    return bool(one and two and one[1] == two[1] and int(two[2]) == int(one[2]) + 1)
