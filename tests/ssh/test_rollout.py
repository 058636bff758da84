"""The order of things, through real SSH: nothing is activated anywhere until everything fits everywhere."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading

import pytest

from ssh.nodes import LINK, ROOT, Lan, await_true
from trscaler_gen.deploy import Action, Event, Interrupted, NodeDone, Phase, Report, Work, apply
from trscaler_gen.deploy import node as node_commands
from trscaler_gen.errors import NodeError
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


def test_nodes_start_then_swap_then_stay(lan: Lan) -> None:
    lan.boot("n1", "n2")
    one, two = lan.work("one"), lan.work("two")
    assert actions(apply(one, lan.connect)) == all_are(Action.STARTED, "n1", "n2")
    assert sorted(lan.journal) == ["n1 check", "n1 up", "n2 check", "n2 up"]

    report = apply(two, lan.connect)
    assert actions(report) == all_are(Action.SWAPPED, "n1", "n2")
    assert [(r.before, r.after) for r in report.nodes] == [
        (one.bundles[name].generation, two.bundles[name].generation) for name in ("n1", "n2")
    ]

    lan.forget_journal()
    assert actions(apply(two, lan.connect)) == all_are(Action.UNCHANGED, "n1", "n2")
    assert lan.journal == ()


def test_files_arrive_whole_and_secret(lan: Lan) -> None:
    lan.boot("n1")
    bundle = lan.bundle("n1", "one", padding_bytes=3_000_000)
    work = Work(bundle.cluster, {"n1": bundle}, {"n1": LINK})
    assert apply(work, lan.connect).is_complete
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
    work = lan.work("one")
    apply(work, lan.connect)
    folder = f"{ROOT}/generations/{work.bundles['n1'].generation}"
    lan.run("n1", f"echo altered >>{folder}/ruleset.nft")
    assert actions(apply(work, lan.connect)) == {"n1": Action.SWAPPED}
    lan.run("n1", f"cd {folder} && sha256sum -c --strict --quiet MANIFEST")
    assert staging_folders(lan, "n1") == []


def test_a_refusal_on_one_node_activates_nothing_anywhere(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.nodes["n2"].tell("fail-check", "1")
    report = apply(lan.work("one"), lan.connect)
    assert actions(report) == all_are(Action.UNTOUCHED, "n1", "n3") | {"n2": Action.FAILED}
    assert {line.split()[1] for line in lan.journal} == {"check"}
    error = error_of(report, "n2")
    assert (error.command, error.status, error.stderr.strip()) == ("node.sh check", 1, "told to fail")
    assert next(r for r in report.nodes if r.node == "n1").message == "staged, not activated"

    lan.nodes["n2"].forget("fail-check")
    assert apply(lan.work("one"), lan.connect).is_complete


def test_every_unfit_node_is_reported_at_once_and_nothing_is_written(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    work = lan.work("one")
    work = dataclasses.replace(work, links=dict(work.links) | {"n1": "eth7"})
    lan.nodes["n2"].kill()
    written: list[str] = []
    report = apply(work, lan.connect, before_change=lambda: written.append("lock"))
    assert actions(report) == all_are(Action.FAILED, "n1", "n2") | {"n3": Action.UNTOUCHED}
    assert error_of(report, "n1").message == "it has no link eth7"
    assert "connection refused" in error_of(report, "n2").message
    assert written == []
    assert lan.run("n3", "ls /etc/trscaler-gen 2>/dev/null || :") == ""


def test_the_lock_is_written_before_the_first_node(lan: Lan) -> None:
    lan.boot("n1")
    seen: list[str] = []
    apply(
        lan.work("one"),
        lan.connect,
        before_change=lambda: seen.append(lan.run("n1", "ls /etc/trscaler-gen 2>/dev/null || :")),
    )
    assert seen == [""]


def test_new_nodes_start_after_everybody_has_swapped(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    apply(lan.work("one", "n1", "n2"), lan.connect)
    lan.forget_journal()
    lan.nodes["n1"].tell("wait-swap")
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(apply(lan.work("two"), lan.connect)))
    thread.start()
    await_true(lambda: "n1 swap" in lan.journal and "n2 swap" in lan.journal, "both swaps")
    assert "n3 up" not in lan.journal
    lan.nodes["n1"].forget("wait-swap")
    thread.join()
    assert actions(reports[0]) == all_are(Action.SWAPPED, "n1", "n2") | {"n3": Action.STARTED}
    assert lan.journal[-1] == "n3 up"


def test_a_failed_swap_keeps_new_nodes_silent(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    one = lan.work("one", "n1", "n2")
    apply(one, lan.connect)
    lan.nodes["n1"].tell("fail-swap", "1")
    report = apply(lan.work("two"), lan.connect)
    assert actions(report) == {"n1": Action.FAILED, "n2": Action.SWAPPED, "n3": Action.UNTOUCHED}
    assert "n3 up" not in lan.journal
    failed = report.nodes[0]
    assert failed.before == failed.after == one.bundles["n1"].generation


def test_a_change_that_cannot_be_made_in_place_restarts_the_node(lan: Lan) -> None:
    lan.boot("n1", "n2")
    apply(lan.work("one"), lan.connect)
    lan.forget_journal()
    lan.nodes["n1"].tell("fail-swap", "75")
    report = apply(lan.work("two"), lan.connect)
    assert actions(report) == {"n1": Action.RESTARTED, "n2": Action.SWAPPED}
    assert report.nodes[0].message == "told to fail"
    assert [line for line in lan.journal if line.startswith("n1")] == [
        "n1 check",
        "n1 swap",
        "n1 down",
        "n1 up",
    ]


def test_a_node_whose_keepalived_is_gone_begins_anew(lan: Lan) -> None:
    lan.boot("n1")
    apply(lan.work("one"), lan.connect)
    lan.forget_journal()
    lan.nodes["n1"].tell("state", "ruleset=intact\nkeepalived=stopped\n")
    report = apply(lan.work("one"), lan.connect)
    assert actions(report) == {"n1": Action.RESTARTED}
    assert lan.journal == ("n1 check", "n1 down", "n1 up")


def test_a_retired_node_is_stopped_before_anything_else(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    one = lan.work("one")
    apply(one, lan.connect)
    lan.forget_journal()
    report = apply(lan.work("two", retired=("n3",)), lan.connect)
    assert actions(report) == all_are(Action.SWAPPED, "n1", "n2") | {"n3": Action.STOPPED}
    changes = [line for line in lan.journal if not line.endswith("check")]
    assert changes[0] == "n3 down"
    assert (report.nodes[2].before, report.nodes[2].after) == (one.bundles["n3"].generation, "")


def test_a_retired_node_that_cannot_be_reached_stops_everything(lan: Lan) -> None:
    lan.boot("n1", "n2")
    apply(lan.work("one"), lan.connect)
    lan.nodes["n2"].kill()
    lan.forget_journal()
    report = apply(lan.work("two", retired=("n2",)), lan.connect)
    assert actions(report) == {"n1": Action.UNTOUCHED, "n2": Action.FAILED}
    assert "apply --forget n2" in error_of(report, "n2").hint
    assert lan.journal == ()


def test_a_host_under_a_new_name_is_stopped_and_started(lan: Lan) -> None:
    lan.boot("n1", "n2")
    apply(lan.work("one", "n1"), lan.connect)
    lan.forget_journal()
    # n2's connections lead to n1's host: the inventory calls it by another name now.
    lan.nodes["n2"].port = lan.nodes["n1"].port
    lan.write_config()
    report = apply(lan.work("one", "n2", retired=("n1",)), lan.connect)
    assert actions(report) == {"n2": Action.STARTED, "n1": Action.STOPPED}
    assert lan.journal == ("n2 check", "n1 down", "n2 up")


def test_a_node_that_dies_while_it_stages(lan: Lan) -> None:
    lan.boot("n1", "n2")
    apply(lan.work("one"), lan.connect)
    lan.nodes["n2"].tell("wait-check")
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(apply(lan.work("two"), lan.connect)))
    thread.start()
    await_true((lan.nodes["n2"].folder / "waiting-check").exists, "n2 to check")
    lan.nodes["n2"].kill()
    thread.join()
    assert actions(reports[0]) == {"n1": Action.UNTOUCHED, "n2": Action.FAILED}
    assert "connection lost" in error_of(reports[0], "n2").message
    assert "n1 swap" not in lan.journal


def test_a_connection_cut_in_the_middle_of_the_archive_leaves_nothing(lan: Lan) -> None:
    lan.boot("n1")
    bundle = lan.bundle("n1", "one", padding_bytes=1_000_000)
    cut = node_commands.archive(bundle)[:500_000]
    script = node_commands._script("stage.sh")
    with lan.connect("n1") as connection:
        argv = ("sh", "-c", script, "sh", f"{ROOT}/generations", bundle.generation)
        done = connection.run(argv, stdin=cut, timeout_s=10)
    assert done.status != 0
    assert lan.run("n1", f"ls -A {ROOT}/generations") == ""


def test_a_full_disk_is_seen_before_anything_is_sent(lan: Lan) -> None:
    lan.boot("n1", size="200k")
    report = apply(lan.work("one"), lan.connect)
    assert actions(report) == {"n1": Action.FAILED}
    assert "200 KiB free below /etc/trscaler-gen" in error_of(report, "n1").message


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
    apply(lan.work("one"), lan.connect)
    lan.nodes["n1"].tell("fail-state", "3")
    lan.forget_journal()
    report = apply(lan.work("two"), lan.connect)
    assert actions(report) == {"n1": Action.FAILED}
    assert "cannot tell what runs there" in error_of(report, "n1").message
    assert lan.journal == ()


def test_ctrl_c_waits_for_what_runs_and_begins_nothing_new(lan: Lan) -> None:
    lan.boot("n1", "n2", "n3")
    lan.nodes["n1"].tell("wait-check")
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if isinstance(event, Interrupted):
            lan.nodes["n1"].forget("wait-check")

    def interrupt() -> None:
        await_true((lan.nodes["n1"].folder / "waiting-check").exists, "n1 to check")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    report = apply(lan.work("one"), lan.connect, parallel=1, on_event=on_event)
    thread.join()
    assert report.interrupted
    assert not report.is_complete
    assert Interrupted(("n1",)) in events
    assert lan.journal == ("n1 check",)
    messages = {result.node: result.message for result in report.nodes}
    assert messages == {"n1": "staged, not activated", "n2": "nothing was done", "n3": "nothing was done"}


def test_a_second_ctrl_c_hangs_up_at_once(lan: Lan) -> None:
    lan.boot("n1")
    lan.nodes["n1"].tell("wait-check")
    waiting = threading.Event()

    def on_event(event: Event) -> None:
        if isinstance(event, Interrupted):
            waiting.set()

    def interrupt_twice() -> None:
        await_true((lan.nodes["n1"].folder / "waiting-check").exists, "n1 to check")
        os.kill(os.getpid(), signal.SIGINT)
        assert waiting.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        apply(lan.work("one"), lan.connect, on_event=on_event)
    thread.join()
    assert not [other.name for other in threading.enumerate() if other.name.startswith("deploy")]


def test_one_connection_per_node_and_events_in_order(lan: Lan) -> None:
    lan.boot("n1", "n2")
    opened: list[str] = []
    events: list[Event] = []

    def connect(name: str) -> Connection:
        opened.append(name)
        return lan.connect(name)

    apply(lan.work("one"), connect, on_event=events.append)
    assert sorted(opened) == ["n1", "n2"]
    phases = [event.phase for event in events if isinstance(event, NodeDone)]
    assert phases == [Phase.OBSERVE] * 2 + [Phase.STAGE] * 2 + [Phase.START] * 2
