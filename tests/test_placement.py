"""What an operator may rely on: shares, spreads, and that a change of membership moves nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from time import process_time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trscaler_gen.placement import (
    Placement,
    add_node,
    erosion,
    moved,
    movement_violations,
    owners,
    place,
    remove_node,
    violations,
)

EQUAL_32 = dict.fromkeys(range(1, 33), 1)


@st.composite
def clusters(draw: st.DrawFn, least: int = 1, most: int = 32) -> tuple[dict[int, int], int]:
    """Weights of some kind and a bucket count in which every node has a share of one bucket or more."""
    weight = draw(
        st.sampled_from(
            [st.just(1), st.just(7), st.integers(1, 3), st.integers(1, 100), st.sampled_from([1, 100])]
        )
    )
    weights = draw(st.lists(weight, min_size=least, max_size=most))
    buckets = draw(st.sampled_from([64, 100, 251, 1000, 1024, 4096]))
    assume(min(weights) * buckets >= sum(weights))
    ids = draw(st.permutations(range(1, 65)))[: len(weights)]
    return dict(zip(ids, weights, strict=True)), buckets


def shares(weights: Mapping[int, int], buckets: int) -> dict[int, float]:
    return {node: buckets * weight / sum(weights.values()) for node, weight in weights.items()}


def worst_load(placement: Placement, failed: tuple[int, ...]) -> float:
    """Highest load of a survivor, as a multiple of its share."""
    alive = {node: weight for node, weight in placement.weights.items() if node not in failed}
    load = Counter(owners(placement, alive))
    return max(load[node] / share for node, share in shares(alive, placement.buckets).items())


# Fresh placements


@settings(max_examples=150, deadline=None)
@given(clusters())
def test_fresh_placement_keeps_every_bound(cluster: tuple[dict[int, int], int]) -> None:
    weights, buckets = cluster
    placement = place(weights, buckets)
    assert placement.buckets == buckets
    assert violations(placement) == []
    firsts = Counter(owners(placement, weights))
    assert all(abs(firsts[node] - share) <= 1 for node, share in shares(weights, buckets).items())


@settings(max_examples=60, deadline=None)
@given(clusters(least=2))
def test_buckets_of_a_failed_node_spread_by_weight(cluster: tuple[dict[int, int], int]) -> None:
    weights, buckets = cluster
    placement = place(weights, buckets)
    before = owners(placement, weights)
    for failed in weights:
        after = owners(placement, weights.keys() - {failed})
        inherited = Counter(new for old, new in zip(before, after, strict=True) if old == failed)
        rest = {node: weight for node, weight in weights.items() if node != failed}
        for node, share in shares(rest, sum(inherited.values())).items():
            assert abs(inherited[node] - share) <= 2
        kept = zip(before, after, strict=True)
        assert all(old == new for old, new in kept if old != failed)


@settings(max_examples=20, deadline=None)
@given(clusters())
def test_order_of_the_mapping_does_not_matter(cluster: tuple[dict[int, int], int]) -> None:
    weights, buckets = cluster
    assert place(dict(reversed(weights.items())), buckets) == place(weights, buckets)


def test_known_placement_stays() -> None:
    """A change of the algorithm would move the buckets of clusters whose lock is lost or is made anew."""
    assert place({1: 1, 2: 1, 3: 2}, 8).orders == (
        (3, 1, 2),
        (3, 2, 1),
        (1, 2, 3),
        (2, 1, 3),
        (1, 3, 2),
        (2, 3, 1),
        (3, 1, 2),
        (3, 2, 1),
    )


def test_thirty_two_nodes_are_even() -> None:
    placement = place(EQUAL_32, 1024)
    assert worst_load(placement, ()) <= 1.01
    assert max(worst_load(placement, (node,)) for node in EQUAL_32) <= 1.04
    assert max(worst_load(placement, pair) for pair in combinations(EQUAL_32, 2)) <= 1.06
    assert max(worst_load(placement, trio) for trio in list(combinations(EQUAL_32, 3))[::40]) <= 1.13


def test_thirty_two_nodes_are_placed_in_time() -> None:
    start = process_time()
    placement = place(EQUAL_32, 1024)
    placed = process_time()
    assert violations(placement) == []
    checked = process_time()
    assert placed - start < 2.0  # measured: 0.15 s
    assert checked - placed < 0.1  # measured: 2 ms


def test_another_sequence_is_taken_where_insertion_by_id_misses_a_bound() -> None:
    weights = {node: 100 if node in (1, 3, 9, 13) else 1 for node in range(1, 23)}
    placement = Placement({}, ((),) * 1024)
    for node, weight in weights.items():
        placement = add_node(placement, node, weight)
    assert violations(placement) == ["node 1 is first in 246 buckets, its share is 244.98"]
    assert violations(place(weights, 1024)) == []


# Changes of membership


@settings(max_examples=100, deadline=None)
@given(clusters(most=31), st.integers(1, 100))
def test_adding_moves_buckets_only_to_the_new_node(cluster: tuple[dict[int, int], int], weight: int) -> None:
    weights, buckets = cluster
    new = next(node for node in range(1, 65) if node not in weights)
    grown = {**weights, new: weight}
    assume(min(grown.values()) * buckets >= sum(grown.values()))
    before = place(weights, buckets)
    after = add_node(before, new, weight)
    assert movement_violations(before, after) == []
    firsts = Counter(owners(after, grown))
    assert all(abs(firsts[node] - share) <= 1.25 for node, share in shares(grown, buckets).items())
    assert violations(after, removals=1) == []
    assert {after.orders[bucket][0] for bucket in moved(before, after)} == {new}
    assert abs(len(moved(before, after)) - shares(grown, buckets)[new]) <= 1


@settings(max_examples=100, deadline=None)
@given(clusters(least=2))
def test_removing_moves_only_the_removed_nodes_buckets(
    cluster: tuple[dict[int, int], int],
) -> None:
    weights, buckets = cluster
    before = place(weights, buckets)
    for gone in sorted(weights)[:4]:
        after = remove_node(before, gone)
        assert movement_violations(before, after) == []
        assert {before.orders[bucket][0] for bucket in moved(before, after)} == {gone}
        assert violations(after, removals=1) == []


@settings(max_examples=60, deadline=None)
@given(clusters(least=2), st.lists(st.tuples(st.booleans(), st.integers(0, 63)), max_size=30))
def test_any_history_stays_within_its_tolerance(
    cluster: tuple[dict[int, int], int], history: list[tuple[bool, int]]
) -> None:
    weights, buckets = cluster
    placement = place(weights, buckets)
    removals = 0
    for remove, choice in history:
        before = placement
        if remove and len(before.weights) > 1:
            placement = remove_node(before, sorted(before.weights)[choice % len(before.weights)])
            removals += 1
        elif len(before.weights) < 32:
            new = next(node for node in range(1, 65) if node not in before.weights)
            placement = add_node_if_worth_a_bucket(before, new, choice % 5 + 1)
        assert movement_violations(before, placement) == []
        # one more: rarely an insertion is as uneven as a removal
        assert violations(placement, removals + 1) == []


def add_node_if_worth_a_bucket(placement: Placement, node: int, weight: int) -> Placement:
    total = sum(placement.weights.values()) + weight
    if min(weight, *placement.weights.values()) * placement.buckets < total:
        return placement
    return add_node(placement, node, weight)


def test_erosion_is_none_without_removals_and_bounded() -> None:
    assert erosion(0, 1024.0) == 0
    assert erosion(1, 15.0) == 4
    assert erosion(100, 15.0) == erosion(8, 15.0) == 32


def test_a_cluster_may_be_emptied_and_filled_again() -> None:
    empty = remove_node(place({3: 1}, 64), 3)
    assert empty.orders == ((),) * 64
    assert violations(empty) == []
    assert add_node(empty, 5, 2).orders == ((5,),) * 64


# The checks see what is broken


def test_owner_of_nobody_is_none() -> None:
    assert owners(place({1: 1, 2: 1}, 64), ()) == (None,) * 64


def test_an_order_that_is_no_permutation_is_seen() -> None:
    sound = place({1: 1, 2: 1, 3: 1}, 64)
    for bad in ((1, 2), (1, 2, 2), (1, 2, 4), (1, 2, 3, 3)):
        broken = Placement(sound.weights, (*sound.orders[:63], bad))
        assert violations(broken) == ["order of bucket 63 does not name every node once"]


def test_uneven_first_places_are_seen() -> None:
    uneven = Placement({1: 1, 2: 1}, ((1, 2),) * 34 + ((2, 1),) * 30)
    assert [text.split(",")[0] for text in violations(uneven)] == [
        "node 1 is first in 34 buckets",
        "node 2 is first in 30 buckets",
    ]
    assert violations(uneven, removals=1) == []


def test_an_uneven_spread_is_seen() -> None:
    half = ((1, 2, 3),) * 20 + ((2, 3, 1),) * 20 + ((3, 1, 2),) * 20
    texts = violations(Placement({1: 1, 2: 1, 3: 1}, half))
    assert "node 2 would inherit 20 buckets of node 1, its share is 10.00" in texts
    assert len(texts) == 6


def test_a_swap_between_staying_nodes_is_seen() -> None:
    before = place({1: 1, 2: 1, 3: 1}, 64)
    first, second, third = before.orders[5]
    orders = list(before.orders)
    orders[5] = (second, first, third)
    after = Placement(before.weights, tuple(orders))
    assert movement_violations(before, after) == ["nodes that stay changed places in the order of bucket 5"]


def test_a_greedy_new_node_is_seen() -> None:
    before = place({1: 1, 2: 1}, 64)
    after = Placement({1: 1, 2: 1, 3: 1}, tuple((3, *order) for order in before.orders))
    assert movement_violations(before, after) == ["node 3 is first in 64 buckets, its share is 21.33"]


def test_other_buckets_or_weights_are_no_change_of_membership() -> None:
    before = place({1: 1, 2: 1}, 64)
    assert movement_violations(before, place({1: 1, 2: 1}, 128)) == ["64 buckets became 128"]
    weighted = Placement({1: 1, 2: 2}, before.orders)
    assert movement_violations(before, weighted) == ["the weight of node 2 changed"]


# What is refused


def test_a_weight_below_one_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match=r"node 2 would get no bucket: its weight is 1 of 101"):
        place({1: 100, 2: 1}, 64)
    with pytest.raises(ValueError, match="node 2 would get no bucket"):
        add_node(place({1: 30, 2: 1}, 64), 3, 100)


@pytest.mark.parametrize(("node", "weight"), [(0, 1), (65, 1), (9, 0), (1, 1)])
def test_a_node_that_cannot_be_placed_is_refused(node: int, weight: int) -> None:
    with pytest.raises(ValueError, match="placed"):
        add_node(place({1: 1, 2: 1}, 64), node, weight)


def test_a_stranger_cannot_be_removed() -> None:
    with pytest.raises(ValueError, match="node 7 is not placed"):
        remove_node(place({1: 1}, 64), 7)


@pytest.mark.parametrize(
    ("nodes", "alive", "one_failed", "two_failed"),
    [(2, 512, 1024, 1024), (8, 128, 147, 173), (32, 32, 34, 36)],
)
def test_so_full_is_the_fullest_node(nodes: int, alive: int, one_failed: int, two_failed: int) -> None:
    """Exact: 1.00, 1.03 and 1.05 times the mean for 32 nodes; docs/benchmarks.md has other ways."""
    placement = place(dict.fromkeys(range(1, nodes + 1), 1), 1024)

    def fullest(failed: int) -> int:
        groups = combinations(placement.weights, failed)
        survivors = (placement.weights.keys() - set(group) for group in groups)
        return max(max(Counter(owners(placement, each)).values()) for each in survivors if each)

    assert [fullest(failed) for failed in (0, 1, min(2, nodes - 1))] == [alive, one_failed, two_failed]


@pytest.mark.parametrize("nodes", [2, 8, 31])
def test_a_change_of_membership_moves_the_least_that_is_possible(nodes: int) -> None:
    """What a new node is to have, rounded; and of a removed one all that it had, to others alone."""
    placement = place(dict.fromkeys(range(1, nodes + 1), 1), 1024)
    added = add_node(placement, nodes + 1, 1)
    assert len(moved(placement, added)) in (1024 // (nodes + 1), -(-1024 // (nodes + 1)))
    for node in placement.weights:
        own = Counter(owners(placement, placement.weights))[node]
        assert len(moved(placement, remove_node(placement, node))) == own
