"""What nodes say of themselves is read, whatever release their files are of."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trscaler_gen.deploy.scripts import script
from trscaler_gen.facts import Facts, parse_facts

#: what every release says
OLD = "uid=0\nstaged=no\ngeneration=a\nloaded=a\nserving=yes\nrunning=yes\nnode_id=2\nalive=1 2 3\n"
NEW = """\
draining=yes
held=12
joining=yes
hosting=1 3
peers_draining=4
placement=after
tracked=14
most_tracked=262144
"""


def test_files_of_an_earlier_release_say_nothing_of_draining() -> None:
    facts = parse_facts(OLD)
    assert facts.alive == {1, 2, 3}
    assert (facts.can_drain, facts.draining, facts.held) == (False, False, -1)
    assert (facts.joining, facts.hosting, facts.peers_draining) == (False, frozenset(), frozenset())
    assert (facts.placement, facts.tracked, facts.most_tracked) == ("only", -1, 0)


@pytest.mark.parametrize(
    ("said", "is_little_endian"),
    [("", True), ("byte_order=\n", True), ("byte_order=1\n", True), ("byte_order=256\n", False)],
)
def test_byte_order(said: str, is_little_endian: bool) -> None:
    """As ``od`` reads the octets 1, 0; a host without it is told that it lacks it."""
    assert parse_facts(OLD + said).is_little_endian is is_little_endian


def test_what_a_drained_node_says() -> None:
    facts = parse_facts(OLD + NEW)
    assert (facts.can_drain, facts.draining, facts.held) == (True, True, 12)
    assert facts.joining
    assert (facts.hosting, facts.peers_draining) == (frozenset({1, 3}), frozenset({4}))
    assert (facts.placement, facts.tracked, facts.most_tracked) == ("after", 14, 262144)


def test_a_node_that_can_drain_and_does_not() -> None:
    facts = parse_facts(OLD + "draining=no\nheld=0\n")
    assert (facts.can_drain, facts.draining, facts.held) == (True, False, 0)


@pytest.mark.parametrize("held", ["", "-3", "many", "٣"])  # the last one is a digit elsewhere
def test_a_number_that_is_none_is_not_known(held: str) -> None:
    assert parse_facts(f"{OLD}draining=no\nheld={held}\n").held == -1


def observed(folder: Path, *tools: str) -> Facts:
    """What this host says of a cluster that it does not have."""
    argv = ["sh", "-c", script("observe.sh"), "sh", str(folder / "nothing"), "lo", "", *tools]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return parse_facts(done.stdout)


def test_who_asks_again_need_not_hear_what_the_host_can_do(tmp_path: Path) -> None:
    first, again = observed(tmp_path, "nft", "no-such-tool"), observed(tmp_path)
    assert (first.uid, first.missing_tools, first.nft[:8]) == (os.getuid(), ("no-such-tool",), "nftables")
    assert first.free_kib > 0 and first.keepalived_version
    can: dict[str, Any] = {
        "uid": -1,
        "kernel": "",
        "nft": "",
        "keepalived_version": "",
        "missing_tools": (),
        "free_kib": -1,
    }
    assert again == replace(first, **can, tracked=again.tracked)
