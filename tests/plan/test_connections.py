"""What a plan says of drained nodes, and of connections that would break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trscaler_gen.plan import Plan, Seen, make_plan, plan_as_json

from .scenarios import State, base, cluster, nodes, seen_of, view


def plan(after: State, node: str, **changes: Any) -> Plan:
    """From a cluster that is well but for one node, of which these facts are others."""
    wanted = after.wanted(base())
    seen = seen_of(base(), wanted.bundles)
    there = seen[node]
    assert isinstance(there, Seen)
    seen[node] = replace(there, facts=replace(there.facts, **changes))
    return make_plan(wanted, seen)


def without_gamma(**keys: Any) -> State:
    return cluster(base(), nodes=nodes("alpha", "beta"), **keys)


def test_a_drained_node_is_marked_and_stays_drained() -> None:
    changed = cluster(base(), virtual_addresses=["192.0.2.100"])
    made = plan(changed, "beta", draining=True, serving=False, held=4)
    assert "swap         alpha, beta (drained), gamma" in view(made, "txt")
    assert made.notes == (
        "beta is drained, and stays so until: trscaler-gen undrain beta --inventory cluster.yaml",
    )
    assert plan_as_json(made)["nodes"][1]["drained"] is True  # type: ignore[index]


def test_a_drained_node_is_nothing_to_do() -> None:
    made = plan(base(), "beta", draining=True, serving=False)
    assert made.is_empty


def test_what_a_node_holds_that_leaves_would_break() -> None:
    made = plan(without_gamma(), "gamma", held=12)
    (note,) = made.notes
    assert note.startswith("gamma holds 12 connections: those that do not end soon")
    assert note.endswith("trscaler-gen drain gamma --inventory cluster.yaml --wait")
    assert not made.needs_disruption, "it can be avoided, and is told"


def test_a_node_that_is_drained_and_still_holds_some_is_worth_waiting_for() -> None:
    (note,) = plan(without_gamma(), "gamma", held=1, draining=True, serving=False).notes
    assert "gamma holds 1 connection:" in note


def test_a_node_that_holds_nothing_leaves_without_a_word() -> None:
    assert plan(without_gamma(), "gamma", held=0).notes == ()
    assert plan(without_gamma(), "gamma", held=-1).notes == (), "an earlier release does not say"


def test_connections_that_are_not_preserved_cannot_be_waited_for() -> None:
    """The inventory decides: what it asks for is taken to be what is known."""
    assert plan(without_gamma(connections="hash-only"), "gamma", held=12).notes == ()


def test_a_node_that_is_taken_down_and_up_again_breaks_them_too() -> None:
    links = {**nodes("alpha", "beta", "gamma")}
    links["beta"] = {**links["beta"], "link": "eth1"}
    made = plan(cluster(base(), nodes=links), "beta", held=3)
    assert any(note.startswith("beta holds 3 connections") for note in made.notes)
