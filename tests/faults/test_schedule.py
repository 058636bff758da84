"""Schedules: the same seed, the same faults; somebody is always left to serve."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .rules import Port, switch_rules
from .schedule import KINDS, Fault, Schedule, draw, from_json, moments, node_names

SCHEDULES = st.builds(draw, st.integers(0, 2**32), st.floats(5, 120), st.integers(3, 8))


@given(st.integers(0, 2**32), st.floats(5, 120), st.integers(3, 8))
def test_the_same_seed_makes_the_same_schedule(seed: int, seconds: float, nodes: int) -> None:
    assert draw(seed, seconds, nodes) == draw(seed, seconds, nodes)


@given(SCHEDULES)
def test_a_schedule_comes_back_from_its_file(schedule: Schedule) -> None:
    assert from_json(json.loads(json.dumps(schedule.as_json()))) == schedule


@given(SCHEDULES)
def test_somebody_is_left_at_any_moment(schedule: Schedule) -> None:
    for at_s in (fault.start_s for fault in schedule.faults):
        away = {
            node
            for fault in schedule.faults
            if KINDS[fault.kind].away and fault.start_s <= at_s <= fault.end_s
            for node in fault.nodes
        }
        assert away < set(node_names(schedule.nodes))


@given(SCHEDULES)
def test_a_keepalived_is_stopped_in_one_way_at_a_time(schedule: Schedule) -> None:
    halts = [fault for fault in schedule.faults if KINDS[fault.kind].halts]
    for number, fault in enumerate(halts):
        for later in halts[number + 1 :]:
            assert not set(fault.nodes) & set(later.nodes) or fault.end_s < later.start_s


@given(SCHEDULES)
def test_everything_is_over_in_time(schedule: Schedule) -> None:
    assert all(fault.start_s <= fault.end_s <= schedule.seconds for fault in schedule.faults)
    times = [at_s for at_s, _fault, _begins in moments(schedule)]
    assert times == sorted(times)


def test_every_kind_of_fault_is_drawn() -> None:
    assert {fault.kind for seed in range(5) for fault in draw(seed, 60, 4).faults} == set(KINDS)


def test_a_prefix_ends_soon_after_what_it_was_cut_off_for() -> None:
    schedule = draw(1, 60, 4)
    prefix = schedule.prefix(20)
    assert prefix.seconds == 22
    assert prefix.faults == tuple(fault for fault in schedule.faults if fault.start_s <= 20)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "flood", "start_s": 1, "end_s": 2, "nodes": ["n1"]},
        {"kind": "cut", "start_s": 1, "end_s": 2, "nodes": ["n9"]},
        {"kind": "cut", "start_s": 1, "end_s": 2, "nodes": []},
        {"kind": "cut", "start_s": 3, "end_s": 2, "nodes": ["n1"]},
        {"kind": "cut", "start_s": "1", "end_s": 2, "nodes": ["n1"]},
        {"kind": "cut", "start_s": 1, "end_s": 2, "nodes": ["n1"], "amount": "1; reboot"},
        {"kind": "one-way", "start_s": 1, "end_s": 2, "nodes": ["n1"]},
        {"kind": "cut", "nodes": ["n1"]},
        "cut",
    ],
)
def test_a_file_that_is_no_schedule_is_refused(fault: object) -> None:
    document = {**draw(1, 10, 4).as_json(), "faults": [fault]}
    with pytest.raises(ValueError, match="not a schedule"):
        from_json(document)


def test_rules_stand_where_frames_leave_to_who_must_not_hear() -> None:
    ports = {
        name: Port(name, f"p-{name}", f"02:00:00:00:00:0{name[-1]}", f"192.0.2.{name[-1]}")
        for name in node_names(3)
    }
    rules = switch_rules(ports, "client", [Fault("one-way", 0, 1, ("n1", "n3"))])
    to_n1, to_n2, to_n3 = rules.split("chain ")[1:]
    assert "drop" not in to_n1 + to_n2
    assert "ip saddr 192.0.2.1 drop" in to_n3


@pytest.mark.parametrize("document", [None, [], "cut", {}, {**draw(1, 10, 4).as_json(), "nodes": 40}])
def test_a_file_of_something_else_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a schedule"):
        from_json(document)
