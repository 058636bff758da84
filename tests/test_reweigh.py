"""Other weights: exact shares, the fewest moves, and the bounds of a fresh placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trscaler_gen.placement import Placement, moved, owners, place, remove_node, violations
from trscaler_gen.reweigh import changed_weights, is_even, reweigh, unevenness

BUCKETS = st.sampled_from([64, 100, 251, 1024])


@st.composite
def edits(draw: st.DrawFn) -> tuple[Placement, dict[int, int]]:
    """A placement, eroded or not, and other weights for its nodes."""
    buckets = draw(BUCKETS)
    count = draw(st.integers(1, 16))
    weight = draw(st.sampled_from([st.integers(1, 3), st.integers(1, 40)]))
    weights = {node: draw(weight) for node in range(1, count + 1)}
    assume(min(weights.values()) * buckets >= sum(weights.values()))
    placement = place(weights, buckets)
    for gone in draw(st.sets(st.sampled_from(sorted(weights)), max_size=count - 1)):
        placement = remove_node(placement, gone)
    after = {node: draw(weight) for node in placement.weights}
    assume(min(after.values()) * buckets >= sum(after.values()))
    return placement, after


def counts(placement: Placement) -> Counter[int]:
    return Counter(order[0] for order in placement.orders)


def fewest(before: Counter[int], weights: Mapping[int, int], buckets: int) -> int:
    """Moves that any placement with these shares needs, over all ways to round them."""
    total = sum(weights.values())
    low = {node: buckets * weight // total for node, weight in weights.items()}
    high = {node: -(-buckets * weight // total) for node, weight in weights.items()}
    given = sum(max(0, before[node] - high[node]) for node in weights)
    taken = sum(max(0, low[node] - before[node]) for node in weights)
    return max(given, taken)


@settings(max_examples=60, deadline=None)
@given(edits())
def test_shares_are_exact_and_nothing_else_moves(edit: tuple[Placement, dict[int, int]]) -> None:
    before, weights = edit
    after = reweigh(before, weights)
    assert is_even(after)
    assert len(moved(before, after)) == fewest(counts(before), weights, before.buckets)
    if changed_weights(before.weights, weights):
        assert violations(after) == []


@settings(max_examples=60, deadline=None)
@given(edits())
def test_it_is_a_function_and_settles(edit: tuple[Placement, dict[int, int]]) -> None:
    before, weights = edit
    after = reweigh(before, weights)
    assert after == reweigh(before, weights)
    assert reweigh(after, weights) == after
    assert reweigh(after, {node: 3 * weight for node, weight in weights.items()}).orders == after.orders


def test_a_node_that_gets_more_takes_from_all_others_alike() -> None:
    before = place(dict.fromkeys(range(1, 9), 1), 256)
    after = reweigh(before, {**before.weights, 8: 4})
    givers = Counter(before.orders[bucket][0] for bucket in moved(before, after))
    assert {after.orders[bucket][0] for bucket in moved(before, after)} == {8}
    assert max(givers.values()) - min(givers[node] for node in range(1, 8)) <= 1


def test_the_load_after_failures_stays_near_that_of_a_fresh_placement() -> None:
    """The buckets of failed nodes go to the heavy as to the light, by weight."""
    weights = {node: 4 if node == 8 else 1 for node in range(1, 9)}
    after = reweigh(place(dict.fromkeys(weights, 1), 1024), weights)
    for failed in combinations(weights, 2):
        alive = {node: weight for node, weight in weights.items() if node not in failed}
        load = Counter(owners(after, alive))
        total = sum(alive.values())
        assert max(load[node] * total / (1024 * weight) for node, weight in alive.items()) < 1.1


def test_an_eroded_placement_becomes_exact_again() -> None:
    placement = place(dict.fromkeys(range(1, 9), 1), 64)
    for gone in (1, 2, 3):
        placement = remove_node(placement, gone)
    assert not is_even(placement)
    even = reweigh(placement, placement.weights)
    assert is_even(even) and unevenness(even) < unevenness(placement)


def test_what_is_even_stays_as_it_is() -> None:
    placement = place({1: 1, 2: 2, 3: 3}, 64)
    assert reweigh(placement, {1: 2, 2: 4, 3: 6}) == Placement({1: 2, 2: 4, 3: 6}, placement.orders)


def test_other_nodes_and_too_light_ones_are_refused() -> None:
    placement = place({1: 1, 2: 1}, 64)
    with pytest.raises(ValueError, match="another membership"):
        reweigh(placement, {1: 1})
    with pytest.raises(ValueError, match="node 2 would get no bucket"):
        reweigh(placement, {1: 64, 2: 1})


def test_a_weight_changes_against_those_of_the_most() -> None:
    assert changed_weights({1: 1, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 3}) == (3,)
    assert changed_weights({1: 1, 2: 1, 3: 1}, {1: 2, 2: 2, 3: 2}) == ()
    assert changed_weights({1: 2, 2: 2, 3: 2}, {1: 1, 2: 1, 3: 2}) == (3,)
    assert changed_weights({}, {}) == ()
