"""How far the reading of a file is: a bar on a terminal's standard error, nothing in a pipe."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)


class ReadingView:
    """A context manager, because a terminal must be put right again; ``total`` is None for a pipe."""

    def __init__(self, total: int | None, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bars = Progress(
            TextColumn("reading"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bars.add_task("reading", total=total)

    def __enter__(self) -> ReadingView:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bars.stop()

    def advance(self, octets: int) -> None:
        """So many more have been read."""
        self._bars.advance(self._task, octets)
