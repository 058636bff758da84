"""What a person watches while a cluster changes, and the table at its end.

Progress goes to standard error, results to standard output: moving bars and a table on a terminal, plain
lines in a pipe. Whatever a node said is shown as text, never as markup.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
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
    Action.SWITCHED: "green",
    Action.UNCHANGED: "dim",
    Action.STOPPED: "yellow",
    Action.ABSENT: "yellow",
    Action.REVERTED: "red",
    Action.FAILED: "bold red",
    Action.UNTOUCHED: "red",
}


class Watch:
    """Shows events as they come; a context manager, because a terminal must be put right again.

    The bars are there only while nodes are worked on: in between, others print and ask.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._bars = self._new_bars()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bars.stop()

    def _new_bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def teller(self, cluster: str) -> Callable[[Event], None]:
        """What shows the events of one of several clusters; an empty name: of the only one."""
        prefix = f"{cluster}: " if cluster else ""

        def tell(event: Event) -> None:
            with self._lock:
                self._show(prefix, event)

        return tell

    def on_event(self, event: Event) -> None:
        """Show one event of the only cluster."""
        self.teller("")(event)

    def _show(self, prefix: str, event: Event) -> None:
        match event:
            case PhaseBegan():
                self._begin(prefix, event)
            case NodeDone(error=None):
                self._advance(prefix, event)
            case NodeDone():
                self._advance(prefix, event)
                self._say(f"{prefix}{event.phase}: {event.node} failed", "red")
            case Interrupted():
                waiting = ", ".join(event.running) or "nobody"
                self._say(f"{prefix}interrupted: waiting for {waiting}; again: hang up at once", "yellow")

    def _begin(self, prefix: str, event: PhaseBegan) -> None:
        if self._bars.finished:
            self._bars, self._tasks = self._new_bars(), {}
            self._bars.start()
        label = f"{prefix}{event.phase}"
        self._tasks[label] = self._bars.add_task(label, total=len(event.nodes))
        if not self._console.is_terminal:
            self._say(f"{label}: {', '.join(event.nodes)}", "")

    def _advance(self, prefix: str, event: NodeDone) -> None:
        self._bars.advance(self._tasks[f"{prefix}{event.phase}"])
        if self._bars.finished:
            self._bars.stop()

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
