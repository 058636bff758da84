"""Clusters on screens of several sizes. To renew the golden files: delete them and run this once."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_verdict import lock, member

from trscaler_gen.console.watch_view import (
    MIN_HEIGHT,
    MIN_WIDTH,
    Order,
    Scene,
    View,
    event_line,
    frame,
    look_line,
    show_once,
    sparkline,
    state_word,
)
from trscaler_gen.errors import NodeError
from trscaler_gen.glance import Glance
from trscaler_gen.verdict import Member
from trscaler_gen.watching import Chronicle, Event, NodeState, Picture, Sighting, What, picture_of

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parents[2] / "docs" / "watch.md"
BEGAN_S = 1_800_000_000.0
VIEW = View(interval_s=2.0, zone=UTC)
TIMEOUT = NodeError("n2", "192.0.2.2 port 22: no answer within 10 s")


def glance(node: int, look: int, peers: Mapping[int, int]) -> Glance:
    """Packets come in waves, to some nodes more than to others."""
    accepted = sum(int(200 * (1 + node % 5) * (1 + (at + node) % 7)) for at in range(look))
    counted = {"accepted": accepted, "dropped": 31 * accepted}
    return Glance(1000.0 + 2 * look, has_table=True, counted=counted, ages_ms=peers)


def watched(nodes: int, *, looks: int = 30, cluster: str = "web", calm: bool = False) -> Scene:
    """A cluster that was watched for a while: n2 is cut off in the middle, n1 is drained at the end."""
    runs = lock(nodes, buckets=1024)
    everyone = frozenset(range(1, nodes + 1))
    members = [replace(member(n, runs), facts=None, lock=None, wanted="") for n in sorted(everyone)]
    chronicle = Chronicle()
    picture: Picture | None = None
    log: list[Event] = []
    for look in range(looks):
        is_cut = not calm and look >= looks // 2
        is_drained = not calm and nodes > 2 and look >= looks - 3
        alive = everyone - ({2} if is_cut else set()) - ({1} if is_drained else set())
        sightings = {}
        for n in sorted(everyone):
            draining = {"peers_draining": frozenset({1}) if n != 1 else frozenset(), "can_drain": True}
            facts: dict[str, object] = {"generation": f"{n:012x}", "loaded": f"{n:012x}", "held": 3 * n}
            facts |= draining if is_drained else {}
            facts |= {"draining": True} if is_drained and n == 1 else {}
            one = member(n, runs, alive, **facts)
            ages = {peer: (37 * peer + 11 * n + 53 * look) % 250 for peer in alive | {1} if peer != n}
            now, before = glance(n, look, ages), glance(n, look - 1, ages) if look else None
            sightings[f"n{n}"] = Sighting(one.facts, one.lock, now, before, answers=look)
        if is_cut:
            sightings["n2"] = Sighting(error=TIMEOUT)
        picture = picture_of(BEGAN_S + 2 * look, cluster, members, sightings)
        log += chronicle.advance(picture)
    assert picture is not None
    return Scene((picture,), (tuple(chronicle.rates),), tuple(log))


def several() -> Scene:
    scenes = [watched(4), watched(3, cluster="mail", calm=True)]
    log = sorted((event for scene in scenes for event in scene.log), key=lambda event: event.at_s)
    return Scene(
        tuple(scene.pictures[0] for scene in scenes), tuple(scene.rates[0] for scene in scenes), tuple(log)
    )


SCENES = {"2": watched(2), "4": watched(4), "32": watched(32), "clusters": several()}


def lines(scene: Scene, width: int, height: int, view: View = VIEW) -> list[str]:
    """What a console of this size shows."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=width, height=height)
    console.print(frame(scene, view, width, height).text, end="", no_wrap=True, overflow="ignore", crop=False)
    return file.getvalue().split("\n")


def as_shown(scene: Scene, width: int, height: int, view: View = VIEW) -> str:
    return "".join(f"{line.rstrip()}\n" for line in lines(scene, width, height, view))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48)])
@pytest.mark.parametrize("name", SCENES)
def test_screens(name: str, width: int, height: int) -> None:
    path = GOLDEN / f"{name}-{width}x{height}.txt"
    said = as_shown(SCENES[name], width, height)
    if not path.exists():
        path.write_text(said)
    assert said == path.read_text()


def test_golden_screens_are_all_of_today() -> None:
    names = {f"{name}-{size}.txt" for name in SCENES for size in ("80x24", "160x48")}
    assert {path.name for path in GOLDEN.iterdir()} == names


@given(
    st.sampled_from(sorted(SCENES)),
    st.integers(1, 200),
    st.integers(1, 80),
    st.lists(st.sampled_from(["s", "r", "j", "k", "page down", "page up", "?", "p", "x", "home", "é"])),
)
@settings(max_examples=150)
def test_any_size_and_any_keys_fit(name: str, width: int, height: int, keys: list[str]) -> None:
    view = VIEW
    for key in keys:
        view = view.pressed(key, height // 2)
    shown = frame(SCENES[name], view, width, height)
    assert len(shown.lines) <= height
    assert all(len(line) <= width for line in shown.lines)
    assert shown.lines[-1].plain


def test_a_terminal_that_is_too_small_is_told_so() -> None:
    assert lines(SCENES["4"], MIN_WIDTH - 1, MIN_HEIGHT)[0] == "40x8 needed"
    assert lines(SCENES["4"], MIN_WIDTH, MIN_HEIGHT - 1)[0] == "40x8 needed"
    assert "web" in lines(SCENES["4"], MIN_WIDTH, MIN_HEIGHT)[0]


def test_thirty_two_nodes_scroll_under_a_head_that_stays() -> None:
    top = lines(SCENES["32"], 80, 24)
    end = lines(SCENES["32"], 80, 24, replace(VIEW, scroll=1000))
    head = next(number for number, line in enumerate(top) if line.startswith("node "))
    assert top[: head + 1] == end[: head + 1]
    assert top[head + 1].startswith("n1 ")
    assert any(line.startswith("n32 ") for line in end)
    assert "0 lines above" in top[-1] and " 0 below" in end[-1]


def first_column(view: View) -> list[str]:
    names = [line.split()[0] for line in lines(SCENES["4"], 80, 24, view) if line.startswith("n")]
    return names[1:]


def test_sorting() -> None:
    assert first_column(VIEW) == ["n1", "n2", "n3", "n4"]
    assert first_column(replace(VIEW, is_reversed=True)) == ["n4", "n3", "n2", "n1"]
    assert first_column(replace(VIEW, order=Order.STATE)) == ["n2", "n1", "n3", "n4"]
    assert first_column(replace(VIEW, order=Order.SHARE)) == ["n4", "n3", "n1", "n2"]
    assert first_column(replace(VIEW, order=Order.AGE)) == ["n2", "n4", "n3", "n1"]


def test_names_with_numbers_sort_as_people_count() -> None:
    shown = lines(SCENES["32"], 160, 60)
    names = [line.split()[0] for line in shown if line.startswith("n")][1:]
    assert names == [f"n{number}" for number in range(1, 33)]


def test_keys() -> None:
    view = VIEW
    for _ in Order:
        view = view.pressed("s", 1)
    assert view == VIEW
    assert view.pressed("h", 1).order is Order.SHARE
    assert view.pressed("k", 1).scroll == 0
    assert view.pressed("page down", 12).scroll == 12
    assert "PAUSED" in as_shown(SCENES["4"], 80, 24, view.pressed(" ", 1))
    assert "this help" in as_shown(SCENES["4"], 80, 24, view.pressed("?", 1))


def test_a_terminal_without_unicode_gets_none() -> None:
    shown = as_shown(SCENES["32"], 60, 24, replace(VIEW, is_ascii=True))
    assert shown.isascii()
    assert sparkline([0.0, None, 5.0, 10.0], 10.0, is_ascii=True) == "_ =#"
    assert sparkline([0.0, None, 0.0], 0.0, is_ascii=False) == "▁ ▁"


def test_what_a_node_says_is_no_markup_and_no_escape() -> None:
    error = NodeError("n2", "[bold]no[/bold]\x1b[2J\x07 seed 12345")
    runs = lock(2)
    nodes = [Member(f"n{n}", member(n, runs).address, None) for n in (1, 2)]
    one = member(1, runs, {1})
    chronicle = Chronicle()
    picture = picture_of(
        BEGAN_S, "web", nodes, {"n1": Sighting(one.facts, one.lock), "n2": Sighting(error=error)}
    )
    log = (*chronicle.advance(picture), *chronicle.advance(picture))
    scene = Scene((picture,), (tuple(chronicle.rates),), log)
    for text in (as_shown(scene, 160, 24), *map(event_line, log), look_line(picture)):
        assert "\x1b" not in text and "\x07" not in text and "12345" not in text


def test_a_pipe_gets_lines_with_the_same_first_words() -> None:
    scene = SCENES["4"]
    for event in scene.log:
        time, cluster, what, node, *text = event_line(event).split(" ")
        assert (time[-1], cluster, what, node) == ("Z", "web", event.what.value, event.node or "-")
        assert text
    words = look_line(scene.pictures[0]).split(" ")
    assert words[1:5] == ["web", "look", "-", "state=degraded"]
    assert "nodes=4" in words and "n2=-" in words


def test_a_label_with_a_path_stays_one_word() -> None:
    event = replace(SCENES["4"].log[0], cluster="web (sites/a b.yaml)")
    assert event_line(event).split(" ")[1] == "web_(sites/a_b.yaml)"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_snapshot(is_terminal: bool) -> None:
    file = io.StringIO()
    show_once(SCENES["4"], VIEW, Console(file=file, force_terminal=is_terminal, color_system=None, width=80))
    shown = file.getvalue()
    assert "\x1b" not in shown
    assert "n2: could not be asked, and no other node hears it" in shown
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("n2 ")] == ["lost"]


# --- the page --------------------------------------------------------------------------------


def shown_on_the_page(name: str) -> str:
    found = re.search(rf"<!-- watch: {re.escape(name)} -->\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def named_in(heading: str) -> set[str]:
    """What stands in backquotes in the first column of the table with this heading."""
    table = re.search(rf"^\| {heading} \|.*?\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    rows = [line for line in table[0].splitlines() if line.startswith("|")]
    return {word for line in rows for word in re.findall(r"`([^`]+)`", line.split("|")[1])}


def test_the_page_shows_a_screen_of_today() -> None:
    assert shown_on_the_page("4-80x24") == (GOLDEN / "4-80x24.txt").read_text()


def test_the_page_shows_lines_of_today() -> None:
    scene = SCENES["4"]
    takeover = next(event for event in scene.log if event.what is What.TAKEOVER)
    assert shown_on_the_page("lines") == f"{event_line(takeover)}\n{look_line(scene.pictures[0])}\n"


def test_the_page_names_every_event_and_every_state() -> None:
    assert named_in("event") == {what.value for what in What}
    assert named_in("state") == {state_word(state) for state in NodeState}
