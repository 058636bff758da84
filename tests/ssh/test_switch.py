"""Other weights, through real SSH: no node moves a bucket alone, whoever dies at whatever point.

The tests' nodes hear each other by a file: what one of them sends with its heartbeats from the switch on.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from ssh.nodes import ROOT, Lan, await_true
from ssh.user import User, actions, user_of
from trscaler_gen.bundle import LOCK, MANIFEST, SCRIPT, Bundle
from trscaler_gen.bundle import make_bundles as make_real_bundles
from trscaler_gen.deploy import deployment
from trscaler_gen.lock import Lock, parse_lock
from trscaler_gen.lockfile import read_lock

_SWITCH = """\
number_of() {{ sed -n 's/^switch: //p' "$1/lock" 2>/dev/null; }}
# A node that boots has only what it wrote down; who hears another one that has switched switches as well.
hear() {{
    number=$(number_of {root}/current) || :
    [ -n "$number" ] || return 0
    if [ ! -e /run/switched ] && [ -e {root}/switched ]; then cp {root}/switched /run/switched; fi
    [ -e "$folder/deaf" ] || ! grep -qsx "$number" "$folder/../sent" || echo "$number" >/run/switched
}}
look_at_placement() {{
    placement=only
    [ -n "$number" ] || return 0
    placement=before
    ! grep -qsx "$number" /run/switched || placement=after
}}
hear
look_at_placement
case $verb in
    switch)
        [ -n "$number" ] || exit 0
        if [ "$placement" = before ]; then
            [ ! -e "$folder/mute" ] || {{ echo "no heartbeat has left" >&2 && exit 1; }}
            echo "$number" >"$folder/../sent"
            echo "$number" >/run/switched
            [ ! -e "$folder/cut-short" ] || {{ rm "$folder/cut-short" && exit 255; }}
        fi
        echo "$number" >{root}/switched
        ;;
    state) echo "placement=$placement" ;;
esac
case $verb in
    switch) ;;
    check) ;;
"""


class Switching(Lan):
    """Nodes that hold two placements where their lock does."""

    def bundle(self, name: str, text: str, padding_bytes: int = 0, lock: str = "") -> Bundle:
        made = super().bundle(name, text, padding_bytes, lock)
        script = made.files[SCRIPT].decode()
        head = "case $verb in\n    check) ;;\n"
        assert script.count(head) == 1
        script = script.replace(head, _SWITCH.format(root=ROOT))
        files = {**made.files, SCRIPT: script.encode()}
        files.pop(MANIFEST)
        digests = (f"{hashlib.sha256(data).hexdigest()}  {file}" for file, data in sorted(files.items()))
        manifest = ("\n".join(["# a manifest", *digests]) + "\n").encode()
        generation = hashlib.sha256(manifest).hexdigest()[:12]
        return replace(made, generation=generation, files={**files, MANIFEST: manifest})

    def placement(self, name: str) -> str:
        said = self.run(name, f"sh {ROOT}/current/node.sh state")
        return next(line.partition("=")[2] for line in said.splitlines() if line.startswith("placement="))

    def lock_of(self, name: str) -> Lock:
        return parse_lock(self.run(name, f"cat {ROOT}/current/{LOCK}"), name)

    def begins_with(self, name: str) -> object:
        """The orders that a node uses until it switches."""
        lock = self.lock_of(name)
        return lock.before or lock.orders


@pytest.fixture
def lan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switching]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    nodes = Switching(tmp_path)
    nodes.let_talk()
    yield nodes
    nodes.close()


@pytest.fixture
def user(lan: Switching, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody whose nodes n1, n2 and n3 run with equal weights."""
    someone = user_of(lan, monkeypatch)
    lan.boot("n3")

    def make_bundles(plans: object, lock: Lock) -> dict[str, Bundle]:
        real = make_real_bundles(plans, lock)  # type: ignore[arg-type]
        text = next(iter(real.values())).files[LOCK].decode()
        return {name: lan.bundle(name, "", lock=text) for name in real}

    monkeypatch.setattr(deployment, "make_bundles", make_bundles)
    weigh(someone, 1)
    assert someone.apply("--yes").exit_code == 0
    lan.forget_journal()
    return someone


def weigh(user: User, weight: int, *nodes: str) -> None:
    """Give n3 another weight."""
    user.write(*(nodes or ("n1", "n2", "n3")))
    text = user.inventory.read_text()
    user.inventory.write_text(text.replace("192.0.2.3}", f"192.0.2.3, weight: {weight}}}"))


def placements(lan: Switching) -> set[str]:
    return {lan.placement(name) for name in lan.nodes}


def apply_with(user: User, verb: str, node: str, happens: Callable[[], object]) -> Result:
    """Apply; when the node has been asked for the verb it waits, until something else has happened."""
    waits = user.lan.nodes[node]
    waits.tell(f"wait-{verb}")
    failed: list[BaseException] = []

    def meanwhile() -> None:
        try:
            await_true((waits.folder / f"waiting-{verb}").exists, f"{node} to {verb}")
            happens()
        except BaseException as error:
            failed.append(error)
        finally:
            waits.forget(f"wait-{verb}")

    thread = threading.Thread(target=meanwhile)
    thread.start()
    result = user.apply("--yes")
    thread.join()
    assert not failed, failed
    return result


def test_all_switch_after_everybody_has_swapped_for_good(user: User, lan: Switching) -> None:
    weigh(user, 3)
    result = user.apply("--yes")
    assert result.exit_code == 0, result.output
    assert actions(result) == dict.fromkeys(("n1", "n2", "n3"), "swapped")
    verbs = [line.split()[1] for line in lan.journal]
    assert verbs.index("switch") > max(at for at, verb in enumerate(verbs) if verb == "confirm")
    assert placements(lan) == {"after"}
    for name in lan.nodes:
        assert lan.run(name, f"cat {ROOT}/switched") == "2\n"
    lan.forget_journal()
    assert user.apply("--yes").exit_code == 0
    assert lan.journal == ()


def test_one_node_is_told_and_the_others_follow(user: User, lan: Switching) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append([line for line in lan.journal if line.endswith("switch")])
        seen.append({lan.placement(name) for name in ("n2", "n3")})

    weigh(user, 3)
    assert apply_with(user, "switch", "n1", look).exit_code == 0
    assert seen == [["n1 switch"], {"before"}]


def test_a_deployer_who_dies_before_the_switch_has_moved_nothing(user: User, lan: Switching) -> None:
    weigh(user, 3)
    lan.nodes["n1"].tell("fail-switch", "1")
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert actions(result)["n1"] == "failed"
    assert placements(lan) == {"before"}
    lan.nodes["n1"].forget("fail-switch")
    assert "to switch together" in user.plan().stdout
    again = user.apply("--yes")
    assert again.exit_code == 0
    assert actions(again) == dict.fromkeys(("n1", "n2", "n3"), "switched")
    assert placements(lan) == {"after"}


def test_a_session_that_breaks_at_the_switch_has_switched_all_or_none(user: User, lan: Switching) -> None:
    weigh(user, 3)
    lan.nodes["n1"].tell("cut-short")
    assert user.apply("--yes").exit_code == 0
    assert placements(lan) == {"after"}
    assert lan.run("n1", f"cat {ROOT}/switched") == "2\n"


def test_a_deployer_who_dies_after_the_switch_is_followed_by_one_who_notes_it_down(
    user: User, lan: Switching
) -> None:
    weigh(user, 3)
    lan.nodes["n1"].tell("cut-short")
    lan.nodes["n2"].tell("fail-switch", "1")
    assert user.apply("--yes").exit_code == 1
    assert placements(lan) == {"after"}
    lan.nodes["n2"].forget("fail-switch")
    assert "Nothing to do" in user.plan().stdout
    lan.forget_journal()
    assert user.apply("--yes").exit_code == 0
    assert "n2 switch" in lan.journal and "n2 record" in lan.journal
    assert lan.run("n2", f"cat {ROOT}/switched") == "2\n"


def test_no_heartbeat_no_switch(user: User, lan: Switching) -> None:
    weigh(user, 3)
    lan.nodes["n1"].tell("mute")
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert "no heartbeat has left" in result.stderr
    assert actions(result) == {"n1": "failed", "n2": "swapped", "n3": "swapped"}
    assert placements(lan) == {"before"}


def test_one_that_hears_nobody_is_told_of(
    user: User, lan: Switching, monkeypatch: pytest.MonkeyPatch
) -> None:
    weigh(user, 3)
    lan.nodes["n2"].tell("deaf")
    result = user.apply("--yes")
    assert result.exit_code == 1
    assert actions(result)["n2"] == "failed"
    assert "it still uses the placement before the switch" in result.stderr
    assert "mend its link" in result.stderr
    lan.nodes["n2"].forget("deaf")
    assert user.apply("--yes").exit_code == 0
    assert placements(lan) == {"after"}


def test_one_that_cannot_be_reached_keeps_all_from_switching(user: User, lan: Switching) -> None:
    weigh(user, 3)

    def die() -> None:
        await_true(lambda: lan.run("n2", f"ls {ROOT}").find("armed") < 0, "n2 to be confirmed")
        lan.nodes["n2"].kill()

    assert apply_with(user, "confirm", "n3", die).exit_code == 1
    assert not [line for line in lan.journal if line.endswith("switch")]
    lan.forget_journal()
    refused = user.apply("--yes")
    assert refused.exit_code == 1 and lan.journal == ()
    lan.reboot("n2")
    assert user.apply("--yes").exit_code == 0
    assert placements(lan) == {"after"}


def test_one_that_boots_in_the_middle_ends_up_with_the_others(user: User, lan: Switching) -> None:
    weigh(user, 3)
    result = apply_with(user, "switch", "n1", lambda: lan.reboot("n2"))
    assert result.exit_code == 0, result.output
    assert placements(lan) == {"after"}
    (lan.folder / "sent").unlink()  # everybody else is off
    lan.reboot("n2")
    assert lan.placement("n2") == "after"


def test_a_second_edit_before_the_first_was_switched_begins_where_the_nodes_are(
    user: User, lan: Switching
) -> None:
    even = lan.begins_with("n1")
    weigh(user, 3)
    lan.nodes["n1"].tell("fail-switch", "1")
    assert user.apply("--yes").exit_code == 1
    lan.nodes["n1"].forget("fail-switch")
    weigh(user, 5)
    result = user.apply("--yes")
    assert result.exit_code == 0, result.output
    for name in lan.nodes:
        assert lan.begins_with(name) == even
    kept = read_lock(user.lock)
    assert kept is not None and kept.orders == lan.lock_of("n1").orders
    assert placements(lan) == {"after"}


def test_a_change_that_is_taken_back_before_the_switch_moves_nothing(user: User, lan: Switching) -> None:
    even = lan.begins_with("n1")
    weigh(user, 3)
    lan.nodes["n1"].tell("fail-switch", "1")
    assert user.apply("--yes").exit_code == 1
    weigh(user, 1)
    result = user.apply("--yes")
    assert result.exit_code == 0
    assert "no bucket moves" in result.stdout
    assert placements(lan) == {"only"}
    assert lan.begins_with("n1") == even


def test_a_second_edit_after_the_switch_begins_with_what_it_made(user: User, lan: Switching) -> None:
    weigh(user, 3)
    assert user.apply("--yes").exit_code == 0
    made = lan.lock_of("n1").orders
    weigh(user, 5)
    assert user.apply("--yes").exit_code == 0
    assert lan.begins_with("n2") == made
    assert placements(lan) == {"after"}


def test_a_saved_plan_is_carried_out_as_it_was_made_to_fit(user: User, lan: Switching) -> None:
    weigh(user, 3)
    lan.nodes["n1"].tell("fail-switch", "1")
    assert user.apply("--yes").exit_code == 1
    lan.nodes["n1"].forget("fail-switch")
    weigh(user, 5)
    saved = lan.folder / "saved.plan"
    assert user.plan("-o", str(saved)).exit_code == 0
    assert user.apply(source=saved).exit_code == 0
    assert placements(lan) == {"after"}


def test_no_rollback_moves_buckets_node_by_node(user: User, lan: Switching) -> None:
    weigh(user, 3)
    assert user.apply("--yes").exit_code == 0
    lan.forget_journal()
    result = user.rollback("--yes")
    assert result.exit_code == 1
    assert "put the weights back in the inventory (n3 1)" in result.stdout
    assert lan.journal == ()


def test_before_the_switch_a_rollback_is_one_as_ever(user: User, lan: Switching) -> None:
    weigh(user, 3)
    lan.nodes["n1"].tell("fail-switch", "1")
    assert user.apply("--yes").exit_code == 1
    result = user.rollback("--yes", "--to", user.history()["changes"][-1]["change"])
    assert result.exit_code == 0, result.output
    assert placements(lan) == {"only"}


def test_a_node_that_comes_with_other_weights_starts_before_the_switch(user: User, lan: Switching) -> None:
    lan.boot("n4")
    weigh(user, 3, "n1", "n2", "n3", "n4")
    result = user.apply("--yes")
    assert result.exit_code == 0, result.output
    assert actions(result)["n4"] == "started"
    assert lan.journal.index("n4 confirm") < lan.journal.index("n1 switch")
    assert placements(lan) == {"after"}


def test_a_node_that_comes_later_is_drawn_along(user: User, lan: Switching) -> None:
    weigh(user, 3)
    assert user.apply("--yes").exit_code == 0
    lan.boot("n4")
    weigh(user, 3, "n1", "n2", "n3", "n4")
    result = user.apply("--yes")
    assert result.exit_code == 0, result.output
    assert "to switch together" not in result.stdout
    assert lan.placement("n4") == "after"
    assert lan.run("n4", f"cat {ROOT}/switched") == "2\n"
