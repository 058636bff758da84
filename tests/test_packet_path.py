"""The measurement of the packet path sees what rules cost, and what becomes of packets."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))
from bench import path, path_report


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> path.Measured:
    return path.cluster_of(4, "preserve", tmp_path_factory.mktemp("path"))


def everybody(cluster: path.Measured) -> frozenset[int]:
    return frozenset(range(1, cluster.nodes + 1))


def test_rules_that_cost_more_take_longer(cluster: path.Measured, tmp_path: Path) -> None:
    frames = cluster.frames(4, own=False, alive=everybody(cluster))
    many = "\n ".join([f"{path.static_rule(cluster.lock, 4)} 1023 accept"] * 50)
    wanted = [
        path.Competitor("drop", "parts", "drop", frames, partial(path.load_one_rule, "drop")),
        path.Competitor("50 hashes", "parts", "drop", frames, partial(path.load_one_rule, f"{many}\n drop")),
    ]
    measured = path.take_turns(path.compile_program(tmp_path), iter(wanted), 5, tmp_path)
    least = {competitor.name: min(times) for competitor, times in measured}
    assert least["50 hashes"] > least["drop"]


@pytest.mark.parametrize("rejects", [True, False], ids=["rejected", "accepted"])
def test_the_recipe_of_iptables_judges_every_frame(
    cluster: path.Measured, tmp_path: Path, rejects: bool
) -> None:
    """Its cluster match sees all; as it drops what it has not marked, or what nobody marks."""
    seen: list[str] = []

    def look(namespace: str) -> None:
        argv = ["ip", "netns", "exec", namespace, "iptables", "-t", "mangle", "-vnxL", "PREROUTING"]
        seen.append(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)

    frames = cluster.frames(4, own=not rejects, alive=everybody(cluster))
    setup = partial(path._recipe, cluster, rejects=rejects)
    wanted = [path.Competitor("recipe", "parts", "recipe", frames, setup)]
    path.take_turns(path.compile_program(tmp_path), iter(wanted), 1, tmp_path, look)
    counted = {line.split()[2]: int(line.split()[0]) for line in seen[0].splitlines()[2:]}
    marked, dropped = counted["MARK"], counted["DROP"]
    assert 0 < marked < path.BATCH
    assert dropped == (path.BATCH - marked if rejects else 0)


@pytest.mark.parametrize("own", [True, False], ids=["accepted", "rejected"])
@pytest.mark.parametrize("version", [4, 6])
def test_frames_are_what_they_are_said_to_be(
    cluster: path.Measured, tmp_path: Path, version: int, own: bool
) -> None:
    """The ruleset's own counters say so."""
    seen: list[str] = []

    def look(namespace: str) -> None:
        argv = ["ip", "netns", "exec", namespace, "nft", "-t", "list", "ruleset"]
        seen.append(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)

    setup = partial(path.load_ruleset, cluster, everybody(cluster))
    frames = cluster.frames(version, own=own, alive=everybody(cluster))
    wanted = [path.Competitor("ours", "parts", "ours", frames, setup)]
    path.take_turns(path.compile_program(tmp_path), iter(wanted), 1, tmp_path, look)
    (listed,) = seen
    accepted = re.search(r"counter accepted \{\s+packets (\d+) ", listed)
    rejected = re.findall(r"!= @own_\w+ counter packets (\d+) ", listed)
    assert accepted is not None
    assert int(accepted[1]) == (path.BATCH if own else 0)
    assert sum(map(int, rejected)) == (0 if own else path.BATCH)


def test_the_report_compares_with_both(tmp_path: Path) -> None:
    rows = [
        path.PathRow(name, "rejected, IPv4", 500 + added, (490, 520), 480, added, added)
        for name, added in {
            "drop": 0,
            path_report.STATIC: 100,
            "32 nodes": 150,
            path_report.RECIPE: 500,
        }.items()
    ]
    part = {
        "rows": [asdict(row) for row in rows],
        "expressions": [asdict(path.Expression("jump", 1))],
        "machine": {"load before": "0"},
        "rounds": 1,
    }
    text = path_report.section(part)
    assert "| 32 nodes | 650 (490-520) | 150 (150) | 1.50 (1.50) | 0.30 (0.30) |" in text
    assert path_report.picture(part).title == "What a rejected packet costs"
