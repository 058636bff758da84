"""A simulation on a terminal and in a pipe: golden views, and what must hold in each of them.

After a change of the view: cd tests && python -m simulate.samples
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from trscaler_gen.console.simulate_view import bar, show_simulation
from trscaler_gen.render import render_figure
from trscaler_gen.simulate.picture import figure_of

from .samples import GOLDEN, PICTURE, ROOT, SAMPLES, VIEWS, four, view

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
BARS = re.compile(r"[█▏▎▍▌▋▊▉▒│]+")


def plain(shown: str) -> str:
    return ESCAPES.sub("", shown)


def words(shown: str) -> list[str]:
    return BARS.sub("", plain(shown)).split()


@pytest.mark.parametrize("end", VIEWS)
@pytest.mark.parametrize("name", SAMPLES)
def test_view_is_as_it_was(name: str, end: str) -> None:
    assert view(SAMPLES[name](), end) == (GOLDEN / f"{name}.{end}").read_text(), "see above"


def test_golden_views_are_all_of_today() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{end}" for name in SAMPLES for end in VIEWS}


@pytest.mark.parametrize("end", ["80.ansi", "160.ansi"])
@pytest.mark.parametrize("name", SAMPLES)
def test_no_line_is_wider_than_the_terminal(name: str, end: str) -> None:
    assert max(map(cell_len, plain(view(SAMPLES[name](), end)).splitlines())) <= VIEWS[end][0]


@pytest.mark.parametrize("name", ["two", "four", "empty"])
def test_a_wide_terminal_says_what_a_narrow_one_says(name: str) -> None:
    """Long names are folded at other places: of them this is not asked."""
    assert words(view(SAMPLES[name](), "80.ansi")) == words(view(SAMPLES[name](), "160.ansi"))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_pipe_gets_every_share_and_no_escape(name: str) -> None:
    piped = view(SAMPLES[name](), "txt")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", piped) and not BARS.search(piped)
    shown = plain(view(SAMPLES[name](), "160.ansi"))
    assert set(re.findall(r"[\d.]+ %", shown)) <= set(re.findall(r"[\d.]+ %", piped))


def test_strangers_cannot_speak_to_the_terminal() -> None:
    shown = view(SAMPLES["hostile"](), "80.ansi")
    assert "\x1b[31m" not in shown and "\u202e" not in shown
    assert r"\x1b[31m<script>" in shown and "[bold]&amp;" in shown


def lengths(line: str) -> list[tuple[int, int]]:
    """Of each bar of a line: cells up to its mark, and cells beyond it."""
    found = [each.partition("│") for each in re.findall(r"[█▏▎▍▌▋▊▉]* *│▒*", line)]
    return [(len(before.rstrip()), len(beyond)) for before, _, beyond in found]


def test_bars_tell_who_is_over_his_share_without_colour() -> None:
    n3 = next(line for line in plain(view(four(), "160.ansi")).splitlines() if line.startswith("n3  "))
    flows, packets, octets = lengths(n3.removeprefix("n3"))
    assert flows[1] == 0 < packets[1] < octets[1]


@given(part=st.floats(0, 1), mark=st.floats(0, 1), width=st.integers(2, 60), is_plain=st.booleans())
def test_a_bar_keeps_its_width_and_has_its_mark(part: float, mark: float, width: int, is_plain: bool) -> None:
    top = max(part, mark) or 1.0
    drawn = bar(part, mark, top, width, is_plain=is_plain)
    assert drawn.cell_len <= width
    assert drawn.plain.count("|" if is_plain else "│") == 1
    assert not is_plain or drawn.plain.isascii()
    if part < mark:
        assert drawn.plain[-1] in "|│"


def test_a_longer_share_is_no_shorter_bar() -> None:
    drawn = [bar(part / 100, 0.4, 1.0, 30).plain for part in range(101)]
    lengths = [(text.count("█"), text.count("▒")) for text in drawn]
    assert lengths == sorted(lengths) and lengths[0] == (0, 0) and lengths[-1] == (12, 17)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_old_terminal_can_show_it(encoding: str, is_terminal: bool) -> None:
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding=encoding)
    show_simulation(four(), Console(file=file, width=80, force_terminal=is_terminal))
    file.flush()
    shown = raw.getvalue().decode(encoding)
    assert "fullest: flows n1 x1.03" in shown and ("####" in shown) == is_terminal


def test_no_color_is_obeyed() -> None:
    """What is left is bold and dim."""
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from rich.console import Console; from simulate.samples import four;"
        "from trscaler_gen.console.simulate_view import show_simulation;"
        "show_simulation(four(), Console(force_terminal=True, color_system='standard'))"
    )
    shown = {}
    for no_color in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": no_color, "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        shown[no_color] = done.stdout
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", shown[""])
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown["1"])
    assert plain(shown[""]) == plain(shown["1"])


def test_a_narrow_terminal_gets_it_too() -> None:
    file = StringIO()
    show_simulation(four(), Console(file=file, width=20, force_terminal=True))
    assert "58.8 %" in file.getvalue()


def test_the_documentation_shows_what_is_shown() -> None:
    (block,) = re.findall(
        r"<!-- simulate: four -->\n```\n(.*?)```", (ROOT / "docs" / "simulate.md").read_text(), re.DOTALL
    )
    assert block in plain(view(four(), "80.ansi"))


def test_the_picture_of_the_documentation_is_of_today() -> None:
    assert PICTURE.read_bytes() == render_figure(figure_of(four())), "see above"
