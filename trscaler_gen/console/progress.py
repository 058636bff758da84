"""What a person watches while a cluster changes, and the table at its end.

Progress goes to standard error, results to standard output: moving bars and a table on a terminal, plain
lines in a pipe. Whatever a node said is shown as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from trscaler_gen.deploy import Action, Event, Interrupted, NodeDone, NodeResult, PhaseBegan

_STYLES = {
    Action.STARTED: "green",
    Action.SWAPPED: "green",
    Action.RESTARTED: "yellow",
    Action.UNCHANGED: "dim",
    Action.STOPPED: "yellow",
    Action.FAILED: "bold red",
    Action.UNTOUCHED: "red",
}


class Watch:
    """Shows events as they come; a context manager, because a terminal must be put right again."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Show one event."""
        match event:
            case PhaseBegan():
                self._begin(event)
            case NodeDone(error=None):
                self._advance()
            case NodeDone():
                self._advance()
                self._say(f"{event.phase}: {event.node} failed", "red")
            case Interrupted():
                waiting = ", ".join(event.running) or "nobody"
                self._say(f"interrupted: waiting for {waiting}; again: hang up at once", "yellow")

    def _begin(self, event: PhaseBegan) -> None:
        self._task = self._progress.add_task(event.phase.value, total=len(event.nodes))
        if not self._console.is_terminal:
            self._say(f"{event.phase}: {', '.join(event.nodes)}", "")

    def _advance(self) -> None:
        if self._task is not None:
            self._progress.advance(self._task)

    def _say(self, line: str, style: str) -> None:
        self._console.print(Text(line, style), soft_wrap=True)


def show_results(results: Sequence[NodeResult], console: Console | None = None) -> None:
    """Print one line per node: a table on a terminal, columns of plain text in a pipe."""
    console = console or Console()
    if not console.is_terminal:
        for result in results:
            console.print(Text(_plain(result)), soft_wrap=True)
        return
    table = Table("node", "did", "before", "after", "", box=None, pad_edge=False, header_style="dim")
    for result in results:
        action = Text(result.action.value, _STYLES[result.action])
        table.add_row(Text(result.node), action, *(Text(word) for word in _words(result)[2:]))
    console.print(table)


def _plain(result: NodeResult) -> str:
    node, action, before, after, message = _words(result)
    return f"{node:<8} {action:<11} {before:<12} -> {after:<12} {message}".rstrip()


def _words(result: NodeResult) -> tuple[str, str, str, str, str]:
    return (result.node, result.action.value, result.before or "-", result.after or "-", result.message)
