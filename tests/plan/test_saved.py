"""Saved plans: what is written is read again, and nothing odd is a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.lock import render_lock
from trscaler_gen.plan import SavedPlan, is_saved_plan, load, make_plan, save, stale
from trscaler_gen.plan.saved import _digest

from .scenarios import SEED_FORMS, base, cluster, nodes, seen_of


@cache
def saved() -> SavedPlan:
    after = cluster(base(), nodes=nodes("alpha", "beta"))
    plan = make_plan(after.wanted(base()), seen_of(base(), after.bundles))
    return SavedPlan(
        inventory_path="/somewhere/cluster.yaml",
        inventory_text="cluster: golden\n",
        lock_before=render_lock(base().lock),
        lock_after=render_lock(after.lock),
        generations={step.node: step.after for step in plan.steps if step.after},
        conditions=plan.conditions,
    )


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        load(text, "cluster.plan")
    for problem in caught.value.problems:
        assert problem.source == "cluster.plan" and problem.line >= 1 and problem.column >= 1
        assert problem.message.isprintable() and problem.hint
        assert not any(form in f"{problem}" for form in SEED_FORMS)
    return caught.value.problems


def resealed(change: Callable[[dict[str, Any]], object]) -> str:
    """A plan that somebody changed, and gave a digest that fits."""
    values = json.loads(save(saved()))
    change(values)
    content = {key: value for key, value in values.items() if key not in ("trscaler_gen_plan", "digest")}
    return json.dumps({**values, "digest": _digest(content)}, indent=1)


def test_what_is_saved_is_loaded() -> None:
    again = load(save(saved()), "cluster.plan")
    assert again == saved()
    assert save(again) == save(saved())
    assert stale(again.conditions, seen_of(base(), {})) == ()


def test_a_plan_of_a_cluster_without_a_lock() -> None:
    plan = SavedPlan("x.yaml", "cluster: golden\n", "", render_lock(base().lock), {}, {})
    assert load(save(plan), "cluster.plan") == plan


def test_a_saved_plan_is_told_from_an_inventory() -> None:
    text = save(saved())
    assert is_saved_plan(text) and is_saved_plan(text[:100])
    assert not is_saved_plan("cluster: golden\n") and not is_saved_plan('{"cluster": "golden"}')


def test_secrets_are_not_in_its_repr() -> None:
    assert not any(form in repr(saved()) for form in SEED_FORMS)
    assert any(form in save(saved()) for form in SEED_FORMS), "the twin: the text holds it"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "plan-json"),
        ("{", "plan-json"),
        ("[]", "plan-foreign"),
        ("1", "plan-foreign"),
        ("{}", "plan-foreign"),
        ('{"trscaler_gen_plan": 2}', "plan-version"),
        ('{"trscaler_gen_plan": true}', "plan-version"),
        ('{"trscaler_gen_plan": 1, "trscaler_gen_plan": 1}', "plan-json"),
        ('{"trscaler_gen_plan": NaN}', "plan-json"),
        ('{"trscaler_gen_plan": 1}', "plan-value"),
        ("[" * 100_000, "plan-json"),
        ('{"trscaler_gen_plan": ' + "9" * 5000 + "}", "plan-json"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, code: str) -> None:
    assert refused(text)[0].code == code


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("lock_after"), "lock_after: "),
        (lambda values: values.update(more=1), "more: "),
        (lambda values: values.update(inventory_path=""), "inventory_path: "),
        (lambda values: values.update(inventory_path="\ud800"), "inventory_path: "),
        (lambda values: values.update(lock_after="\x1b[2J"), "lock_after"),
        (lambda values: values.update(lock_before="version: 1\n"), "lock_before"),
        (lambda values: values["generations"].update(alpha="x"), "generations.alpha: "),
        (lambda values: values["generations"].update({"\x1b": "x"}), "generations."),
        (lambda values: values["conditions"]["beta"].update(epoch="1"), "conditions.beta.epoch: "),
        (lambda values: values["conditions"]["beta"].update(runs=1), "conditions.beta.runs: "),
        (lambda values: values["conditions"]["beta"].pop("digests"), "conditions.beta.digests: "),
        (lambda values: values["conditions"].update(beta=None), "conditions.beta: "),
    ],
)
def test_every_value_is_checked(change: Callable[[dict[str, Any]], object], message: str) -> None:
    assert message in refused(resealed(change))[0].message


def test_the_place_of_a_wrong_value_is_told() -> None:
    text = resealed(lambda values: values["conditions"]["beta"].update(epoch="1"))
    (problem,) = refused(text)
    assert text.splitlines()[problem.line - 1].strip() == '"epoch": "1",'
    assert text.splitlines()[problem.line - 1][problem.column - 1 :].startswith('"epoch"')


def test_a_change_by_hand_is_noticed() -> None:
    text = save(saved()).replace('"serial": 1', '"serial": 2', 1)
    assert refused(text)[0].code == "plan-digest"
    assert refused(save(saved())[:-20])[0].code == "plan-json"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_spoilt_plan_is_a_traceback(data: st.DataObject) -> None:
    def spoil(values: dict[str, Any]) -> None:
        place: Any = values
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            place[key] = data.draw(json_values)
            return

    text = resealed(spoil)
    try:
        load(text, "cluster.plan")
    except InputError as error:
        assert error.problems


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_cut_or_altered_text_is_a_traceback(data: st.DataObject) -> None:
    text = save(saved())
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, min(len(text), start + 50)))
    spoilt = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
    try:
        assert load(spoilt, "cluster.plan") == saved()
    except InputError as error:
        assert error.problems
