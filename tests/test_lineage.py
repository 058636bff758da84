"""Which lock may replace which: every later one of a line, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lineage import Conflict, agree, begun, conflict, keeps_orders, reinserted, used
from trscaler_gen.lock import (
    MAX_ANCESTORS,
    Lock,
    carried,
    forget_retired,
    parse_lock,
    reconcile,
    render_lock,
    reseed,
)

SEED = 0x5EED0001


def inventory(*numbers: int, weights: Mapping[int, int] | None = None, **changes: Any) -> Inventory:
    values = {
        "source": "web.yaml",
        "cluster": "web",
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100"],
        "hash": {"buckets": 64},
        "nodes": {f"n{k}": {"address": f"192.0.2.{k}", "weight": (weights or {}).get(k, 1)} for k in numbers},
    }
    return Inventory.model_validate({**values, **changes})


def fresh(*numbers: int, **changes: Any) -> Lock:
    return reconcile(inventory(*numbers, **changes), None, seed=SEED)


def after(lock: Lock, *numbers: int, forget: bool = False, **changes: Any) -> Lock:
    """The next lock; ``forget``: who left was stopped."""
    lock = reconcile(inventory(*numbers, **changes), lock, seed=1)
    return forget_retired(lock, {node.node_id for node in lock.retired}) if forget else lock


def found(deployed: Lock, wanted: Lock) -> Conflict:
    answer = conflict(deployed, wanted)
    assert answer is not None
    assert answer.hint
    assert f"{SEED}" not in answer.message and f"{SEED:x}" not in answer.message
    return answer


def later(lock: Lock) -> Lock:
    """Count on without remembering, so that serials say nothing against it."""
    return replace(lock, serial=lock.serial + MAX_ANCESTORS + 1, ancestors=())


# One line

STEP = st.one_of(
    st.tuples(st.just("nodes"), st.sets(st.integers(1, 9), min_size=1, max_size=6), st.booleans()),
    st.tuples(st.just("weights"), st.dictionaries(st.integers(1, 9), st.integers(1, 4)), st.booleans()),
    st.tuples(st.just("interval"), st.sampled_from([100, 200]), st.booleans()),
    st.tuples(st.just("buckets"), st.sampled_from([64, 128]), st.booleans()),
    st.tuples(st.just("reseed"), st.integers(1, 2**32 - 1), st.booleans()),
)

STEPS = st.lists(STEP, max_size=5)
Steps = list[tuple[str, Any, bool]]


def walk(steps: Steps) -> list[Lock]:
    """The locks of one line, from the first on."""
    wanted: dict[str, Any] = {"nodes": {1, 2, 3}, "weights": {}, "interval": 100, "buckets": 64}
    lock = fresh(1, 2, 3)
    line = [lock]
    for what, value, stopped in steps:
        if what == "reseed":
            lock = reseed(lock, value, "web.yaml")
        else:
            wanted[what] = value
            lock = after(
                lock,
                *sorted(wanted["nodes"]),
                weights=wanted["weights"],
                forget=stopped,
                heartbeat={"interval_ms": wanted["interval"]},
                hash={"buckets": wanted["buckets"]},
            )
        line.append(lock)
    return line


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_later_lock_of_a_line_may_replace_every_earlier_one(steps: Steps) -> None:
    for earlier, now in combinations(walk(steps), 2):
        assert conflict(carried(earlier), now) is None
        assert conflict(parse_lock(render_lock(carried(earlier)), "node"), now) is None
        assert (conflict(carried(now), earlier) is None) == (carried(now) == carried(earlier))


@settings(max_examples=30, deadline=None)
@given(STEPS, STEPS, STEPS)
def test_two_ways_on_from_one_lock_never_meet(steps: Steps, one: Steps, other: Steps) -> None:
    common = len(walk(steps))
    theirs = walk([*steps, *other])
    for ours in walk([*steps, *one])[common:]:
        is_shared = carried(ours) in map(carried, theirs)
        assert is_shared or all(conflict(carried(ours), lock) is not None for lock in theirs[common:])


def test_line_longer_than_is_remembered() -> None:
    line = [fresh(1, 2, 3)]
    for turn in range(MAX_ANCESTORS + 8):
        line.append(after(line[-1], *((1, 2, 3, 4) if turn % 2 == 0 else (1, 2, 3)), forget=True))
    assert all(conflict(earlier, line[-1]) is None for earlier in line)


# What is no line


def test_other_cluster_is_found() -> None:
    assert found(fresh(1, 2, cluster="mail"), fresh(1, 2)).message == (
        "what runs is of cluster mail, this lock of web"
    )


def test_older_lock_is_found() -> None:
    old = fresh(1, 2)
    new = after(old, 1, 2, 3)
    assert found(new, old).message == "this lock is older than what runs: it has serial 1, what runs 2"
    assert "lock recover" in found(new, old).hint
    of_epoch = replace(later(old), epoch=1)
    assert "it has epoch 1, what runs 2" in found(reseed(old, 7, "web.yaml"), of_epoch).message


def test_lock_that_was_made_anew_is_found() -> None:
    anew = reconcile(inventory(1, 2), None, seed=SEED + 1)
    assert found(fresh(1, 2), anew).message == (
        "this lock was made anew: it is of the same epoch (1) as what runs, with another seed"
    )
    assert "another seed" in found(fresh(1, 2), later(anew)).message


@pytest.mark.parametrize(
    "change",
    [
        {"hash_input": "source"},
        {"mac_mode": "stealth"},
        {"interval_ms": 200},
        {"missed": 4},
        {"orders": fresh(1, 2, hash={"buckets": 128}).orders},
    ],
    ids=str,
)
def test_other_contract_in_the_same_epoch_is_found(change: dict[str, Any]) -> None:
    assert "another hash contract" in found(fresh(1, 2), later(replace(fresh(1, 2), **change))).message


def test_other_vrids_are_found() -> None:
    other = replace(later(fresh(1, 2)), first_vrid=9, epoch=2)
    assert "VRRP id 1, this lock at 9" in found(fresh(1, 2), other).message


def test_locks_that_grew_apart_are_found() -> None:
    common = fresh(1, 2)
    ours, theirs = after(common, 1, 2, 3), after(common, 1, 2, 4)
    assert found(ours, theirs).message == (
        "what runs (serial 2) and this lock (serial 2) have grown apart: neither came from the other"
    )
    # Somebody who never heard of n3 goes on: it would not be stopped, and answer what others answer.
    for _ in range(MAX_ANCESTORS - 2):
        theirs = after(theirs, 1, 2, 4 if len(theirs.nodes) == 2 else 2, forget=True)
        assert "grown apart" in found(ours, theirs).message


def test_same_serial_with_any_other_content_is_found() -> None:
    lock = fresh(1, 2, 3)
    renamed = replace(lock, nodes=(replace(lock.nodes[0], name="other"), *lock.nodes[1:]))
    assert "grown apart" in found(lock, renamed).message


def swap_places(lock: Lock, bucket: int, one: int, other: int) -> Lock:
    places = {one: other, other: one}
    orders = list(lock.orders)
    orders[bucket] = tuple(places.get(node, node) for node in orders[bucket])
    return replace(lock, orders=tuple(orders))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 63), st.sampled_from([(1, 2), (2, 3), (1, 3)]), st.booleans())
def test_nodes_that_changed_places_are_found(bucket: int, pair: tuple[int, int], grows: bool) -> None:
    lock = fresh(1, 2, 3)
    grown = after(lock, 1, 2, 3, 4) if grows else replace(lock, serial=2)
    shuffled = swap_places(grown, bucket, *pair)
    for wanted in (later(shuffled), replace(shuffled, ancestors=())):
        assert f"order of bucket {bucket} " in found(lock, wanted).message


# Two placements


HEAVY, HEAVIER = {3: 3}, {3: 5}


def test_a_swap_keeps_the_orders_that_a_node_uses() -> None:
    first = fresh(1, 2, 3)
    switched = after(first, 1, 2, 3, weights=HEAVY)
    grown = after(switched, 1, 2, 3, 4, weights=HEAVY)
    again = after(grown, 1, 2, 3, 4, weights=HEAVIER)
    assert keeps_orders(first, switched, has_switched=False)
    assert keeps_orders(first, grown, has_switched=False)
    for has_switched in (False, True):
        assert keeps_orders(switched, grown, has_switched=has_switched)
        assert agree(
            used(switched, has_switched=has_switched), begun(switched, grown, has_switched=has_switched)
        )
    assert keeps_orders(grown, again, has_switched=True)


def test_the_twin_a_swap_that_moves_them_is_found() -> None:
    first = fresh(1, 2, 3)
    switched = after(first, 1, 2, 3, weights=HEAVY)
    again = after(switched, 1, 2, 3, weights=HEAVIER)
    assert not keeps_orders(first, again, has_switched=False)
    assert not keeps_orders(switched, again, has_switched=False)
    assert not keeps_orders(switched, first, has_switched=True)
    assert keeps_orders(switched, first, has_switched=False)
    assert not agree(used(switched, has_switched=True), used(switched, has_switched=False))


def test_another_switch_is_not_made_by_the_one_before() -> None:
    switched = after(fresh(1, 2, 3), 1, 2, 3, weights=HEAVY)
    again = after(switched, 1, 2, 3, weights=HEAVIER)
    assert begun(switched, again, has_switched=True).orders == again.before == switched.orders


def test_nodes_of_another_epoch_stand_aside_and_may_use_what_they_like() -> None:
    switched = after(fresh(1, 2, 3), 1, 2, 3, weights=HEAVY)
    other = after(switched, 1, 2, 3, weights=HEAVIER, heartbeat={"interval_ms": 200})
    assert keeps_orders(switched, other, has_switched=False)


def test_a_switch_since_is_no_conflict_where_ancestors_are_forgotten() -> None:
    first = fresh(1, 2, 3)
    switched = after(first, 1, 2, 3, weights=HEAVY)
    late = later(switched)
    assert conflict(switched, late) is None
    assert conflict(first, replace(late, switch=late.serial)) is None
    assert "order of bucket" in found(first, later(replace(switched, before=(), switch=0))).message


# Removed and added again


def test_node_that_was_removed_and_added_again_has_to_stop_first() -> None:
    old = fresh(1, 2, 3)
    without = after(old, 1, 2, forget=True)
    back = after(without, 1, 2, 3)
    assert [node.node_id for node in back.nodes] == [1, 2, 3]
    assert conflict(old, back) is None
    assert reinserted(old, back) == ("n3",)
    assert reinserted(without, back) == reinserted(old, without) == reinserted(back, back) == ()


def test_node_that_came_back_under_another_id_has_to_stop_first() -> None:
    old = fresh(1, 2, 3)
    replaced = after(after(old, 1, 2, forget=True), 1, 2, 4)
    back = after(replaced, 1, 2, 3, 4)
    assert {node.name: node.node_id for node in back.nodes} == {"n1": 1, "n2": 2, "n4": 3, "n3": 4}
    assert reinserted(old, back) == ("n3",)


def test_renamed_node_stays() -> None:
    old = fresh(1, 2)
    nodes = {"n1": {"address": "192.0.2.1"}, "better": {"address": "192.0.2.2"}}
    assert reinserted(old, after(old, nodes=nodes)) == ()
    assert conflict(old, after(old, nodes=nodes)) is None


def test_other_epoch_needs_no_stop() -> None:
    old = fresh(1, 2, 3)
    back = after(after(old, 1, 2, forget=True), 1, 2, 3)
    assert reinserted(old, reseed(back, 7, "web.yaml")) == ()
