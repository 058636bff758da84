"""Simulations as views are given them: of 2, 4 and 32 nodes, with everything to tell and next to nothing.

Run this file to write the golden views and the picture of the documentation anew:
cd tests && python -m simulate.samples
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from trscaler_gen.console.simulate_view import show_simulation
from trscaler_gen.render import render_figure
from trscaler_gen.simulate.picture import figure_of
from trscaler_gen.simulate.result import (
    MEASURES,
    Alternative,
    Counts,
    HeavyClient,
    NodeShare,
    Problem,
    Scenario,
    Simulation,
)

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden-simulate"
PICTURE = ROOT / "docs" / "images" / "simulate.svg"

#: file name's end -> width, whether it is a terminal
VIEWS = {"80.ansi": (80, True), "160.ansi": (160, True), "txt": (80, False)}


def counts(flows: int, per_flow: int = 20, size: int = 700) -> Counts:
    return Counts(flows, flows * per_flow, flows * per_flow * size)


def shares(
    given: Mapping[str, Counts], weights: Mapping[str, int] | None = None, down: Sequence[str] = ()
) -> tuple[NodeShare, ...]:
    """Nodes by name, each with its share by weight among those that are not down."""
    weight = {name: (weights or {}).get(name, 1) for name in given}
    total = sum(weight[name] for name in given if name not in down)
    return tuple(
        NodeShare(
            name=name,
            node_id=node_id,
            weight=weight[name],
            expected=0.0 if name in down else weight[name] / total,
            counts=Counts() if name in down else given[name],
            alive=name not in down,
        )
        for node_id, name in enumerate(given, 1)
    )


def scenario(name: str, nodes: tuple[NodeShare, ...], total: Counts, moved: Counts) -> Scenario:
    worst = {
        measure: max(
            node.counts.of(measure) / total.of(measure) / node.expected if total.of(measure) else 0.0
            for node in nodes
            if node.alive
        )
        for measure in MEASURES
    }
    return Scenario(name, nodes, moved, worst)


def simulation(
    scenarios: Sequence[tuple[str, tuple[NodeShare, ...], Counts]], **changes: object
) -> Simulation:
    """A simulation of which the first scenario is told, and whatever else is named."""
    total = sum((node.counts for node in scenarios[0][1]), Counts())
    told: dict[str, object] = {
        "cluster": "web",
        "traffic": "day.pcap",
        "records": total.packets,
        "skipped": {},
        "problems": (),
        "problem_count": 0,
        "has": frozenset(MEASURES),
        "families": {4: total, 6: Counts()},
        "total": total,
        "seconds": None,
        "scenarios": tuple(scenario(name, nodes, total, moved) for name, nodes, moved in scenarios),
        "heavy": (),
        "alternatives": (),
    }
    return Simulation(**{**told, **changes})  # type: ignore[arg-type]


def four() -> Simulation:
    """Four nodes, n2 of twice the weight; one client is more than a node's share; and all else."""
    weights = {"n2": 2}
    now = {
        "n1": Counts(1_690, 121_034, 98_310_221),
        "n2": Counts(3_246, 255_120, 201_774_019),
        "n3": Counts(1_633, 410_922, 561_220_775),
        "n4": Counts(1_645, 117_235, 93_004_150),
    }
    down = {
        "n1": Counts(2_490, 180_034, 150_310_221),
        "n2": Counts(),
        "n3": Counts(2_822, 540_922, 660_220_775),
        "n4": Counts(2_902, 183_355, 143_778_169),
    }
    five = {
        name: Counts(one.flows * 5 // 6, one.packets * 5 // 6, one.bytes * 5 // 6)
        for name, one in now.items()
    }
    five["n5"] = Counts(1_371, 150_720, 159_051_530)
    return simulation(
        [
            ("as it is", shares(now, weights), Counts()),
            ("n2 down", shares(down, weights, down=["n2"]), now["n2"]),
            ("with n5", shares(five, weights), five["n5"]),
        ],
        records=931_207,
        skipped={"not for a virtual address": 26_400, "ARP": 431, "link type 147 is not known": 3},
        problems=(
            Problem("record 17, byte 4711", "the packet is cut off inside its IPv4 header"),
            Problem("record 90210, byte 88412003", "the IPv6 extension headers do not end"),
        ),
        problem_count=65,
        families={4: Counts(8_000, 850_000, 900_000_000), 6: Counts(214, 54_311, 54_309_165)},
        seconds=3672.4,
        heavy=(
            HeavyClient(
                "203.0.113.9",
                Counts(1, 301_022, 471_300_221),
                {"flows": 0.0001, "packets": 0.333, "bytes": 0.494},
                ("n3",),
            ),
            HeavyClient(
                "2001:db8:85a3::8a2e:370:7334",
                Counts(2, 31_022, 201_300_221),
                {"flows": 0.0002, "packets": 0.034, "bytes": 0.211},
                ("n2", "n3"),
            ),
        ),
        alternatives=(
            Alternative("hash.input: source", {"flows": 1.05, "packets": 2.31, "bytes": 3.02}, better=False),
            Alternative(
                "median of 32 other seeds", {"flows": 1.03, "packets": 2.2, "bytes": 2.91}, better=False
            ),
            Alternative(
                "best of 32 other seeds", {"flows": 1.01, "packets": 1.66, "bytes": 2.05}, better=True
            ),
        ),
        notes=(
            "The capture holds packets in both directions; only those to a virtual address were counted.",
        ),
    )


def two() -> Simulation:
    """Two nodes, a CSV that tells flows alone; nothing else to say."""
    nodes = shares({"left": Counts(503), "right": Counts(497)})
    return simulation(
        [("as it is", nodes, Counts())], traffic="flows.csv", has=frozenset({"flows"}), records=1000
    )


def many() -> Simulation:
    """32 nodes with names as long as they may be, and what each of them being down would do."""
    names = [f"rack-{number:02}.front-of-house.frankfurt-am-main.example-networks" for number in range(1, 33)]
    spread = {name: counts(2_000 + 37 * (7 * at % 32), 10 + at % 5) for at, name in enumerate(names)}
    total = sum(spread.values(), Counts())
    scenarios = [("as it is", shares(spread), Counts())]
    for gone in names[:6]:
        part = spread[gone]
        fair = Counts(part.flows // 31, part.packets // 31, part.bytes // 31)
        rest = {name: each + fair for name, each in spread.items()}
        scenarios.append((f"{gone} down", shares(rest, down=[gone]), part))
    heavy = tuple(
        HeavyClient(
            f"2001:db8:1234:5678:9abc:def0:1234:{number:04x}",
            Counts(3, total.packets // (20 * number), total.bytes // (18 * number)),
            {"flows": 3 / total.flows, "packets": 1 / (20 * number), "bytes": 1 / (18 * number)},
            (names[number],),
        )
        for number in range(1, 9)
    )
    return simulation(scenarios, heavy=heavy, traffic="a-very-long-name-of-a-capture-" * 4 + ".pcapng")


def empty() -> Simulation:
    """Nothing of the file was for the cluster."""
    nodes = shares({"n1": Counts(), "n2": Counts()})
    return simulation(
        [("as it is", nodes, Counts())],
        records=12,
        skipped={"not for a virtual address": 12},
        traffic="none.csv",
    )


def hostile() -> Simulation:
    """Names that would like to be markup, escapes and links."""
    bad = "\x1b[31m<script>alert(1)</script>[bold]&amp;\u202e{{ 7 * 7 }}"
    base = four()
    return simulation(
        [
            (each.name + bad, tuple(replace(node, name=node.name + bad) for node in each.shares), each.moved)
            for each in base.scenarios
        ],
        cluster=bad,
        traffic=bad + ".pcap",
        heavy=(HeavyClient(bad, Counts(1, 2, 3), {"flows": 0.1, "packets": 0.2, "bytes": 0.3}, ("n1",)),),
        alternatives=(Alternative(bad, {"flows": 1.0, "packets": 1.0, "bytes": 1.0}, better=True),),
        skipped={bad: 3},
        problems=(Problem(bad, bad),),
        problem_count=1,
        notes=(bad,),
    )


SAMPLES = {"two": two, "four": four, "many": many, "empty": empty, "hostile": hostile}


def view(simulation: Simulation, end: str) -> str:
    width, is_terminal = VIEWS[end]
    file = StringIO()
    colours = "standard" if is_terminal else None
    console = Console(file=file, width=width, force_terminal=is_terminal, color_system=colours)  # type: ignore[arg-type]
    show_simulation(simulation, console)
    return file.getvalue()


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, sample in SAMPLES.items():
        for end in VIEWS:
            (GOLDEN / f"{name}.{end}").write_text(view(sample(), end))
    PICTURE.write_bytes(render_figure(figure_of(four())))
    sys.stdout.write(f"{len(SAMPLES)} simulations\n")


if __name__ == "__main__":
    main()
