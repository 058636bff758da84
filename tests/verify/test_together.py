"""Packets and states that are looked at together against the same ones by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.check.listing import list_rulesets
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.proof import evaluate
from trscaler_gen.proof.judge import Answers, Reading, read_states
from trscaler_gen.proof.lanes import side_by_side
from trscaler_gen.proof.prove import _cluster, _judged
from trscaler_gen.proof.states import states

from .world import rulesets, switching

numbers = st.sampled_from([0, 1, 2, 7, 2**16, 2**40, 2**63])


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers, numbers), min_size=1))
def test_numbers_side_by_side_are_the_same_where_all_are(rows: list[tuple[int, ...]]) -> None:
    columns = np.array(rows, np.uint64).T
    found = side_by_side(np.zeros(len(rows), np.int64), columns).tolist()
    for row, number in zip(rows, found, strict=True):
        assert [other == row for other in rows] == [other == number for other in found]


def test_the_answers_are_those_of_each_packet_and_state_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = switching(tmp_path)
    plans = plan_nodes(compiled.inventory, compiled.lock)
    links = {plan.node: plan.link for plan in plans}
    listings = list_rulesets(rulesets(compiled), links)
    cluster = _cluster(plans, compiled.lock)
    found = states(preserves=True, has_peers=True, has_switch=True, has_calm=True)
    for plan in plans:
        judged = _judged(plan, listings[plan.node])
        monkeypatch.setattr(evaluate, "_MANY_LANES", 0)
        monkeypatch.setattr(evaluate, "_MANY_RULES", 0)
        together = list(read_states(judged, cluster, found))
        monkeypatch.setattr(evaluate, "_MANY_LANES", 1 << 40)
        alone = [next(read_states(judged, cluster, [state])) for state in found]
        for state, one, other in zip(found, together, alone, strict=True):
            assert in_words(one) == in_words(other), f"{plan.node}, {state.label}"


def in_words(reading: Reading) -> list[list[tuple[int, ...]]]:
    return [in_rows(answers) for answers in (*reading.answers, *reading.untouched)]


def in_rows(answers: Answers) -> list[tuple[int, ...]]:
    columns = (answers.bucket.tolist(), answers.yes.tolist(), answers.no.tolist())
    return sorted(zip(*columns, strict=True))
