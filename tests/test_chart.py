"""Geometry of charts: everything lies inside, nothing is lost, and lengths are what they stand for."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.chart import (
    Chart,
    Key,
    Row,
    Series,
    bars,
    distribution,
    figure,
    keys_of,
    text_width,
    ticks_to,
    wrapped,
)
from trscaler_gen.render import render_figure

parts = st.floats(0, 1e9, allow_subnormal=False) | st.none()
rows = st.builds(
    Row,
    label=st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=80),
    value=parts,
    text=st.text("0123456789.% ", max_size=12),
    mark=parts,
    before=parts,
    is_bold=st.booleans(),
)


def drawn(rows: list[Row], width: float = 360.0) -> Chart:
    return bars(rows, heading="flows", tick_text=lambda value: f"{value:g}", width=width)


@given(st.lists(rows, max_size=40))
def test_everything_lies_inside(rows: list[Row]) -> None:
    chart = drawn(rows)
    for bar in chart.bars:
        for box in (bar.fill, bar.excess, bar.before):
            assert box is None or (box.x >= 0 and box.width >= 0 and box.x + box.width <= chart.width + 0.2)
            assert box is None or 0 <= box.y < box.y + box.height <= chart.height
    for stroke in (*chart.grid, *chart.strokes):
        assert 0 <= min(stroke.x1, stroke.x2) <= max(stroke.x1, stroke.x2) <= chart.width
    for label in chart.labels:
        room = text_width(label.text, bold=label.style == "strong")
        left = label.x - {"start": 0.0, "middle": room / 2, "end": room}[label.anchor]
        assert 0 < label.y <= chart.height
        assert label.anchor == "middle" or left >= -0.5
        assert label.style not in ("strong", "value") or left + room <= chart.width + 0.5 or left < 130


@given(st.lists(rows, min_size=2, max_size=12))
def test_rows_do_not_overlap(rows: list[Row]) -> None:
    chart = drawn(rows)
    tops = [bar.fill.y for bar in chart.bars if bar.fill]
    assert all(after - before >= 15 for before, after in pairwise(tops))


@pytest.mark.parametrize("is_bold", [False, True])
def test_a_label_that_fits_is_one_line(is_bold: bool) -> None:
    for label in ("n30", "n1", "as it is", "203.0.113.9", "x" * 14):
        chart = drawn([Row(label, 1.0, "1", is_bold=is_bold)])
        assert [each.text for each in chart.labels if each.anchor == "end"] == [label]


def test_lengths_are_what_they_stand_for() -> None:
    over, under, gone = drawn(
        [Row("a", 0.6, "", mark=0.2, before=0.3), Row("b", 0.1, "", mark=0.2), Row("c", None, "down")]
    ).bars
    assert over.fill and over.excess and over.before and under.fill
    assert over.fill.x + over.fill.width == pytest.approx(over.excess.x)
    whole = over.fill.width + over.excess.width
    assert over.fill.width == pytest.approx(whole / 3, abs=0.2)
    assert over.before.width == pytest.approx(whole / 2, abs=0.2)
    assert under.fill.width == pytest.approx(whole / 6, abs=0.2) and under.excess is None
    assert (gone.fill, gone.excess, gone.before) == (None, None, None)


def test_charts_beside_each_other_have_one_scale() -> None:
    small, large = [Row("a", 1.0, "1")], [Row("b", 4.0, "a longer text")]
    left, right = (
        bars(each, heading="", tick_text=str, beside=[*small, *large]).bars[0].fill for each in (small, large)
    )
    assert left and right and right.width == pytest.approx(4 * left.width, abs=0.4)


@given(st.text(max_size=200), st.floats(10, 300), st.booleans())
def test_wrapping_loses_nothing_but_spaces(text: str, width: float, bold: bool) -> None:
    lines = wrapped(text, width, bold=bold)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    assert all(text_width(line, bold=bold) <= width + 0.1 or len(line) <= 1 for line in lines)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("n1", ("n1",)),
        ("median of 32 other seeds", ("median of 32", "other seeds")),
        ("front-of-house-17", ("front-of-house-", "17")),
        ("x" * 30, ("x" * 13, "x" * 13, "x" * 4)),
    ],
)
def test_lines_break_where_people_would_break_them(text: str, lines: tuple[str, ...]) -> None:
    assert wrapped(text, 105) == lines


@given(st.floats(1e-9, 1e12), st.integers(3, 12))
def test_ticks_are_few_and_reach_the_top(top: float, most: int) -> None:
    ticks = ticks_to(top, most=most)
    assert ticks[0] == 0 and 2 <= len(ticks) <= most + 1
    step = ticks[1]
    assert ticks[-1] <= top * (1 + 1e-6) and top - ticks[-1] < step * (1 + 1e-6)
    assert f"{step:.0e}"[0] in "125"


def corners(chart: Chart, index: int = 0) -> list[tuple[float, float]]:
    """The points of a curve: (x, y) after each step."""
    steps = re.findall(r"H([\d.]+)V([\d.]+)", chart.curves[index].d)
    return [(float(x), float(y)) for x, y in steps]


def test_a_distribution_rises_by_one_part_for_each_value() -> None:
    chart = distribution([Series("a", [10, 20, 20, 40])], heading="ms", tick_text=str, width=476, height=248)
    assert corners(chart) == [(148.0, 176.0), (248.0, 76.0), (448.0, 26.0)]


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    series = [Series("a", [1.0, 10.0, 100.0])]
    chart = distribution(series, heading="ms", tick_text=lambda value: f"{value:g}", axis="log", width=276)
    assert [x for x, _ in corners(chart)] == [48.0, 148.0, 248.0]
    assert [label.text for label in chart.labels if label.anchor == "middle"] == ["1", "10", "100"]


@given(st.lists(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=200), min_size=1, max_size=6))
def test_distributions_rise_and_stay_inside(values: list[list[float]]) -> None:
    series = [Series(str(at), each) for at, each in enumerate(values)]
    for axis in ("linear", "log"):
        chart = distribution(series, heading="", tick_text=str, axis=axis)
        for index in range(len(series)):
            points = corners(chart, index)
            assert points == sorted(points, key=lambda point: (point[0], -point[1]))
            assert points[-1][1] == 26.0 and 0 <= points[0][0] <= points[-1][0] <= chart.width


def test_many_values_are_a_short_curve() -> None:
    values = [float(number) for number in range(100_000)]
    (curve,) = distribution([Series("a", values)], heading="", tick_text=str).curves
    assert len(curve.d) < 40_000


def test_a_figure_holds_its_charts_and_its_legend() -> None:
    charts = [drawn([Row("a", 1.0, "1")]), drawn([Row("a", 1.0, "1"), Row("b", 2.0, "2")])]
    whole = figure(charts, title="t" * 200, description="d", keys=[Key("fill", "k" * 40)] * 5)
    for placed in whole.charts:
        assert placed.x + placed.chart.width <= whole.width
        assert placed.y + placed.chart.height <= min(key.y for key in whole.keys)
    assert max(key.y for key in whole.keys) < whole.height and len(whole.labels) > 1
    assert len({(key.x, key.y) for key in whole.keys}) == 5


def test_series_differ_in_more_than_colour() -> None:
    keys = keys_of([Series(str(number), [1.0]) for number in range(6)])
    picture = render_figure(figure([], title="t", description="d", keys=keys)).decode()
    dashes = re.findall(r"\.series\d \{[^}]*?(?:dasharray: ([\d ]+))? \}", picture)
    assert len(set(dashes)) == len(dashes) == 6
