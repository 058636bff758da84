"""What a packet costs, as a page for people and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.table import table
from trscaler_gen.chart import Figure, Key, Row, bars, figure

STATIC, RECIPE = "static rule", "iptables -m cluster"
#: goals: of what the static rule adds, and of what the recipe adds
_OF_STATIC, _OF_RECIPE = 1.6, 0.35

Part = Mapping[str, Any]


def section(part: Part) -> str:
    """All kinds of packets, and the rule that rejects most of them, expression by expression."""
    rows = part["rows"]
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    tables = [f"### {kind}\n\n{_table([row for row in rows if row['what'] == kind])}" for kind in kinds]
    return "\n".join([_head(part), *tables, _expressions(part["expressions"])])


def _head(part: Part) -> str:
    return f"""## What a packet costs where it arrives

A frame is written to a TAP device, which runs the receive path before the write returns; each competitor has
a network namespace and 254 different flows of UDP. {part["rounds"]} rounds of 400 frames each, all in turn.
Load of the machine at the start: {part["machine"]["load before"]}.

- *ns*: median, and between which values the middle half lies
- *added*: the median of what it is above the first row, round by round; in brackets the least above the least
- *of static*: what is added, over what one rule adds that hashes with `jhash` and knows of no failure: the
  floor of this approach. The goal is {_OF_STATIC} for a rejected packet of 32 nodes
- *of -m cluster*: likewise, over what the recipe of iptables-extensions(8) adds; the goal is {_OF_RECIPE}

![What a rejected packet costs](images/bench-path.svg)
"""


def _table(rows: Sequence[Part]) -> str:
    named = {row["name"]: row for row in rows}
    head = ["", "ns", "added", "of static", "of -m cluster"]
    return table(head, ([*_cells(row), *_ratios(row, named)] for row in rows))


def _cells(row: Part) -> Iterator[str]:
    first, third = row["quartiles_ns"]
    yield row["name"]
    yield f"{row['median_ns']:.0f} ({first:.0f}-{third:.0f})"
    yield f"{row['added_ns']:.0f} ({row['least_added_ns']:.0f})"


def _ratios(row: Part, named: Mapping[str, Part]) -> Iterator[str]:
    for other in (STATIC, RECIPE):
        base = named.get(other)
        if base is None or not row["added_ns"]:
            yield ""
        else:
            least = row["least_added_ns"] / base["least_added_ns"]
            yield f"{row['added_ns'] / base['added_ns']:.2f} ({least:.2f})"


def _expressions(rows: Sequence[Part]) -> str:
    text = """### Where the nanoseconds go

The rule that rejects almost all packets, an expression more each time, beyond a jump to an empty chain: the
least of all rounds. 50 evaluations for one packet, so what it needs is in the nearest cache. The rest that a
rejected packet costs is the way to the first rule.

"""
    return text + table(["expression", "ns"], ([f"`{row['text']}`", f"{row['ns']:.1f}"] for row in rows))


def picture(part: Part) -> Figure:
    """What is added to a bare drop, over IPv4."""
    rejected = [row for row in part["rows"] if row["what"] == "rejected, IPv4" and row["added_ns"]]
    static = next(row["added_ns"] for row in rejected if row["name"] == STATIC)
    rows = [
        Row(row["name"], row["added_ns"], f"{row['added_ns']:.0f} ns", mark=_OF_STATIC * static)
        for row in rejected
    ]
    chart = bars(rows, heading="added to a bare drop", tick_text=lambda ns: f"{ns:.0f}", width=620)
    return figure(
        [chart],
        title="What a rejected packet costs",
        description="; ".join(f"{row.label}: {row.text}" for row in rows),
        keys=(Key("mark", f"{_OF_STATIC} times the static rule"),),
    )
