"""``trscaler-gen rolling`` as a user runs it: every step can fail, and what is left is said."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from click.testing import Result

from ssh.nodes import CLUSTER, await_true
from ssh.team import NODES, Team, interrupted, json_lines, said
from trscaler_gen.cli import rolling as rolling_module
from trscaler_gen.deploy.deployment_lock import DeploymentLocks
from trscaler_gen.deploy.rolling import Patience

#: what a command leaves on a node when it runs there, with whether the node was drained then
MARK = "echo ran >>/run/marks; ls /etc/trscaler-gen/web/drained >>/run/marks"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling_module, "PATIENCE", Patience(poll_s=0.1, after_cut_s=1.0))
    monkeypatch.setattr("trscaler_gen.deploy.drain._HELD_EVERY_S", 0.1)


def roll(team: Team, command: str, *options: str) -> Result:
    return team.run("rolling", team.inventory, "--yes", *options, "--", "sh", "-c", command)


def order(team: Team) -> list[str]:
    """Who was drained and undrained, in this order."""
    return [line for line in team.lan.journal if line.endswith("drain")]


def outcome(result: Result) -> dict[str, Any]:
    """The last document."""
    last = json_lines(result)[-1]
    assert last["event"] == "outcome", result.output
    return last


def marks(team: Team, node: str) -> list[str]:
    return team.lan.run(node, "cat /run/marks 2>/dev/null || :").split()


def test_one_node_after_the_other_each_drained_meanwhile(team: Team) -> None:
    result = roll(team, f"{MARK}; echo out; echo err >&2")
    assert result.exit_code == 0, said(result)
    assert order(team) == [f"{node} {verb}" for node in NODES for verb in ("drain", "undrain")]
    assert team.drained == ()
    for node in NODES:
        assert marks(team, node) == ["ran", "/etc/trscaler-gen/web/drained"]
        assert {f"{node} | out", f"{node} | err"} <= set(result.stdout.splitlines())
    assert result.stdout.splitlines()[-1] == "done: n1, n2, n3"
    assert "n1: run the command" in result.stderr


def test_it_asks_first_and_shows_the_order(team: Team) -> None:
    result = team.run("rolling", team.inventory, "--", "true")
    assert result.exit_code == 1
    assert "Cluster web" in result.stdout
    assert "n1, n2, n3 each is drained, runs `true`" in said(result)
    assert "nobody can be asked here" in said(result)
    assert order(team) == []


def test_only_some_nodes_in_the_order_given(team: Team) -> None:
    roll(team, "true", "--node", "n3", "--node", "n1")
    assert order(team) == ["n3 drain", "n3 undrain", "n1 drain", "n1 undrain"]


def test_no_node_of_that_name(team: Team) -> None:
    assert 'did you mean "n1"?' in said(roll(team, "true", "--node", "n11"))
    assert "it is not among those of --node" in said(roll(team, "true", "--node", "n1", "--from", "n2"))


def test_the_words_of_the_command_reach_the_node_as_they_are(team: Team) -> None:
    words = ["printf", "%s\\n", "two words", "$HOME; 'quoted'", "*"]
    result = team.run("rolling", team.inventory, "--yes", "--node", "n1", "--", *words)
    assert [line for line in result.stdout.splitlines() if " | " in line] == [
        "n1 | two words",
        "n1 | $HOME; 'quoted'",
        "n1 | *",
    ]


def test_what_a_command_says_is_no_escape_and_no_secret(team: Team) -> None:
    result = roll(team, r"printf '\033[31mred [b]x[/b]\nseed: 0x5eedbabe\nno end'", "--node", "n1")
    lines = [line for line in result.stdout.splitlines() if " | " in line]
    assert lines == ["n1 | [31mred [b]x[/b]", "n1 | seed: ...", "n1 | no end"]


def test_json_lines(team: Team) -> None:
    result = roll(team, "echo out; echo err >&2", "--json", "--node", "n1")
    lines = json_lines(result)
    steps = [line["step"] for line in lines if line["event"] == "step"]
    assert steps == ["check", "drain", "wait", "command", "return", "undrain", "serve"]
    outputs = sorted((line["stream"], line["line"]) for line in lines if line["event"] == "output")
    assert outputs == [("stderr", "err"), ("stdout", "out")]
    assert lines[0]["event"] == "tour"
    assert outcome(result)["complete"]


# --- a failure in each step --------------------------------------------------------------------------


def test_it_does_not_begin_while_a_node_is_not_well(team: Team) -> None:
    team.lan.nodes["n3"].tell("state", "ruleset=altered\n")
    result = roll(team, "true")
    assert result.exit_code == 1
    assert "cluster web is not well: n3: its ruleset is altered" in said(result)
    assert "nothing was begun" in said(result)
    assert order(team) == []


def test_it_does_not_begin_while_a_node_is_dead(team: Team) -> None:
    team.lan.nodes["n3"].kill()
    assert "n3: could not be asked" in said(roll(team, "true"))
    assert order(team) == []


def test_it_does_not_begin_while_somebody_else_deploys(team: Team) -> None:
    with team.lan.connect("n3") as connection, DeploymentLocks(CLUSTER, "abcdef", "ann@desk") as locks:
        locks.take("n3", connection)
        result = roll(team, "true")
    assert result.exit_code == 1
    assert "ann@desk has been deploying to it" in said(result)
    assert order(team) == []


def test_nobody_else_gets_in_meanwhile(team: Team) -> None:
    team.lan.nodes["n2"].hold(3)
    process = team.begin("rolling", team.inventory, "--yes", "--node", "n2", "--", "true")
    await_true(lambda: team.is_drained("n2"), "the drain of n2")
    assert "has been deploying to it" in said(team.drain("n1"))
    team.lan.nodes["n2"].hold(0)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert team.drained == ()


def test_a_node_that_falls_ill_on_the_way_stops_it_before_the_next(team: Team) -> None:
    process = team.begin("rolling", team.inventory, "--yes", "--json", "--pause", "3", "--", "true")
    assert process.stdout is not None
    while '"done", "node": "n1"' not in process.stdout.readline():
        assert process.poll() is None
    team.lan.nodes["n3"].tell("state", "ruleset=altered\n")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    ended = json.loads(stdout.splitlines()[-1])
    assert (ended["stopped_at"], ended["step"], ended["done"]) == ("n2", "check", ["n1"])
    assert "the cluster is not well: n3: its ruleset is altered" in stderr
    assert team.drained == ()


def test_connections_that_do_not_end(team: Team) -> None:
    team.lan.nodes["n2"].hold(2)
    result = roll(team, MARK, "--timeout", "0.3")
    assert result.exit_code == 124
    told = said(result)
    assert "interrupted" not in told
    assert "stopped at n2, step wait; done: n1; not begun: n3" in told
    assert "it still holds 2 connections after 0.3 s" in told
    assert "n2: it is drained, and stays so; the command was not begun there" in told
    assert f"trscaler-gen undrain n2 --inventory {team.inventory}" in told
    assert team.drained == ("n2",)
    assert (marks(team, "n1")[:1], marks(team, "n2"), marks(team, "n3")) == (["ran"], [], [])


def test_the_last_node_that_serves_is_not_drained(team: Team) -> None:
    team.drain("n1", "n2")
    team.lan.forget_journal()
    result = roll(team, "true", "--node", "n3")
    assert result.exit_code == 1
    assert "no other node serves" in said(result)
    assert "stopped at n3, step drain" in said(result)
    assert team.drained == ("n1", "n2")


def test_a_drain_that_fails(team: Team) -> None:
    team.lan.nodes["n2"].tell("fail-drain", "1")
    result = roll(team, MARK)
    assert result.exit_code == 1
    assert "stopped at n2, step drain; done: n1; not begun: n3" in said(result)
    assert marks(team, "n2") == []


def fails_on(team: Team, node: str, status: int = 3) -> str:
    """A command that fails on one node as long as it is not mended."""
    (team.lan.nodes[node].folder / "broken").touch()
    here = team.lan.folder
    is_broken = f'[ -e {here}/{node}/broken ] && [ "$(cat /run/who)" = {node} ]'
    return f"echo ran >>/run/marks; ! {{ {is_broken}; }} || exit {status}"


def name_nodes(team: Team) -> None:
    for node in NODES:
        team.lan.run(node, f"echo {node} >/run/who")


def test_a_command_that_fails_and_going_on_where_it_stopped(team: Team) -> None:
    name_nodes(team)
    command = fails_on(team, "n2")
    result = roll(team, command, "--pause", "0.1")
    assert result.exit_code == 1
    told = said(result)
    assert "stopped at n2, step command; done: n1; not begun: n3" in told
    assert "n2: the command failed: exit 3" in told
    assert "n2: it is drained, and stays so; the command was begun there" in told
    assert list(team.drained) == ["n2"]
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("  go on: ")]
    again = shlex.split(line.removeprefix("  go on: "))
    assert again[:4] == ["trscaler-gen", "rolling", team.inventory, "--pause"]
    assert again[5:8] == ["--from", "n2", "--"]
    (team.lan.nodes["n2"].folder / "broken").unlink()
    team.lan.forget_journal()
    gone_on = team.run(*again[1:3], "--yes", *again[3:])
    assert gone_on.exit_code == 0, said(gone_on)
    assert order(team) == ["n2 undrain", "n3 drain", "n3 undrain"]
    assert list(team.drained) == []
    assert [len(marks(team, node)) for node in NODES] == [1, 2, 1]


def test_going_on_with_a_node_that_the_command_has_broken(team: Team) -> None:
    """It is the one that is out of service: mending it by the same way takes no second one away."""
    name_nodes(team)
    roll(team, fails_on(team, "n2"))
    (team.lan.nodes["n2"].folder / "broken").unlink()
    team.lan.nodes["n2"].tell("state", "ruleset=altered\n")
    mend = f"rm -f {team.lan.folder}/n2/state"
    assert "n2: its ruleset is altered" in said(roll(team, mend))
    result = roll(team, mend, "--from", "n2")
    assert result.exit_code == 0, said(result)
    assert team.drained == ()


def test_a_node_that_does_not_come_back_well(team: Team) -> None:
    ill = team.lan.nodes["n2"].folder / "state"
    name_nodes(team)
    command = f'[ "$(cat /run/who)" != n2 ] || echo heartbeat=FAULT >{ill}'
    result = roll(team, command, "--return-within", "1")
    assert result.exit_code == 1
    told = said(result)
    assert "stopped at n2, step return; done: n1; not begun: n3" in told
    assert "not back and well after 1 s: keepalived says FAULT" in told
    assert "n2: it is drained, and stays so; the command has succeeded there" in told
    assert "--node n3" in told, "the command is not run on n2 again"
    assert "--node n2" not in told
    assert team.drained == ("n2",)


def test_what_keepalived_says_may_be_older_than_the_command(team: Team) -> None:
    """The node's own health check is asked anew."""
    command = f"echo 1 >{team.lan.nodes['n1'].folder}/fail-health"
    result = roll(team, command, "--node", "n1", "--return-within", "1")
    assert result.exit_code == 1
    assert "stopped at n1, step return" in said(result)
    assert "its health check fails: exit 1, told to fail" in said(result)
    assert team.drained == ("n1",)


def test_peers_have_to_hear_that_it_is_still_drained(team: Team) -> None:
    """After the command, before it is undrained: somebody deaf would break what comes to it."""
    deaf = team.lan.nodes["n3"].folder / "state"
    command = f"printf 'peers_draining=\\n' >{deaf}"
    result = roll(team, command, "--node", "n1", "--return-within", "1")
    assert result.exit_code == 1
    assert "n3 does not hear n1, which is drained" in said(result)
    assert team.drained == ("n1",)


def test_an_undrain_that_fails(team: Team) -> None:
    team.lan.nodes["n2"].tell("fail-undrain", "1")
    result = roll(team, "true")
    assert result.exit_code == 1
    assert "stopped at n2, step undrain; done: n1; not begun: n3" in said(result)
    assert "undrain failed: told to fail" in said(result)
    assert team.drained == ("n2",)


def test_a_node_that_does_not_serve_in_the_end(team: Team) -> None:
    """It is well as long as it is drained."""
    later = team.lan.nodes["n1"].folder / "state-undrained"
    result = roll(team, f"printf 'serving=no\nheartbeat=FAULT\n' >{later}", "--node", "n1", "--node", "n2")
    assert result.exit_code == 1
    told = said(result)
    assert "stopped at n1, step serve; done: none; not begun: n2" in told
    assert "it does not serve: keepalived says FAULT" in told
    assert "n1: it is not drained; the command has succeeded there" in told
    assert "--node n2 -- sh -c" in told
    assert team.drained == ()


def test_somebody_undrains_it_meanwhile(team: Team) -> None:
    name_nodes(team)
    command = '[ "$(cat /run/who)" != n2 ] || rm /etc/trscaler-gen/web/drained'
    result = roll(team, command)
    assert result.exit_code == 1
    assert "stopped at n2, step return" in said(result)
    assert "somebody has undrained it, or it has lost what told it to drain" in said(result)
    assert "n2: it is not drained; the command has succeeded there" in said(result)


# --- nodes that were drained before ------------------------------------------------------------------


def test_a_node_that_was_drained_before_stays_so(team: Team) -> None:
    team.drain("n2")
    team.lan.forget_journal()
    result = roll(team, MARK)
    assert result.exit_code == 0, said(result)
    assert "n2 is drained already, and stays so" in said(result)
    assert "done: n1, n2, n3 (n2: drained as before)" in said(result)
    assert order(team) == ["n1 drain", "n1 undrain", "n3 drain", "n3 undrain"]
    assert marks(team, "n2")[:1] == ["ran"]
    assert team.drained == ("n2",)


def test_a_node_that_was_drained_before_is_not_undrained_by_going_on(team: Team) -> None:
    team.drain("n2")
    name_nodes(team)
    result = roll(team, fails_on(team, "n2"))
    told = said(result)
    assert "n2: it was drained before, and stays so" in told
    assert "bring it back" not in told
    assert "--node n2 --node n3" in told
    assert "--from" not in told


# --- reboots -----------------------------------------------------------------------------------------


def test_a_connection_that_breaks_because_the_node_reboots_is_no_failure(team: Team) -> None:
    began = team.lan.nodes["n2"].folder / "began"
    command = f": >{began}; exec sleep 600"
    words = ["rolling", team.inventory, "--yes", "--node", "n2", "--", "sh", "-c", command]
    process = team.begin(*words)
    await_true(began.exists, "the command runs")
    team.lan.reboot("n2")
    stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    assert "n2: has rebooted" in stderr
    assert stdout.splitlines()[-1] == "done: n2"
    assert team.drained == ()


def test_a_connection_that_breaks_without_a_reboot_is_one(team: Team) -> None:
    """The twin: nobody knows how far the command came."""
    result = roll(team, "kill -9 $(ps -o ppid= -p $$)", "--node", "n2")
    assert result.exit_code == 1
    assert "the host has not rebooted, so nobody knows how far the command came" in said(result)
    assert "stopped at n2, step command" in said(result)
    assert team.drained == ("n2",)


def test_a_host_that_is_about_to_go_down_is_not_taken_for_well(team: Team) -> None:
    """`reboot` succeeds, and the host goes on for a while: without a look it would be undrained first."""
    soon = "mkdir -p /run/systemd/shutdown && : >/run/systemd/shutdown/scheduled"
    process = team.begin("rolling", team.inventory, "--yes", "--json", "--node", "n2", "--", "sh", "-c", soon)
    assert process.stdout is not None
    while '"return"' not in process.stdout.readline():
        assert process.poll() is None
    assert team.is_drained("n2")
    team.lan.reboot("n2")
    stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    assert '"rebooted"' in stdout


def test_reboots_says_that_it_is_not_back_before_it_has(team: Team) -> None:
    result = roll(team, "true", "--node", "n2", "--reboots", "--return-within", "1")
    assert result.exit_code == 1
    assert "not back and well after 1 s: it can be reached, and has not rebooted" in said(result)
    assert team.drained == ("n2",)


def test_a_node_that_does_not_return(team: Team) -> None:
    began = team.lan.nodes["n2"].folder / "began"
    command = f": >{began}; exec sleep 600"
    process = team.begin(
        *("rolling", team.inventory, "--yes", "--return-within", "2", "--node", "n2", "--node", "n3"),
        *("--", "sh", "-c", command),
    )
    await_true(began.exists, "the command runs")
    team.lan.nodes["n2"].kill()
    stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "stopped at n2, step return; done: none; not begun: n3" in stdout
    assert "not back and well after 2 s" in stderr
    assert team.drained == ("n2",)


# --- who reads, and who does not -----------------------------------------------------------------------


def test_that_nobody_reads_on_does_not_stop_it_half_way(team: Team) -> None:
    process = team.begin("rolling", team.inventory, "--yes", "--", "sh", "-c", f"{MARK}; seq 20000")
    with process:
        assert process.stdout is not None and process.stderr is not None
        while not process.stdout.readline().startswith("n1 | "):
            assert process.poll() is None
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    assert team.drained == ()
    assert [marks(team, node)[0] for node in NODES] == ["ran", "ran", "ran"]


# --- Ctrl-C ------------------------------------------------------------------------------------------


def test_ctrl_c_finishes_nothing_by_force_and_says_where_it_stands(team: Team) -> None:
    began = team.lan.nodes["n2"].folder / "began"
    process = team.begin(
        *("rolling", team.inventory, "--yes", "--node", "n2", "--node", "n3"),
        *("--", "sh", "-c", f": >{began}; exec sleep 600"),
    )
    await_true(began.exists, "the command runs")
    status, stdout, stderr = interrupted(process)
    assert status == 130
    assert "interrupted at n2, step command; done: none; not begun: n3" in stdout
    assert "it is drained, and stays so; the command was begun there and may be running still" in stderr
    assert f"bring it back: trscaler-gen undrain n2 --inventory {team.inventory}" in stderr
    assert "--node n2 --node n3 --from n2 -- sh -c" in stderr
    assert team.drained == ("n2",)
    assert team.lan.run("n2", "pgrep -x sleep") != ""


def test_ctrl_c_while_it_waits_for_connections(team: Team) -> None:
    team.lan.nodes["n1"].hold(4)
    process = team.begin("rolling", team.inventory, "--yes", "--", "true")
    assert process.stderr is not None
    while process.stderr.readline() != "n1: 4 left\n":
        assert process.poll() is None
    status, stdout, _ = interrupted(process)
    assert status == 130
    assert "interrupted at n1, step wait" in stdout
    assert team.undrain("n1").exit_code == 0, "the locks have been let go"
