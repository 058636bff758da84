"""A simulation as a person reads it: bars on a terminal, the same numbers in columns in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trscaler_gen.console.status_view import columns
from trscaler_gen.inventory.text import printable
from trscaler_gen.simulate.result import Alternative, NodeShare, Scenario, Simulation
from trscaler_gen.simulate.tell import (
    Load,
    families_sentence,
    fullest,
    headline,
    heavy_sentence,
    measures,
    moved_sentence,
    percent,
    problem_sentence,
    read_sentence,
    share,
    skipped_lines,
    times,
)

#: bars of what-ifs are shown as long as they need no more lines than this; then a table with a line for each
_MOST_LINES = 24
_MOST_HEAVY = 8

_GAP = 2
_PERCENT_WIDTH = 7
_LEAST_BAR, _MOST_BAR = 8, 48
#: a node that carries so many times its share is shown in bold
_BOLD_FROM = 1.1
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FULL, _EXCESS, _MARK = "█", "▒", "│"
#: where a line may not be broken; printable() lets none through from outside (Unicode's private use)
_JOINT = "\ue000"
_PLAIN = str.maketrans({_FULL: "#", _EXCESS: "+", _MARK: "|", "\N{MULTIPLICATION SIGN}": "x"})


def show_simulation(simulation: Simulation, console: Console | None = None) -> None:
    """Print what was found."""
    _View(console or Console(highlight=False), simulation, measures(simulation)).show()


def bar(part: float, mark: float, top: float, width: int, *, is_plain: bool = False) -> Text:
    """Draw a share of ``top`` in ``width`` cells, with a line at its mark and other cells beyond it.

    ``is_plain``: in ASCII.
    """
    at = min(width - 1, int(mark / top * width))
    eighths = round(part / top * width * 8)
    cells = _FULL * (eighths // 8) + (_EIGHTHS[eighths % 8].strip() if not is_plain else "")
    before, beyond = cells[:at].ljust(at), cells[at + 1 :]
    beyond = _EXCESS * len(beyond.strip(" "))
    text = Text.assemble((before, "blue"), (_MARK, "bold"), (beyond, "yellow"))
    return Text(text.plain.translate(_PLAIN)) if is_plain else text


@dataclass(frozen=True)
class _View:
    console: Console
    simulation: Simulation
    measures: tuple[str, ...]

    def show(self) -> None:
        self._head()
        if self.simulation.total.flows:
            self._shares()
        self._left_out()
        for note in self.simulation.notes:
            self._say("")
            self._say(note)

    def _shares(self) -> None:
        now, *others = self.simulation.scenarios
        self._title("As it is")
        self._nodes(now)
        if sum(len(each.shares) for each in others) <= _MOST_LINES:
            for each in others:
                self._title(f"{each.name}: moves {moved_sentence(each, self.simulation)}")
                self._nodes(each)
        else:
            self._changes(others)
        self._heavy()
        self._alternatives(self.simulation.alternatives)

    # --- parts ---------------------------------------------------------------------------------------

    def _head(self) -> None:
        simulation = self.simulation
        self._say(f"{simulation.cluster}: who would get what of {simulation.traffic}", "bold")
        families = families_sentence(simulation)
        self._say(read_sentence(simulation) + (f" ({families})" if families else ""), "dim")
        self._say(headline(simulation))

    def _nodes(self, scenario: Scenario) -> None:
        loads = {measure: self._fullest(scenario, measure) for measure in self.measures}
        if self.console.is_terminal:
            self._bars(scenario, loads)
        else:
            self._columns(self._heading(), [self._row(node) for node in scenario.shares])
        told = [f"{measure} {load.node} {times(load.ratio)}" for measure, load in loads.items() if load]
        if told:
            self._say(f"fullest: {', '.join(told)}", "dim")

    def _changes(self, scenarios: Sequence[Scenario]) -> None:
        self._title("What if")
        heading = ("", *(f"{measure} moved" for measure in self.measures), "fullest node")
        rows = [(each.name, *self._moved(each), self._worst(each)) for each in scenarios]
        self._table(heading, rows, words=(0, len(heading) - 1))

    def _heavy(self) -> None:
        clients = self.simulation.heavy
        if not clients:
            return
        self._title("Heavy clients")
        for client in clients[:_MOST_HEAVY]:
            self._say(heavy_sentence(client, self.simulation), indent=2)
        if len(clients) > _MOST_HEAVY:
            self._say(f"and {len(clients) - _MOST_HEAVY} more: --json and --html have them", indent=2)

    def _alternatives(self, alternatives: Sequence[Alternative]) -> None:
        if not alternatives:
            return
        self._title("Hashed otherwise: the fullest node, its share / its share by weight")
        now = Alternative("as it is", self.simulation.scenarios[0].worst, better=False)
        rows = [
            (
                each.name,
                *(times(each.worst.get(measure, 0.0)) for measure in self.measures),
                "better" if each.better else "",
            )
            for each in (now, *alternatives)
        ]
        self._table(("", *self.measures, ""), rows, words=(0, len(self.measures) + 1))

    def _left_out(self) -> None:
        simulation = self.simulation
        if not any(simulation.skipped.values()) and not simulation.problem_count:
            return
        self._title("Not counted")
        for line in skipped_lines(simulation.skipped):
            self._say(line, indent=2)
        if simulation.problem_count:
            self._say(f"{problem_sentence(simulation)}:", "yellow", indent=2)
        for problem in simulation.problems:
            self._say(f"{problem.position}: {problem.text}", indent=4)

    # --- bars ----------------------------------------------------------------------------------------

    def _bars(self, scenario: Scenario, loads: dict[str, Load | None]) -> None:
        """A line for each node; names that leave no room for bars stand on lines of their own."""
        widest = max(cell_len(printable(node.name)) for node in scenario.shares)
        beside = max(widest, len("node")) + _GAP
        fixed = len("by weight") + len(self.measures) * (_GAP + _PERCENT_WIDTH + 1)
        room = (self.console.width - beside - fixed) // len(self.measures)
        if room < _LEAST_BAR:
            beside, room = 2, (self.console.width - 2 - fixed) // len(self.measures)
        room = max(1, min(room, _MOST_BAR))
        self._line(self._bar_heading(beside, room))
        top = self._top(scenario)
        for node in scenario.shares:
            name = Text(printable(node.name))
            if beside == 2:
                self._line(name)
                name = Text("")
            name.pad_right(beside - name.cell_len)
            self._line(Text.assemble(name, self._bar_line(node, loads, top, room)))

    def _bar_heading(self, beside: int, room: int) -> Text:
        name = "node".ljust(beside) if beside > _GAP else " " * beside
        titles = [" " * _GAP + measure.ljust(_PERCENT_WIDTH + 1 + room) for measure in self.measures]
        return Text((name + "by weight" + "".join(titles)).rstrip(), "dim")

    def _bar_line(self, node: NodeShare, loads: dict[str, Load | None], top: float, room: int) -> Text:
        if not node.alive:
            return Text("     down", "dim")
        parts = [Text(percent(node.expected).rjust(len("by weight")))]
        for measure in self.measures:
            part, load = share(node.counts, self.simulation.total, measure), loads[measure]
            is_bold = load is not None and load.node == node.name and load.ratio >= _BOLD_FROM
            parts.append(
                Text(" " * _GAP + percent(part).rjust(_PERCENT_WIDTH) + " ", "bold" if is_bold else "")
            )
            drawn = bar(part or 0.0, node.expected, top, room, is_plain=not self._has_blocks)
            drawn.pad_right(room - drawn.cell_len)
            parts.append(drawn)
        line = Text.assemble(*parts)
        line.rstrip()
        return line

    def _top(self, scenario: Scenario) -> float:
        """The share at the right end of all bars."""
        parts = [
            share(node.counts, self.simulation.total, measure) or 0.0
            for node in scenario.shares
            for measure in self.measures
        ]
        return max([*parts, *(node.expected for node in scenario.shares)]) or 1.0

    # --- rows ----------------------------------------------------------------------------------------

    def _heading(self) -> tuple[str, ...]:
        shown = [text for measure in self.measures for text in (measure, "share")]
        return ("node", "weight", "by weight", *shown)

    def _row(self, node: NodeShare) -> tuple[str, ...]:
        cells = [node.name, str(node.weight), percent(node.expected) if node.alive else "down"]
        for measure in self.measures:
            part = share(node.counts, self.simulation.total, measure)
            cells += [str(node.counts.of(measure)), percent(part)]
        return tuple(cells)

    def _moved(self, scenario: Scenario) -> list[str]:
        total = self.simulation.total
        return [percent(share(scenario.moved, total, measure)) for measure in self.measures]

    def _worst(self, scenario: Scenario) -> str:
        loads = [(load, measure) for measure in self.measures if (load := self._fullest(scenario, measure))]
        if not loads:
            return "-"
        load, measure = max(loads, key=lambda one: one[0].ratio)
        return f"{load.node} {times(load.ratio)} in {measure}"

    def _fullest(self, scenario: Scenario, measure: str) -> Load | None:
        return fullest(scenario, self.simulation.total, measure)

    # --- lines ---------------------------------------------------------------------------------------

    def _table(self, heading: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int]) -> None:
        if not self.console.is_terminal:
            self._columns(heading, rows)
            return
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
        for at, title in enumerate(heading):
            table.add_column(title, justify="left" if at in words else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(self._writable(cell)) for cell in row))
        self.console.print(table)

    def _columns(self, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        for line in columns([heading, *([printable(cell) for cell in row] for row in rows)]):
            self._line(Text(line))

    def _title(self, title: str) -> None:
        self._say("")
        self._say(title, "bold")

    def _say(self, words: str, style: str = "", indent: int = 0) -> None:
        """Print a sentence; on a terminal what does not fit goes below its beginning."""
        text = self._writable(words)
        lead = " " * indent
        if not self.console.is_terminal or not words:
            self._line(Text.assemble(lead, (text, style)))
            return
        whole = Text(text.replace(" %", f"{_JOINT}%"))
        for line in whole.wrap(self.console, max(24, self.console.width - indent - 2)):
            self._line(Text.assemble(lead, (line.plain.rstrip().replace(_JOINT, " "), style)))
            lead = " " * (indent + 2)

    def _line(self, text: Text) -> None:
        if self.console.is_terminal:
            self.console.print(text, soft_wrap=True)
        else:
            self.console.out(self._writable(text.plain), highlight=False)

    def _writable(self, words: str) -> str:
        """Words without what a terminal would obey, and with nothing that the output's encoding has not."""
        text = printable(words)
        if self._has_blocks:
            return text
        encoding = self.console.encoding
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)

    @property
    def _has_blocks(self) -> bool:
        return self.console.encoding.lower().startswith("utf")
