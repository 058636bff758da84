"""What a terminal and a pipe are shown."""

from __future__ import annotations

import io

from rich.console import Console

from trscaler_gen.console.progress import Watch, show_results
from trscaler_gen.deploy import Action, Interrupted, NodeDone, NodeResult, Phase, PhaseBegan
from trscaler_gen.errors import NodeError

RESULTS = (
    NodeResult("n1", Action.SWAPPED, "0123456789ab", "ba9876543210"),
    NodeResult("n2", Action.FAILED, "0123456789ab", "", "swap failed: [bold]no[/bold] [/]"),
)


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, color_system=None, width=100), file


def test_a_pipe_gets_plain_lines() -> None:
    to, file = console(terminal=False)
    show_results(RESULTS, to)
    assert file.getvalue().splitlines() == [
        "n1       swapped     0123456789ab -> ba9876543210",
        "n2       failed      0123456789ab -> -            swap failed: [bold]no[/bold] [/]",
    ]


def test_a_terminal_gets_a_table_without_markup_from_nodes() -> None:
    to, file = console(terminal=True)
    show_results(RESULTS, to)
    lines = file.getvalue().splitlines()
    assert lines[0].split() == ["node", "did", "before", "after"]
    assert "swap failed: [bold]no[/bold] [/]" in lines[2]


def test_progress_in_a_pipe_is_one_line_a_phase_and_one_a_failure() -> None:
    to, file = console(terminal=False)
    with Watch(to) as watch:
        watch.on_event(PhaseBegan(Phase.SWAP, ("n1", "n2")))
        watch.on_event(NodeDone(Phase.SWAP, "n1", None))
        watch.on_event(NodeDone(Phase.SWAP, "n2", NodeError("n2", "[no]")))
        watch.on_event(Interrupted(("n2",)))
    assert file.getvalue().splitlines() == [
        "swap: n1, n2",
        "swap: n2 failed",
        "interrupted: waiting for n2; again: hang up at once",
    ]


def test_progress_on_a_terminal_counts_nodes() -> None:
    to, file = console(terminal=True)
    with Watch(to) as watch:
        watch.on_event(PhaseBegan(Phase.SWAP, ("n1", "n2")))
        watch.on_event(NodeDone(Phase.SWAP, "n1", None))
        watch.on_event(NodeDone(Phase.SWAP, "n2", None))
    assert "2/2" in file.getvalue()
