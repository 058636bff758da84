"""A quick look at a node is read, also where nft writes it otherwise than usual."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.facts import Facts
from trscaler_gen.glance import (
    is_of_another,
    is_outdated,
    milliseconds,
    parse_glance,
    refreshed,
    sets_to_read,
)

SAID = """\
uptime=38317.21
generation=7e0c0db60df0
loaded=7e0c0db60df0
epoch=1
serial=3
heartbeat=MASTER
keepalived=running
draining=no
holder=alice@host 2026-11-23T07:00:00Z
accepted=120
kept=4
dropped=360
has_table=yes
"""
SETS = """\
table netdev trscaler_e2e {
	set alive {
		typeof meta mark
		size 64
		flags dynamic,timeout
		elements = { 0x00000001 timeout 864ms expires 768ms, 0x00000002 timeout 872ms expires 780ms,
			     0x0000000a timeout 1s864ms expires 1s4ms }
	}
}
table netdev trscaler_e2e {
	set draining {
		typeof meta mark
		size 64
		flags dynamic,timeout
		elements = { 0x00000003 timeout 872ms expires 800ms }
	}
}
table netdev trscaler_e2e {
	set joining {
		typeof meta mark
		size 64
		flags dynamic,timeout
		elements = { 0x00000001 timeout 1h expires 55m19s492ms }
	}
}
table netdev trscaler_e2e {
	set hosting {
		typeof meta mark
		size 64
		flags dynamic,timeout
	}
}
"""  # noqa: E101
FACTS = Facts(
    generation="7e0c0db60df0", loaded="7e0c0db60df0", epoch=1, serial=3, ruleset="intact", runs=True,
    node_id=1, serving=True, alive=frozenset({1, 2, 10}),
)  # fmt: skip


def test_leases_tell_how_long_ago_a_node_was_heard() -> None:
    glance = parse_glance(SAID + SETS)
    assert glance.ages_ms == {1: 96, 2: 92, 10: 860, 3: 72}
    assert glance.sets["alive"] == {1, 2, 10}
    assert glance.sets["hosting"] == frozenset()
    assert (glance.uptime_s, glance.has_table) == (38317.21, True)
    assert glance.counted == {"accepted": 120, "dropped": 360, "kept": 4}


def test_facts_are_refreshed_by_it() -> None:
    facts = refreshed(FACTS, parse_glance(SAID + SETS))
    assert (facts.serving, facts.joining, facts.alive) == (True, True, frozenset({1, 2, 10}))
    assert (facts.peers_draining, facts.accepted, facts.dropped) == (frozenset({3}), 120, 360)
    assert (facts.deployer, facts.since) == ("alice@host", "2026-11-23T07:00:00Z")
    assert facts.placement == "only"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("generation=7e0c0db60df0", "generation=ffffffffffff"),
        ("loaded=7e0c0db60df0", "loaded="),
        ("serial=3", "serial=4"),
        ("epoch=1", "epoch=2"),
        ("has_table=yes", "has_table=no"),
        ("elements = { 0x00000001 timeout 864ms expires 768ms, ", "elements = { "),
    ],
)
def test_what_a_glance_cannot_explain_is_seen(before: str, after: str) -> None:
    same, other = parse_glance(SAID + SETS), parse_glance((SAID + SETS).replace(before, after))
    assert not is_of_another(FACTS, same) and not is_outdated(FACTS, same)
    assert is_of_another(FACTS, other) or is_outdated(FACTS, other)


def test_a_node_that_runs_nothing_is_up_to_date() -> None:
    said = "uptime=1.5\ngeneration=\nloaded=\nepoch=\nserial=\nhas_table=no\n"
    assert not is_of_another(Facts(), parse_glance(said)) and not is_outdated(Facts(), parse_glance(said))


@pytest.mark.parametrize("cut", ["uptime=", "has_table="])
def test_an_answer_that_is_not_whole_is_refused(cut: str) -> None:
    with pytest.raises(ValueError, match="not complete"):
        parse_glance("".join(line for line in SAID.splitlines(keepends=True) if not line.startswith(cut)))


def test_the_switch_is_asked_for_where_there_are_two_placements() -> None:
    both = replace(FACTS, placement="before")
    assert "switched" in sets_to_read(both)
    assert "switched" not in sets_to_read(FACTS)
    gone_over = SETS.replace("set hosting", "set switched").replace(
        "timeout\n\t}\n}\n", 'timeout\n\t\telements = { "eth0" }\n\t}\n}\n'
    )
    assert refreshed(both, parse_glance(SAID + gone_over)).placement == "after"
    assert refreshed(both, parse_glance(SAID + SETS)).placement == "before"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", 0), ("864ms", 864), ("1s4ms", 1004), ("1h55m19s492ms", 6919492), ("2d", 172800000)],
)
def test_times_as_nft_writes_them(text: str, wanted: int) -> None:
    assert milliseconds(text) == wanted


@given(st.text())
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_glance(SAID + text)
