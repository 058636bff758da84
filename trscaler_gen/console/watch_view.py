"""Clusters that are watched: as a screen of any size, and as lines for a pipe.

The screen is a fixed head, the nodes (those that fit, and how many do not), and the latest events. Whatever a
node said is shown as text, never as markup.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from enum import Enum

from rich.console import Console
from rich.text import Text

from trscaler_gen.console.status_view import columns
from trscaler_gen.inventory.text import printable
from trscaler_gen.secret import redact
from trscaler_gen.verdict import State
from trscaler_gen.watching import Event, NodePicture, NodeState, Picture, headline

MIN_WIDTH, MIN_HEIGHT = 40, 8
#: from here on there is room for more columns
_WIDE = 120
_MIN_LOG = 4
_MAX_FAULTS = 3
_MAX_HISTORY = 60

_BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_ASCII_BARS = "_.:-=+*#"
_STYLES = {
    NodeState.LOST: "bold red",
    NodeState.SILENT: "bold red",
    NodeState.UNREACHABLE: "yellow",
    NodeState.ASIDE: "red",
    NodeState.DRAINED: "yellow",
    NodeState.JOINING: "cyan",
    NodeState.SERVING: "green",
}
_HEALTH_STYLES = {
    State.HEALTHY: "bold green",
    State.DEGRADED: "bold red",
    State.UNKNOWN: "bold yellow",
}
_HELP = (
    "s        sort by name, share, heartbeat age, state",
    "n h a t  sort by name, share, heartbeat age, state at once",
    "r        turn the order round",
    "j k      scroll; arrows, page up and page down do the same",
    "p space  stop showing, and go on (events are not missed)",
    "?        this help",
    "q        quit; so does Ctrl-C",
    "",
    "heard    how long ago the peer that has waited longest heard the node",
    "share    of the packets that all nodes accept",
    "joining  the node serves; old connections stay with those that have them",
)


class Order(Enum):
    """What the nodes are sorted by."""

    NAME = "name"
    SHARE = "share"
    AGE = "heartbeat age"
    STATE = "state"


@dataclass(frozen=True)
class Scene:
    """What is shown: every cluster's picture with the rates of its nodes before, and the events of all."""

    pictures: tuple[Picture, ...]
    rates: tuple[Sequence[dict[str, float | None]], ...]
    log: tuple[Event, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """How it is shown; ``scroll`` counts the lines of the body that are above the first one shown."""

    interval_s: float
    order: Order = Order.NAME
    is_reversed: bool = False
    scroll: int = 0
    is_paused: bool = False
    has_help: bool = False
    is_ascii: bool = False
    zone: tzinfo | None = field(default=None)

    def pressed(self, key: str, page: int) -> View:
        """The view after a key; ``page`` is how many lines a page has."""
        orders = list(Order)
        steps = {"down": 1, "j": 1, "up": -1, "k": -1, "page down": page, "page up": -page}
        if key in steps:
            return replace(self, scroll=max(0, self.scroll + steps[key]))
        if key == "home":
            return replace(self, scroll=0)
        if key == "s":
            return replace(self, order=orders[(orders.index(self.order) + 1) % len(orders)])
        if key in "nhat":
            return replace(self, order=dict(zip("nhat", orders, strict=True))[key])
        if key == "r":
            return replace(self, is_reversed=not self.is_reversed)
        if key in ("p", " "):
            return replace(self, is_paused=not self.is_paused)
        return replace(self, has_help=not self.has_help) if key == "?" else self


@dataclass(frozen=True)
class Frame:
    """Lines of a screen, and how far the body could be scrolled."""

    lines: tuple[Text, ...]
    last_scroll: int = 0

    @property
    def text(self) -> Text:
        """All lines as one."""
        return Text("\n", no_wrap=True, overflow="crop").join(self.lines)


# --- the screen ------------------------------------------------------------------------------------------


def frame(scene: Scene, view: View, width: int, height: int) -> Frame:
    """Lay out a screen; a terminal that is too small is told so."""
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return Frame((Text(f"{MIN_WIDTH}x{MIN_HEIGHT} needed"[:width]), Text("q quits"[:width]))[:height])
    head = [*_head(scene, view, width)]
    body = [Text(line) for line in _HELP] if view.has_help else [*_body(scene, view, width)]
    room = height - len(head) - 1
    log_room = min(max(_MIN_LOG, room - len(body)), max(0, room - 3))
    body_room = room - log_room
    last_scroll = max(0, len(body) - body_room)
    scroll = min(view.scroll, last_scroll)
    shown = body[scroll : scroll + body_room]
    log = [*_log(scene, view, width, log_room)]
    rest = [Text("")] * (room - len(shown) - len(log))
    hidden = f"{scroll} lines above, {len(body) - scroll - len(shown)} below (j k)  " if last_scroll else ""
    foot = Text(f"{hidden}s sort  p pause  ? help  q quit", "dim")
    lines = [*head, *shown, *log, *rest, foot]
    for line in lines:
        _fit(line, width, view)
    return Frame(tuple(lines), last_scroll)


def _head(scene: Scene, view: View, width: int) -> Iterator[Text]:
    if not scene.pictures:
        yield Text("asking")
        return
    at_s = max(picture.at_s for picture in scene.pictures)
    said = "PAUSED" if view.is_paused else f"every {view.interval_s:g} s"
    when = f"{_clock(at_s, view)}  {said}"
    title = _title(scene)
    title.truncate(
        max(0, width - len(when) - 2), overflow="ellipsis" if not view.is_ascii else "crop", pad=True
    )
    yield Text.assemble(title, "  ", (when, "dim"))
    yield Text(_summary(scene, view, is_wide=width >= _WIDE), "dim")
    for text in scene.remarks:
        yield Text(_clean(text), "yellow")
    if len(scene.pictures) == 1:
        yield from _faults(scene.pictures[0], width)
    if not view.has_help:
        yield Text(_row_text(_headings(scene, width), _widths(scene, width)), "dim")


def _fit(line: Text, width: int, view: View) -> None:
    """Cut a line that is too long, and show that it was."""
    if len(line) > width:
        line.truncate(max(0, width - 1))
        line.append("~" if view.is_ascii else "\u2026")


def _title(scene: Scene) -> Text:
    if len(scene.pictures) == 1:
        (picture,) = scene.pictures
        return Text.assemble((f"{picture.cluster}: ", "bold"), _health(picture))
    worst = max(scene.pictures, key=lambda picture: _SEVERITY[picture.verdict.state])
    states = [picture.verdict.state for picture in scene.pictures]
    well = states.count(State.HEALTHY)
    style = _HEALTH_STYLES[worst.verdict.state]
    return Text.assemble(
        (f"{len(states)} clusters: ", "bold"), (f"{well} healthy, {len(states) - well} not", style)
    )


_SEVERITY = {State.HEALTHY: 0, State.UNKNOWN: 1, State.DEGRADED: 2}


def _health(picture: Picture) -> Text:
    style = _HEALTH_STYLES[picture.verdict.state] if picture.is_complete else "bold yellow"
    return Text(headline(picture), style)


def _summary(scene: Scene, view: View, *, is_wide: bool) -> str:
    nodes = [node for picture in scene.pictures for node in picture.nodes]
    words = [
        f"{count} {word}"
        for word, count in ((state_word(state), sum(n.state is state for n in nodes)) for state in NodeState)
        if count
    ]
    accepted = sum(picture.accepted_pps for picture in scene.pictures)
    dropped = sum(picture.dropped_pps for picture in scene.pictures)
    leases = sorted({picture.lease_ms for picture in scene.pictures if picture.lease_ms})
    parts = [
        ", ".join(words),
        f"{_amount(accepted)} packets/s{f', {_amount(dropped)} dropped' if is_wide else ''}",
        *([f"lease {', '.join(map(str, leases))} ms"] if leases else []),
        f"by {view.order.value}{', reversed' if view.is_reversed else ''}",
    ]
    return "; ".join(parts)


def _faults(picture: Picture, width: int) -> Iterator[Text]:
    """What is wrong, the first few things, and a note if nothing is."""
    verdict = picture.verdict
    if not picture.is_complete:
        return
    texts = [(text, "red") for text in verdict.faults] + [(text, "yellow") for text in verdict.doubts]
    texts += [(text, "yellow") for text in picture.remarks]
    for text, style in texts[:_MAX_FAULTS]:
        yield Text(f"  {_clean(text)}", style)
    if len(texts) > _MAX_FAULTS:
        yield Text(f"  and {len(texts) - _MAX_FAULTS} more: trscaler-gen status tells all", "dim")


def _body(scene: Scene, view: View, width: int) -> Iterator[Text]:
    widths = _widths(scene, width)
    for picture, rates in zip(scene.pictures, scene.rates, strict=True):
        if len(scene.pictures) > 1:
            yield Text.assemble((f"{picture.cluster}: ", "bold"), _health(picture))
            yield from _faults(picture, width)
        most = max((rate for one in rates for rate in one.values() if rate is not None), default=0.0)
        for node in _sorted(picture, view):
            history = [one.get(node.name) for one in rates][-_MAX_HISTORY:]
            cells = _cells(picture, node, width)
            bars = sparkline(history[-max(0, widths[-1]) :], most, is_ascii=view.is_ascii)
            text = Text(_row_text([*cells, bars], widths))
            start = widths[0] + 2
            text.stylize(_STYLES.get(node.state, "dim"), start, start + widths[1])
            yield text


def _sorted(picture: Picture, view: View) -> list[NodePicture]:
    nodes = sorted(picture.nodes, key=lambda node: _natural(node.name))
    match view.order:
        case Order.SHARE:
            nodes.sort(key=lambda node: -(node.accepted_pps or 0.0))
        case Order.AGE:
            nodes.sort(key=lambda node: -(node.age_ms if node.age_ms is not None else 1 << 60))
        case Order.STATE:
            nodes.sort(key=lambda node: list(NodeState).index(node.state))
    return nodes[::-1] if view.is_reversed else nodes


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Numbers in names count as numbers: n2 comes before n10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


# --- a line per node ---------------------------------------------------------------------------------------

#: heading, width (a minus sign: to the right), and whether it needs a wide screen
_COLUMNS = (
    ("node", 0, False),
    ("state", 9, False),
    ("heard ms", -8, False),
    ("buckets", -9, False),
    ("packets/s", -9, False),
    ("share", -6, False),
    ("dropped/s", -9, True),
    ("held", -6, True),
    ("generation", 12, True),
    ("serial", -6, True),
    ("history", 0, False),
)


def _headings(scene: Scene, width: int) -> list[str]:
    headings = [heading for heading, _, only_wide in _COLUMNS if width >= _WIDE or not only_wide]
    is_narrow = _widths(scene, width)[-1] < len(headings[-1])
    return [*headings[:-1], "" if is_narrow else headings[-1]]


def _widths(scene: Scene, width: int) -> list[int]:
    """Of every column; to the right where negative. The history gets what is left."""
    longest = max((len(node.name) for picture in scene.pictures for node in picture.nodes), default=4)
    widths = [size for _, size, only_wide in _COLUMNS if width >= _WIDE or not only_wide]
    widths[0] = max(4, min(longest, 32 if width >= _WIDE else 16))
    widths[-1] = max(0, min(_MAX_HISTORY, width - sum(abs(size) + 2 for size in widths[:-1])))
    return widths


def _row_text(cells: Sequence[str], widths: Sequence[int]) -> str:
    placed = [
        (_cut(cell, abs(size)).rjust(-size) if size < 0 else _cut(cell, size).ljust(size))
        for cell, size in zip(cells, widths, strict=True)
    ]
    return "  ".join(placed).rstrip()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: max(0, size - 1)] + "~"[:size]


def _cells(picture: Picture, node: NodePicture, width: int) -> list[str]:
    """One node's words, but for its history."""
    share = picture.share_of(node)
    facts = node.facts
    words = [
        printable(node.name),
        state_word(node.state),
        "-" if node.age_ms is None else str(node.age_ms),
        _buckets(picture, node),
        _amount(node.accepted_pps),
        "-" if share is None else f"{100 * share:.1f}%",
    ]
    if width >= _WIDE:
        words += [
            _amount(node.dropped_pps),
            "-" if facts is None or facts.held < 0 else str(facts.held),
            printable(facts.generation) if facts and facts.generation else "-",
            str(facts.serial) if facts and facts.serial else "-",
        ]
    return words


def state_word(state: NodeState) -> str:
    """How a state is written."""
    return {NodeState.ASKED: "...", NodeState.LEFT: "has left"}.get(state, state.value)


def _buckets(picture: Picture, node: NodePicture) -> str:
    if node.owned is None:
        return "?"
    total = picture.verdict.buckets
    return f"{node.owned} {100 * node.owned / total:3.0f}%" if total else str(node.owned)


def _amount(count: float | None) -> str:
    """A number in as much room as a column has."""
    if count is None:
        return "-"
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}" if count < 999.5 * unit else f"{count / unit:.0f}{letter}"
    return f"{count:.0f}"


def sparkline(history: Sequence[float | None], most: float, *, is_ascii: bool) -> str:
    """Bars from 0 to ``most``; a gap where nothing is known."""
    bars = _ASCII_BARS if is_ascii else _BARS
    steps = len(bars) - 1
    return "".join(
        " " if rate is None else bars[round(steps * min(1.0, rate / most)) if most else 0] for rate in history
    )


# --- events ------------------------------------------------------------------------------------------------


def _log(scene: Scene, view: View, width: int, room: int) -> Iterator[Text]:
    """The latest events that fit, the newest last, under a heading."""
    if room < 2:
        return
    lines: list[Text] = []
    for event in reversed(scene.log):
        before = [*_event_lines(event, view, width, several=len(scene.pictures) > 1)]
        if lines and len(before) + len(lines) > room - 1:
            break
        lines = [*before, *lines]
    yield Text(("events " + "-" * width)[:width], "dim")
    yield from lines[: room - 1]


def _event_lines(event: Event, view: View, width: int, *, several: bool) -> Iterator[Text]:
    place = f"{event.cluster}: " if several else ""
    subject = f"{event.node}: " if event.node else ""
    text = _clean(f"{place}{subject}{event.text}")
    start = f"{_clock(event.at_s, view)}  {event.what.value:<12}  "
    indent = " " * 10
    style = "red" if event.is_bad else ""
    for line in textwrap.wrap(start + text, width, subsequent_indent=indent, break_on_hyphens=False):
        yield Text(line, style)


def _clock(at_s: float, view: View) -> str:
    return datetime.fromtimestamp(at_s, UTC).astimezone(view.zone).strftime("%H:%M:%S")


def _clean(text: str) -> str:
    return printable(redact(text))


# --- lines for a pipe --------------------------------------------------------------------------------------


def timestamp(at_s: float) -> str:
    """A moment as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _one_word(cluster: str) -> str:
    """Of two clusters with the same name the label has the inventory's path in it."""
    return cluster.replace(" ", "_")


def event_line(event: Event) -> str:
    """TIME CLUSTER WHAT NODE TEXT; NODE is ``-`` where it is the whole cluster's."""
    words = (
        timestamp(event.at_s),
        _one_word(event.cluster),
        event.what.value,
        event.node or "-",
        _clean(event.text),
    )
    return " ".join(words)


def look_line(picture: Picture) -> str:
    """TIME CLUSTER look - KEY=VALUE...: the whole, then every node's part of the packets."""
    verdict = picture.verdict
    state = verdict.state.name.lower() if picture.is_complete else "asking"
    words = [timestamp(picture.at_s), _one_word(picture.cluster), "look", "-", f"state={state}"]
    words += [f"buckets={verdict.buckets}", f"one_owner={verdict.one}", f"nodes={len(picture.nodes)}"]
    words.append(f"serving={sum(n.state in (NodeState.SERVING, NodeState.JOINING) for n in picture.nodes)}")
    words.append(f"accepted_pps={picture.accepted_pps:.1f}")
    words.append(f"dropped_pps={picture.dropped_pps:.1f}")
    for node in picture.nodes:
        share = picture.share_of(node)
        words.append(f"{printable(node.name)}={'-' if share is None else f'{100 * share:.1f}%'}")
    return " ".join(words)


def show_once(scene: Scene, view: View, console: Console | None = None) -> None:
    """Print one look: as a screen without keys on a terminal, as columns of plain text in a pipe."""
    console = console or Console()
    if console.is_terminal:
        for line in (*_head(scene, view, console.width), *_body(scene, view, console.width)):
            line.truncate(console.width)
            console.print(line, no_wrap=True, soft_wrap=True)
        return
    for text in _plain(scene, view):
        console.print(Text(text), soft_wrap=True)


def _plain(scene: Scene, view: View) -> Iterator[str]:
    for picture in scene.pictures:
        rows = [_headings(scene, _WIDE)[:-1]]
        rows += [_cells(picture, node, _WIDE) for node in _sorted(picture, view)]
        yield from columns(rows)
        yield f"{picture.cluster}: {headline(picture)}"
        texts: Iterable[str] = (*picture.verdict.faults, *picture.verdict.doubts, *picture.remarks)
        yield from (f"  {_clean(text)}" for text in texts)
