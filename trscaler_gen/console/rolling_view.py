"""A tour over a cluster's nodes for who watches it.

Its steps go to standard error, what the command says to standard output, each line behind its node's name.
"""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.text import Text

from trscaler_gen.console.drain_view import Countdown
from trscaler_gen.deploy.rolling import (
    Held,
    NotYet,
    Output,
    Rebooted,
    RollingEvent,
    Step,
    StepBegan,
    TurnEnded,
)
from trscaler_gen.secret import redact

_WORDS = {
    Step.CHECK: "are all nodes well?",
    Step.DRAIN: "drain",
    Step.WAIT: "wait until its connections have ended",
    Step.COMMAND: "run the command",
    Step.RETURN: "wait until it is well again",
    Step.UNDRAIN: "undrain",
    Step.SERVE: "wait until it serves",
}


class RollingView:
    """Shows the events of one tour; a context manager, because a terminal must be put right again."""

    def __init__(self, steps: Console | None = None) -> None:
        self._steps = steps or Console(stderr=True)
        self._countdown = Countdown(self._steps)

    def __enter__(self) -> RollingView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._countdown.stop()

    def show(self, event: RollingEvent) -> None:
        """Show one event."""
        if isinstance(event, Held):
            self._countdown.show({event.node: event.count})
            return
        self._countdown.stop()
        match event:
            case StepBegan():
                self._say(event.node, _WORDS[event.step])
            case Output():
                # Plain text, and maybe very much of it.
                sys.stdout.write(f"{event.node} | {redact(event.line)}\n")
                sys.stdout.flush()
            case Rebooted():
                self._say(event.node, "has rebooted")
            case NotYet():
                self._say(event.node, f"not yet: {redact(event.why)}")
            case TurnEnded():
                self._say(event.node, "done; stays drained" if event.stays_drained else "done", "green")

    def _say(self, node: str, words: str, style: str = "dim") -> None:
        self._steps.print(Text(f"{node}: {words}", style), soft_wrap=True)
