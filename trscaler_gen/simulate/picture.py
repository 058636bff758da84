"""The pictures of a simulation: a page of charts with their numbers, and the main chart alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trscaler_gen.chart import Figure, Key, Row, bars, figure
from trscaler_gen.inventory.text import printable
from trscaler_gen.page import Block, Page, Panel, Table
from trscaler_gen.simulate.result import Alternative, Counts, HeavyClient, NodeShare, Scenario, Simulation
from trscaler_gen.simulate.tell import (
    duration,
    fullest,
    headline,
    heavy_sentence,
    measures,
    moved_sentence,
    number,
    percent,
    problem_sentence,
    several,
    share,
    size,
    times,
)

#: so many heavy clients are told in a sentence each; the chart and the table have them all
_MOST_SENTENCES = 3
#: so many scenarios are shown unfolded
_MOST_OPEN = 3
#: a node that carries so many times its share is the one to see first
_BOLD_FROM = 1.1

_SHARE_KEYS = (
    Key("fill", "share of the traffic"),
    Key("excess", "what exceeds the share by weight"),
    Key("mark", "share by weight"),
)
_CHANGE_KEYS = (*_SHARE_KEYS, Key("before", "as it is"))
_LOAD_KEYS = (
    Key("fill", "fullest node: its share / its share by weight"),
    Key("excess", "what exceeds 1"),
    Key("mark", "perfectly even"),
)
_OTHER_KEYS = (
    Key("fill", "fullest node: its share / its share by weight"),
    Key("excess", "worse than it is"),
    Key("mark", "as it is"),
)


def page_of(simulation: Simulation) -> Page:
    """Lay out what was found; text from outside is made harmless."""
    view = _View(simulation, measures(simulation))
    blocks = (view.shares(), view.heavy(), view.changes(), view.others(), view.left_out())
    return Page(
        title=printable(f"{simulation.cluster}: who would get what of {simulation.traffic}"),
        headline=_sentence(headline(simulation)),
        facts=view.facts(),
        blocks=tuple(block for block in blocks if block is not None),
        notes=tuple(map(_sentence, simulation.notes)),
        footer="A flow is one pair of source and destination address: ports are not hashed.",
    )


def figure_of(simulation: Simulation) -> Figure:
    """The main chart alone: each node's share against its weight, as it is."""
    view = _View(simulation, measures(simulation))
    block = view.shares()
    return figure(
        [panel.chart for panel in block.panels],
        title=printable(f"{simulation.cluster}: who would get what of {simulation.traffic}"),
        description=" ".join(
            (printable(headline(simulation)), *(f"{each.title}: {each.description}" for each in block.panels))
        ),
        keys=block.keys,
    )


@dataclass(frozen=True)
class _View:
    simulation: Simulation
    measures: tuple[str, ...]

    def facts(self) -> tuple[tuple[str, str], ...]:
        simulation = self.simulation
        told = (
            *((each, _amount(simulation.total.of(each), each)) for each in self.measures),
            ("of them IPv6", self._sixes()),
            ("time", "" if simulation.seconds is None else duration(simulation.seconds)),
            ("records read", number(simulation.records)),
            ("not counted", number(sum(simulation.skipped.values()) + simulation.problem_count)),
        )
        return tuple((name, printable(text)) for name, text in told if text)

    def _sixes(self) -> str:
        six = self.simulation.families.get(6, Counts())
        return several(six.flows, "flow") if six.flows else ""

    # --- blocks --------------------------------------------------------------------------------------

    def shares(self) -> Block:
        scenario = self.simulation.scenarios[0]
        return Block(
            name="shares",
            heading="Share of each node",
            keys=_SHARE_KEYS,
            panels=self._panels("shares", lambda measure: self._node_rows(scenario, measure)),
            table=self._node_table(scenario),
        )

    def changes(self) -> Block | None:
        scenarios = self.simulation.scenarios
        if len(scenarios) < 2:
            return None
        return Block(
            name="changes",
            heading="What if",
            sentences=("What the fullest node would carry, and how much of the traffic would move.",),
            keys=_LOAD_KEYS,
            panels=self._panels(
                "changes",
                lambda measure: [_load_row(each.name, each.worst, measure, 1.0) for each in scenarios],
                tick_text=_times_tick,
            ),
            table=self._change_table(scenarios),
            parts=tuple(
                self._change(at, scenario, is_open=len(scenarios) - 1 <= _MOST_OPEN)
                for at, scenario in enumerate(scenarios[1:], 1)
            ),
        )

    def _change(self, at: int, scenario: Scenario, *, is_open: bool) -> Block:
        before = {node.name: node for node in self.simulation.scenarios[0].shares}
        return Block(
            name=f"change{at}",
            heading=printable(scenario.name),
            sentences=(_sentence(f"Moves {moved_sentence(scenario, self.simulation)}."),),
            keys=_CHANGE_KEYS,
            panels=self._panels(
                f"change{at}", lambda measure: self._node_rows(scenario, measure, before), scenario.name
            ),
            table=self._node_table(scenario),
            is_open=is_open,
        )

    def heavy(self) -> Block | None:
        clients = self.simulation.heavy
        if not clients:
            return None
        return Block(
            name="heavy",
            heading="Heavy clients",
            sentences=tuple(
                _sentence(heavy_sentence(client, self.simulation)) for client in clients[:_MOST_SENTENCES]
            ),
            keys=(Key("fill", "share of one client"),),
            panels=self._panels("heavy", lambda measure: [_client_row(each, measure) for each in clients]),
            table=self._heavy_table(clients),
        )

    def others(self) -> Block | None:
        alternatives = self.simulation.alternatives
        if not alternatives:
            return None
        better = [printable(each.name) for each in alternatives if each.better]
        told = f"Better than it is: {', '.join(better)}." if better else "None is better than it is."
        return Block(
            name="others",
            heading="Hashed otherwise",
            sentences=(told,),
            keys=_OTHER_KEYS,
            panels=self._panels("others", self._other_rows, tick_text=_times_tick),
            table=self._other_table(alternatives),
        )

    def left_out(self) -> Block | None:
        simulation = self.simulation
        skipped = sorted(simulation.skipped.items(), key=lambda one: (-one[1], one[0]))
        rows = [(printable(reason), number(count)) for reason, count in skipped if count]
        problems = tuple((printable(each.position), printable(each.text)) for each in simulation.problems)
        if not rows and not problems:
            return None
        unread = Table("What could not be read", ("where", "what"), problems, frozenset({0, 1}))
        return Block(
            name="left-out",
            heading="What was not counted",
            table=Table("Records left out", ("reason", "records"), tuple(rows)) if rows else None,
            parts=(Block("problems", problem_sentence(simulation), table=unread),) if problems else (),
        )

    # --- charts --------------------------------------------------------------------------------------

    def _panels(
        self,
        name: str,
        rows_of: Callable[[str], Sequence[Row]],
        state: str = "",
        tick_text: Callable[[float], str] | None = None,
    ) -> tuple[Panel, ...]:
        """One chart for each measure, all on one scale."""
        rows = {measure: rows_of(measure) for measure in self.measures}
        beside = [row for each in rows.values() for row in each]
        during = f", {printable(state)}" if state else ""
        return tuple(
            Panel(
                name=f"{name}-{measure}",
                title=f"{measure}{during}",
                description=_description(rows[measure]),
                chart=bars(
                    rows[measure], heading=measure, tick_text=tick_text or _percent_tick, beside=beside
                ),
            )
            for measure in self.measures
        )

    def _node_rows(
        self, scenario: Scenario, measure: str, before: Mapping[str, NodeShare] | None = None
    ) -> list[Row]:
        load = fullest(scenario, self.simulation.total, measure)
        fullest_node = load.node if load and load.ratio >= _BOLD_FROM else ""
        rows = []
        for node in scenario.shares:
            part, was = self._part(node, measure), before.get(node.name) if before else None
            text = (
                f"{percent(part)} {times(load.ratio)}"
                if load and node.name == fullest_node
                else percent(part)
            )
            rows.append(
                Row(
                    label=printable(node.name),
                    value=(part or 0.0) if node.alive else None,
                    text=text if node.alive else "down",
                    mark=node.expected if node.alive else None,
                    before=(self._part(was, measure) or 0.0) if was else 0.0 if before else None,
                    is_bold=node.name == fullest_node,
                )
            )
        return rows

    def _other_rows(self, measure: str) -> list[Row]:
        now = self.simulation.scenarios[0].worst.get(measure, 0.0)
        rows = [_load_row("as it is", self.simulation.scenarios[0].worst, measure, now)]
        return rows + [
            _load_row(each.name, each.worst, measure, now) for each in self.simulation.alternatives
        ]

    # --- tables --------------------------------------------------------------------------------------

    def _node_table(self, scenario: Scenario) -> Table:
        heading = ["node", "weight", "share by weight"]
        for measure in self.measures:
            heading += [measure, f"share of {measure}"]
        rows = []
        for node in scenario.shares:
            row = [node.name, str(node.weight), percent(node.expected) if node.alive else "down"]
            for measure in self.measures:
                row += [_amount(node.counts.of(measure), measure), percent(self._part(node, measure))]
            rows.append(tuple(map(printable, row)))
        return Table(f"Share of each node, {printable(scenario.name)}", tuple(heading), tuple(rows))

    def _change_table(self, scenarios: Sequence[Scenario]) -> Table:
        heading = ["", *(f"{measure} moved" for measure in self.measures)]
        heading += [f"fullest in {measure}" for measure in self.measures]
        rows = []
        for scenario in scenarios:
            moved = [percent(share(scenario.moved, self.simulation.total, each)) for each in self.measures]
            loads = [fullest(scenario, self.simulation.total, each) for each in self.measures]
            full = [f"{load.node} {times(load.ratio)}" if load else "-" for load in loads]
            rows.append(tuple(map(printable, (scenario.name, *moved, *full))))
        return Table("What each change would do", tuple(heading), tuple(rows))

    def _heavy_table(self, clients: Sequence[HeavyClient]) -> Table:
        heading = ["client"]
        for measure in self.measures:
            heading += [measure, f"share of {measure}"]
        rows = []
        for client in clients:
            row = [client.address]
            for measure in self.measures:
                row += [_amount(client.counts.of(measure), measure), percent(client.shares.get(measure))]
            rows.append(tuple(map(printable, (*row, ", ".join(client.nodes)))))
        words = frozenset({0, len(heading)})
        return Table("Clients that are heavy", (*heading, "nodes"), tuple(rows), words)

    def _other_table(self, alternatives: Sequence[Alternative]) -> Table:
        now = Alternative("as it is", self.simulation.scenarios[0].worst, better=False)
        rows = [
            (
                printable(each.name),
                *(times(each.worst.get(measure, 0.0)) for measure in self.measures),
                "-" if each is now else "yes" if each.better else "no",
            )
            for each in (now, *alternatives)
        ]
        heading = ("", *(f"fullest in {measure}" for measure in self.measures), "better")
        return Table("The fullest node, hashed otherwise", heading, tuple(rows))

    def _part(self, node: NodeShare, measure: str) -> float | None:
        return share(node.counts, self.simulation.total, measure)


def _sentence(text: str) -> str:
    """A line of prose, in which a number stays with its sign."""
    return printable(text).replace(" %", "\N{NO-BREAK SPACE}%")


def _load_row(name: str, worst: Mapping[str, float], measure: str, mark: float) -> Row:
    ratio = worst.get(measure, 0.0)
    return Row(printable(name), ratio, times(ratio), mark=mark)


def _client_row(client: HeavyClient, measure: str) -> Row:
    part = client.shares.get(measure, 0.0)
    return Row(printable(client.address), part, percent(part))


def _description(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.label} {row.text}" for row in rows) + "."


def _amount(count: int, measure: str) -> str:
    return size(count) if measure == "bytes" else number(count)


def _percent_tick(value: float) -> str:
    return f"{100 * value:g} %"


def _times_tick(value: float) -> str:
    return f"{value:g}"
