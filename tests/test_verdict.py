"""Who owns which bucket, from what nodes say: right where all agree, and found out where one does not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.facts import Facts
from trscaler_gen.lock import Lock, LockedNode
from trscaler_gen.mac import HardwareAddress
from trscaler_gen.placement import place
from trscaler_gen.verdict import Member, State, judge, named

SEED = 0x5EED0001
BUCKETS = 64


def address(node_id: int) -> IPv4Address:
    return IPv4Address("192.0.2.0") + node_id


def lock(
    nodes: int = 4, *, buckets: int = BUCKETS, seed: int = SEED, epoch: int = 1, serial: int = 3
) -> Lock:
    ids = range(1, nodes + 1)
    return Lock(
        cluster="web",
        epoch=epoch,
        serial=serial,
        ancestors=(),
        seed=seed,
        hash_input="source-destination",
        mac_mode="multicast",
        cluster_mac=HardwareAddress(0x03005D000101),
        interval_ms=100,
        missed=3,
        first_vrid=1,
        nodes=tuple(LockedNode(node_id, f"n{node_id}", address(node_id), 1) for node_id in ids),
        retired=(),
        removals=0,
        orders=place(dict.fromkeys(ids, 1), buckets).orders,
    )


def member(node_id: int, runs: Lock, alive: Collection[int] | None = None, **changes: object) -> Member:
    """A node that is well, and sees all others (or those of ``alive``)."""
    seen = frozenset(node.node_id for node in runs.nodes) if alive is None else frozenset(alive)
    facts = Facts(
        generation="0" * 12,
        loaded="0" * 12,
        epoch=runs.epoch,
        serial=runs.serial,
        ruleset="intact",
        keepalived="running",
        heartbeat="MASTER",
        serving=node_id in seen,
        attached=True,
        runs=True,
        node_id=node_id,
        alive=seen,
    )
    return Member(f"n{node_id}", address(node_id), replace(facts, **changes), runs, "0" * 12)  # type: ignore[arg-type]


def cluster(nodes: int = 4, **changes: object) -> list[Member]:
    runs = lock(nodes)
    return [member(node_id, runs, **changes) for node_id in range(1, nodes + 1)]  # type: ignore[arg-type]


def unreachable(one: Member) -> Member:
    return replace(one, facts=None, lock=None)


def seen_by(members: Sequence[Member], alive: Collection[int]) -> list[Member]:
    """The same nodes, all with this ``alive`` set."""
    return [
        replace(m, facts=replace(m.facts, alive=frozenset(alive), serving=m.facts.node_id in alive))
        for m in members
        if m.facts
    ]


def with_facts(one: Member, **changes: object) -> Member:
    assert one.facts
    return replace(one, facts=replace(one.facts, **changes))  # type: ignore[arg-type]


def test_a_cluster_that_is_well() -> None:
    verdict = judge(cluster(4))
    assert (verdict.state, verdict.one, verdict.buckets) == (State.HEALTHY, BUCKETS, BUCKETS)
    assert verdict.owned == dict.fromkeys(("n1", "n2", "n3", "n4"), BUCKETS // 4)
    assert (verdict.faults, verdict.doubts, verdict.notes) == ((), (), ())
    assert verdict.sights["n2"].alive == ("n1", "n3", "n4")


@given(nodes=st.integers(1, 12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_nodes_that_see_the_same_own_every_bucket_once(nodes: int, data: st.DataObject) -> None:
    alive = data.draw(st.sets(st.integers(1, nodes), min_size=1))
    verdict = judge(seen_by(cluster(nodes), alive))
    assert verdict.all_owned_once
    assert {name for name, count in verdict.owned.items() if count} <= {f"n{node_id}" for node_id in alive}


@given(nodes=st.integers(2, 12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_node_that_misses_another_is_found(nodes: int, data: st.DataObject) -> None:
    """The twin: with another view, the buckets that it takes are exactly those that are owned twice."""
    members = cluster(nodes)
    deaf = data.draw(st.integers(1, nodes))
    unheard = data.draw(st.integers(1, nodes).filter(lambda node_id: node_id != deaf))
    everyone = set(range(1, nodes + 1))
    members[deaf - 1] = with_facts(members[deaf - 1], alive=frozenset(everyone - {unheard}))
    verdict = judge(members)
    orders = lock(nodes).orders
    taken = {b for b, order in enumerate(orders) if order[0] == unheard and order[1] == deaf}
    assert {b for buckets in verdict.several.values() for b in buckets} == taken
    assert verdict.one == BUCKETS - len(taken)
    assert verdict.state is State.DEGRADED
    assert any(f"n{deaf}" in text and f"n{unheard}" in text for text in verdict.faults)


@given(nodes=st.integers(2, 8), victim=st.integers(1, 8), change=st.sampled_from(["seed", "epoch", "serial"]))
@settings(max_examples=40, deadline=None)
def test_one_node_with_another_lock_is_found(nodes: int, victim: int, change: str) -> None:
    victim = (victim - 1) % nodes + 1
    members = cluster(nodes)
    other = replace(lock(nodes), **{change: 77})  # type: ignore[arg-type]
    members[victim - 1] = member(victim, other)
    verdict = judge(members)
    assert verdict.state is State.DEGRADED
    blamed = f"n{victim}" if nodes > 2 else "n2"
    assert any(blamed in text and change in text for text in verdict.faults), verdict.faults


def test_another_seed_is_named_and_never_told() -> None:
    members = cluster(3)
    members[2] = member(3, lock(3, seed=0xDEADBEEF))
    verdict = judge(members)
    assert verdict.faults == ("n3: another seed than n1, n2: the same packets have other owners",)
    assert not verdict.one
    assert "3735928559" not in str(verdict)
    assert "deadbeef" not in str(verdict)


def test_a_node_of_another_seed_that_accepts_everything_doubles_everything() -> None:
    members = cluster(3)
    members[2] = member(3, lock(3, seed=1), alive={3})
    members = [*seen_by(members[:2], {1, 2}), members[2]]
    verdict = judge(members)
    assert sum(map(len, verdict.several.values())) == BUCKETS


def test_a_fenced_node_of_an_older_epoch_does_no_harm_but_is_named() -> None:
    members = [member(n, lock(3, epoch=2), alive={1, 2}) for n in (1, 2)]
    members.append(member(3, lock(3, epoch=1), alive=(), fenced=True))
    verdict = judge(members)
    assert verdict.all_owned_once
    assert verdict.state is State.DEGRADED
    assert "n3: stands aside, for its peers have a newer epoch or newer tables" in verdict.faults
    assert "n3: epoch 1, where n1, n2 run epoch 2" in verdict.faults


def test_two_nodes_that_do_not_hear_each_other() -> None:
    members = cluster(4)
    members[0] = with_facts(members[0], alive=frozenset({1, 3, 4}))
    members[1] = with_facts(members[1], alive=frozenset({2, 3, 4}))
    verdict = judge(members)
    assert set(verdict.several) == {("n1", "n2")}
    assert verdict.faults == ("n1 does not hear n2", "n2 does not hear n1")


def test_nodes_that_do_not_hear_the_same_one_are_told_together() -> None:
    members = cluster(5)
    for index in (0, 1):
        members[index] = with_facts(members[index], alive=frozenset({1, 2, 4, 5}))
    assert judge(members).faults == ("n1, n2 do not hear n3",)


def test_a_node_that_is_cut_off_but_reachable() -> None:
    members = seen_by(cluster(4), {1, 2, 3})
    members[3] = member(4, lock(4), alive={4})
    verdict = judge(members)
    assert verdict.faults == ("n4: no heartbeats pass between it and any other node",)
    assert verdict.owned["n4"] == BUCKETS


def test_nobody_hears_a_node_that_hears_all() -> None:
    members = seen_by(cluster(4), {1, 2, 3})
    members[3] = member(4, lock(4))
    assert judge(members).faults == ("n4: sends heartbeats, but no other node hears it",)


def test_an_unreachable_node_that_nobody_hears_is_dead() -> None:
    members = seen_by(cluster(3)[:2], {1, 2})
    members.append(unreachable(member(3, lock(3))))
    verdict = judge(members)
    assert verdict.all_owned_once
    assert verdict.state is State.DEGRADED
    assert verdict.faults == ("n3: could not be asked, and no other node hears it",)


def test_an_unreachable_node_that_is_heard_may_own_what_is_its_own() -> None:
    members = cluster(4)
    members[2] = unreachable(members[2])
    verdict = judge(members)
    assert verdict.state is State.UNKNOWN
    assert verdict.owned["n3"] is None
    assert (verdict.one, len(verdict.unknown)) == (BUCKETS * 3 // 4, BUCKETS // 4)
    assert verdict.doubts == ("n3: could not be asked, but is heard by n1, n2, n4",)


def test_an_unreachable_node_may_double_what_another_took_that_does_not_hear_it() -> None:
    members = cluster(3)
    members[0] = with_facts(members[0], alive=frozenset({1, 2}))
    members[2] = unreachable(members[2])
    verdict = judge(members)
    assert verdict.one + len(verdict.unknown) == BUCKETS
    assert len(verdict.unknown) == sum(order[0] == 3 for order in lock(3).orders)


def test_fenced_nodes_do_not_tell_who_is_dead() -> None:
    """They may stand aside for the very node that cannot be asked: it would answer everything."""
    members = [with_facts(one, fenced=True) for one in seen_by(cluster(3)[:2], ())]
    verdict = judge([*members, unreachable(member(3, lock(3)))])
    assert verdict.doubts == ("n3: could not be asked, and no node could tell whether it lives",)
    assert (verdict.none, len(verdict.unknown)) == ((), BUCKETS)


def test_a_certain_fault_outweighs_a_doubt() -> None:
    members = cluster(4)
    members[2] = unreachable(members[2])
    members[3] = with_facts(members[3], attached=False)
    verdict = judge(members)
    assert verdict.doubts
    assert verdict.state is State.DEGRADED


def test_nobody_reachable_tells_nothing() -> None:
    verdict = judge([unreachable(one) for one in cluster(3)])
    assert (verdict.state, verdict.buckets, verdict.all_owned_once) == (State.UNKNOWN, 0, False)
    assert verdict.doubts == ("n1, n2, n3: could not be asked, and no node could tell whether it lives",)


@pytest.mark.parametrize("ruleset", ["altered", "unfinished"])
def test_what_a_node_with_other_rules_accepts_is_unknown(ruleset: str) -> None:
    members = cluster(4)
    members[1] = with_facts(members[1], ruleset=ruleset)
    verdict = judge(members)
    assert len(verdict.unknown) == BUCKETS // 4
    assert verdict.state is State.DEGRADED
    assert verdict.faults == (f"n2: its ruleset is {ruleset}",)


def test_a_node_without_rules_accepts_nothing() -> None:
    members = seen_by(cluster(3), {1, 2, 3})
    members[0] = with_facts(members[0], ruleset="missing", alive=frozenset())
    verdict = judge(members)
    assert len(verdict.none) == sum(order[0] == 1 for order in lock(3).orders)
    assert verdict.faults == ("n1: its ruleset is gone: it accepts nothing",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attached": False}, "its addresses or kernel settings are not in place"),
        ({"keepalived": "stopped"}, "keepalived does not run"),
        ({"units": "altered"}, "its systemd units were altered"),
        ({"listed": {"node.sh": "a"}, "digests": {"node.sh": "b"}}, "files edited on the node: node.sh"),
        ({"digests": {"own.nft": "b"}}, "files of somebody else: own.nft"),
    ],
)
def test_a_fault_is_told_in_words(change: dict[str, object], said: str) -> None:
    members = cluster(3)
    members[1] = with_facts(members[1], **change)
    verdict = judge(members)
    assert verdict.state is State.DEGRADED
    assert verdict.faults == (f"n2: {said}",)


def test_a_node_that_sends_no_heartbeats_says_why() -> None:
    members = seen_by(cluster(3), {1, 2})
    members[2] = with_facts(members[2], heartbeat="FAULT")
    verdict = judge(members)
    assert verdict.all_owned_once
    assert verdict.faults == ("n3: sends no heartbeats (keepalived says FAULT)",)


def test_a_node_that_is_not_applied_yet_is_no_fault() -> None:
    new = Member("n5", address(5), Facts(), None, "1" * 12)
    verdict = judge([*cluster(4), new])
    assert verdict.state is State.HEALTHY
    assert verdict.notes == ("n5: in the inventory, but not applied yet",)


def test_a_cluster_that_was_never_applied_is_not_healthy() -> None:
    verdict = judge([Member(f"n{n}", address(n), Facts(), None, "1" * 12) for n in (1, 2)])
    assert verdict.state is State.DEGRADED
    assert verdict.faults == ("n1, n2: runs nothing",)


def test_a_node_that_left_and_still_runs_is_counted() -> None:
    members = cluster(4)
    members[3] = replace(members[3], has_left=True, wanted="")
    verdict = judge(members)
    assert verdict.all_owned_once
    assert verdict.state is State.HEALTHY
    assert verdict.notes == ("n4: has left the inventory; still runs, and waits to be stopped: apply",)


def test_a_node_that_left_and_is_not_reachable() -> None:
    members = seen_by(cluster(3), {1, 2, 3})
    gone = Member("old", address(9), None, has_left=True)
    verdict = judge([*members, gone])
    assert verdict.state is State.HEALTHY
    assert "power it off for good" in verdict.notes[0]


def test_a_node_that_nobody_asked_is_not_forgotten() -> None:
    """The inventory here does not know it, and its buckets are not without an owner for that."""
    members = cluster(4)[:3]
    verdict = judge(members)
    assert verdict.state is State.UNKNOWN
    assert (verdict.none, len(verdict.unknown)) == ((), BUCKETS // 4)
    assert verdict.doubts == ("n4: could not be asked, but is heard by n1, n2, n3",)
    assert judge([replace(one, address=one.address + 100) for one in members]).doubts


@pytest.mark.parametrize("way_back", ["unconfirmed", "returning", "stuck"])
def test_a_change_that_goes_back_is_told(way_back: str) -> None:
    members = cluster(2)
    members[0] = with_facts(members[0], unconfirmed="0123456789ab", way_back=way_back)
    verdict = judge(members)
    assert verdict.state is (State.DEGRADED if way_back == "stuck" else State.HEALTHY)
    assert (
        len([text for text in (*verdict.faults, *verdict.notes) if " back to what it ran before" in text])
        == 1
    )


def test_an_inventory_that_is_ahead_is_healthy() -> None:
    members = [replace(one, wanted="1" * 12) for one in cluster(3)]
    verdict = judge(members)
    assert verdict.state is State.HEALTHY
    assert verdict.notes == ("n1, n2, n3: another generation is wanted there",)


def test_a_node_whose_lock_cannot_be_read_is_unknown() -> None:
    members = cluster(4)
    members[1] = replace(members[1], lock=None)
    verdict = judge(members)
    assert verdict.state is State.UNKNOWN
    assert len(verdict.unknown) == BUCKETS // 4


def test_a_deployer_and_a_change_that_is_not_confirmed_are_told() -> None:
    members = cluster(2)
    members[0] = with_facts(
        members[0], deployer="ada@desk", since="2026-11-23T00:05:45Z", unconfirmed="0123456789ab"
    )
    verdict = judge(members)
    assert verdict.state is State.HEALTHY
    assert "n1: ada@desk has been deploying to it since 2026-11-23T00:05:45Z" in verdict.notes
    assert "0123456789ab" not in str(verdict)


def test_locks_of_another_lineage_call_nodes_by_other_ids() -> None:
    """Whom a node hears is told by its own tables' ids."""
    members = cluster(2)
    swapped = replace(
        lock(2),
        nodes=(LockedNode(1, "n2", address(2), 1), LockedNode(2, "n1", address(1), 1)),
        seed=1,
    )
    members[1] = replace(member(1, swapped, alive={1}), name="n2", address=address(2))
    faults = judge(members).faults
    assert "n2 does not hear n1" in faults
    assert "n1 does not hear n2" not in faults


def test_long_lists_of_names_are_cut() -> None:
    assert named(["n1"]) == "n1"
    assert named([f"n{n}" for n in range(1, 8)]) == "n1, n2, n3, n4, n5, n6, n7"
    assert named([f"n{n}" for n in range(1, 33)]) == "n1, n2, n3, n4, n5, n6 and 26 more"


# --- drained nodes ---------------------------------------------------------------------------------------


def draining(members: Sequence[Member], drained: int, **changes: object) -> list[Member]:
    """All nodes know of draining, and hear that one of them does."""
    alive = frozenset(range(1, len(members) + 1)) - {drained}
    told = []
    for node_id, one in enumerate(seen_by(members, alive), start=1):
        heard = frozenset() if node_id == drained else frozenset({drained})
        told.append(with_facts(one, can_drain=True, peers_draining=heard))
    told[drained - 1] = with_facts(told[drained - 1], draining=True, **{"held": 0, **changes})
    return told


def test_a_drained_node_is_no_fault_and_owns_nothing() -> None:
    verdict = judge(draining(cluster(4), 2, held=12))
    assert (verdict.state, verdict.faults, verdict.doubts) == (State.HEALTHY, (), ())
    assert verdict.all_owned_once
    assert verdict.owned["n2"] == 0
    assert verdict.notes == ("n2: drained: takes no new connections, and still holds 12 connections",)
    assert verdict.sights["n1"].draining == ("n2",)
    assert verdict.sights["n1"].missing == ()


@pytest.mark.parametrize(
    ("held", "words"),
    [(0, "holds no connection"), (1, "still holds 1 connection"), (-1, "nobody knows how many")],
)
def test_what_a_drained_node_holds(held: int, words: str) -> None:
    (note,) = judge(draining(cluster(2), 1, held=held)).notes
    assert words in note


def test_the_twin_a_node_that_is_not_drained_and_does_not_serve_is_one() -> None:
    verdict = judge([with_facts(one, draining=False) for one in draining(cluster(4), 2)])
    assert verdict.state is State.DEGRADED
    assert verdict.faults == ("n2: sends no heartbeats (keepalived says MASTER)",)
    assert verdict.ill == {"n2": ("sends no heartbeats (keepalived says MASTER)",)}


def test_who_does_not_hear_that_a_node_drains_breaks_its_connections() -> None:
    members = draining(cluster(4), 2)
    members[2] = with_facts(members[2], peers_draining=frozenset())
    verdict = judge(members)
    assert verdict.state is State.DEGRADED
    assert verdict.disagreements == ("n3 does not hear n2, which is drained",)


def test_nobody_hears_a_drained_node_that_is_ill() -> None:
    """It is out of service: it is told that it could not come back."""
    members = [with_facts(one, peers_draining=frozenset()) for one in draining(cluster(3), 2)]
    members[1] = with_facts(members[1], heartbeat="FAULT")
    verdict = judge(members)
    assert verdict.state is State.HEALTHY
    assert "keepalived says FAULT, so it could not serve now" in verdict.notes[0]


def test_a_drained_node_that_cannot_be_asked_is_heard() -> None:
    members = draining(cluster(3), 2)
    members[1] = unreachable(members[1])
    verdict = judge(members)
    assert (verdict.state, verdict.faults) == (State.UNKNOWN, ())
    assert verdict.doubts == ("n2: could not be asked, but is heard by n1, n3, as a drained node",)
    assert verdict.all_owned_once


def test_other_faults_of_a_drained_node_are_faults() -> None:
    members = draining(cluster(3), 2)
    members[1] = with_facts(members[1], ruleset="altered")
    assert judge(members).faults == ("n2: its ruleset is altered",)


def test_nodes_of_an_earlier_release_hear_nobody_drain() -> None:
    members = draining(cluster(3), 2)
    members[2] = with_facts(members[2], can_drain=False, peers_draining=frozenset())
    assert judge(members).disagreements == ()


def test_a_connection_table_that_is_nearly_full_is_told() -> None:
    members = cluster(2)
    members[0] = with_facts(members[0], tracked=950, most_tracked=1000)
    members[1] = with_facts(members[1], tracked=899, most_tracked=1000)
    verdict = judge(members)
    assert verdict.state is State.HEALTHY
    assert [note.partition(":")[0] for note in verdict.notes] == ["n1"]


def test_nodes_own_buckets_by_the_placement_that_they_use() -> None:
    """All before a switch, or all after it; a mixture gives packets two owners or none."""
    old = lock(4)
    turned = tuple(order[1:] + order[:1] for order in old.orders)
    both = replace(old, orders=turned, before=old.orders, switch=3)
    before = [member(node_id, both, placement="before") for node_id in range(1, 5)]
    after = [member(node_id, both, placement="after") for node_id in range(1, 5)]
    assert judge(before).all_owned_once
    assert judge(after).all_owned_once
    verdict = judge([*before[:1], *after[1:]])
    assert not verdict.all_owned_once
    assert verdict.disagreements == ("n1: uses the placement before the switch, where n2, n3, n4 do not",)
