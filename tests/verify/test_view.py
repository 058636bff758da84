"""A proof as people see it: at 80 and at 160 columns, through a pipe, and as JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trscaler_gen.console.verify_view import show_proof
from trscaler_gen.proof.judge import Fault
from trscaler_gen.proof.loads import Count, Load
from trscaler_gen.proof.prove import Movement, Proof

from .world import cluster, rulesets

PROVEN = Proof(
    cluster="lab",
    nodes={1: "n1", 2: "n2", 3: "n3"},
    buckets=64,
    states=("settled", "calm"),
    kinds=("UDP over IPv4", "UDP over IPv6"),
    rules=1234,
    heartbeats=24,
    count=Count(7, (Load(0, 1, 1.0, 1, 22, (), 0, 0), Load(1, 3, 1.03125, 2, 33, (1,), 22, 22)), (), 0),
    movements=(Movement("the switch of placements", 5, 5),),
    faults=(),
    faulty=0,
)
WRONG = Fault("n2", "calm", "UDP over IPv4", 17, (1, 3), "answers; its owner is \x1b[31mn3")
FAULTY = replace(PROVEN, faults=(WRONG,), faulty=7)


def shown(proof: Proof, width: int | None) -> list[str]:
    """What is printed: on a terminal of this width, or through a pipe."""
    out = io.StringIO()
    console = Console(file=out, width=width or 80, force_terminal=width is not None, color_system=None)
    show_proof(proof, 1.25, console)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_cuts_nothing_off(width: int) -> None:
    lines = shown(PROVEN, width)
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(shown(PROVEN, None)).split())


def test_a_proof() -> None:
    assert shown(PROVEN, 160) == [
        "lab: proven, in 1.2 s",
        "  3 nodes, 64 buckets, 1,234 rules as kernels have them",
        "  whichever nodes are alive (7 sets), every bucket has exactly one owner among them, "
        "and it is the one that the lock says",
        "  shown with a packet of every bucket, in 2 kinds, in 2 states: settled; calm",
        "  24 heartbeats followed from node to node: each is taken for its sender's",
        "  a bucket moves only when its owner dies",
        "  the switch of placements: 5 buckets move, the least is 5",
        "  counted one by one for 7 sets of living nodes:",
        "",
        "dead  sets  worst load  buckets  of node  when dead  move  least",
        "   0     1       1.000       22  n1       nobody        0      0",
        "   1     3       1.031       33  n2       n1           22     22",
    ]


@pytest.mark.parametrize("width", [80, 160, None])
def test_faults_are_told_and_counted(width: int | None) -> None:
    text = " ".join(" ".join(shown(FAULTY, width)).split())
    assert "\x1b" not in text
    assert text.startswith("lab: 7 faults, in 1.2 s n2, bucket 17, n1, n3 dead: answers; its owner is ")
    assert text.endswith("(UDP over IPv4; calm) and 6 more")


def test_bundles_of_a_folder_are_judged(tmp_path: Path) -> None:
    compiled = cluster(tmp_path)
    for node, text in rulesets(compiled).items():
        (tmp_path / "built" / node).mkdir(parents=True)
        (tmp_path / "built" / node / "ruleset.nft").write_bytes(text)
    status, document = verified(tmp_path)
    assert (status, document["proven"], document["faults"]) == (0, True, 0)
    assert [load["dead"] for load in document["loads"]] == [0, 1, 2]

    file = tmp_path / "built" / "n2" / "ruleset.nft"
    file.write_bytes(file.read_bytes().replace(b" : 2", b" : 3", 1))
    status, document = verified(tmp_path)
    assert (status, document["proven"]) == (1, False)
    assert "n2" in {fault["node"] for fault in document["first_faults"]}


def verified(folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit status of ``verify --from built --json``, and what it prints."""
    argv = ["verify", str(folder / "cluster.yaml"), "--from", str(folder / "built"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "trscaler_gen", *argv], capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)
