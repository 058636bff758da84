"""Servers that are too busy to let us in are asked again, with pauses; at jump hosts few knock at a time.

sshd refuses logins at random from the tenth on that has begun and not ended (``MaxStartups 10:30:100``): a
fleet behind one jump host meets that limit at once, and so does everybody else who wants to log in there.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from trscaler_gen.errors import NodeError

T = TypeVar("T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_MOST_PAUSES = 30

_MOST_AT_A_JUMP = 8
_FEWEST_AT_A_JUMP = 2


class TurnedAwayError(NodeError):
    """A server hung up before it knew who we are."""


class _Gate:
    """How many log in at a jump host at the same time; fewer once it has turned somebody away."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._width = _MOST_AT_A_JUMP

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        """Wait for a place, and hold it meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._width)
            self._inside += 1
        was_turned_away = False
        try:
            yield
        except TurnedAwayError:
            was_turned_away = True
            raise
        finally:
            self._leave(was_turned_away)

    def _leave(self, was_turned_away: bool) -> None:
        with self._changed:
            self._inside -= 1
            if was_turned_away:  # those who are inside now are as many as it takes
                self._width = min(self._width, max(self._inside, _FEWEST_AT_A_JUMP))
            self._changed.notify()


#: by the names of the jump hosts
_GATES: dict[str, _Gate] = {}


def insist(connect: Callable[[], T], *, jump: str, timeout_s: float) -> T:
    """Connect; a server that turns us away is asked again until the time has passed since it first did.

    ``jump`` names the jump hosts on the way, if there are any. Raises what ``connect`` raises.
    """
    way = _GATES.setdefault(jump, _Gate()).passed if jump else contextlib.nullcontext
    give_up: float | None = None
    for pause_s in _pauses():
        try:
            with way():
                return connect()
        except TurnedAwayError:
            now = time.monotonic()
            give_up = give_up or now + timeout_s
            if now + pause_s > give_up:
                raise
        time.sleep(pause_s)
    with way():
        return connect()


def _pauses() -> Iterator[float]:
    """Longer and longer ones, by chance: those who were turned away together must not come back together."""
    for number in range(_MOST_PAUSES):
        yield random.uniform(0.5, 1.5) * min(_FIRST_PAUSE_S * 2**number, _LONGEST_PAUSE_S)
