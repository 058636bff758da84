"""What a simulation comes to, in words and numbers that its views share. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trscaler_gen.simulate.result import MEASURES, Counts, HeavyClient, NodeShare, Scenario, Simulation

_UNITS = ((10**15, "PB"), (10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
#: 0.6 is a little less in binary, and yet 60.0 %
_ROUNDED = 1e-9
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


@dataclass(frozen=True)
class Load:
    """What a node carries against its share by weight; ``ratio`` is 1 where they are the same."""

    node: str
    share: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.share / self.expected


def measures(simulation: Simulation) -> tuple[str, ...]:
    """What the file tells, in the order of views."""
    return tuple(measure for measure in MEASURES if measure in simulation.has)


def share(counts: Counts, total: Counts, measure: str) -> float | None:
    """A part of the whole; None where the whole is nothing."""
    whole = total.of(measure)
    return counts.of(measure) / whole if whole else None


def fullest(scenario: Scenario, total: Counts, measure: str) -> Load | None:
    """The living node that carries the most for its weight; None without traffic."""
    loads = list(_loads(scenario.shares, total, measure))
    return max(loads, key=lambda load: load.ratio, default=None)


def _loads(shares: tuple[NodeShare, ...], total: Counts, measure: str) -> Iterator[Load]:
    for node in shares:
        part = share(node.counts, total, measure)
        if node.alive and node.expected and part is not None:
            yield Load(node.name, part, node.expected)


# --- sentences -------------------------------------------------------------------------------------------


def headline(simulation: Simulation) -> str:
    """The one thing to know: which node would carry the most for its weight."""
    scenario = simulation.scenarios[0]
    loads = {measure: fullest(scenario, simulation.total, measure) for measure in measures(simulation)}
    found = [(load.ratio, measure, load) for measure, load in loads.items() if load]
    if not found:
        return f"Nothing in {simulation.traffic} is for {simulation.cluster}."
    _, measure, load = max(found, key=lambda one: one[0])
    return (
        f"{load.node} carries the most for its weight: {percent(load.share)} of the {measure}, "
        f"{percent(load.expected)} by weight ({times(load.ratio)})."
    )


def heavy_sentence(client: HeavyClient, simulation: Simulation) -> str:
    """What a client that is too much for one node's share means."""
    measure = max(measures(simulation), key=lambda each: client.shares.get(each, 0.0))
    part = client.shares.get(measure, 0.0)
    least = percent(
        math.floor(1000 * part + _ROUNDED) / 1000
    )  # what is said to be the least must not be more
    begin = f"{client.address} alone is {least} of the {measure}"
    if len(client.nodes) == 1:
        return f"{begin}: its node, {client.nodes[0]}, carries at least {least}."
    return f"{begin}: it speaks to several addresses, and {', '.join(client.nodes)} share it."


def read_sentence(simulation: Simulation) -> str:
    """How much was counted."""
    total = simulation.total
    told = {"flows": several(total.flows, "flow"), "packets": several(total.packets, "packet")}
    parts = [told.get(measure) or size(total.bytes) for measure in measures(simulation)]
    during = "" if simulation.seconds is None else f" in {duration(simulation.seconds)}"
    return ", ".join(parts) + during


def families_sentence(simulation: Simulation) -> str:
    """How much of it is of which family; nothing where there is one only."""
    families = {family: counts for family, counts in simulation.families.items() if counts.flows}
    if len(families) < 2:
        return ""
    parts = [f"IPv{family} {several(counts.flows, 'flow')}" for family, counts in sorted(families.items())]
    return ", ".join(parts)


def skipped_lines(skipped: Mapping[str, int]) -> list[str]:
    """Why records were left out, the most frequent reason first."""
    ranked = sorted(skipped.items(), key=lambda one: (-one[1], one[0]))
    return [f"{number(count)}: {reason}" for reason, count in ranked if count]


def problem_sentence(simulation: Simulation) -> str:
    """How much could not be read, and whether all of it is listed."""
    count, listed = simulation.problem_count, len(simulation.problems)
    told = "1 record could not be read" if count == 1 else f"{number(count)} records could not be read"
    return f"{told}; the first {listed}" if count > listed else told


def moved_sentence(scenario: Scenario, simulation: Simulation) -> str:
    """What of the traffic would go to another node."""
    parts = [
        f"{percent(share(scenario.moved, simulation.total, measure))} of the {measure}"
        for measure in measures(simulation)
    ]
    return ", ".join(parts)


# --- numbers ---------------------------------------------------------------------------------------------


def percent(part: float | None) -> str:
    """A share, 0 to 1; "-" where there is nothing of which it could be a part."""
    return "-" if part is None else f"{100 * part:.1f} %"


def times(ratio: float) -> str:
    """How many times as much."""
    return f"\N{MULTIPLICATION SIGN}{ratio:.2f}"


def number(count: int) -> str:
    """A number with its thousands apart."""
    return f"{count:,}"


def several(count: int, word: str) -> str:
    """A number of things, in the plural unless it is one."""
    return f"{number(count)} {word}" if count == 1 else f"{number(count)} {word}s"


def size(count: int) -> str:
    """Bytes, in powers of 1000 and with three digits."""
    for unit, word in _UNITS:
        if count >= unit:
            whole = count / unit
            return f"{whole:.{2 if whole < 9.995 else 1 if whole < 99.95 else 0}f} {word}"
    return several(count, "byte")


def duration(seconds: float) -> str:
    """A time, in one or two units."""
    if seconds < _MINUTE_S:
        return f"{seconds:.3g} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min {int(seconds % _MINUTE_S)} s"
    if seconds < _DAY_S:
        return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} min"
    return f"{int(seconds // _DAY_S)} d {int(seconds % _DAY_S // _HOUR_S)} h"
