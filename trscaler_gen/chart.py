"""Geometry of charts: what is drawn where, in units of an SVG's viewBox, at its natural size 1 px each.

A chart is computed here and laid out by ``templates/chart.svg.j2``, which does no arithmetic. Fonts differ
between machines, so text is given the room that DejaVu Sans needs, the widest of the common ones. Nothing is
told by colour alone: what exceeds its mark lies beyond a line, and series differ in their dashes. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal
from unicodedata import combining, east_asian_width

#: sizes of the text of labels and axes, and from one line of text to the next
FONT = 12.0
LINE = 15.0

_HEADING = 26.0
_AXIS = 22.0
_GAP = 8.0
_BAR = 11.0
_BEFORE = 3.0
_ROW_GAP = 9.0
#: how far a mark stands out above and below its bar
_MARK_OUT = 3.0
#: from one tick of an axis to the next, at least
_TICK = 42.0
#: of a chart's width, at most this goes to the labels of its rows
_MOST_LABEL = 0.36
_LEGEND_LINE = 20.0
_BETWEEN = 28.0
_MARGIN = 12.0
#: the room for "100 %" beside a distribution
_LEVELS = 48.0
#: size of the text of a figure's title
_TITLE = 15.0
#: the room for the sample before an entry of a legend
SWATCH = 26.0

#: widths of DejaVu Sans in parts of the font's size; what is not named is a lower-case letter or a digit
_WIDTHS = (("ijlI.,:;'|!()[]/\\ ", 0.4), ('frt-"', 0.5), ("mwMWO@Q%+=<>~\N{MULTIPLICATION SIGN}", 1.0))
_CAPITAL, _OTHER, _WIDE = 0.78, 0.64, 1.05
_BOLD = 1.13


@dataclass(frozen=True)
class Row:
    """One bar: what it is of, how long it is, and what is written at its end.

    ``value`` None: no bar, ``text`` says why. ``mark`` is what the value is held against, ``before`` what it
    was; both in the same unit. ``is_bold``: the row that a reader should see first.
    """

    label: str
    value: float | None
    text: str
    mark: float | None = None
    before: float | None = None
    is_bold: bool = False


@dataclass(frozen=True)
class Series:
    """Measured values, in any order; at least one, and above 0 for a logarithmic axis."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Box:
    """A rectangle; ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """A line of text; ``y`` is its baseline, ``anchor`` where ``x`` lies in it."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    style: str = ""


@dataclass(frozen=True)
class Stroke:
    """A straight line; ``style`` is its class."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str


@dataclass(frozen=True)
class Curve:
    """A line of a distribution; ``style`` is its class, by which its colour and its dashes are chosen."""

    d: str
    style: str


@dataclass(frozen=True)
class Bar:
    """One drawn row: ``fill`` up to its mark, ``excess`` beyond it, ``before`` below both."""

    title: str
    fill: Box | None
    excess: Box | None
    before: Box | None


@dataclass(frozen=True)
class Chart:
    """Everything to draw, in drawing order: grid, bars, curves, strokes, labels."""

    width: float
    height: float
    grid: tuple[Stroke, ...]
    bars: tuple[Bar, ...]
    curves: tuple[Curve, ...]
    strokes: tuple[Stroke, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Key:
    """An entry of a legend: ``kind`` is "fill", "excess", "before", "mark" or the class of a curve."""

    kind: str
    text: str


@dataclass(frozen=True)
class PlacedKey:
    """An entry of a legend at its place: ``x`` is its sample's left end, ``y`` the middle of its line."""

    x: float
    y: float
    key: Key


@dataclass(frozen=True)
class PlacedChart:
    """A chart at its place in a figure."""

    x: float
    y: float
    chart: Chart


@dataclass(frozen=True)
class Figure:
    """Charts beside each other that are one picture, with the words for whoever cannot see it."""

    title: str
    description: str
    width: float
    height: float
    charts: tuple[PlacedChart, ...]
    keys: tuple[PlacedKey, ...]
    labels: tuple[Label, ...]


# Bars


def bars(
    rows: Sequence[Row],
    *,
    heading: str,
    tick_text: Callable[[float], str],
    width: float = 360.0,
    beside: Sequence[Row] = (),
) -> Chart:
    """Draw horizontal bars from 0, one below the other, each with its mark and what it was before.

    ``beside``: rows of the other charts with which this one is to share its scale and its columns.
    """
    plan = _BarPlan.of([*rows, *beside], width)
    laid = list(plan.lay(rows))
    bottom = plan.first_y + sum(one.height for one in laid)
    ticks = ticks_to(plan.top, most=max(3, int(plan.plot / _TICK)))
    grid = tuple(
        Stroke(plan.x(tick), _r(plan.first_y - 4), plan.x(tick), _r(bottom), "axis" if not tick else "grid")
        for tick in ticks
    )
    axis = [Label(plan.x(tick), _r(bottom + 14), tick_text(tick), "middle", "quiet") for tick in ticks]
    return Chart(
        width=_r(width),
        height=_r(bottom + _AXIS),
        grid=grid,
        bars=tuple(one.bar for one in laid),
        curves=(),
        strokes=tuple(one.mark for one in laid if one.mark),
        labels=(
            Label(plan.left, 14.0, heading, style="heading"),
            *chain.from_iterable(one.labels for one in laid),
            *axis,
        ),
    )


@dataclass(frozen=True)
class _Laid:
    height: float
    bar: Bar
    mark: Stroke | None
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class _BarPlan:
    """Where the columns of a bar chart are: labels, the plot, and the values behind it."""

    left: float
    plot: float
    top: float
    first_y: float = _HEADING

    @classmethod
    def of(cls, rows: Sequence[Row], width: float) -> _BarPlan:
        most = width * _MOST_LABEL
        label = max((min(text_width(row.label, bold=row.is_bold), most) for row in rows), default=0.0)
        value = max((text_width(row.text, bold=row.is_bold) for row in rows), default=0.0)
        highest = max(chain.from_iterable(_values(row) for row in rows), default=0.0)
        left = float(math.ceil(label + _GAP))
        return cls(left, max(40.0, width - left - value - _GAP), highest or 1.0)

    def x(self, value: float) -> float:
        return _r(self.left + self.plot * min(value, self.top) / self.top)

    def lay(self, rows: Sequence[Row]) -> Iterator[_Laid]:
        y = self.first_y
        for row in rows:
            laid = self._row(row, y)
            yield laid
            y += laid.height

    def _row(self, row: Row, y: float) -> _Laid:
        lines = wrapped(row.label, self.left - _GAP, bold=row.is_bold)
        bar = _BAR + (0 if row.before is None else _BEFORE)
        tall = max(bar, len(lines) * LINE - 4)
        middle = y + tall / 2
        style = "strong" if row.is_bold else ""
        beside = [
            Label(
                _r(self.left - _GAP), _r(middle + 4 + (at - (len(lines) - 1) / 2) * LINE), line, "end", style
            )
            for at, line in enumerate(lines)
        ]
        end = max((self.x(value) for value in _values(row)), default=self.left)
        value = Label(_r(end + _GAP - 2), _r(middle + 4), row.text, style=style or "value")
        drawn = self._bar(row, middle - bar / 2)
        return _Laid(tall + _ROW_GAP, drawn, self._mark(row, middle - bar / 2), (*beside, value))

    def _bar(self, row: Row, y: float) -> Bar:
        title = f"{row.label}: {row.text}"
        if row.value is None:
            return Bar(title, None, None, None)
        limit = row.value if row.mark is None else min(row.value, row.mark)
        fill = Box(self.left, _r(y), _r(self.x(limit) - self.left), _BAR)
        excess, before = None, None
        if row.value > limit:
            excess = Box(self.x(limit), _r(y), _r(self.x(row.value) - self.x(limit)), _BAR)
        if row.before is not None:
            before = Box(self.left, _r(y + _BAR + 1), _r(self.x(row.before) - self.left), _BEFORE)
        return Bar(title, fill, excess, before)

    def _mark(self, row: Row, y: float) -> Stroke | None:
        if row.mark is None or row.value is None:
            return None
        x = self.x(row.mark)
        return Stroke(x, _r(y - _MARK_OUT), x, _r(y + _BAR + _MARK_OUT), "mark")


def _values(row: Row) -> Iterator[float]:
    if row.value is not None:
        yield from (value for value in (row.value, row.mark, row.before) if value is not None)


# Distributions


def distribution(
    series: Sequence[Series],
    *,
    heading: str,
    tick_text: Callable[[float], str],
    axis: Literal["linear", "log"] = "linear",
    width: float = 720.0,
    height: float = 300.0,
) -> Chart:
    """Draw cumulative distributions: for each value, what part of its series is not above it.

    A linear axis begins at 0, a logarithmic one at the power of ten below the smallest value. The first
    series has the class ``series1``, and so on; a legend tells them apart (see ``keys_of``).
    """
    values = [value for one in series for value in one.values]
    scale = _log_scale(values) if axis == "log" else _linear_scale(values)
    plot = Box(_LEVELS, _HEADING, width - _LEVELS - _BETWEEN, height - _HEADING - _AXIS)
    bottom = plot.y + plot.height
    levels = [(part, _r(bottom - part * plot.height)) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    across = [(tick, _r(plot.x + scale.part(tick) * plot.width)) for tick in scale.ticks]
    return Chart(
        width=_r(width),
        height=_r(height),
        grid=(
            *(
                Stroke(plot.x, y, _r(plot.x + plot.width), y, "grid" if part else "axis")
                for part, y in levels
            ),
            *(Stroke(x, plot.y, x, _r(bottom), "grid") for _, x in across),
        ),
        bars=(),
        curves=tuple(
            Curve(_steps(one.values, scale, plot), f"series{number}") for number, one in enumerate(series, 1)
        ),
        strokes=(),
        labels=(
            Label(plot.x, 14.0, heading, style="heading"),
            *(Label(plot.x - 6, y + 4, f"{100 * part:.0f} %", "end", "quiet") for part, y in levels),
            *(Label(x, _r(bottom + 14), tick_text(tick), "middle", "quiet") for tick, x in across),
        ),
    )


def keys_of(series: Sequence[Series]) -> tuple[Key, ...]:
    """The legend of a distribution."""
    return tuple(Key(f"series{number}", one.name) for number, one in enumerate(series, 1))


@dataclass(frozen=True)
class _Scale:
    """``part``: how far along the axis a value lies, 0 to 1."""

    ticks: tuple[float, ...]
    part: Callable[[float], float]


def _linear_scale(values: Sequence[float]) -> _Scale:
    top = max(values) or 1.0
    return _Scale(ticks_to(top, most=8), lambda value: value / top)


def _log_scale(values: Sequence[float]) -> _Scale:
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    every = 1 + (high - low) // 9
    ticks = tuple(10.0**power for power in range(low, high + 1, every))
    return _Scale(ticks, lambda value: (math.log10(value) - low) / (high - low))


def _steps(values: Sequence[float], scale: _Scale, plot: Box) -> str:
    """A line that goes right, then up; of the steps within half a unit the last one counts."""
    ranked = sorted(values)
    bottom = plot.y + plot.height
    drawn = [f"M{_r(plot.x + scale.part(ranked[0]) * plot.width)} {_r(bottom)}"]
    ends = [
        index
        for index, (one, next_) in enumerate(pairwise(ranked), 1)
        if _half(one, scale, plot) != _half(next_, scale, plot)
    ]
    for end in (*ends, len(ranked)):
        x = _r(plot.x + scale.part(ranked[end - 1]) * plot.width)
        drawn.append(f"H{x}V{_r(bottom - end / len(ranked) * plot.height)}")
    return "".join(drawn)


def _half(value: float, scale: _Scale, plot: Box) -> int:
    return int(scale.part(value) * plot.width * 2)


# Figures and legends


def figure(charts: Sequence[Chart], *, title: str, description: str, keys: Sequence[Key] = ()) -> Figure:
    """Put charts beside each other below a title, with a legend below them."""
    width = sum(chart.width for chart in charts) + _BETWEEN * (len(charts) - 1) + 2 * _MARGIN
    heads = [
        Label(_MARGIN, _MARGIN + _TITLE * number, line, style="title")
        for number, line in enumerate(wrapped(title, (width - 2 * _MARGIN) * FONT / _TITLE), 1)
    ]
    placed, x, y = [], _MARGIN, heads[-1].y + _BETWEEN / 2
    for chart in charts:
        placed.append(PlacedChart(_r(x), y, chart))
        x += chart.width + _BETWEEN
    below = y + max((chart.height for chart in charts), default=0.0)
    legend = tuple(_legend(keys, width - 2 * _MARGIN, below + _LEGEND_LINE))
    bottom = legend[-1].y if legend else below
    return Figure(title, description, _r(width), _r(bottom + _MARGIN), tuple(placed), legend, tuple(heads))


def _legend(keys: Sequence[Key], width: float, y: float) -> Iterator[PlacedKey]:
    """Entries side by side, as many as a line holds."""
    x = 0.0
    for key in keys:
        needed = SWATCH + text_width(key.text)
        if x and x + needed > width:
            x, y = 0.0, y + _LEGEND_LINE
        yield PlacedKey(_r(_MARGIN + x), _r(y), key)
        x += needed + _BETWEEN


# Text and numbers


def text_width(text: str, *, bold: bool = False) -> float:
    """The room that a line of text of size FONT needs, an estimate that is rather too high."""
    return sum(map(_character_width, text)) * FONT * (_BOLD if bold else 1.0)


def _character_width(char: str) -> float:
    if combining(char):
        return 0.0
    if east_asian_width(char) in "WF":
        return _WIDE
    known = next((width for chars, width in _WIDTHS if char in chars), None)
    if known is not None:
        return known
    return _CAPITAL if char.isupper() or ord(char) > 0x17F else _OTHER


def wrapped(text: str, width: float, *, bold: bool = False) -> tuple[str, ...]:
    """Break a text into lines of at most ``width``: after a space or a hyphen, else wherever it must be."""
    lines: list[str] = []
    room = width / (_BOLD if bold else 1) + 0.01
    while text_width(text) > room and len(text) > 1:
        end = max(1, _fitting(text, room))
        soft = max(text.rfind(" ", 0, end + 1), text.rfind("-", 0, end) + 1, text.rfind(".", 0, end) + 1)
        end = soft if soft > 0 else end
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return (*lines, text)


def _fitting(text: str, width: float) -> int:
    """How many characters fit."""
    ends = [0.0]
    for char in text:
        ends.append(ends[-1] + _character_width(char) * FONT)
        if ends[-1] > width:
            break
    return bisect_right(ends, width) - 1


def ticks_to(top: float, *, most: int) -> tuple[float, ...]:
    """Round numbers from 0 up to ``top``: at most ``most`` (from 3 on) steps of 1, 2 or 5 x 10^n."""
    least = top / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    return tuple(number * step for number in range(int(top / step + 1e-9) + 1))


def _r(value: float) -> float:
    """A tenth of a pixel is as exact as a picture needs to be; the same text on every machine."""
    return round(value, 1)
