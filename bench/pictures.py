"""The figures as pictures beside the report: images/bench-*.svg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import path_report
from trscaler_gen.chart import Figure, Key, Row, bars, figure
from trscaler_gen.render import render_figure

#: goals: 120 s for 1,000 clusters, and 1.04 after any one failure
_MS_PER_CLUSTER = 120.0
_AFTER_ONE = 1.04


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Draw what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in _figures(results):
        (folder / f"bench-{name}.svg").write_bytes(render_figure(drawn))


def _figures(results: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    if "path" in results:
        yield "path", path_report.picture(results["path"])
    if "build" in results:
        yield "build", _build(results["build"]["folders"])
    if "spread" in results:
        yield "spread", _spread(results["spread"])


def _build(folders: list[Mapping[str, Any]]) -> Figure:
    rows = []
    for row in folders:
        ms = row["wall_s"] / row["clusters"] * 1000
        kind = "equal" if row["is_equal"] else "unequal"
        rows.append(Row(f"{row['clusters']:,} {kind}", ms, f"{ms:.0f} ms", mark=_MS_PER_CLUSTER))
    chart = bars(rows, heading="wall time per cluster", tick_text=lambda ms: f"{ms:.0f}", width=620)
    return figure(
        [chart],
        title="build: a cluster of 32 nodes takes as long in a large folder",
        description="; ".join(f"{row.label} clusters: {row.text} each" for row in rows),
        keys=(Key("mark", "120 ms: the goal for 1,000 clusters is 120 s"),),
    )


def _spread(spreads: list[Mapping[str, Any]]) -> Figure:
    most = max(row["nodes"] for row in spreads)
    rows = []
    for row in spreads:
        if row["nodes"] == most:
            over = (row["after_one"] - 1) * 100
            rows.append(Row(row["scheme"], over, f"{over:.1f} %", mark=(_AFTER_ONE - 1) * 100))
    moved = [
        Row(
            row["scheme"],
            100 * row["moved_by_removing"],
            f"{row['moved_by_removing']:.1%}",
            mark=100 * row["least_for_removing"],
        )
        for row in spreads
        if row["nodes"] == most
    ]
    charts = [
        bars(rows, heading="fullest node above the mean", tick_text=lambda part: f"{part:.0f} %"),
        bars(moved, heading="part of all buckets that moves", tick_text=lambda part: f"{part:.0f} %"),
    ]
    return figure(
        charts,
        title=f"After the worst failure of one node of {most}",
        description="; ".join(
            f"{row.label}: {row.text} above the mean, {move.text} moved"
            for row, move in zip(rows, moved, strict=True)
        ),
        keys=(Key("mark", "left: the goal; right: the least that is possible"),),
    )
