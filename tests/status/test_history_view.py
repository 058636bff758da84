"""A cluster's history as a terminal shows it."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from test_history import NODES, A, B, C, everywhere, told

from trscaler_gen.console.history_view import ClusterHistory, show_history
from trscaler_gen.errors import NodeError
from trscaler_gen.history import Entry, Event, NodeHistory, merge


def shown(nodes: dict[str, NodeHistory], errors: dict[str, NodeError] | None = None) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=80)
    show_history(ClusterHistory("web", nodes, merge(nodes), errors or {}), console)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_what_was_applied_and_what_can_be_gone_back_to() -> None:
    nodes = everywhere(A, B, C) | {"n2": told("n2", A, B, C, lost=[A])}
    lines = shown(nodes)
    assert lines[0].split() == ["change", "when", "by", "nodes", "rollback"]
    assert [line.split()[0] for line in lines[1:]] == [C, B, A]
    assert [line.rpartition("all 3")[2].strip() for line in lines[1:]] == [
        "current",
        "possible",
        "gone from n2",
    ]
    assert max(map(len, lines)) <= 80


def test_a_node_that_went_back_is_named() -> None:
    nodes = everywhere(A)
    (entry,) = nodes["n3"].entries
    back = Entry("2026-11-23T05:00:00Z", Event.WENT_BACK, A, entry.generation, "timer")
    nodes["n3"] = replace(nodes["n3"], entries=(entry, back))
    line = shown(nodes)[1]
    assert line.split() == [A, "2026-11-23T05:00:00Z", "timer", "n3", "went", "back"]


def test_the_same_state_twice_is_current_once() -> None:
    assert [line.split("all 3")[1].strip() for line in shown(everywhere(A, B, A))[1:]] == [
        "current",
        "possible",
        "same as current",
    ]


def test_who_disagrees_and_who_is_silent_is_named() -> None:
    nodes = {
        **everywhere(A, B),
        "n3": replace(told("n3", A), current=C, unreadable=2),
    }
    assert shown(nodes, {"n4": NodeError("n4", "connection refused")})[3:] == [
        f"n3: recorded {A} last",
        f"n3: generation {C} is current, which its history does not say",
        "n3: 2 lines of its history cannot be read",
        "n4: connection refused",
    ]
    assert list(nodes) == list(NODES)
