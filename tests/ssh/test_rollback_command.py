"""``trscaler-gen rollback`` as a user runs it, and what ``history`` tells him to go back to."""

from __future__ import annotations

import pytest
from click.testing import Result

from ssh.nodes import ROOT
from ssh.user import User, actions
from trscaler_gen.errors import NodeError, OperationError

UNKNOWN = "f" * 12


@pytest.fixture
def changed(user: User) -> User:
    """Two changes of two nodes: the second has other files."""
    user.write("n1", "n2")
    assert user.apply("--yes").exit_code == 0
    user.write("n1", "n2", hash={"buckets": 512})
    assert user.apply("--yes", "--allow-disruption").exit_code == 0
    user.lan.forget_journal()
    return user


def changes(user: User) -> list[str]:
    """What was applied, newest first."""
    return [row["change"] for row in user.history()["changes"] if row["event"] == "applied"]


def generation(user: User, node: str) -> str:
    return user.lan.run(node, f"readlink {ROOT}/current").strip().rpartition("/")[2]


def refused(user: User, result: Result) -> OperationError:
    """What a command that did nothing said."""
    assert isinstance(result.exception, OperationError), result.output
    assert user.lan.journal == ()
    return result.exception


def test_it_goes_back_to_the_change_before(changed: User) -> None:
    last, first = changes(changed)
    lock = changed.lock.read_text()
    result = changed.rollback("--yes", "--allow-disruption")
    assert (result.exit_code, actions(result)) == (0, {"n1": "swapped", "n2": "swapped"}), result.output
    assert changes(changed) == [first, last, first]
    assert changed.lock.read_text() == lock
    again = changed.apply("--yes", "--allow-disruption")
    assert actions(again) == {"n1": "swapped", "n2": "swapped"}, again.output
    assert changes(changed) == [last, first, last, first]


def test_it_goes_back_to_a_change_by_its_name(changed: User) -> None:
    """Not the one before: the first of three."""
    first = changes(changed)[-1]
    changed.write("n1", "n2", hash={"buckets": 256})
    assert changed.apply("--yes", "--allow-disruption").exit_code == 0
    result = changed.rollback("--to", first, "--yes", "--allow-disruption")
    assert (result.exit_code, actions(result)) == (0, {"n1": "swapped", "n2": "swapped"}), result.output
    assert changes(changed)[0] == first
    assert generation(changed, "n1") == changed.history()["changes"][-1]["nodes"]["n1"]["generation"]


def test_it_needs_a_word_for_a_disruption(changed: User) -> None:
    assert "interrupts connections" in str(refused(changed, changed.rollback("--yes")))


def test_unknown_change_is_refused(changed: User) -> None:
    error = refused(changed, changed.rollback("--to", UNKNOWN, "--yes"))
    assert f"no node has change {UNKNOWN} in its history" in error.message
    assert "trscaler-gen history" in error.hint


def test_without_a_change_before_it_is_refused(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.lan.forget_journal()
    assert "no change before this one" in refused(user, user.rollback("--yes")).message


def test_where_nothing_runs_it_is_refused(user: User) -> None:
    user.write("n1", "n2")
    assert "nothing to go back from" in refused(user, user.rollback("--yes")).message


def test_lost_files_are_told(changed: User) -> None:
    first = changed.history()["changes"][-1]
    lost = first["nodes"]["n2"]["generation"]
    changed.lan.run("n2", f"rm -r {ROOT}/generations/{lost}")
    error = refused(changed, changed.rollback("--yes"))
    assert error.message == f"n2 no longer has the files of change {first['change']}"
    assert changed.history()["changes"][-1]["generation_gone_from"] == ["n2"]


def test_unreachable_node_is_told(changed: User) -> None:
    changed.lan.nodes["n2"].kill()
    error = refused(changed, changed.rollback("--yes"))
    assert isinstance(error, NodeError)
    assert error.node == "n2"


def test_member_that_did_not_record_is_not_taken_for_a_stranger(changed: User) -> None:
    """It would be stopped: the others' lock of that time says that it was a node."""
    changed.lan.run("n2", f"sed -i 1d {ROOT}/history")
    error = refused(changed, changed.rollback("--yes", "--allow-disruption"))
    assert error.message == "n2 was a node then, and does not know what it ran"
    assert "apply" in error.hint


def test_node_that_came_since_is_stopped(user: User) -> None:
    """Its files stay, so that `apply` brings it back."""
    user.write("n1")
    user.apply("--yes")
    user.write("n1", "n2")
    user.apply("--yes")
    result = user.rollback("--yes")
    assert (result.exit_code, actions(result)) == (0, {"n1": "swapped", "n2": "stopped"}), result.output
    user.lan.run("n2", f"ls {ROOT}/generations")
    again = user.apply("--yes")
    assert actions(again) == {"n1": "swapped", "n2": "started"}, again.output


def test_node_that_left_since_is_asked_for(user: User) -> None:
    user.write("n1", "n2")
    user.apply("--yes")
    user.write("n1")
    user.apply("--yes")
    user.lan.forget_journal()
    error = refused(user, user.rollback("--yes"))
    assert error.message == "n2 was a node then, and does not know what it ran"
