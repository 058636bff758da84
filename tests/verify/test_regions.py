"""Regions against all sets one by one, and an evaluator's answers that never meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.proof.regions import is_in, outside

NODES = 6
EVERYBODY = 2**NODES - 1
masks = st.integers(0, EVERYBODY)
regions = st.tuples(masks, masks)


@given(regions, st.lists(regions, max_size=6))
def test_a_set_outside_is_found_if_there_is_one(
    region: tuple[int, int], others: list[tuple[int, int]]
) -> None:
    right = [
        living
        for living in range(EVERYBODY + 1)
        if is_in(living, region) and not any(is_in(living, other) for other in others)
    ]
    found = outside(region, others, EVERYBODY)
    assert (found in right) if right else found is None
