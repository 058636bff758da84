"""``trscaler-gen plan`` and ``apply`` as a user runs them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import IO

import click
import pytest
from click.testing import CliRunner

from ssh.nodes import CLUSTER, LINK, ROOT
from ssh.user import User, actions
from trscaler_gen.cli import apply as apply_module
from trscaler_gen.errors import OperationError


def test_it_says_per_node_what_it_did(user: User) -> None:
    user.write("n1", "n2")
    first = user.apply("--yes")
    assert (first.exit_code, actions(first)) == (0, {"n1": "started", "n2": "started"}), first.output
    assert [line.split(":")[0] for line in first.stderr.splitlines() if ": n" in line] == [
        *("observe", "lock", "lock", "stage", "start", "prove", "confirm", "record")
    ]


def test_nothing_to_do_is_said_and_done(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.lan.forget_journal()
    again = user.apply()
    assert again.exit_code == 0
    assert "Nothing to do" in again.stdout
    assert user.lan.journal == ()


def test_where_nobody_can_be_asked_nothing_is_done(user: User) -> None:
    user.write("n1", "n2")
    result = user.apply()
    assert result.exit_code != 0
    assert isinstance(result.exception, OperationError)
    assert "--yes" in result.exception.hint
    assert user.lan.journal == ()
    assert not user.lock.exists()


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[bytes]]:
    """What the user types: standard input is a terminal."""
    master, slave = os.openpty()
    with os.fdopen(master, "wb", buffering=0) as keys, os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield keys


@pytest.mark.parametrize("typed", [b"n\n", b"\n", b"\x04"], ids=["n", "return", "end"])
def test_it_asks_and_takes_no_for_an_answer(
    user: User, keyboard: IO[bytes], typed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    user.write("n1", "n2")
    keyboard.write(typed)
    with pytest.raises(click.Abort):
        apply_module.command.main([str(user.inventory)], standalone_mode=False)
    assert "Carry this out? [y/N]" in capsys.readouterr().err
    assert user.lan.journal == ()
    assert not user.lock.exists()


def test_it_asks_and_takes_yes_for_an_answer(user: User, keyboard: IO[bytes]) -> None:
    user.write("n1", "n2")
    keyboard.write(b"y\n")
    with pytest.raises(SystemExit) as end:
        apply_module.command.main([str(user.inventory)], standalone_mode=False)
    assert end.value.code == 0
    assert user.lock.exists()


def test_plan_changes_nothing_and_tells_by_its_exit_status(user: User) -> None:
    user.write("n1", "n2")
    result = user.plan("--detailed-exitcode")
    assert result.exit_code == 2, result.output
    assert user.plan().exit_code == 0
    assert not user.lock.exists()
    assert user.lan.run("n1", f"ls {ROOT} 2>/dev/null || :") == ""
    user.apply("--yes")
    assert user.plan("--detailed-exitcode").exit_code == 0
    user.lan.nodes["n2"].kill()
    assert user.plan("--detailed-exitcode").exit_code == 1


def test_a_saved_plan_is_carried_out_as_it_is(user: User) -> None:
    user.write("n1", "n2")
    saved = user.inventory.with_name("saved.plan")
    assert user.plan("-o", str(saved)).exit_code == 0
    assert saved.stat().st_mode & 0o777 == 0o600
    user.write("n1")  # the plan is what counts, not the file
    result = user.apply(source=saved)
    assert (result.exit_code, actions(result)) == (0, {"n1": "started", "n2": "started"}), result.output


def test_a_saved_plan_is_refused_when_a_node_has_changed(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.write("n1", "n2", hash={"buckets": 512})
    saved = user.inventory.with_name("saved.plan")
    assert user.plan("-o", str(saved)).exit_code == 0
    user.lan.run("n2", f"echo edited >>{ROOT}/current/ruleset.nft")
    user.lan.forget_journal()
    result = user.apply("--allow-disruption", source=saved)
    assert result.exit_code == 1
    assert "no longer what the plan saw: other files lie there" in result.stderr
    assert user.lan.journal == ()


def test_a_saved_plan_is_refused_when_the_lock_has_changed(user: User) -> None:
    user.write("n1", "n2")
    saved = user.inventory.with_name("saved.plan")
    user.plan("-o", str(saved))
    user.apply("--yes")
    result = user.apply(source=saved)
    assert result.exit_code == 1
    assert "is no longer what the plan saw" in str(result.exception)


def test_a_disruptive_plan_needs_a_word(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.lan.forget_journal()
    user.write("n1", "n2", hash={"buckets": 512})
    refused = user.apply("--yes")
    assert refused.exit_code == 1
    assert "interrupts connections" in str(refused.exception)
    assert user.lan.journal == ()
    assert actions(user.apply("--yes", "--allow-disruption")) == {"n1": "swapped", "n2": "swapped"}


def test_json_lines_are_all_that_is_on_standard_output(user: User) -> None:
    user.write("n1", "n2")
    user.lan.nodes["n2"].tell("fail-check", "1")
    result = user.apply("--yes", "--json")
    assert result.exit_code == 1
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [document["event"] for document in documents]
    assert (kinds[0], kinds[-1]) == ("phase", "outcome")
    assert "plan" in kinds
    outcome = documents[-1]
    assert (outcome["cluster"], outcome["complete"], outcome["interrupted"]) == (CLUSTER, False, False)
    by_name = {node["node"]: node for node in outcome["nodes"]}
    assert by_name["n1"]["action"] == "untouched"
    assert by_name["n2"] | {"hint": "", "message": ""} == {
        "node": "n2",
        "action": "failed",
        "before": None,
        "after": None,
        "message": "",
        "command": "node.sh check",
        "status": 1,
        "stderr": "told to fail\n",
        "hint": "",
    }


def test_a_failure_is_told_with_all_that_is_known(user: User) -> None:
    user.write("n1", "n2")
    user.lan.nodes["n2"].tell("fail-up", "9")
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert actions(result) == {"n1": "started", "n2": "failed"}
    assert "error: n2: up failed: told to fail" in result.stderr
    assert "command: node.sh up (exit 9)" in result.stderr


def test_an_unreachable_node_means_no_lock_and_no_change(user: User) -> None:
    user.write("n1", "n2")
    user.lan.nodes["n2"].kill()
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert "nothing was changed" in result.stderr
    assert not user.lock.exists()
    assert user.lan.journal == ()


def test_every_unfit_node_is_reported_at_once(user: User) -> None:
    user.write("n1", "n2")
    user.inventory.write_text(user.inventory.read_text().replace(f"link: {LINK}", "link: eth7"))
    result = user.apply("--yes")
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert "unfit n1, n2 (2 nodes) it has no link eth7" in words
    assert user.lan.journal == ()


def test_a_node_that_left_is_stopped_erased_and_leaves_the_lock(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.write("n1")
    result = user.apply("--yes")
    assert (result.exit_code, actions(result)) == (0, {"n1": "swapped", "n2": "stopped"}), result.output
    assert "retired" not in user.lock.read_text()
    assert user.lan.run("n2", f"ls {ROOT} 2>/dev/null || :") == ""


def test_a_node_that_left_and_is_dead_does_not_block_the_others(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.write("n1")
    user.lan.nodes["n2"].kill()
    result = user.apply("--yes")
    assert (result.exit_code, actions(result)) == (0, {"n1": "swapped", "n2": "absent"}), result.output
    assert "apply --forget n2" in result.stdout
    assert "retired" in user.lock.read_text()
    assert user.apply("--yes", "--forget", "n2").exit_code == 0
    assert "retired" not in user.lock.read_text()


def test_a_node_that_left_cannot_be_reached_and_is_heard_blocks(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.write("n1")
    user.lan.nodes["n2"].kill()
    user.lan.nodes["n1"].tell("state", "node_id=1\nalive=1 2\n")
    user.lan.forget_journal()
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert "still serves" in result.stdout
    assert user.lan.journal == ()


def test_only_a_node_that_left_can_be_forgotten(user: User) -> None:
    user.write("n1", "n2")
    result = user.apply("--yes", "--forget", "n1")
    assert result.exit_code != 0
    assert "--forget n1" in result.stderr
    assert user.lan.journal == ()


def test_a_fresh_lock_is_refused_by_a_cluster_that_has_one(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.lock.unlink()
    user.lan.forget_journal()
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert "lock recover" in result.stdout
    assert user.lan.journal == ()
    assert not user.lock.exists()


def test_the_same_trouble_on_all_nodes_is_told_once(user: User) -> None:
    user.write("n1", "n2")
    (user.lan.folder / "config").unlink()
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert result.stdout.count("no such ssh configuration") == 1


def test_several_clusters_are_refused_together(user: User) -> None:
    """Everything is planned before anything is changed."""
    user.write("n1", "n2")
    other = user.inventory.with_name("other.yaml")
    other.write_text(
        user.inventory.read_text().replace(f"cluster: {CLUSTER}", "cluster: other").replace("eth0", "eth7")
    )
    result = CliRunner().invoke(apply_module.command, ["--yes", str(user.inventory), str(other)])
    assert result.exit_code == 1
    assert user.lan.journal == ()
