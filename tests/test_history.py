"""Histories of nodes put together: their order is that of the lines, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.history import (
    Change,
    Entry,
    Event,
    NodeHistory,
    change_before,
    generations_of,
    merge,
    parse_history,
    parse_node,
    stragglers,
    unrecorded,
)

A, B, C, D = (letter * 12 for letter in "abcd")
NODES = ("n1", "n2", "n3")


def generation(node: str, change: str) -> str:
    return f"{node[1:]:0>4}{change[:8]}"


def applied(node: str, change: str, hour: int, by: str = "ada@desk") -> Entry:
    return Entry(f"2026-11-23T{hour:02}:00:00Z", Event.APPLIED, change, generation(node, change), by)


def told(node: str, *changes: str, skew: int = 0, lost: Sequence[str] = ()) -> NodeHistory:
    """A node that recorded these changes and holds all their generations but those of ``lost``."""
    entries = tuple(applied(node, change, hour + skew) for hour, change in enumerate(changes))
    lying = frozenset(entry.generation for entry in entries if entry.change not in lost)
    return NodeHistory(entries, entries[-1].generation if entries else "", lying)


def order(changes: Sequence[Change]) -> list[str]:
    return [change.change for change in changes]


def everywhere(*changes: str) -> dict[str, NodeHistory]:
    return {node: told(node, *changes) for node in NODES}


def test_lines_are_read() -> None:
    text = (
        f"2026-11-23T00:05:45Z applied {A} {B} ada@desk\n2026-11-23T00:06:00Z went-back - - timer\n"
        f"2026-11-23T00:05:45Z applied {A[:5]}\n\n"
    )
    assert parse_history(text) == (
        Entry("2026-11-23T00:05:45Z", Event.APPLIED, A, B, "ada@desk"),
        Entry("2026-11-23T00:06:00Z", Event.WENT_BACK, "", "", "timer"),
    )


def test_what_a_node_tells_is_read() -> None:
    line = f"2026-11-23T00:05:45Z applied {A} {B} ada@desk"
    node = parse_node(f"current={B}\ngeneration={B}\ngeneration={C}\nline={line}\nline=2026-\n")
    assert (node.current, node.generations, node.unreadable, node.change) == (B, frozenset({B, C}), 1, A)
    assert parse_node("current=\n") == NodeHistory()


def test_equal_histories_are_one() -> None:
    changes = merge(everywhere(A, B, C))
    assert order(changes) == [C, B, A]
    assert [change.is_current for change in changes] == [True, False, False]
    assert all(list(change.entries) == list(NODES) for change in changes)
    assert change_before(changes) == B
    assert generations_of(changes, B) == {node: generation(node, B) for node in NODES}
    assert stragglers(everywhere(A, B, C), changes) == {}


def test_a_wrong_clock_changes_no_order() -> None:
    histories = everywhere(A, B, C) | {"n2": told("n2", A, B, C, skew=19)}
    assert order(merge(histories)) == [C, B, A]
    histories["n2"] = replace(
        histories["n2"], entries=tuple(replace(e, at="2001-01-01T00:00:00Z") for e in histories["n2"].entries)
    )
    assert order(merge(histories)) == [C, B, A]


def test_a_node_that_was_down_leaves_a_gap() -> None:
    histories = everywhere(A, B, C) | {"n1": told("n1", A, C)}
    changes = merge(histories)
    assert order(changes) == [C, B, A]
    assert list(changes[1].entries) == ["n2", "n3"]
    assert generations_of(changes, B) == {node: generation(node, B) for node in ("n2", "n3")}


def test_a_node_that_missed_the_last_change_is_named() -> None:
    histories = everywhere(A, B) | {"n3": told("n3", A)}
    changes = merge(histories)
    assert changes[0].is_current
    assert stragglers(histories, changes) == {"n3": A}
    assert stragglers(histories | {"n2": NodeHistory()}, changes) == {"n2": "", "n3": A}


def test_a_change_that_came_back_is_two_events_and_one_state() -> None:
    histories = everywhere(A, B, A) | {"n2": told("n2", B, A)}
    changes = merge(histories)
    assert order(changes) == [A, B, A]
    assert [change.is_current for change in changes] == [True, False, True]
    assert list(changes[0].entries) == list(NODES)
    assert list(changes[2].entries) == ["n1", "n3"]
    assert change_before(changes) == ""
    assert change_before(merge(everywhere(A, B, C, B))) == A


def test_only_what_all_still_hold_can_be_returned_to() -> None:
    histories = everywhere(A, B, C) | {"n2": told("n2", A, B, C, lost=[A])}
    changes = merge(histories)
    assert [change.can_roll_back for change in changes] == [False, True, False]
    assert changes[2].lost == ("n2",)


def test_a_node_that_went_back_is_an_event_of_its_own() -> None:
    histories = everywhere(A)
    back = Entry("2026-11-23T05:00:00Z", Event.WENT_BACK, A, generation("n1", A), "timer")
    histories["n1"] = replace(histories["n1"], entries=(*histories["n1"].entries, back))
    changes = merge(histories)
    assert [(change.event, list(change.entries)) for change in changes] == [
        (Event.WENT_BACK, ["n1"]),
        (Event.APPLIED, list(NODES)),
    ]
    assert changes[1].is_current
    assert stragglers(histories, changes) == {}
    assert unrecorded(histories) == {}


def test_a_generation_that_no_line_tells_of_is_named() -> None:
    histories = everywhere(A) | {"n2": replace(told("n2", A), current=D)}
    assert unrecorded(histories) == {"n2": D}
    assert unrecorded({"n1": NodeHistory(), "n2": NodeHistory(current=D)}) == {"n2": D}


def test_a_node_that_went_back_to_nothing_may_keep_its_files() -> None:
    back = Entry("2026-11-23T05:00:00Z", Event.WENT_BACK, "", "", "timer")
    assert unrecorded({"n1": replace(told("n1", A), entries=(back,))}) == {}


def test_nodes_without_a_past() -> None:
    assert merge({}) == ()
    assert merge({"n1": NodeHistory()}) == ()
    assert change_before(()) == ""


def appears_in_order(changes: Sequence[Change], node: str, history: NodeHistory) -> bool:
    mine = [change.entries[node] for change in reversed(changes) if node in change.entries]
    return mine == list(history.entries)


@given(
    st.lists(st.sampled_from([A, B, C, D]), max_size=12),
    st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=5),
    st.lists(st.integers(-5, 5), min_size=5, max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_no_line_is_lost_and_no_order_broken(
    past: list[str], presence: list[list[bool]], skews: list[int]
) -> None:
    histories: Mapping[str, NodeHistory] = {
        f"n{number}": told(
            f"n{number}",
            *(change for change, there in zip(past, present, strict=False) if there),
            skew=skews[number] + 5,
        )
        for number, present in enumerate(presence)
    }
    changes = merge(histories)
    assert all(appears_in_order(changes, node, history) for node, history in histories.items())
    assert all(entry.change == c.change for c in changes for entry in c.entries.values())


@given(st.permutations([A, B, C, D]), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_one_gap_per_node_is_closed(past: list[str], gaps: list[int]) -> None:
    """With each change on some node and each pair of neighbours on another, the order is known whole."""
    histories = {"n0": told("n0", *past)}
    for number, gap in enumerate(gaps, 1):
        histories[f"n{number}"] = told(f"n{number}", *(c for i, c in enumerate(past) if i != gap))
    assert order(merge(histories)) == past[::-1]
