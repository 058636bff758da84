"""What a simulation has found, as text."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from trscaler_gen.simulate.result import MEASURES, Counts, Scenario, Simulation


def show(simulation: Simulation, console: Console | None = None) -> None:
    """Print everything."""
    console = console or Console()
    for line in _lines(simulation):
        console.print(Text(line), soft_wrap=True)


def _lines(simulation: Simulation) -> list[str]:
    lines = [f"{simulation.cluster}: {_counts(simulation, simulation.total)}"]
    lines += [f"  not counted: {count} {reason}" for reason, count in simulation.skipped.items()]
    lines += [f"  {problem.position}: {problem.text}" for problem in simulation.problems]
    for scenario in simulation.scenarios:
        lines += _scenario_lines(simulation, scenario)
    for heavy in simulation.heavy:
        shares = {name: share for name, share in heavy.shares.items() if name in simulation.has}
        measure = max(shares, key=lambda name: (shares[name], name))
        share = f"{shares[measure]:.0%}"
        lines.append(
            f"{heavy.address} alone is {share} of the {measure}: its node carries at least {share}"
            if len(heavy.nodes) == 1
            else f"{heavy.address} alone is {share} of the {measure}, on {', '.join(heavy.nodes)}"
        )
    for other in simulation.alternatives:
        worst = ", ".join(f"{other.worst[name]:.2f} in {name}" for name in MEASURES if name in simulation.has)
        lines.append(f"{other.name}: fullest node {worst}{' (better)' if other.better else ''}")
    return [*lines, *simulation.notes]


def _counts(simulation: Simulation, counts: Counts) -> str:
    return ", ".join(f"{counts.of(name)} {name}" for name in MEASURES if name in simulation.has)


def _scenario_lines(simulation: Simulation, scenario: Scenario) -> list[str]:
    lines = [f"{scenario.name}: moved {_counts(simulation, scenario.moved)}"]
    for share in scenario.shares:
        state = f"expected {share.expected:.1%}" if share.alive else "down"
        lines.append(f"  {share.name}: {_counts(simulation, share.counts)} ({state})")
    return lines
