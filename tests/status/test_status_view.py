"""The state of a cluster as a terminal and a pipe show it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from test_verdict import lock, member, seen_by, unreachable, with_facts

from trscaler_gen.console.status_view import ClusterStatus, ranges, show_status
from trscaler_gen.errors import NodeError
from trscaler_gen.verdict import Member, judge

GOLDEN = Path(__file__).parent / "golden"
REFUSED = NodeError("n7", "192.0.2.7 port 22: connection refused", hint="is sshd running, is the port right?")


def shown(status: ClusterStatus, *, width: int = 80, terminal: bool = True) -> str:
    file = io.StringIO()
    show_status(status, Console(file=file, force_terminal=terminal, color_system=None, width=width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def thirty_two() -> list[Member]:
    runs = lock(32, buckets=1024)
    return [
        member(n, runs, generation=f"{n:012x}", loaded=f"{n:012x}", accepted=n * 7_654_321, dropped=n * 9_876)
        for n in range(1, 33)
    ]


def healthy() -> ClusterStatus:
    members = [replace(one, wanted=one.facts.generation) for one in thirty_two() if one.facts]
    return ClusterStatus("web", members, {}, judge(members))


def in_trouble() -> ClusterStatus:
    members = seen_by(thirty_two(), set(range(1, 33)) - {9, 21})
    trouble: dict[int, dict[str, object]] = {
        0: {"alive": frozenset(set(range(1, 33)) - {9, 21, 2})},
        3: {"ruleset": "altered"},
        4: {"listed": {"node.sh": "a"}, "digests": {"node.sh": "b"}},
        11: {"alive": frozenset({12})},
        20: {"fenced": True, "heartbeat": "FAULT"},
    }
    for index, changes in trouble.items():
        members[index] = with_facts(members[index], **changes)
    members[6] = unreachable(members[6])
    members[8] = unreachable(members[8])
    errors = {"n7": REFUSED, "n9": NodeError("n9", "192.0.2.9 port 22: no answer (timeout)")}
    remarks = ("the inventory is ahead: trscaler-gen plan web.yaml shows what it would change",)
    return ClusterStatus("web", members, errors, judge(members), remarks)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("status", [healthy(), in_trouble()], ids=["healthy", "trouble"])
def test_thirty_two_nodes_on_a_terminal(status: ClusterStatus, width: int) -> None:
    """To renew the golden files: delete them and run this once."""
    path = GOLDEN / f"{'trouble' if status.errors else 'healthy'}-{width}.txt"
    said = shown(status, width=width)
    if not path.exists():
        path.write_text(said)
    assert said == path.read_text()
    assert max(map(len, said.splitlines())) <= width


def test_a_pipe_gets_one_line_per_node_and_exact_numbers() -> None:
    lines = shown(healthy(), width=80, terminal=False).splitlines()
    assert lines[0].split() == [
        *("node", "generation", "epoch", "serial", "heartbeat", "sees", "buckets", "accepted", "dropped")
    ]
    assert lines[32].split() == [
        "n32",
        f"{32:012x}",
        "1",
        "3",
        "MASTER",
        "all",
        "32",
        "3.12%",
        "244938272",
        "316032",
    ]
    assert lines[-1] == "web: healthy: 1024 of 1024 buckets have exactly one owner"


def test_what_a_node_says_is_no_markup_and_no_escape() -> None:
    members = [with_facts(one, deployer="[red]\x1b[31m") for one in thirty_two()[:1]]
    said = shown(ClusterStatus("web", members, {}, judge(members)))
    assert "[red]\\x1b[31m has been deploying" in said


def test_long_names_stay_readable_at_80_columns() -> None:
    runs = lock(3)
    members = [replace(member(n, runs), name=f"a-rather-long-name-of-a-node-{n}") for n in (1, 2, 3)]
    members[0] = with_facts(members[0], alive=frozenset({1, 2}))
    said = shown(ClusterStatus("web", members, {}, judge(members)))
    assert max(map(len, said.splitlines())) <= 80
    assert "MASTER" in said


def test_nothing_runs() -> None:
    members = [Member("n1", unreachable(thirty_two()[0]).address, None)]
    said = shown(ClusterStatus("web", members, {"n1": REFUSED}, judge(members)), terminal=False)
    assert "web: could not tell: no node is known to run anything" in said
    assert "n1: 192.0.2.7 port 22: connection refused" in said


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([0, 1, 2, 7, 9, 10]) == "0-2, 7, 9-10"
    assert ranges(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10, 12, 14 and 12 more"
