"""The order of things, through real SSH: committed, proven and confirmed everywhere, or as it was before."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from ssh.nodes import ROOT, Lan, await_true
from trscaler_gen.deploy import Action, Event, Interrupted, NodeDone, Phase, Report
from trscaler_gen.deploy import node as node_commands
from trscaler_gen.deploy.scripts import script
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.transport import Connection


def actions(report: Report) -> dict[str, Action]:
    return {result.node: result.action for result in report.nodes}


def all_are(action: Action, *names: str) -> dict[str, Action]:
    return dict.fromkeys(names, action)


def error_of(report: Report, name: str) -> NodeError:
    error = next(result.error for result in report.nodes if result.node == name)
    assert error is not None
    return error


def staging_folders(lan: Lan, name: str) -> list[str]:
    return lan.run(name, f"ls -A {ROOT}/generations 2>/dev/null | grep staging || :").split()


def generation(lan: Lan, name: str) -> str:
    return lan.run(name, f'basename "$(readlink {ROOT}/current)"').strip()


def in_background(work: Callable[[], Report]) -> tuple[threading.Thread, list[Report]]:
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(work()))
    thread.start()
    return thread, reports


def test_nodes_start_then_swap_then_stay(lan: Lan) -> None:
    lan.boot("n1", "n2")
    assert actions(lan.deploy("one")) == all_are(Action.STARTED, "n1", "n2")
    assert [line for line in lan.journal if line.startswith("n1")] == [
        "n1 check",
        "n1 up",
        "n1 await",
        "n1 confirm",
        "n1 record",
    ]
    report = lan.deploy("two")
    assert actions(report) == all_are(Action.SWAPPED, "n1", "n2")
    assert [(r.before, r.after) for r in report.nodes] == [
        (lan.bundle(name, "one").generation, lan.bundle(name, "two").generation) for name in ("n1", "n2")
    ]
    lan.forget_journal()
    assert actions(lan.deploy("two")) == all_are(Action.UNCHANGED, "n1", "n2")
    assert lan.journal == ()


def test_files_arrive_whole_and_secret(lan: Lan) -> None:
    lan.boot("n1")
    bundle = lan.bundle("n1", "one", padding_bytes=3_000_000)
    assert lan.deploy("one", bundles={"n1": bundle}).is_complete
    folder = f"{ROOT}/generations/{bundle.generation}"
    assert lan.run("n1", f"stat -c '%a %U %n' {folder} {folder}/*").split("\n")[:-1] == [
        f"700 root {folder}",
        f"600 root {folder}/MANIFEST",
        f"700 root {folder}/node.sh",
        f"600 root {folder}/ruleset.nft",
    ]
    lan.run("n1", f"cd {folder} && sha256sum -c --strict --quiet MANIFEST")
    assert staging_folders(lan, "n1") == []


def test_an_altered_file_is_put_right(lan: Lan) -> None:
    lan.boot("n1")
    lan.deploy("one")
    folder = f"{ROOT}/generations/{lan.bundle('n1', 'one').generation}"
    lan.run("n1", f"echo altered >>{folder}/ruleset.nft")
    assert actions(lan.deploy("one")) == {"n1": Action.SWAPPED}
    lan.run("n1", f"cd {folder} && sha256sum -c --strict --quiet MANIFEST")
    assert staging_folders(lan, "n1") == []


def test_a_refusal_on_one_node_activates_nothing_anywhere(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.nodes["n2"].tell("fail-check", "1")
    report = lan.deploy("one")
    assert actions(report) == all_are(Action.UNTOUCHED, "n1", "n3") | {"n2": Action.FAILED}
    assert {line.split()[1] for line in lan.journal} == {"check"}
    error = error_of(report, "n2")
    assert (error.command, error.status, error.stderr.strip()) == ("node.sh check", 1, "told to fail")
    assert next(r for r in report.nodes if r.node == "n1").message == "staged, not activated"

    lan.nodes["n2"].forget("fail-check")
    assert lan.deploy("one").is_complete


def test_the_lock_is_written_before_the_first_node(lan: Lan) -> None:
    lan.boot("n1")
    seen: list[str] = []
    lan.deploy("one", before_change=lambda: seen.append(lan.run("n1", f"ls {ROOT} 2>/dev/null || :")))
    assert seen == [""]


def test_a_node_that_is_not_as_planned_keeps_everything_as_it_is(lan: Lan) -> None:
    lan.boot("n1", "n2")
    written: list[str] = []

    def judge(node: str, facts: Facts) -> str:
        return "generation was a, is b now" if node == "n2" else ""

    report = lan.deploy("one", still_as_planned=judge, before_change=lambda: written.append("lock"))
    assert actions(report) == {"n1": Action.UNTOUCHED, "n2": Action.FAILED}
    assert "no longer what the plan saw: generation was a, is b now" in error_of(report, "n2").message
    assert (written, lan.journal) == ([], ())


def test_a_second_deployer_is_told_who_is_at_work(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.nodes["n1"].tell("wait-check")
    thread, reports = in_background(lambda: lan.deploy("one", who="first@desk"))
    await_true((lan.nodes["n1"].folder / "waiting-check").exists, "the first one to check")
    second = lan.deploy("two", who="second@desk")
    assert actions(second) == {"n1": Action.FAILED, "n2": Action.UNTOUCHED}
    assert "first@desk" in error_of(second, "n1").message
    lan.nodes["n1"].forget("wait-check")
    thread.join()
    assert reports[0].is_complete
    assert lan.deploy("two", who="second@desk").is_complete


def test_new_nodes_start_after_everybody_has_swapped_for_good(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.deploy("one", "n1", "n2")
    lan.forget_journal()
    lan.nodes["n1"].tell("wait-confirm")
    thread, reports = in_background(lambda: lan.deploy("two"))
    await_true(lambda: "n1 confirm" in lan.journal and "n2 confirm" in lan.journal, "both to confirm")
    assert "n3 up" not in lan.journal
    lan.nodes["n1"].forget("wait-confirm")
    thread.join()
    assert actions(reports[0]) == all_are(Action.SWAPPED, "n1", "n2") | {"n3": Action.STARTED}


def test_a_failed_swap_sends_everybody_back(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.deploy("one", "n1", "n2")
    lan.nodes["n1"].tell("fail-swap", "1")
    report = lan.deploy("two")
    assert actions(report) == {"n1": Action.FAILED, "n2": Action.REVERTED, "n3": Action.UNTOUCHED}
    assert "n3 up" not in lan.journal
    for name in ("n1", "n2"):
        assert generation(lan, name) == lan.bundle(name, "one").generation
    failed = report.nodes[0]
    assert failed.before == failed.after == lan.bundle("n1", "one").generation


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ruleset=altered\n", "its ruleset is altered"),
        ("keepalived=stopped\n", "keepalived stopped"),
        ("serving=no\nheartbeat=FAULT\n", "it sends no heartbeats, keepalived says FAULT"),
        ("generation=0123456789ab\n", "it runs generation 0123456789ab"),
        ("unconfirmed=\n", "it has gone back already"),
    ],
)
def test_what_cannot_be_proven_goes_back(lan: Lan, said: str, reason: str) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    lan.nodes["n2"].tell("wait-swap")
    thread, reports = in_background(lambda: lan.deploy("two", settle_s=0.5))
    await_true((lan.nodes["n2"].folder / "waiting-swap").exists, "n2 to swap")
    lan.nodes["n2"].tell("state", said)
    lan.nodes["n2"].forget("wait-swap")
    thread.join()
    assert actions(reports[0]) == {"n1": Action.REVERTED, "n2": Action.FAILED}
    assert reason in error_of(reports[0], "n2").message
    for name in ("n1", "n2"):
        assert generation(lan, name) == lan.bundle(name, "one").generation


def test_a_node_that_cannot_be_reached_anew_is_not_confirmed(lan: Lan) -> None:
    """The old connection still works: that proves nothing about who comes tomorrow."""
    lan.boot("n1", "n2")
    lan.deploy("one")
    opened: list[str] = []

    def reach(name: str) -> Connection:
        opened.append(name)
        if name == "n2" and opened.count("n2") == 2:
            raise NodeError("n2", "connection refused")
        return lan.connect(name)

    report = lan.deploy("two", connect=reach)
    assert actions(report) == {"n1": Action.REVERTED, "n2": Action.FAILED}
    assert "n1 confirm" not in lan.journal[lan.journal.index("n1 swap") :]
    assert generation(lan, "n2") == lan.bundle("n2", "one").generation


def test_a_node_that_fails_to_start_goes_back_alone(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.nodes["n2"].tell("state", "serving=no\n")
    report = lan.deploy("one", settle_s=0.3)
    assert actions(report) == {"n1": Action.STARTED, "n2": Action.FAILED}
    assert lan.run("n2", f"ls {ROOT}/current /run/up 2>/dev/null || :") == ""

    assert lan.deploy("one", allow_unhealthy=True).is_complete


def test_a_first_heartbeat_is_awaited_for_as_long_as_the_node_says(lan: Lan) -> None:
    lan.boot("n1")
    lan.nodes["n1"].tell("state", "serving=no\n")
    lan.nodes["n1"].tell("wait-await")
    thread, reports = in_background(lambda: lan.deploy("one", settle_s=0))
    await_true((lan.nodes["n1"].folder / "waiting-await").exists, "n1 to be awaited")
    lan.nodes["n1"].forget("state")
    lan.nodes["n1"].forget("wait-await")
    thread.join()
    assert actions(reports[0]) == {"n1": Action.STARTED}


def test_an_earlier_release_has_awaited_its_heartbeat_already(lan: Lan) -> None:
    """It knows no such verb: its `up` did."""
    lan.boot("n1")
    lan.nodes["n1"].tell("fail-await", "2")
    assert actions(lan.deploy("one")) == {"n1": Action.STARTED}


def test_a_node_whose_keepalived_is_gone_begins_anew(lan: Lan) -> None:
    lan.boot("n1")
    lan.deploy("one")
    lan.forget_journal()
    lan.nodes["n1"].tell("wait-check")
    lan.nodes["n1"].tell("state", "keepalived=stopped\n")
    thread, reports = in_background(lambda: lan.deploy("one"))
    await_true((lan.nodes["n1"].folder / "waiting-check").exists, "n1 to check")
    lan.nodes["n1"].forget("state")
    lan.nodes["n1"].forget("wait-check")
    thread.join()
    assert actions(reports[0]) == {"n1": Action.RESTARTED}
    assert lan.journal == ("n1 check", "n1 down", "n1 up", "n1 await", "n1 confirm")


def test_who_leaves_is_stopped_for_good_before_anything_else(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.deploy("one")
    lan.forget_journal()
    report = lan.deploy("two", leaving=("n3",))
    assert actions(report) == all_are(Action.SWAPPED, "n1", "n2") | {"n3": Action.STOPPED}
    changes = [line for line in lan.journal if not line.endswith("check")]
    assert changes[:2] == ["n3 down", "n3 confirm"]
    assert lan.journal[-1].endswith(("erase", "record"))
    assert lan.run("n3", f"ls {ROOT} 2>/dev/null || :") == ""
    assert (report.nodes[2].before, report.nodes[2].after) == (lan.bundle("n3", "one").generation, "")


def test_a_node_that_dies_while_it_stages(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    lan.nodes["n2"].tell("wait-check")
    lan.forget_journal()
    thread, reports = in_background(lambda: lan.deploy("two"))
    await_true((lan.nodes["n2"].folder / "waiting-check").exists, "n2 to check")
    lan.nodes["n2"].kill()
    thread.join()
    assert actions(reports[0]) == {"n1": Action.UNTOUCHED, "n2": Action.FAILED}
    assert "connection lost" in error_of(reports[0], "n2").message
    assert "n1 swap" not in lan.journal


def test_a_node_that_dies_between_commit_and_confirm_goes_back_by_itself(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    lan.nodes["n2"].tell("wait-swap")
    thread, reports = in_background(lambda: lan.deploy("two", confirm_s=33))
    await_true((lan.nodes["n2"].folder / "waiting-swap").exists, "n2 to swap")
    lan.nodes["n2"].kill()
    thread.join()
    assert actions(reports[0]) == {"n1": Action.REVERTED, "n2": Action.FAILED}
    assert "goes back by itself within 33 s" in error_of(reports[0], "n2").hint
    assert generation(lan, "n1") == lan.bundle("n1", "one").generation


def test_a_connection_cut_in_the_middle_of_the_archive_leaves_nothing(lan: Lan) -> None:
    lan.boot("n1")
    bundle = lan.bundle("n1", "one", padding_bytes=1_000_000)
    cut = node_commands.archive(bundle)[:500_000]
    with lan.connect("n1") as connection:
        argv = ("sh", "-c", script("stage.sh"), "sh", f"{ROOT}/generations", bundle.generation)
        done = connection.run(argv, stdin=cut, timeout_s=60)
    assert done.status != 0
    assert lan.run("n1", f"ls -A {ROOT}/generations") == ""


def test_a_disk_that_fills_up_while_staging_leaves_nothing(lan: Lan) -> None:
    lan.boot("n1", size="200k")
    bundle = lan.bundle("n1", "one", padding_bytes=1_000_000)
    with lan.connect("n1") as connection, pytest.raises(NodeError, match="could not be put there") as caught:
        node_commands.stage("n1", connection, bundle)
    assert "100% /etc/trscaler-gen" in caught.value.stderr
    assert "is there room" in caught.value.hint
    assert lan.run("n1", f"ls -A {ROOT}/generations") == ""


def test_a_node_that_cannot_say_what_runs_is_not_touched(lan: Lan) -> None:
    lan.boot("n1")
    lan.deploy("one")
    lan.nodes["n1"].tell("fail-state", "3")
    lan.forget_journal()
    report = lan.deploy("two")
    assert actions(report) == {"n1": Action.FAILED}
    assert "cannot tell what runs there" in error_of(report, "n1").message
    assert lan.journal == ()


def interrupting(lan: Lan, name: str, verb: str) -> Callable[[], None]:
    """Press Ctrl-C when the node is at this verb."""

    def interrupt() -> None:
        await_true((lan.nodes[name].folder / f"waiting-{verb}").exists, f"{name} to {verb}")
        os.kill(os.getpid(), signal.SIGINT)

    return interrupt


def test_ctrl_c_waits_for_what_runs_and_begins_nothing_new(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.nodes["n1"].tell("wait-check")
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if isinstance(event, Interrupted):
            lan.nodes["n1"].forget("wait-check")

    thread = threading.Thread(target=interrupting(lan, "n1", "check"))
    thread.start()
    report = lan.deploy("one", parallel=1, on_event=on_event)
    thread.join()
    assert report.interrupted
    assert not report.is_complete
    assert Interrupted(("n1",)) in events
    assert lan.journal == ("n1 check",)
    messages = {result.node: result.message for result in report.nodes}
    assert messages == {"n1": "staged, not activated", "n2": "nothing was done", "n3": "nothing was done"}


def interrupted_at(lan: Lan, name: str, verb: str, text: str) -> Report:
    """Deploy, with a Ctrl-C while a node is at this verb; it goes on as soon as that is told."""
    lan.nodes[name].tell(f"wait-{verb}")

    def on_event(event: Event) -> None:
        if isinstance(event, Interrupted):
            lan.nodes[name].forget(f"wait-{verb}")

    thread = threading.Thread(target=interrupting(lan, name, verb))
    thread.start()
    report = lan.deploy(text, on_event=on_event)
    thread.join()
    assert report.interrupted
    return report


def test_ctrl_c_between_commit_and_confirm_sends_everybody_back(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    assert actions(interrupted_at(lan, "n2", "swap", "two")) == all_are(Action.REVERTED, "n1", "n2")
    for name in ("n1", "n2"):
        assert generation(lan, name) == lan.bundle(name, "one").generation


def test_ctrl_c_while_a_first_heartbeat_is_awaited_sends_everybody_back(lan: Lan) -> None:
    lan.boot("n1", "n2")
    assert actions(interrupted_at(lan, "n1", "await", "one")) == all_are(Action.REVERTED, "n1", "n2")
    for name in ("n1", "n2"):
        assert lan.run(name, f"ls {ROOT}/current /run/up 2>/dev/null || :") == ""


def test_a_second_ctrl_c_hangs_up_at_once(lan: Lan) -> None:
    lan.boot("n1")
    lan.nodes["n1"].tell("wait-check")
    waiting = threading.Event()

    def on_event(event: Event) -> None:
        if isinstance(event, Interrupted):
            waiting.set()

    def interrupt_twice() -> None:
        interrupting(lan, "n1", "check")()
        assert waiting.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        lan.deploy("one", on_event=on_event)
    thread.join()
    assert not [other.name for other in threading.enumerate() if other.name.startswith("deploy")]


def test_one_connection_for_the_work_and_one_for_the_proof(lan: Lan) -> None:
    lan.boot("n1", "n2")
    opened: list[str] = []
    events: list[Event] = []

    def connect(name: str) -> Connection:
        opened.append(name)
        return lan.connect(name)

    lan.deploy("one", connect=connect, on_event=events.append)
    assert sorted(opened) == ["n1", "n1", "n2", "n2"]
    phases = [event.phase for event in events if isinstance(event, NodeDone)]
    expected = (Phase.OBSERVE, Phase.LOCK, Phase.STAGE, Phase.START, Phase.PROVE, Phase.CONFIRM, Phase.RECORD)
    assert phases == [phase for phase in expected for _ in range(2)]


def test_a_node_with_other_places_goes_silent_before_anybody_swaps(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    lan.forget_journal()
    report = lan.deploy("two", stopping_first=("n2",))
    assert actions(report) == {"n1": Action.SWAPPED, "n2": Action.RESTARTED}
    changes = [line for line in lan.journal if not line.endswith(("check", "record"))]
    assert changes == ["n2 down", "n2 confirm", "n1 swap", "n1 confirm", "n2 up", "n2 await", "n2 confirm"]


def test_a_node_that_went_silent_for_nothing_comes_back(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    lan.nodes["n1"].tell("fail-swap", "1")
    report = lan.deploy("two", stopping_first=("n2",))
    assert actions(report) == {"n1": Action.FAILED, "n2": Action.REVERTED}
    assert generation(lan, "n2") == lan.bundle("n2", "one").generation
    assert lan.run("n2", "cat /run/up") == "up\n"


def test_a_node_that_never_ran_anything_leaves_without_a_trace(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one", "n1")
    lan.run("n2", f"mkdir -p {ROOT}/generations")
    lan.forget_journal()
    report = lan.deploy("one", leaving=("n2",))
    assert actions(report) == {"n1": Action.UNCHANGED, "n2": Action.STOPPED}
    assert report.nodes[1].is_erased
    assert "n2 down" not in lan.journal
    assert lan.run("n2", f"ls {ROOT} 2>/dev/null || :") == ""


def test_who_left_but_was_not_erased_is_not_forgotten(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one")
    lan.nodes["n1"].tell("fail-swap", "1")
    report = lan.deploy("two", leaving=("n2",))
    assert actions(report) == {"n1": Action.FAILED, "n2": Action.STOPPED}
    assert not report.nodes[1].is_erased
    lan.nodes["n1"].forget("fail-swap")
    again = lan.deploy("two", leaving=("n2",))
    assert again.is_complete
    assert again.nodes[1].is_erased


def test_a_failed_start_leaves_what_runs_written_down(lan: Lan) -> None:
    lan.boot("n1", "n2")
    lan.deploy("one", "n1")
    lan.nodes["n2"].tell("fail-up", "1")
    lan.forget_journal()
    assert actions(lan.deploy("two", change="d" * 12)) == {"n1": Action.SWAPPED, "n2": Action.FAILED}
    assert "n1 record" in lan.journal


def test_a_listener_that_hangs_up_changes_nothing(lan: Lan) -> None:
    lan.boot("n1", "n2")

    def deaf(event: Event) -> None:
        raise BrokenPipeError

    assert lan.deploy("one", on_event=deaf).is_complete
