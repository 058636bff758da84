"""The plan as people see it: golden views, and what must never be in one.

After a change of the templates or of the view: cd tests && python -m plan.scenarios
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from trscaler_gen.errors import NodeError
from trscaler_gen.plan import FileChange, Plan, Seen, Step, StepAction, differences, make_plan, plan_as_json

from .scenarios import (
    GOLDEN,
    SCENARIOS,
    SEED_FORMS,
    VIEWS,
    base,
    cluster,
    edited,
    golden,
    nodes,
    plan_between,
    seen_of,
    view,
)

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def words(shown: str) -> list[str]:
    return ESCAPES.sub("", shown).split()


@pytest.mark.parametrize("end", VIEWS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_view_is_as_it_was(name: str, end: str) -> None:
    expected = GOLDEN / f"{name}.{end}"
    assert golden(SCENARIOS[name](), end) == expected.read_text(), "see above how to write it anew"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_pipe_gets_the_words_of_the_terminal(name: str) -> None:
    plan = SCENARIOS[name]()
    assert words(view(plan, "80.ansi")) == words(view(plan, "120.ansi")) == words(view(plan, "txt"))
    assert "\x1b" not in view(plan, "txt")


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_view_holds_the_seed(name: str) -> None:
    plan = SCENARIOS[name]()
    shown = [view(plan, end) for end in VIEWS]
    shown += [view(plan, "txt", full=True), json.dumps(plan_as_json(plan)), repr(plan)]
    for text in shown:
        assert not any(form in text for form in SEED_FORMS)


def test_the_seed_is_in_what_is_shown() -> None:
    """The twin: without redaction the files would show it."""
    changes = [change for step in SCENARIOS["node-added"]().steps for change in step.files]
    assert all(any(form.encode() in change.after for change in changes) for form in SEED_FORMS[:2])


def test_full_shows_what_is_left_out_otherwise() -> None:
    plan = SCENARIOS["node-added"]()
    assert "rank0_" not in view(plan, "txt")
    full = view(plan, "txt", full=True)
    assert "map rank3_" in full and "0063: " in full


def test_another_seed_is_seen_to_be_another() -> None:
    shown = view(SCENARIOS["lock-lost"](), "txt")
    assert "-seed: (secret)" in shown and "+seed: (another secret)" in shown


def with_file(content: bytes, name: str = "keepalived.conf") -> Plan:
    wanted = base().wanted(base())
    seen = seen_of(base(), wanted.bundles)
    seen["alpha"] = edited(seen["alpha"], wanted.bundles["alpha"], name, content)
    return make_plan(wanted, seen)


@pytest.mark.parametrize(
    "content",
    [
        b"\x1b]0;gotcha\x07\x1b[2J[bold]no markup[/bold] :smile:\n",
        b"\xff\xfe\x00\x01" * 100,
        b"",
        b"\n",
        b"no newline at its end",
        b"one\r\ntwo\rthree\x0bfour\xc2\x85five\xe2\x80\xa8six\xe2\x80\xae\n",
        b"x" * 100_000,
        b"line\n" * 20_000,
        b"seed seed seed 99999999999999999999999999 0x\n" * 50,
        b"    map rank0_12345678 {\n" * 1000,
        b"        meta mark set jhash x map @rank0_TAG\n" * 1000,
    ],
)
def test_whatever_lies_on_a_node_is_harmless(content: bytes) -> None:
    for name in ("keepalived.conf", "ruleset.nft", "lock", "node.sh"):
        plan = with_file(content, name)
        for full in (False, True):
            shown = view(plan, "txt", full=full)
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", shown)
            assert f"files edited on the node: {name}" in shown
        json.dumps(plan_as_json(plan)).encode()


def test_markup_of_a_node_is_text() -> None:
    assert "[bold]no markup[/bold] :smile:" in view(with_file(b"[bold]no markup[/bold] :smile:\n"), "80.ansi")


def test_what_a_node_said_is_redacted_and_harmless() -> None:
    error = NodeError(
        "alpha",
        "nft said \x1b[2J seed 12345",
        command="nft",
        status=1,
        stderr="rule: mod 64 seed 777\n\x1b[0m",
    )
    plan = make_plan(base().wanted(base()), {"alpha": error})
    shown = view(plan, "txt")
    assert "\x1b" not in shown and "12345" not in shown and "777" not in shown
    assert "unfit" in shown
    assert "777" not in json.dumps(plan_as_json(plan))


def one_change(before: bytes, after: bytes, name: str = "keepalived.conf") -> list[str]:
    step = Step("n1", StepAction.SWAP, files=(FileChange(name, "change", before, after),))
    (difference,) = differences([step])
    return [f"{line.mark}{line.text}" for line in difference.lines]


def test_unified_diff_keeps_three_lines_around_a_change() -> None:
    lines = [b"%d" % number for number in range(20)]
    changed = [*lines[:8], b"new", *lines[9:]]
    assert one_change(b"\n".join(lines) + b"\n", b"\n".join(changed) + b"\n") == [
        "@", " 5", " 6", " 7", "-8", "+new", " 9", " 10", " 11",
    ]  # fmt: skip


def test_changes_far_apart_are_hunks_of_their_own() -> None:
    lines = [b"%d" % number for number in range(30)]
    near = [b"a" if number in (10, 16) else line for number, line in enumerate(lines)]
    far = [b"a" if number in (10, 20) else line for number, line in enumerate(lines)]
    text = b"\n".join(lines)
    assert one_change(text, b"\n".join(near)).count("@") == 1
    assert one_change(text, b"\n".join(far)).count("@") == 2


def test_a_missing_newline_at_the_end_is_a_change() -> None:
    assert one_change(b"a\n", b"a") == ["@", " a", "+(no newline at the end)"]


def test_equal_diffs_are_told_once() -> None:
    plan = SCENARIOS["thirty-two-nodes"]()
    told = [(difference.name, len(difference.nodes)) for difference in differences(plan.steps)]
    assert told == [("lock", 31), ("node.sh", 31), ("peers.nft", 31), ("ruleset.nft", 31)]


def test_a_node_whose_file_was_edited_is_told_apart() -> None:
    """The twin of the one above: in the lists of peers too, where nodes differ by leaving themselves out."""
    after = cluster(base(), nodes=nodes("alpha", "beta", "gamma", "delta"))
    wanted = after.wanted(base())
    seen = seen_of(base(), wanted.bundles)
    there = seen["beta"]
    assert isinstance(there, Seen)
    rules = there.files["ruleset.nft"].replace(b": 3  # gamma", b": 9  # gamma", 1)
    assert rules != there.files["ruleset.nft"]
    seen["beta"] = replace(there, files={**there.files, "ruleset.nft": rules})
    found = [each for each in differences(make_plan(wanted, seen).steps) if each.name == "ruleset.nft"]
    assert [each.nodes for each in found] == [("alpha", "gamma"), ("beta",)]


def test_orders_that_differ_are_seen_to() -> None:
    plan = plan_between(base(), cluster(base(), nodes=nodes("alpha", "beta")))
    lock = next(each for each in differences(plan.steps) if each.name == "lock")
    assert [line.text for line in lock.lines if "orders of" in line.text] == [
        "(the orders of 64 buckets)",
        "(other orders of 64 buckets)",
    ]


def test_golden_views_are_all_of_today() -> None:
    names = {path.name for path in Path(GOLDEN).iterdir()}
    assert names == {f"{name}.{end}" for name in SCENARIOS for end in VIEWS}
