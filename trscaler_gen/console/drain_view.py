"""How many connections drained nodes still hold, while somebody waits for them to end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

#: in a pipe, numbers that change are told no more often
_EVERY_S = 5.0


class Countdown:
    """Shows how many connections are left: one line that moves on a terminal, lines in a pipe.

    A context manager, because a terminal must be put right again.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._began = time.monotonic()
        self._told: dict[str, int] = {}
        self._told_at: dict[str, float] = {}

    def __enter__(self) -> Countdown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the moving line away; the next number begins another one."""
        if self._live is not None:
            self._live.stop()
        self._live, self._began = None, time.monotonic()
        self._told.clear()
        self._told_at.clear()

    def show(self, held: Mapping[str, int]) -> None:
        """Show how many connections each node holds now (-1: not known yet)."""
        if not self._console.is_terminal:
            for node, count in held.items():
                self._say(node, count)
            return
        if self._live is None:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        self._live.update(Text(self._line(held), no_wrap=True, overflow="ellipsis"), refresh=True)

    def _line(self, held: Mapping[str, int]) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        left = ", ".join(f"{node} {'?' if count < 0 else count}" for node, count in held.items() if count)
        return f"connections left: {left or 'none'}  {minutes}:{seconds:02}"

    def _say(self, node: str, count: int) -> None:
        now = time.monotonic()
        is_soon = now - self._told_at.get(node, -_EVERY_S) < _EVERY_S
        if count < 0 or self._told.get(node) == count or (count and is_soon):
            return
        self._told[node], self._told_at[node] = count, now
        self._console.print(Text(f"{node}: {count} left"), soft_wrap=True)
