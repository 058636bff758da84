"""The lock: what a change of the inventory may change in it, its text, and how a spoilt one is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.bundle import LOCK, MANIFEST, Bundle, change_id, make_bundles
from trscaler_gen.errors import InputError, OperationError, Problem
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import (
    MAX_EPOCH,
    MAX_SERIAL,
    Lock,
    RetiredNode,
    begin_with,
    carried,
    fingerprint,
    forget_retired,
    parse_lock,
    rebalance,
    reconcile,
    render_lock,
    reseed,
)
from trscaler_gen.lockfile import draw_seed, lock_path, read_lock, write_lock
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.pipeline import compile_inventory, compile_text
from trscaler_gen.placement import Placement, add_node, moved, movement_violations, place, violations
from trscaler_gen.reweigh import is_even, unevenness

SEED = 0x5EED0001


def inventory(nodes: Mapping[str, str | tuple[str, int]] | int = 4, **changes: Any) -> Inventory:
    """Make an inventory of nodes ``name -> address`` or ``name -> (address, weight)``, or n1..nN."""
    if isinstance(nodes, int):
        nodes = {f"n{k}": f"192.0.2.{k}" for k in range(1, nodes + 1)}
    listed = {name: node if isinstance(node, tuple) else (node, 1) for name, node in nodes.items()}
    values = {
        "source": "lab.yaml",
        "cluster": "web",
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100"],
        "hash": {"buckets": 64},
        "nodes": {name: {"address": address, "weight": weight} for name, (address, weight) in listed.items()},
    }
    return Inventory.model_validate({**values, **changes})


def fresh(nodes: Mapping[str, str | tuple[str, int]] | int = 4, **changes: Any) -> Lock:
    return reconcile(inventory(nodes, **changes), None, seed=SEED)


def ids(lock: Lock) -> dict[str, int]:
    return {node.name: node.node_id for node in lock.nodes}


def refused(call: Callable[[], object]) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        call()
    for problem in caught.value.problems:
        assert problem.hint or "more lines" in problem.message
        assert "5eed" not in f"{problem}".lower()
    return caught.value.problems


# Reconciling


def test_first_lock_numbers_nodes_as_the_inventory_lists_them() -> None:
    lock = fresh({"b": "192.0.2.7", "a": "192.0.2.5"})
    assert ids(lock) == {"b": 1, "a": 2}
    assert (lock.epoch, lock.seed, lock.removals, lock.retired) == (1, SEED, 0, ())
    assert lock.orders == place({1: 1, 2: 1}, 64).orders
    assert str(lock.cluster_mac) == "03:53:c0:00:02:64"


def test_nothing_changed_means_an_equal_lock() -> None:
    lock = fresh()
    assert reconcile(inventory(), lock, seed=1) == lock


def test_order_of_nodes_in_the_inventory_is_free() -> None:
    lock = fresh({"a": "192.0.2.1", "b": "192.0.2.2"})
    assert reconcile(inventory({"b": "192.0.2.2", "a": "192.0.2.1"}), lock, seed=1) == lock


def test_new_node_is_inserted() -> None:
    before = fresh(4)
    after = reconcile(inventory(5), before, seed=1)
    assert ids(after) == {"n1": 1, "n2": 2, "n3": 3, "n4": 4, "n5": 5}
    assert movement_violations(before.placement, after.placement) == []
    assert {after.orders[bucket][0] for bucket in moved(before.placement, after.placement)} == {5}
    assert (after.epoch, after.removals) == (1, 0)


def test_new_node_that_leaves_the_shares_uneven_counts_like_a_removal() -> None:
    weights = {node: 100 if node in (1, 3, 9, 13) else 1 for node in range(1, 23)}
    nodes = {f"n{node}": (f"192.0.2.{node}", weight) for node, weight in weights.items()}
    placement = place({1: 100}, 1024)
    for node in range(2, 22):
        placement = add_node(placement, node, weights[node])
    all_but_last = {name: node for name, node in nodes.items() if name != "n22"}
    before = fresh(all_but_last, hash={"buckets": 1024}).with_orders(placement.orders)
    assert violations(before.placement) == []
    after = reconcile(inventory(nodes, hash={"buckets": 1024}), before, seed=1)
    assert violations(after.placement) != []
    assert after.removals == 1
    assert reconcile(inventory(nodes, hash={"buckets": 1024}), after, seed=1) == after


def test_removed_node_is_retired_and_keeps_its_id_taken() -> None:
    before = fresh(4)
    after = reconcile(inventory({"n1": "192.0.2.1", "n2": "192.0.2.2", "n4": "192.0.2.4"}), before, seed=1)
    assert ids(after) == {"n1": 1, "n2": 2, "n4": 4}
    assert [(node.node_id, node.name, str(node.address)) for node in after.retired] == [
        (3, "n3", "192.0.2.3")
    ]
    assert (after.epoch, after.removals) == (1, 1)
    again = {"n1": "192.0.2.1", "n2": "192.0.2.2", "n4": "192.0.2.4", "n9": "192.0.2.9"}
    grown = reconcile(inventory(again), after, seed=1)
    assert ids(grown)["n9"] == 5
    assert ids(reconcile(inventory(again), forget_retired(after, {3}), seed=1))["n9"] == 3


def test_forgetting_retired_nodes_leaves_the_others() -> None:
    before = reconcile(inventory(2), fresh(4), seed=1)
    assert [node.node_id for node in forget_retired(before, {3, 17}).retired] == [4]


def test_retired_node_comes_back_as_a_new_one() -> None:
    without = reconcile(inventory(3), fresh(4), seed=1)
    back = reconcile(inventory(4), without, seed=1)
    assert ids(back)["n4"] == 4
    assert [node.since for node in back.nodes] == [1, 1, 1, 3]
    assert back.retired == ()
    assert back.removals == 1


def test_changed_address_is_another_node_and_the_old_one_is_to_be_stopped() -> None:
    before = fresh({"a": "192.0.2.1", "b": "192.0.2.2"})
    after = reconcile(inventory({"a": "192.0.2.1", "b": "192.0.2.9"}), before, seed=1)
    assert ids(after) == {"a": 1, "b": 3}
    assert after.retired == (RetiredNode(2, "b", IPv4Address("192.0.2.2")),)
    again = reconcile(inventory({"a": "192.0.2.1", "b": "192.0.2.2"}), after, seed=1)
    assert [str(node.address) for node in again.retired] == ["192.0.2.9"]


def test_node_renamed_in_place_keeps_its_id_and_is_not_to_be_stopped() -> None:
    before = fresh({"a": "192.0.2.1", "b": "192.0.2.2"})
    after = reconcile(inventory({"a": "192.0.2.1", "better": "192.0.2.2"}), before, seed=1)
    assert ids(after) == {"a": 1, "better": 2}
    assert after.orders == before.orders
    assert (after.retired, after.removals) == ((), 0)


def test_address_of_a_retired_node_in_new_use_is_not_to_be_stopped() -> None:
    without = reconcile(inventory(3), fresh(4), seed=1)
    nodes: dict[str, str | tuple[str, int]] = {f"n{k}": f"192.0.2.{k}" for k in range(1, 4)}
    after = reconcile(inventory({**nodes, "new": "192.0.2.4"}), without, seed=1)
    assert after.retired == ()


def test_all_nodes_replaced_makes_even_orders_again() -> None:
    after = reconcile(inventory({"x": "192.0.2.8", "y": "192.0.2.9"}), fresh(2), seed=1)
    assert ids(after) == {"x": 3, "y": 4}
    assert after.removals == 0
    assert len(after.retired) == 2


def test_ids_run_out_only_behind_retired_nodes() -> None:
    lock = fresh(1)
    lock = forget_retired(lock, ())
    many = tuple(RetiredNode(k, f"old{k}", lock.nodes[0].address + k) for k in range(2, 65))
    crowded = Lock(**{**vars(lock), "retired": many})
    (problem,) = refused(
        lambda: reconcile(inventory({"n1": "192.0.2.1", "n": "203.0.113.1"}), crowded, seed=1)
    )
    assert problem.message == "no node id is left for n: 63 retired nodes hold theirs"


def test_other_vrids_are_refused() -> None:
    (problem,) = refused(lambda: reconcile(inventory(heartbeat={"first_vrid": 50}), fresh(), seed=1))
    assert problem.message == "first_vrid changed from 1 to 50: a cluster that runs cannot follow"


def test_other_cluster_is_refused() -> None:
    (problem,) = refused(lambda: reconcile(inventory(cluster="mail"), fresh(), seed=1))
    assert problem.message == 'the lock is of cluster "web", the inventory of "mail"'


def weighed(*weights: int, **changes: Any) -> Inventory:
    """n1, n2, ... with these weights."""
    return inventory({f"n{k}": (f"192.0.2.{k}", weight) for k, weight in enumerate(weights, 1)}, **changes)


def test_other_weights_are_a_switch() -> None:
    before = fresh(3)
    after = reconcile(weighed(1, 1, 3), before, seed=1)
    assert [node.weight for node in after.nodes] == [1, 1, 3]
    assert after.before == before.orders
    assert after.switch == after.serial == 2
    assert {after.orders[bucket][0] for bucket in moved(before.placement, after.placement)} == {3}
    assert is_even(after.placement) and violations(after.placement) == []
    assert reconcile(weighed(1, 1, 3), after, seed=1) == after


def test_twice_the_weight_for_all_moves_nothing() -> None:
    after = reconcile(weighed(2, 2, 2), fresh(3), seed=1)
    assert (after.orders, after.before, after.switch) == (fresh(3).orders, (), 0)
    assert after.serial == 2


def test_weights_that_go_there_and_back_end_where_they_began() -> None:
    before = fresh(3)
    there = reconcile(weighed(1, 1, 3), before, seed=1)
    back = reconcile(weighed(1, 1, 1), there, seed=1)
    assert back.orders == before.orders
    assert (back.before, back.switch) == (there.orders, 3)


def test_members_that_come_with_other_weights_come_first() -> None:
    """What nodes begin with keeps all that stay in their order; only the switch moves them."""
    before = fresh(2)
    after = reconcile(weighed(1, 3, 1), before, seed=1)
    assert [tuple(n for n in order if n < 3) for order in after.before] == list(before.orders)
    assert {order[0] for order in after.before} == {1, 2, 3}
    assert after.before != after.orders and is_even(after.placement)


def test_members_of_a_switched_lock_change_in_both_placements() -> None:
    switched = reconcile(weighed(1, 1, 3), fresh(3), seed=1)
    after = reconcile(weighed(1, 1, 3, 1), switched, seed=1)
    assert (after.switch, after.serial) == (2, 3)
    assert movement_violations(switched.placement, after.placement) == []
    weights = switched.placement.weights
    before = Placement(weights, switched.before)
    assert movement_violations(before, Placement(after.placement.weights, after.before)) == []
    gone = reconcile(weighed(1, 1), after, seed=1)
    assert [tuple(n for n in order if n < 3) for order in switched.before] == list(gone.before)
    assert gone.switch == 2


def test_nothing_is_left_to_switch_where_nobody_stays() -> None:
    switched = reconcile(weighed(1, 1, 3), fresh(3), seed=1)
    after = reconcile(inventory({"x": "192.0.2.8", "y": "192.0.2.9"}), switched, seed=1)
    assert (after.before, after.switch) == ((), 0)


@pytest.mark.parametrize("change", [{"heartbeat": {"interval_ms": 200}}, {"hash": {"buckets": 128}}], ids=str)
def test_another_epoch_has_one_placement(change: dict[str, Any]) -> None:
    switched = reconcile(weighed(1, 1, 3), fresh(3), seed=1)
    after = reconcile(weighed(1, 1, 2, **change), switched, seed=1)
    assert (after.epoch, after.before, after.switch) == (2, (), 0)
    assert [node.weight for node in after.nodes] == [1, 1, 2]
    assert is_even(after.placement)
    reseeded = reseed(switched, 7, "lab.yaml")
    assert (reseeded.orders, reseeded.before, reseeded.switch) == (switched.orders, (), 0)


def test_rebalancing_makes_shares_exact_and_counts_no_removal() -> None:
    last = inventory({f"n{k}": f"192.0.2.{k}" for k in range(4, 10)})
    lock = reconcile(last, fresh(9), seed=1)
    assert lock.removals == 3 and not is_even(lock.placement)
    even = rebalance(lock, "lab.yaml")
    assert is_even(even.placement) and even.removals == 0
    assert unevenness(even.placement) < unevenness(lock.placement)
    assert (even.before, even.switch, even.serial) == (lock.orders, lock.serial + 1, lock.serial + 1)
    assert reconcile(last, even, seed=1) == even
    assert rebalance(even, "lab.yaml") == even
    assert rebalance(fresh(), "lab.yaml") == fresh()


WEIGHTS = st.dictionaries(st.integers(1, 6), st.integers(1, 5), min_size=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(WEIGHTS, min_size=1, max_size=6))
def test_each_lock_begins_where_the_one_before_it_ends(edits: list[dict[int, int]]) -> None:
    lock = fresh(3)
    for weights in edits:
        nodes = {f"n{k}": (f"192.0.2.{k}", weight) for k, weight in sorted(weights.items())}
        after = reconcile(inventory(nodes), lock, seed=1)
        if carried(after) == carried(lock):
            continue
        begins = after.before if after.switch == after.serial else after.orders
        if after.switch not in (0, lock.switch, after.serial):
            raise AssertionError("a switch has a serial of its own")
        stay = {n.node_id for n in lock.nodes} & {n.node_id for n in after.nodes}
        for old, new in zip(lock.orders, begins, strict=True):
            assert [n for n in old if n in stay] == [n for n in new if n in stay]
        assert (after.switch == 0) == (after.before == ())
        assert parse_lock(render_lock(after), "lab.lock") == after
        lock = forget_retired(after, {n.node_id for n in after.retired})


def test_a_lock_made_to_begin_elsewhere_goes_where_it_went() -> None:
    first = reconcile(weighed(1, 1, 3), fresh(3), seed=1)
    second = reconcile(weighed(1, 1, 5), first, seed=1)
    fitted = begin_with(fresh(3), second, first, "lab.yaml")
    assert fitted.before == fresh(3).orders
    assert is_even(fitted.placement)
    assert fitted.serial == fitted.switch == second.serial
    written = begin_with(fresh(3), second, second, "lab.yaml")
    assert written.serial == written.switch == second.serial + 1
    assert written.ancestors[0] == fingerprint(second)


def test_weights_follow_where_all_orders_are_new() -> None:
    changed = inventory({"n1": ("192.0.2.1", 2), "n2": "192.0.2.2"}, hash={"buckets": 128})
    after = reconcile(changed, fresh(2), seed=1)
    assert (after.nodes[0].weight, after.switch) == (2, 0)


def test_weight_below_one_bucket_is_refused() -> None:
    nodes: dict[str, str | tuple[str, int]] = {"big": ("192.0.2.1", 100), "small": ("192.0.2.2", 1)}
    (problem,) = refused(lambda: fresh(nodes))
    assert problem.code == "weight-too-small"
    lock = fresh({"big": ("192.0.2.1", 100)})
    (problem,) = refused(lambda: reconcile(inventory(nodes), lock, seed=1))
    assert problem.code == "weight-too-small"


@pytest.mark.parametrize(
    "change",
    [
        {"hash": {"buckets": 64, "input": "source"}},
        {"hash": {"buckets": 128}},
        {"mac": {"mode": "stealth"}},
        {"mac": {"address": "03:00:5d:00:01:01"}},
        {"heartbeat": {"interval_ms": 200}},
        {"heartbeat": {"missed": 5}},
    ],
    ids=str,
)
def test_changed_contract_raises_the_epoch(change: dict[str, Any]) -> None:
    before = fresh()
    after = reconcile(inventory(**change), before, seed=1)
    assert after.epoch == 2
    assert after.seed == before.seed
    assert reconcile(inventory(**change), after, seed=1) == after
    assert reconcile(inventory(), after, seed=1).epoch == (2 if "address" in str(change) else 3)


def test_other_bucket_count_makes_fresh_orders() -> None:
    eroded = reconcile(inventory(3), fresh(4), seed=1)
    after = reconcile(inventory(3, hash={"buckets": 128}), eroded, seed=1)
    assert after.orders == place({1: 1, 2: 1, 3: 1}, 128).orders
    assert after.removals == 0
    assert [node.name for node in after.retired] == ["n4"]


def test_auto_address_stays_while_the_mode_does() -> None:
    lock = fresh()
    other = reconcile(inventory(virtual_addresses=["192.0.2.50"]), lock, seed=1)
    assert other.cluster_mac == lock.cluster_mac
    assert other.epoch == 1
    unicast = reconcile(inventory(mac={"mode": "unicast"}), lock, seed=1)
    assert str(unicast.cluster_mac) == "02:53:c0:00:02:64"


def test_last_epoch_is_the_end() -> None:
    old = Lock(**{**vars(fresh()), "epoch": MAX_EPOCH})
    assert reconcile(inventory(), old, seed=1) == old
    (problem,) = refused(lambda: reconcile(inventory(hash={"buckets": 128}), old, seed=1))
    assert "32767" in problem.message
    (problem,) = refused(lambda: reseed(old, 1, "lab.yaml"))
    assert "32767" in problem.message


def test_last_serial_is_the_end() -> None:
    old = replace(fresh(), serial=MAX_SERIAL)
    assert reconcile(inventory(), old, seed=1) == old
    (problem,) = refused(lambda: reconcile(inventory(5), old, seed=1))
    assert "65534" in problem.message


@pytest.mark.parametrize(
    "nodes",
    [
        3,
        5,
        {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3", "renamed": "192.0.2.4"},
        {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3", "n4": "192.0.2.14"},
    ],
    ids=["removed", "added", "renamed", "moved"],
)
def test_serial_counts_what_nodes_carry(nodes: Any) -> None:
    before = fresh(4)
    after = reconcile(inventory(nodes), before, seed=1)
    assert (before.serial, after.serial) == (1, 2)
    assert after.ancestors == (fingerprint(before),)
    assert reconcile(inventory(nodes), after, seed=1) == after


def test_serial_does_not_count_who_was_stopped() -> None:
    lock = reconcile(inventory(3), fresh(4), seed=1)
    stopped = forget_retired(lock, {4})
    assert reconcile(inventory(3), stopped, seed=1).serial == lock.serial
    assert fingerprint(stopped) == fingerprint(lock)
    assert render_lock(carried(stopped)) == render_lock(carried(lock))


def test_serial_does_not_count_what_the_lock_does_not_hold() -> None:
    other = inventory(virtual_addresses=["192.0.2.50"], health={"command": ["/bin/true"]})
    assert reconcile(other, fresh(), seed=1) == fresh()


def test_ancestors_are_the_last_ones() -> None:
    lock = fresh(3)
    locks = [lock]
    for turn in range(40):
        lock = reconcile(inventory(4 if turn % 2 == 0 else 3), lock, seed=1)
        lock = forget_retired(lock, {4})
        locks.append(lock)
    assert lock.serial == 41
    assert lock.ancestors == tuple(fingerprint(old) for old in reversed(locks[8:40]))
    assert parse_lock(render_lock(lock), "lab.lock") == lock


def test_new_seed_is_another_epoch() -> None:
    lock = reseed(fresh(), 7, "lab.yaml")
    assert (lock.seed, lock.epoch, lock.serial) == (7, 2, 2)
    assert lock.orders == fresh().orders


def test_lock_from_before_there_were_serials_has_the_first_one() -> None:
    lines = render_lock(fresh()).splitlines()
    old = [line.removesuffix(" since 1") for line in lines if not line.startswith(("serial: ", "digest: "))]
    digest = "sha256:" + sha256("\n".join(old).encode()).hexdigest()
    lock = parse_lock("\n".join([*old[:7], f"digest: {digest}", *old[7:]]) + "\n", "lab.lock")
    assert lock == fresh()
    assert reconcile(inventory(), lock, seed=1).serial == 1


def test_orders_that_are_not_even_are_refused() -> None:
    skewed = fresh(2).with_orders(((1, 2),) * 64)
    problems = refused(lambda: reconcile(inventory(2), skewed, seed=1))
    assert problems[0].message == "lock: node 1 is first in 64 buckets, its share is 32.00"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=8))
def test_any_history_keeps_ids_unique_and_can_be_read_back(history: list[set[int]]) -> None:
    lock: Lock | None = None
    for present in history:
        wanted = inventory({f"n{k}": f"192.0.2.{k}" for k in sorted(present)})
        before, lock = lock, reconcile(wanted, lock, seed=SEED)
        assert ids(lock).keys() == wanted.nodes.keys()
        taken = [*ids(lock).values(), *(node.node_id for node in lock.retired)]
        assert len(set(taken)) == len(taken)
        assert reconcile(wanted, lock, seed=1) == lock
        assert parse_lock(render_lock(lock), "lab.lock") == lock
        kept = ids(before).keys() & ids(lock).keys() if before else set()
        assert before is None or all(ids(before)[name] == ids(lock)[name] for name in kept)
        lock = forget_retired(lock, {node.node_id for node in lock.retired[:2]})


# Text


def test_seed_is_not_shown() -> None:
    lock = fresh()
    assert str(SEED) not in repr(lock)
    assert f"{SEED:x}" not in repr(lock)


def test_text_says_what_it_is_and_diffs_by_bucket() -> None:
    lines = render_lock(fresh()).splitlines()
    assert lines[0].startswith("# The lock of cluster web")
    assert any("secret" in line for line in lines[:7])
    assert any("Commit it" in line for line in lines[:7])
    assert sum(line[:4].isdecimal() for line in lines) == 64
    other = render_lock(reconcile(inventory(), Lock(**{**vars(fresh()), "removals": 1}), seed=1)).splitlines()
    changed = [(a, b) for a, b in zip(lines, other, strict=True) if a != b]
    assert [a.split(":")[0] for a, _ in changed] == ["digest", "removals"]


def test_text_is_yaml() -> None:
    loaded = yaml.safe_load(render_lock(reconcile(inventory(3), fresh(4), seed=1)))
    assert loaded["cluster"] == "web"
    assert loaded["node 1"] == "n1 192.0.2.1 weight 1 since 1"
    assert loaded["retired 4"] == "n4 192.0.2.4"


def test_text_survives_other_line_ends() -> None:
    text = render_lock(fresh())
    assert parse_lock(text.replace("\n", "\r\n"), "lab.lock") == fresh()


def test_reading_is_fast() -> None:
    lock = fresh(32, hash={"buckets": 1024})
    text = render_lock(lock)
    start = process_time()
    assert parse_lock(text, "lab.lock") == lock
    assert process_time() - start < 0.2  # measured: 7 ms


# Corrupt text


def edit(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def order_line(text: str, bucket: int) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{bucket:04}: "))


def swap_two(text: str) -> str:
    line = order_line(text, 7)
    key, first, second, *rest = line.split(" ")
    return text.replace(line, " ".join([key, second, first, *rest]))


def repeat_one(text: str) -> str:
    return text.replace(order_line(text, 7), "0007: 1 1 2 3")


def merged(text: str) -> str:
    line = order_line(text, 7)
    return text.replace(line, f"<<<<<<< HEAD\n{line}\n=======\n{line} 5\n>>>>>>> branch")


def cut(text: str) -> str:
    return text[: text.index("\n0040: ") + 9]


@pytest.mark.parametrize(
    ("spoil", "line", "code", "message"),
    [
        (lambda text: "", 1, "lock-empty", "the lock is empty"),
        (lambda text: "\n \n", 1, "lock-empty", "the lock is empty"),
        (lambda text: "cluster: web\n", 1, "lock-version", "this is no lock: it has no version"),
        (
            edit("version: 1", "version: 2"),
            7,
            "lock-version",
            'the lock says "version: 2"; this release reads version 1',
        ),
        (merged, 36, "lock-conflict", "the lock holds a merge conflict"),
        (
            swap_two,
            8,
            "lock-digest",
            "the lock was changed since it was written: its digest is of another text",
        ),
        (edit("# It is a secret", "# It is public"), 8, "lock-digest", "the lock was changed since"),
        (edit("removals: 0", "removals: 1"), 8, "lock-digest", "the lock was changed since"),
        (repeat_one, 36, "lock-corrupt", "the order of bucket 0007 does not name every node once"),
        (edit("epoch: 1", "epoch: 0"), 10, "lock-corrupt", "epoch cannot be read"),
        (edit("epoch: 1\n", ""), 91, "lock-corrupt", "the line epoch is missing"),
        (edit("serial: 1", "serial: 65535"), 11, "lock-corrupt", "serial cannot be read"),
        (edit("serial: 1", "serial: 1\nancestors: 12"), 12, "lock-corrupt", "ancestors cannot be read"),
        (edit("seed: 0x", "seed: "), 12, "lock-corrupt", "seed cannot be read"),
        (edit("hash-input: s", "hash-input: x"), 13, "lock-corrupt", "hash-input cannot be read"),
        (edit("mac-mode: m", "mac-mode: x"), 15, "lock-corrupt", "mac-mode cannot be read"),
        (edit("cluster-mac: 03:", "cluster-mac: "), 16, "lock-corrupt", "cluster-mac cannot be read"),
        (
            edit("buckets: 64", "buckets: 65"),
            92,
            "lock-corrupt",
            "1 of 65 buckets have no order, 0064 is the",
        ),
        (edit("buckets: 64", "buckets: 63"), 92, "lock-corrupt", "there is no bucket 0063: the lock has 63"),
        (edit("node 4: n4", "node 1: n4"), 26, "lock-corrupt", "node 1 stands in line 23 already"),
        (edit("node 4: n4", "node 4: n1"), 0, "lock-corrupt", "two nodes have the name n1"),
        (edit("node 4:", "retired 1:"), 26, "lock-corrupt", "retired 1 cannot be read"),
        (edit(" weight 1 since 1", ""), 23, "lock-corrupt", "node 1 cannot be read"),
        (edit(" since 1", " since 0"), 23, "lock-corrupt", "node 1 cannot be read"),
        (edit("node 4: n4", "node 65: n4"), 26, "lock-corrupt", "node 65 cannot be read"),
        (edit("node 1: ", "knot 1: "), 23, "lock-corrupt", "this line does not belong into a lock"),
        (edit("0000: ", "0000 "), 29, "lock-corrupt", "this line does not belong into a lock"),
    ],
)
def test_corrupt_lock_is_refused(spoil: Callable[[str], str], line: int, code: str, message: str) -> None:
    (problem,) = refused(lambda: parse_lock(spoil(render_lock(fresh())), "lab.lock"))
    assert problem.message.startswith(message)
    assert (problem.source, problem.line, problem.code) == ("lab.lock", line, code)


def test_truncated_lock_is_refused() -> None:
    problems = refused(lambda: parse_lock(cut(render_lock(fresh())), "lab.lock"))
    assert problems[0].message == "23 of 64 buckets have no order, 0041 is the first of them"
    assert problems[1].message == "the order of bucket 0040 does not name every node once"


def test_lock_cut_before_the_orders_says_what_is_missing() -> None:
    text = render_lock(fresh())
    problems = refused(lambda: parse_lock(text[: text.index("epoch")], "lab.lock"))
    assert "the lock names no node" in [problem.message for problem in problems]
    assert "the line seed is missing; is the end cut off?" in [problem.message for problem in problems]


def test_many_problems_are_summed_up() -> None:
    text = render_lock(fresh())
    line = next(line for line in text.splitlines() if line.startswith("node 4"))
    problems = refused(lambda: parse_lock(text.replace(line + "\n", ""), "lab.lock"))
    assert len(problems) == 11
    assert problems[-1].message == "and 54 more lines like these"


def test_every_change_of_a_byte_is_seen() -> None:
    text = render_lock(fresh(2))
    for at in range(len(text) - 1):
        spoilt = text[:at] + ("~" if text[at] != "~" else "-") + text[at + 1 :]
        refused(partial(parse_lock, spoilt, "lab.lock"))


# The file


def test_lock_lies_beside_its_inventory() -> None:
    assert lock_path(Path("inventory/lab.yaml")) == Path("inventory/lab.lock")
    assert lock_path(Path("site.prod.yml")) == Path("site.prod.lock")
    (problem,) = refused(lambda: lock_path(Path("web.lock")))
    assert "web.yaml" in problem.hint


def test_seeds_differ() -> None:
    seeds = {draw_seed() for _ in range(8)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_written_lock_is_read_back_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "lab.lock"
    write_lock(path, fresh())
    assert read_lock(path) == fresh()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_no_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "lab.lock") is None


def test_equal_bytes_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "lab.lock"
    write_lock(path, fresh())
    before = path.stat()
    write_lock(path, fresh())
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_lock(path, fresh(3))
    assert path.stat().st_ino != before.st_ino
    assert read_lock(path) == fresh(3)


def test_failed_write_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.lock"
    write_lock(path, fresh())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OperationError, match="No space left"):
        write_lock(path, fresh(3))
    assert read_lock(path) == fresh()
    assert list(tmp_path.iterdir()) == [path]


def test_lock_behind_a_link_is_replaced_there(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    path, target = tmp_path / "lab.lock", tmp_path / "shared" / "lab.lock"
    path.symlink_to(target)
    (problem,) = refused(lambda: read_lock(path))
    assert "link to nowhere" in problem.message
    write_lock(path, fresh())
    assert path.is_symlink()
    assert read_lock(target) == fresh()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the lock is empty"), (b"version: 1\n\xff\n", "the lock cannot be read: byte 11 is not UTF-8")],
)
def test_spoilt_file_is_never_made_anew(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "lab.lock"
    path.write_bytes(content)
    (problem,) = refused(lambda: read_lock(path))
    assert problem.message == message
    assert problem.source == str(path)
    assert "version control" in problem.hint


def test_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (problem,) = refused(lambda: read_lock(tmp_path))
    assert problem.message == "the lock cannot be read: Is a directory"


# What nodes carry


def bundles(lock: Lock) -> dict[str, Bundle]:
    wanted = inventory({node.name: str(node.address) for node in lock.nodes})
    return make_bundles(plan_nodes(wanted, lock), lock)


def test_every_bundle_carries_the_lock_for_its_owner_alone() -> None:
    lock = reconcile(inventory(3), fresh(4), seed=1)
    for bundle in bundles(lock).values():
        text = bundle.files[LOCK].decode()
        assert parse_lock(text, "node") == carried(lock)
        assert "  lock\n" in bundle.files[MANIFEST].decode()
        assert bundle.mode(LOCK) == 0o600


def test_node_that_was_stopped_changes_no_generation() -> None:
    lock = reconcile(inventory(3), fresh(4), seed=1)
    assert bundles(lock) == bundles(forget_retired(lock, {4}))
    assert change_id(bundles(lock)) != change_id(bundles(fresh(3)))


def test_change_is_the_digest_of_all_generations() -> None:
    made = bundles(fresh(2))
    lines = f"n1 {made['n1'].generation}\nn2 {made['n2'].generation}\n"
    assert change_id(made) == sha256(lines.encode()).hexdigest()[:12]
    assert change_id(dict(reversed(made.items()))) == change_id(made)


# Compiling


def written(folder: Path, lock: Lock | None, wanted: str) -> Path:
    path = folder / "web.yaml"
    path.write_text(wanted)
    if lock is not None:
        write_lock(lock_path(path), lock)
    return path


TEXT = """\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100]
hash: {buckets: 64}
nodes:
  n1: {address: 192.0.2.1, weight: 2}
  n2: {address: 192.0.2.2}
"""


def test_a_changed_weight_is_compiled(tmp_path: Path) -> None:
    path = written(tmp_path, fresh(2), TEXT)
    compiled = compile_inventory(path)
    assert compiled.lock_before == fresh(2)
    assert compiled.lock.switch == 2


def test_what_was_compiled_is_compiled_again_from_its_texts(tmp_path: Path) -> None:
    path = written(tmp_path, None, TEXT)
    first = compile_inventory(path)
    assert first.lock_before is None
    path.unlink()
    again = compile_text(path, TEXT, lock=first.lock, lock_before=None)
    assert again == first
