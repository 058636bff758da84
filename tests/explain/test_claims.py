"""Who answers a packet, from what nodes say: agreed, disputed, unknown; and where old connections may be."""

from __future__ import annotations

import io
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_verdict import cluster, lock, member, seen_by, unreachable, with_facts

from trscaler_gen.claims import Ownership, ask_for
from trscaler_gen.console.explain_view import does, ownership_line, show_explanation, show_ownership
from trscaler_gen.errors import NodeError
from trscaler_gen.explain import Packet, explain
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.verdict import Member, State, judge

WEB = parse_inventory(
    b"{cluster: web, link: eth0, virtual_addresses: [192.0.2.100], hash: {buckets: 64}, nodes: {"
    b"n1: {address: 192.0.2.1}, n2: {address: 192.0.2.2}, "
    b"n3: {address: 192.0.2.3}, n4: {address: 192.0.2.4}}}",
    "web.yaml",
)
HASH_ONLY = WEB.model_copy(update={"connections": "hash-only"})
PACKET = Packet(ip_address("203.0.113.9"), ip_address("192.0.2.100"))
ORDER = [place.node for place in explain(WEB, lock(4), PACKET).places]
IDS = [int(name.removeprefix("n")) for name in ORDER]
EVERYONE = frozenset(IDS)


def asked(members: list[Member], inventory: object = WEB) -> Ownership:
    return ask_for(inventory, PACKET, members, judge(members).sights)  # type: ignore[arg-type]


def with_owner(members: list[Member], place: int, **changes: object) -> list[Member]:
    """The node at this place of the order, otherwise."""
    return [with_facts(m, **changes) if m.name == ORDER[place] else m for m in members]


def packets(found: Ownership) -> dict[str, str]:
    return {claim.node: does(claim) for claim in found.claims}


def test_all_agree() -> None:
    found = asked(cluster(4))
    assert (found.state, found.answering, found.order) == (State.HEALTHY, (ORDER[0],), tuple(ORDER))
    assert [claim.node for claim in found.claims] == ORDER
    assert found.headline == f"{ORDER[0]} answers; all 4 nodes that serve agree"
    assert found.sentences == ()


@given(st.sets(st.sampled_from(IDS), min_size=1))
@settings(max_examples=20, deadline=None)
def test_the_owner_is_the_one_that_explain_names(alive: set[int]) -> None:
    found = asked(seen_by(cluster(4), alive))
    down = {f"n{node_id}" for node_id in EVERYONE - alive}
    assert found.answering == (explain(WEB, lock(4), PACKET, down).owner,)


def test_who_does_not_hear_the_owner_answers_as_well() -> None:
    found = asked(with_owner(cluster(4), 1, alive=EVERYONE - {IDS[0]}))
    assert (found.state, set(found.answering)) == (State.DEGRADED, set(ORDER[:2]))
    assert any(said.startswith("they do not agree on the owner") for said in found.sentences)


def test_nobody_answers() -> None:
    found = asked(seen_by(cluster(4), ()))
    assert (found.state, found.headline) == (State.DEGRADED, "no node answers")


def test_an_owner_that_cannot_be_asked() -> None:
    members = [unreachable(m) if m.name == ORDER[0] else m for m in cluster(4)]
    found = asked(members)
    assert (found.state, found.presumed) == (State.UNKNOWN, (ORDER[0],))
    assert packets(found)[ORDER[0]] == "?"


def test_a_node_that_cannot_be_asked_and_is_not_heard_is_dead() -> None:
    members = seen_by(cluster(4), EVERYONE - {IDS[0]})
    found = asked([unreachable(m) if m.name == ORDER[0] else m for m in members])
    assert (found.state, found.answering) == (State.HEALTHY, (ORDER[1],))
    assert packets(found)[ORDER[0]] == "drops"


def test_a_drained_owner_keeps_its_own() -> None:
    others = EVERYONE - {IDS[0]}
    members = with_owner(seen_by(cluster(4), others), 0, draining=True)
    found = asked([with_facts(m, peers_draining=frozenset({IDS[0]})) for m in members])
    assert found.answering == (ORDER[1],)
    assert packets(found)[ORDER[0]] == "keeps its own"
    assert found.sentences[0].startswith(f"{ORDER[0]} is drained")
    assert asked(members, HASH_ONLY).sentences[0].startswith("connections are not kept")


def test_a_drained_node_behind_the_owner_keeps_nothing_here() -> None:
    members = with_owner(seen_by(cluster(4), EVERYONE - {IDS[2]}), 2, draining=True)
    assert packets(asked(members))[ORDER[2]] == "drops"


def test_an_owner_that_came_back() -> None:
    members = with_owner(cluster(4), 0, joining=True)
    found = asked(with_owner(members, 2, hosting=frozenset({IDS[0]})))
    (said,) = found.sentences
    assert f"most likely {ORDER[2]}, for up to 3600 s" in said
    assert found.claims[0].condition == "alive, joining"


@pytest.mark.parametrize("placement", ["before", "after"])
def test_two_placements(placement: str) -> None:
    runs = lock(4)
    turned = tuple(order[::-1] for order in runs.orders)
    both = replace(runs, orders=turned, before=runs.orders, switch=3)
    found = asked([member(n, both, placement=placement) for n in range(1, 5)])
    owner, other = (ORDER[0], ORDER[-1]) if placement == "before" else (ORDER[-1], ORDER[0])
    assert found.answering == (owner,)
    assert f"{other} will own it" in found.sentences[0] or f"{other} had it before" in found.sentences[0]
    assert found.claims[0].condition == f"alive, {placement} the switch"


def test_a_switch_that_one_node_has_missed() -> None:
    runs = lock(4)
    both = replace(runs, orders=tuple(order[::-1] for order in runs.orders), before=runs.orders, switch=3)
    late = IDS[0]
    found = asked([member(n, both, placement="before" if n == late else "after") for n in range(1, 5)])
    assert (found.state, set(found.answering)) == (State.DEGRADED, {ORDER[0], ORDER[-1]})


def test_other_seeds_are_other_buckets() -> None:
    strange = lock(4, seed=7)
    members = [member(4, strange) if m.name == "n4" else m for m in cluster(4)]
    assert any(said.startswith("they do not hash alike") for said in asked(members).sentences)


def test_no_node_says_anything() -> None:
    members = [unreachable(m) for m in cluster(4)]
    found = asked(members)
    assert (found.answering, found.common) == ((), None)
    assert found.state is State.UNKNOWN


GONE = {"n1": NodeError("n1", "192.0.2.1 port 22: connection refused", hint="is sshd running?")}


@pytest.mark.parametrize("width", [80, 160])
def test_nothing_is_cut_off(width: int) -> None:
    members = with_owner(cluster(4), 0, joining=True, placement="after")
    found = asked(with_owner(members, 1, hosting=frozenset({IDS[0]}), alive=EVERYONE - {3, 4}))
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=width)
    show_ownership(found, ("it is forwarded to eth1: " + "words " * 40,), GONE, console)
    show_explanation(explain(WEB, lock(4), PACKET, {"n2"}), "a/very/long/path/" * 8 + "web.lock", (), console)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in file.getvalue()
    assert sum(line.startswith(("1 ", "    1 ")) for line in lines) == 2


def test_what_nodes_say_is_made_harmless() -> None:
    hostile = replace(lock(4), nodes=tuple(replace(n, name=f"{n.name}\x1b[2J") for n in lock(4).nodes))
    members = [replace(member(n, hostile), name=f"n{n}\x1b[2J") for n in range(1, 5)]
    found = asked(members)
    file = io.StringIO()
    show_ownership(found, (), {}, Console(file=file, width=100))
    assert "\x1b" not in file.getvalue() + ownership_line(found)
