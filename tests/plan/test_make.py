"""What becomes of each node, what moves, what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.lineage import used
from trscaler_gen.lock import Lock, forget_retired, render_lock
from trscaler_gen.placement import owners
from trscaler_gen.plan import (
    Move,
    Plan,
    Seen,
    StepAction,
    Switch,
    Traffic,
    UnfitNode,
    WeightChange,
    condition_of,
    fitted_lock,
    make_plan,
    plan_as_json,
    stale,
)
from trscaler_gen.plan.deployed import Deployed
from trscaler_gen.plan.judge import hearers
from trscaler_gen.plan.tell import summary, traffic_sentences
from trscaler_gen.plan.traffic import least_moves, traffic_of
from trscaler_gen.plan.words import headed, listed

from .scenarios import (
    SCENARIOS,
    SEED,
    State,
    all_placed,
    base,
    cluster,
    edited,
    nodes,
    placed,
    plan_between,
    seen_of,
    view,
    weighed,
)


def actions(plan: Plan) -> dict[str, str]:
    return {step.node: step.action.value for step in plan.steps}


def told(plan: Plan) -> str:
    return " ".join(
        (*plan.notes, *plan.disruption, *(f"{each.message} {each.hint}" for each in plan.refusals))
    )


def facts_of(seen: Seen | NodeError) -> Facts:
    assert isinstance(seen, Seen)
    return seen.facts


def with_facts(node: str, **changes: Any) -> Plan:
    """Nothing is wanted but what runs; one node is not as it should be."""
    wanted = base().wanted(base())
    seen = seen_of(base(), wanted.bundles)
    seen[node] = Seen(replace(facts_of(seen[node]), **changes))
    return make_plan(wanted, seen)


@cache
def small(count: int) -> State:
    """n1, n2, ... one after the other."""
    before = small(count - 1) if count > 1 else None
    listed = {f"n{number}": {"address": f"192.0.2.{number}"} for number in range(1, count + 1)}
    return cluster(before, nodes=listed, hash={"buckets": 64}, virtual_addresses=["192.0.2.100"])


# Steps


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first-deployment", {"alpha": "start", "beta": "start", "gamma": "start"}),
        ("nothing-to-do", {"alpha": "none", "beta": "none", "gamma": "none"}),
        ("node-added", {"alpha": "swap", "beta": "swap", "gamma": "swap", "delta": "start"}),
        ("node-removed", {"alpha": "swap", "beta": "swap", "gamma": "stop"}),
        ("removed-node-is-gone", {"alpha": "swap", "beta": "swap", "gamma": "absent"}),
        ("removed-node-still-serves", {"alpha": "swap", "beta": "swap", "gamma": "unreachable"}),
        ("disruptive", {"alpha": "restart", "beta": "restart", "gamma": "restart"}),
        ("link-changed", {"alpha": "none", "beta": "none", "gamma": "restart"}),
        ("drift", {"alpha": "swap", "beta": "restart", "gamma": "swap"}),
        ("unreachable", {"alpha": "swap", "beta": "unreachable", "gamma": "swap", "delta": "unfit"}),
        ("weight-changed", {"alpha": "swap", "beta": "swap", "gamma": "swap"}),
        ("switch-interrupted", {"alpha": "none", "beta": "none", "gamma": "none"}),
        ("refused", {"alpha": "swap", "beta": "swap", "gamma": "swap", "delta": "start"}),
    ],
)
def test_actions(name: str, expected: dict[str, str]) -> None:
    plan = SCENARIOS[name]()
    assert actions(plan) == expected
    assert list(actions(plan)) == list(expected), "the inventory's order, the departed last"


def test_which_plans_can_be_carried_out() -> None:
    empty = {name for name, make in SCENARIOS.items() if make().is_empty}
    blocked = {name for name, make in SCENARIOS.items() if not make().is_applicable}
    disruptive = {name for name, make in SCENARIOS.items() if make().needs_disruption}
    assert empty == {"nothing-to-do"}
    assert blocked == {"removed-node-still-serves", "unreachable", "refused", "lock-lost"}
    assert disruptive == {"disruptive", "link-changed", "lock-lost", "weight-changed-hash-only"}


@pytest.mark.parametrize(
    ("changes", "action", "drift"),
    [
        ({"ruleset": "altered"}, "swap", "its ruleset is altered"),
        ({"ruleset": "missing"}, "swap", "its ruleset is gone: it accepts nothing"),
        ({"loaded": "0123456789ab", "ruleset": "unfinished"}, "swap", "its ruleset is unfinished"),
        ({"keepalived": "stopped"}, "restart", "keepalived does not run"),
        ({"attached": False}, "swap", "its addresses or kernel settings are not in place"),
        ({"units": "altered"}, "swap", "its systemd units were altered"),
        ({"runs": False}, "start", ""),
        ({"way_back": "stuck"}, "swap", "could not go back to what it ran before"),
        ({"digests": {}}, "swap", "files gone from the node: boot.nft"),
    ],
)
def test_drift_is_named_and_mended(changes: dict[str, Any], action: str, drift: str) -> None:
    plan = with_facts("beta", **changes)
    assert actions(plan) == {"alpha": "none", "beta": action, "gamma": "none"}
    assert drift in "; ".join(plan.steps[1].drift)
    assert plan.is_applicable and not plan.is_empty and not plan.needs_disruption


def test_an_edited_file_is_shown_with_what_it_is_to_be() -> None:
    wanted = base().wanted(base())
    bundle = wanted.bundles["alpha"]
    seen = edited(seen_of(base(), wanted.bundles)["alpha"], bundle, "keepalived.conf", b"mine\n")
    plan = make_plan(wanted, {**seen_of(base(), wanted.bundles), "alpha": seen})
    (change,) = plan.steps[0].files
    assert (change.name, change.kind, change.before) == ("keepalived.conf", "change", b"mine\n")
    assert change.after == bundle.files["keepalived.conf"]
    assert plan.steps[0].drift == ("files edited on the node: keepalived.conf",)
    assert "keepalived reloads" in plan.steps[0].services


def test_files_edited_together_with_the_manifest_are_no_less_a_change() -> None:
    wanted = base().wanted(base())
    seen = edited(
        seen_of(base(), wanted.bundles)["alpha"], wanted.bundles["alpha"], "keepalived.conf", b"mine\n"
    )
    seen = replace(seen, facts=replace(seen.facts, listed=seen.facts.digests))
    assert seen.facts.is_whole
    plan = make_plan(wanted, {**seen_of(base(), wanted.bundles), "alpha": seen})
    assert actions(plan)["alpha"] == "swap"


def test_a_strange_file_is_taken_away() -> None:
    wanted = base().wanted(base())
    seen = seen_of(base(), wanted.bundles)
    facts = facts_of(seen["beta"])
    facts = replace(facts, digests={**facts.digests, "mine.txt": sha256(b"x").hexdigest()})
    seen["beta"] = Seen(facts, {"mine.txt": b"x"})
    step = make_plan(wanted, seen).steps[1]
    assert [(change.name, change.kind) for change in step.files] == [("mine.txt", "delete")]
    assert step.drift == ("files of somebody else: mine.txt",)


@pytest.mark.parametrize(
    ("change", "service"),
    [
        ({"heartbeat": {"interval_ms": 50, "missed": 4, "first_vrid": 70}}, None),
        ({"health": {"command": ["/bin/true"]}}, "keepalived reloads"),
        (
            {"virtual_addresses": ["192.0.2.100", "192.0.2.102", "2001:db8::100"]},
            "addresses +192.0.2.102 -192.0.2.101",
        ),
    ],
)
def test_services_that_are_touched(change: dict[str, Any], service: str | None) -> None:
    plan = plan_between(base(), cluster(base(), **change))
    assert plan.is_empty if service is None else service in plan.steps[0].services


def test_another_mac_means_that_neighbours_learn() -> None:
    services = SCENARIOS["disruptive"]().steps[0].services
    assert services == ("taken down and up again", "macvlan made again: neighbours learn another MAC")


def test_a_departed_node_that_runs_nothing_is_erased_all_the_same() -> None:
    wanted = cluster(base(), nodes=nodes("alpha", "beta")).wanted(base())
    plan = make_plan(wanted, {**seen_of(base(), wanted.bundles), "gamma": Seen(Facts())})
    assert actions(plan)["gamma"] == "stop"
    assert plan.steps[2].services == ("its traces are erased",)


def test_a_node_that_was_removed_and_added_again_stops_first() -> None:
    without = cluster(base(), nodes=nodes("alpha", "beta"))
    without = replace(without, lock=forget_retired(without.lock, [3]))
    again = cluster(without, nodes=nodes("alpha", "beta", "gamma"))
    plan = make_plan(again.wanted(without), seen_of(base(), again.bundles))
    step = plan.steps[2]
    assert (step.node, step.action, step.stops_first) == ("gamma", StepAction.RESTART, True)
    assert not any(step.stops_first for step in plan.steps[:2])


# Refusals and disruption


def test_a_removed_node_that_is_heard_is_named_with_who_hears_it() -> None:
    text = told(SCENARIOS["removed-node-still-serves"]())
    assert (
        "gamma has left the cluster and cannot be reached over SSH, but alpha, beta hear its heartbeats"
        in text
    )


def test_an_id_means_what_the_tables_of_the_hearer_say() -> None:
    """Where they cannot be read, rather too many hear it than too few."""
    lock = base().lock
    gamma = lock.nodes[2]
    seen = {"alpha": Seen(Facts(node_id=1, alive=frozenset({1, gamma.node_id}), runs=True))}
    other = replace(lock, nodes=(*lock.nodes[:2], replace(gamma, address=IPv4Address("192.0.2.77"))))
    for locks, ears in (({"alpha": lock}, ("alpha",)), ({"alpha": other}, ()), ({}, ("alpha",))):
        assert hearers(gamma, seen, Deployed(locks, {}, ("alpha",))) == ears
    assert hearers(lock.nodes[0], seen, Deployed({"alpha": lock}, {}, ("alpha",))) == (), "it is itself"


def test_a_removed_node_that_is_gone_keeps_nobody_waiting() -> None:
    plan = SCENARIOS["removed-node-is-gone"]()
    assert plan.is_applicable
    assert "apply --forget gamma" in told(plan)


def test_only_a_dead_node_left_is_nothing_to_do() -> None:
    after = cluster(base(), nodes=nodes("alpha", "beta"))
    seen = {
        name: replace(each, facts=replace(each.facts, alive=frozenset({1, 2})))
        for name, each in seen_of(after, after.bundles).items()
        if isinstance(each, Seen)
    }
    plan = make_plan(after.wanted(base()), seen)
    assert plan.is_empty and actions(plan)["gamma"] == "absent"
    assert summary(plan).endswith("; gamma left and could not be reached")


def test_a_new_lock_for_a_cluster_that_has_one_is_refused() -> None:
    plan = SCENARIOS["lock-lost"]()
    assert "trscaler-gen lock recover cluster.yaml" in told(plan)
    assert len(plan.refusals) == 1, "said once, not again as a conflict"


def test_a_lock_that_grew_apart_is_refused_with_the_nodes_that_run_the_other() -> None:
    mine = cluster(base(), nodes=nodes("alpha", "beta", "gamma", "delta"))
    theirs = cluster(base(), nodes=nodes("alpha", "beta", "gamma", "epsilon"))
    plan = make_plan(mine.wanted(base()), seen_of(theirs, mine.bundles))
    (refusal,) = plan.refusals
    assert refusal.message.startswith("alpha, beta, gamma")


def test_an_unconfirmed_change_of_another_run_is_waited_for() -> None:
    assert "alpha: a change by another run was not confirmed yet" in told(SCENARIOS["refused"]())


# Switches


def test_a_change_of_weights_is_a_switch() -> None:
    plan = SCENARIOS["weight-changed"]()
    # 2 : 1 : 3 of 64 are 21.3, 10.7 and 32; they had 32, 16 and 16.
    assert plan.traffic.weights == (WeightChange("gamma", 1, 3),)
    assert plan.traffic.moves == (Move("alpha", "gamma", 11), Move("beta", "gamma", 5))
    assert plan.traffic.moved == plan.traffic.least == 16
    assert plan.switch == Switch(("alpha", "beta", "gamma"), 16, keeps_connections=True)


def test_without_preserved_connections_a_switch_breaks_them() -> None:
    plan = SCENARIOS["weight-changed-hash-only"]()
    assert plan.disruption == (
        "the switch breaks the connections of 16 of 64 buckets, which change hands between nodes that stay: "
        "connections: hash-only",
    )


@pytest.mark.parametrize("placement", ["before", "after"])
def test_a_switch_is_left_to_do_until_it_was_made(placement: str) -> None:
    state = weighed(base(), 3)
    plan = make_plan(state.wanted(state), all_placed(seen_of(state, state.bundles), placement))
    assert plan.is_empty == (plan.switch is None) == (placement == "after")
    assert plan.traffic.moved == (16 if placement == "before" else 0)
    assert plan.is_applicable


def test_one_that_missed_the_switch_is_what_is_left() -> None:
    state = weighed(base(), 3)
    seen = all_placed(seen_of(state, state.bundles), "after")
    seen["beta"] = placed(seen["beta"], "before")
    plan = make_plan(state.wanted(state), seen)
    assert plan.switch is not None and plan.switch.nodes == ("beta",)
    assert plan.is_applicable


def test_nodes_that_start_are_drawn_along_by_those_that_have_switched() -> None:
    before = weighed(base(), 3)
    after = weighed(before, 3, "delta")
    wanted = after.wanted(before)
    seen = all_placed(seen_of(before, wanted.bundles), "after")
    plan = make_plan(wanted, {**seen, "delta": Seen(Facts(), {})})
    assert plan.switch is None and plan.is_applicable
    assert {move.taker for move in plan.traffic.moves} == {"delta"}


def test_a_node_added_in_the_same_edit_starts_before_the_switch() -> None:
    after = weighed(base(), 3, "delta")
    wanted = after.wanted(base())
    plan = make_plan(wanted, {**seen_of(base(), wanted.bundles), "delta": Seen(Facts(), {})})
    assert plan.switch is not None and plan.switch.nodes == ("alpha", "beta", "gamma", "delta")
    assert plan.is_applicable


def fitted(before: State, after: State, seen: Mapping[str, Seen | NodeError]) -> State:
    """The state that is wanted once the lock begins where the nodes are."""
    lock = fitted_lock(after.wanted(before), seen)
    return after if lock is None else State(after.inventory, lock)


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("gamma", [1, 2, 5])
@pytest.mark.parametrize("is_built", [True, False])
def test_a_second_edit_begins_where_the_nodes_are(placement: str, gamma: int, is_built: bool) -> None:
    """Whether the first switch was made, the lock cannot know; and it may have been written down since."""
    first = weighed(base(), 3)
    second = weighed(first, gamma)
    lock_before = second if is_built else first
    live = used(first.lock, has_switched=placement == "after")
    seen = all_placed(seen_of(first, second.bundles), placement)
    state = fitted(lock_before, second, seen)
    begins = used(state.lock, has_switched=False)
    assert begins.orders == live.orders
    plan = make_plan(state.wanted(lock_before), all_placed(seen_of(first, state.bundles), placement))
    assert plan.is_applicable
    # To take the first change back before it was carried out moves nothing.
    assert (plan.switch is None) == (placement == "before" and gamma == 1)
    assert plan.traffic.moved <= plan.traffic.least


def test_the_twin_a_lock_that_begins_elsewhere_is_refused() -> None:
    first = weighed(base(), 3)
    second = weighed(first, 5)
    seen = all_placed(seen_of(first, second.bundles), "before")
    plan = make_plan(second.wanted(first), seen)
    assert not plan.is_applicable
    assert "alpha, beta, gamma would answer for other buckets than the rest" in told(plan)


def test_an_edit_over_one_that_was_only_built_begins_where_the_nodes_are() -> None:
    first = weighed(base(), 3)
    second = weighed(first, 5)
    state = fitted(second, second, seen_of(base(), second.bundles))
    assert state.lock.before == base().lock.orders
    assert state.lock.serial == state.lock.switch == 4
    plan = plan_between(base(), state)
    assert plan.is_applicable and plan.traffic.moved <= plan.traffic.least


def test_nodes_of_two_placements_change_nothing_until_they_agree() -> None:
    first = weighed(base(), 3)
    second = weighed(first, 5)
    seen = all_placed(seen_of(first, second.bundles), "after")
    seen["beta"] = placed(seen["beta"], "before")
    assert fitted_lock(second.wanted(first), seen) is None
    plan = make_plan(second.wanted(first), seen)
    (refusal,) = plan.refusals
    assert "alpha, gamma use that after the last switch, beta still that before it" in refusal.message


def test_a_node_that_stands_aside_keeps_no_change_waiting() -> None:
    """It has missed the switch, and learns it from the others before it serves."""
    state = weighed(base(), 3)
    seen = all_placed(seen_of(state, state.bundles), "after")
    old = seen_of(base(), state.bundles)["beta"]
    assert isinstance(old, Seen)
    seen["beta"] = replace(old, facts=replace(old.facts, serving=False, fenced=True))
    plan = make_plan(state.wanted(state), seen)
    assert plan.is_applicable and plan.switch is None


def test_a_change_of_weights_is_not_gone_back_from_node_by_node() -> None:
    after = weighed(base(), 3)
    wanted = replace(base().wanted(base()), is_rollback=True)
    plan = make_plan(wanted, all_placed(seen_of(after, wanted.bundles), "after"))
    (refusal,) = plan.refusals
    assert "put the weights back in the inventory (gamma 1)" in refusal.hint
    unmade = make_plan(wanted, all_placed(seen_of(after, wanted.bundles), "before"))
    assert unmade.is_applicable and unmade.traffic.moved == 0


def test_another_epoch_takes_other_weights_along() -> None:
    after = weighed(base(), 3, heartbeat={"interval_ms": 100, "missed": 3, "first_vrid": 70})
    plan = plan_between(base(), after)
    assert plan.switch is None and plan.needs_disruption


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hash": {"input": "source", "buckets": 64}}, "the hash input changes"),
        (
            {"hash": {"input": "source-destination", "buckets": 65}},
            "the number of buckets changes from 64",
        ),
        ({"mac": {"mode": "multicast", "address": "auto"}}, "the MAC mode changes from stealth to multicast"),
        ({"mac": {"mode": "stealth", "address": "02:00:5e:00:01:01"}}, "the cluster MAC changes"),
        ({"heartbeat": {"interval_ms": 60, "missed": 4, "first_vrid": 70}}, "the heartbeat interval changes"),
        ({"heartbeat": {"interval_ms": 50, "missed": 5, "first_vrid": 70}}, "heartbeats that may be missed"),
    ],
)
def test_every_part_of_the_contract_is_disruptive_by_name(change: dict[str, Any], reason: str) -> None:
    plan = plan_between(base(), cluster(base(), **change))
    assert plan.needs_disruption and plan.is_applicable and plan.traffic.is_disrupted
    assert reason in plan.disruption[0]


def test_the_second_half_of_a_disruptive_change_is_disruptive_too() -> None:
    after = cluster(base(), hash={"input": "source", "buckets": 64})
    wanted = after.wanted(base())
    half = {**seen_of(after, wanted.bundles), "gamma": seen_of(base(), wanted.bundles)["gamma"]}
    plan = make_plan(wanted, half)
    assert actions(plan) == {"alpha": "none", "beta": "none", "gamma": "swap"}
    assert plan.needs_disruption
    assert "the nodes run different states" in told(plan)


def test_without_a_readable_lock_the_epoch_still_tells() -> None:
    after = cluster(base(), hash={"input": "source", "buckets": 64})
    seen = {
        name: replace(each, files={**each.files, "lock": b"\xff"})
        for name, each in seen_of(base(), after.bundles).items()
        if isinstance(each, Seen)
    }
    plan = make_plan(after.wanted(base()), seen)
    assert plan.disruption[0] == "the epoch of alpha changes from 1 to 2"
    assert plan.traffic.is_unknown and not plan.traffic.is_first
    assert "its lock is not UTF-8" in told(plan)


def test_a_node_that_stands_aside_is_noted() -> None:
    assert "beta stands aside: its peers have a newer epoch" in told(
        with_facts("beta", serving=False, fenced=True)
    )
    assert "(keepalived says FAULT)" in told(with_facts("beta", serving=False, heartbeat="FAULT"))


# Traffic


def test_adding_the_fifth_of_equal_nodes_moves_a_fifth() -> None:
    four = cluster(nodes=_equal(4), hash={"buckets": 1024})
    five = cluster(four, nodes=_equal(5), hash={"buckets": 1024})
    (sentence,) = traffic_sentences(traffic_of(four.lock, five.lock))
    assert sentence.startswith("moves 205 of 1024 buckets (20.0 %, the least possible): n1->n5 5")


def test_a_replaced_node_has_another_name_where_its_own_was_taken() -> None:
    four = cluster(nodes=_equal(4), hash={"buckets": 1024})
    other = {**_equal(4), "n4": {"address": "192.0.2.40"}}
    traffic = traffic_of(four.lock, cluster(four, nodes=other, hash={"buckets": 1024}).lock)
    assert traffic.least == 256
    assert "n4@192.0.2.4" in traffic.shares_before and "n4" in traffic.shares_after


def test_what_moves_beyond_the_least_is_said() -> None:
    traffic = Traffic(64, {"a": 64}, {"a": 31, "b": 33}, (Move("a", "b", 33),), least=32)
    assert list(traffic_sentences(traffic)) == [
        "moves 33 of 64 buckets (51.6 %, 1 more than the least possible): a->b 33"
    ]


def test_many_pairs_are_told_by_node() -> None:
    moves = tuple(Move(f"n{giver}", f"m{taker}", 1) for giver in range(7) for taker in range(6))
    traffic = Traffic(64, {"n0": 64}, {"m0": 64}, moves, least=42)
    (short,) = traffic_sentences(traffic)
    (long,) = traffic_sentences(traffic, full=True)
    assert "42 pairs of nodes, in all n0 -6, m0 +7, m1 +7" in short
    assert "n6->m5 1" in long


def test_other_buckets_under_the_same_hash_are_counted() -> None:
    lock = cluster(nodes=_equal(2), hash={"buckets": 64}).lock
    doubled = replace(lock, orders=tuple(order for order in lock.orders for _ in range(2)))
    assert traffic_of(lock, doubled).kept == 1.0
    swapped = replace(doubled, orders=tuple(order[::-1] for order in doubled.orders))
    traffic = traffic_of(lock, swapped)
    assert (traffic.kept, traffic.is_exact) == (0.0, True)


def test_another_seed_keeps_one_in_n() -> None:
    lock = cluster(nodes=_equal(4), hash={"buckets": 64}).lock
    traffic = traffic_of(lock, replace(lock, seed=SEED + 1, epoch=2))
    assert (traffic.kept, traffic.is_exact) == (0.25, False)
    assert "25.0 % of the pairs" in " ".join(traffic_sentences(traffic))


def _equal(count: int) -> dict[str, dict[str, Any]]:
    return {f"n{number}": {"address": f"192.0.2.{number}"} for number in range(1, count + 1)}


@st.composite
def two_locks(draw: st.DrawFn) -> tuple[Lock, Lock]:
    """A cluster, and the same with some nodes gone and others new."""
    numbers = st.sets(st.integers(1, 9), min_size=1, max_size=6)
    weights = draw(st.lists(st.integers(1, 3), min_size=10, max_size=10))
    first, second = draw(numbers), draw(numbers)

    def state(before: State | None, chosen: set[int]) -> State:
        listed = {f"n{n}": {"address": f"192.0.2.{n}", "weight": weights[n]} for n in sorted(chosen)}
        return cluster(before, nodes=listed)

    before = state(None, first)
    return before.lock, state(before, second).lock


@settings(max_examples=60, deadline=None)
@given(two_locks())
def test_moves_are_those_of_the_owners(locks: tuple[Lock, Lock]) -> None:
    before, after = locks
    names = {lock: {node.node_id: node.name for node in lock.nodes} for lock in locks}
    old, new = (
        [names[lock][owner] for owner in owners(lock.placement, names[lock]) if owner is not None]
        for lock in locks
    )
    traffic = traffic_of(before, after)
    pairs = Counter((one, other) for one, other in zip(old, new, strict=True) if one != other)
    assert {(move.giver, move.taker): move.buckets for move in traffic.moves} == dict(pairs)
    assert traffic.shares_before == Counter(old) and traffic.shares_after == Counter(new)
    gone = sum(name not in set(names[after].values()) for name in old)
    assert gone <= traffic.least <= after.buckets
    if len(before.nodes) == 1 or set(names[before].values()) <= set(names[after].values()):
        added = [name for name in names[after].values() if name not in names[before].values()]
        if len(added) == 1:
            assert traffic.moved <= traffic.least == least_moves(before, after)


# Anything


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6))
def test_a_plan_for_what_runs_is_empty(count: int) -> None:
    plan = plan_between(small(count), small(count))
    assert plan.is_empty and plan.is_applicable and not plan.needs_disruption
    assert plan.traffic.moved == 0 and not plan.notes
    assert summary(plan).startswith("Nothing to do: ")


def _facts(of: Facts) -> st.SearchStrategy[Facts]:
    hexes = st.sampled_from(["", of.generation, "0123456789ab"])
    names = st.sampled_from([*of.digests, "mine", "\x1b", ""])
    digests = st.one_of(
        st.just(of.digests),
        st.dictionaries(names, st.sampled_from([*of.digests.values(), "0" * 64]), max_size=3),
    )
    return st.builds(
        replace,
        st.just(of),
        generation=hexes,
        loaded=hexes,
        epoch=st.integers(0, 3),
        serial=st.integers(0, 3),
        ruleset=st.sampled_from(["intact", "altered", "missing", "unfinished", "?"]),
        keepalived=st.sampled_from(["running", "stopped"]),
        heartbeat=st.sampled_from(["", "MASTER", "FAULT"]),
        serving=st.booleans(),
        fenced=st.booleans(),
        attached=st.booleans(),
        units=st.sampled_from(["intact", "altered", "none"]),
        runs=st.booleans(),
        unconfirmed=st.sampled_from(["", "0123456789ab"]),
        node_id=st.integers(0, 5),
        alive=st.frozensets(st.integers(0, 5)),
        deployer=st.sampled_from(["", "me"]),
        digests=digests,
        listed=digests,
    )


@st.composite
def anything(draw: st.DrawFn) -> tuple[State, State, dict[str, Seen | NodeError]]:
    states = [base(), cluster(base(), nodes=nodes("alpha", "beta")), cluster(base(), hash={"buckets": 65})]
    states.append(cluster(states[1], nodes=nodes("alpha", "beta", "delta")))
    before, after = draw(st.sampled_from(states)), draw(st.sampled_from(states))
    seen: dict[str, Seen | NodeError] = {}
    whole = seen_of(before, after.bundles)
    contents = st.sampled_from([b"", b"\xff\x00", b"FRAME='a b'\n", render_lock(before.lock).encode()])
    for name in draw(st.sets(st.sampled_from(["alpha", "beta", "gamma", "delta", "strange"]))):
        error = st.builds(NodeError, st.just(name), st.text(max_size=9), status=st.sampled_from([None, 1]))
        sight: st.SearchStrategy[Seen | NodeError] = st.one_of(
            error, st.builds(UnfitNode, st.just(name), st.text())
        )
        known = whole.get(name)
        facts = known.facts if isinstance(known, Seen) else Facts()
        files = st.dictionaries(st.sampled_from(["lock", "node.sh", "ruleset.nft", "mine"]), contents)
        sight = st.one_of(sight, st.builds(Seen, _facts(facts), files), *([st.just(known)] if known else []))
        seen[name] = draw(sight)
    return before, after, seen


@settings(max_examples=100, deadline=None)
@given(anything(), st.booleans())
def test_no_mix_of_facts_is_a_crash(
    mix: tuple[State, State, dict[str, Seen | NodeError]], is_fresh: bool
) -> None:

    before, after, seen = mix
    plan = make_plan(after.wanted(None if is_fresh else before), seen)
    assert [step.node for step in plan.steps] == [*after.bundles, *after.wanted(before).departed]
    assert view(plan, "txt").rstrip().splitlines()[-1] == summary(plan)
    plan_as_json(plan)
    assert not (plan.is_empty and plan.refusals)
    assert stale(plan.conditions, seen) == ()


# Conditions


def test_a_condition_that_holds_is_not_stale() -> None:
    seen = seen_of(base(), {})
    conditions = {name: condition_of(facts_of(each)) for name, each in seen.items()}
    assert stale(conditions, seen) == ()


def test_what_has_changed_since_is_told_by_node() -> None:
    seen = seen_of(base(), {})
    conditions: dict[str, Any] = {name: condition_of(facts_of(each)) for name, each in seen.items()}
    facts = facts_of(seen["beta"])
    digests = {**facts.digests, "keepalived.conf": "0" * 64}
    now = replace(facts, generation="0123456789ab", runs=False, digests=digests)
    seen |= {"beta": Seen(now), "gamma": NodeError("gamma", "timed out"), "delta": Seen(Facts())}
    assert stale(conditions, seen) == (
        f"beta: generation was {facts.generation}, is 0123456789ab now",
        "beta: running was yes, is no now",
        "beta: other files lie there than the plan saw: keepalived.conf",
        "gamma: was observed for the plan, and cannot be now: timed out",
        "delta: could not be reached when the plan was made, and answers now",
    )


# Words


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["n1"], "n1"),
        (["n1", "n2", "n3"], "n1, n2, n3"),
        (["n1", "n2", "n3", "n4", "n6"], "n1..n4, n6"),
        (["a", "n9", "n10", "n11", "n12"], "a, n9..n12"),
        (["n08", "n09", "n10", "n11"], "n08, n09, n10, n11"),
        (["a1", "b2", "c3", "d4"], "a1, b2, c3, d4"),
        (["1", "2", "3", "4"], "1..4"),
    ],
)
def test_names_are_listed_as_ranges(names: list[str], expected: str) -> None:
    assert listed(names) == expected


def test_a_heading_counts_its_nodes() -> None:
    assert headed(["a"]) == "a" and headed(["a", "b"]) == "a, b (2 nodes)"


def test_a_node_that_is_heard_cannot_be_forgotten() -> None:
    old = cluster(base())
    new = cluster(base(), nodes=nodes("alpha", "beta"))
    wanted = replace(new.wanted(base()), lock=forget_retired(new.lock, [3]), departed={})
    seen = {node: each for node, each in seen_of(old, new.bundles).items() if node != "gamma"}
    (refusal,) = make_plan(wanted, seen).refusals
    assert refusal.message.startswith("gamma is to be forgotten, but alpha, beta hear its heartbeats")
    silent = {
        node: replace(each, facts=replace(each.facts, alive=frozenset({1, 2})))
        for node, each in seen.items()
        if isinstance(each, Seen)
    }
    assert make_plan(wanted, silent).refusals == ()


def test_the_last_that_serve_do_not_stop_before_others_start() -> None:
    old = cluster(base(), nodes=nodes("alpha", "beta"))
    new = cluster(old, nodes=nodes("gamma"))
    plan = make_plan(new.wanted(old), seen_of(old, new.bundles) | {"gamma": Seen(Facts())})
    assert any("nobody would answer" in refusal.message for refusal in plan.refusals)
    both = cluster(old, nodes=nodes("beta", "gamma"))
    plan = make_plan(both.wanted(old), seen_of(old, both.bundles) | {"gamma": Seen(Facts())})
    assert plan.refusals == ()


def test_nodes_that_restart_together_are_named() -> None:
    plan = SCENARIOS["disruptive"]()
    assert {step.action for step in plan.steps} == {StepAction.RESTART}
    assert any("nobody answers for some seconds" in reason for reason in plan.disruption)
