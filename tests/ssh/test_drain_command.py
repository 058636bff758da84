"""``trscaler-gen drain`` and ``undrain`` as a user runs them."""

from __future__ import annotations

import threading

import pytest

from ssh.nodes import CLUSTER, await_true
from ssh.team import NODES, Team, interrupted, json_lines, said
from trscaler_gen.deploy.deployment_lock import DeploymentLocks


def drains(team: Team) -> list[str]:
    return [line for line in team.lan.journal if line.endswith("drain")]


def test_new_connections_go_elsewhere_and_the_old_ones_stay(team: Team) -> None:
    team.lan.nodes["n2"].hold(12)
    result = team.drain("n2")
    assert result.exit_code == 0, said(result)
    assert result.stdout.splitlines() == [
        "n2: drained: new connections go to the other nodes",
        "n2: holds 12 connections, which stay with it until they end",
    ]
    assert team.drained == ("n2",)
    assert drains(team) == ["n2 drain"]


def test_it_waits_until_no_connection_is_left(team: Team) -> None:
    node = team.lan.nodes["n2"]
    node.hold(3)
    process = team.begin("drain", "n2", "--inventory", team.inventory, "--wait")
    assert process.stderr is not None
    assert process.stderr.readline() == "n2: 3 left\n"
    node.hold(0)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "n2: 0 left\n")
    assert stdout.splitlines()[-1] == "n2: holds no connection: it can be stopped or rebooted"


def test_the_time_is_over_and_connections_are_left(team: Team) -> None:
    team.lan.nodes["n2"].hold(3)
    result = team.drain("n2", "--wait", "--timeout", "0.2")
    assert result.exit_code == 124
    told = said(result)
    assert "n2: 3 connections left after 0.2 s; they stay, and so does the drain" in told
    assert f"trscaler-gen undrain n2 --inventory {team.inventory}" in told
    assert team.drained == ("n2",)


def test_ctrl_c_while_it_waits_leaves_the_node_drained_and_says_so(team: Team) -> None:
    team.lan.nodes["n2"].hold(3)
    process = team.begin("drain", "n2", "--inventory", team.inventory, "--wait")
    assert process.stderr is not None
    assert process.stderr.readline() == "n2: 3 left\n"
    status, _, stderr = interrupted(process)
    assert status == 130
    assert f"n2 stays drained; bring back: trscaler-gen undrain n2 --inventory {team.inventory}" in stderr
    assert team.drained == ("n2",)


def test_who_waits_keeps_nobody_else_out(team: Team) -> None:
    """The deployment locks are let go of first: an operator's `undrain` must get through."""
    team.lan.nodes["n2"].hold(3)
    process = team.begin("drain", "n2", "--inventory", team.inventory, "--wait")
    assert process.stderr is not None
    assert process.stderr.readline() == "n2: 3 left\n"
    assert team.undrain("n2").exit_code == 0
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "somebody has undrained it: it takes new connections again" in stderr


def test_a_drained_node_is_told_to_be_so(team: Team) -> None:
    team.drain("n2")
    team.lan.forget_journal()
    again = team.drain("n2", "--wait")
    assert again.exit_code == 0
    assert again.stdout.startswith("n2: is drained already\n")
    assert drains(team) == []


def test_several_at_once(team: Team) -> None:
    result = team.drain("n1", "n3", "n1", "--json")
    assert result.exit_code == 0, said(result)
    *drained, outcome = json_lines(result)
    assert [(line["event"], line["node"], line["already"]) for line in drained] == [
        ("drained", "n1", False),
        ("drained", "n3", False),
    ]
    assert outcome["complete"]
    assert outcome["nodes"] == [{"node": "n1", "held": 0}, {"node": "n3", "held": 0}]


def test_no_node_of_that_name(team: Team) -> None:
    result = team.drain("n22")
    assert result.exit_code == 1
    assert 'has no node "n22" did you mean "n2"?' in said(result)
    assert "its nodes are: n1, n2, n3" in said(team.drain("elsewhere"))
    assert team.lan.journal == ()


def test_a_node_that_runs_nothing(team: Team) -> None:
    team.user.write("n1", "n2", "n3", "n4")
    team.lan.boot("n4")
    team.lan.write_config()
    result = team.drain("n4")
    assert result.exit_code == 1
    assert "it does not run cluster web: there is nothing to drain" in said(result)


@pytest.mark.parametrize("nodes", [("n1",), NODES], ids=["the last", "all"])
def test_somebody_has_to_be_left(team: Team, nodes: tuple[str, ...]) -> None:
    if nodes == ("n1",):
        assert team.drain("n2", "n3").exit_code == 0
        team.lan.forget_journal()
    refused = team.drain(*nodes)
    assert refused.exit_code == 1
    assert "no other node serves" in said(refused)
    assert "--force" in said(refused)
    assert drains(team) == []
    assert team.drain(*nodes, "--force").exit_code == 0
    assert team.drained == NODES


def test_a_dead_node_is_nobody_who_is_left(team: Team) -> None:
    for name in ("n2", "n3"):
        team.lan.nodes[name].kill()
    assert "no other node serves" in said(team.drain("n1"))
    assert team.drained == ()


def test_another_node_that_cannot_be_reached_is_no_reason(team: Team) -> None:
    team.lan.nodes["n3"].kill()
    assert team.drain("n1").exit_code == 0
    assert team.drained == ("n1",)


def test_a_node_that_cannot_be_reached_is_not_drained(team: Team) -> None:
    team.lan.nodes["n1"].kill()
    result = team.drain("n1")
    assert result.exit_code == 1
    assert "n1" in said(result)
    assert team.drained == ()


@pytest.mark.parametrize("where", ["n1", "n3"])
def test_not_while_somebody_else_deploys(team: Team, where: str) -> None:
    """On whatever node: he may be about to take another one away."""
    with team.lan.connect(where) as connection, DeploymentLocks(CLUSTER, "abcdef", "ann@desk") as locks:
        locks.take(where, connection)
        result = team.drain("n1")
    assert result.exit_code == 1
    assert f"error: {where}: ann@desk has been deploying to it since" in result.stderr
    assert team.drained == ()


def test_one_of_two_who_drain_the_last_two_nodes_is_refused(team: Team) -> None:
    """Both see each other's node serve before either is drained."""
    team.drain("n3")
    results = []

    def drain(node: str) -> None:
        process = team.begin("drain", node, "--inventory", team.inventory)
        _, stderr = process.communicate(timeout=60)
        results.append((process.returncode, stderr))

    threads = [threading.Thread(target=drain, args=(node,)) for node in ("n1", "n2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 in [status for status, _ in results], results
    assert len(team.drained) <= 2


def test_files_of_an_earlier_release_do_not_know_of_draining(team: Team) -> None:
    """They would take a drained node for one that serves."""
    forget_draining = f"sed -i 's/! talks ||/true ||/' /etc/trscaler-gen/{CLUSTER}/current/node.sh"
    team.lan.run("n3", forget_draining)
    result = team.drain("n1")
    assert result.exit_code == 1
    assert "n3 runs files of an earlier release, which do not know of draining" in said(result)
    assert "trscaler-gen apply" in said(result)
    assert team.drained == ()


def test_a_peer_that_does_not_hear_it_is_told(team: Team) -> None:
    """It would go on to send it new connections."""
    team.lan.nodes["n3"].tell("state", "peers_draining=\nalive=1 2 3\n")
    result = team.drain("n1")
    assert result.exit_code == 1
    assert "it is drained, but n3 does not hear its heartbeats say so" in said(result)
    assert "n1 stays drained; bring back: trscaler-gen undrain n1" in said(result)


def test_a_script_that_fails(team: Team) -> None:
    team.lan.nodes["n2"].tell("fail-drain", "1")
    result = team.drain("n2")
    assert result.exit_code == 1
    assert "drain failed: told to fail" in said(result)
    assert "stays drained" not in said(result)


def test_held_connections_that_cannot_be_told(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trscaler_gen.deploy.drain._SILENCE_S", 0.1)
    monkeypatch.setattr("trscaler_gen.deploy.drain._HELD_EVERY_S", 0.05)
    team.lan.nodes["n2"].tell("fail-held", "1")
    result = team.drain("n2", "--wait")
    assert result.exit_code == 1
    assert "it does not tell how many connections it holds: told to fail" in said(result)
    assert "n2 stays drained" in said(result)


def test_a_connection_that_breaks_while_it_waits_is_made_anew(team: Team) -> None:
    node = team.lan.nodes["n2"]
    node.hold(2)
    process = team.begin("drain", "n2", "--inventory", team.inventory, "--wait")
    assert process.stderr is not None
    assert process.stderr.readline() == "n2: 2 left\n"
    team.lan.reboot("n2")
    node.hold(0)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "n2: 0 left\n")


def test_hash_only_keeps_no_connection_and_waits_for_none(team: Team) -> None:
    team.user.write(*NODES, connections="hash-only")
    team.lan.nodes["n2"].hold(7)
    result = team.drain("n2", "--wait")
    assert result.exit_code == 0
    assert "its connections break, for the inventory says connections: hash-only" in said(result)


def test_timeout_without_wait_makes_no_sense(team: Team) -> None:
    assert team.drain("n1", "--timeout", "3").exit_code == 2


# --- undrain ---------------------------------------------------------------------------------------


def test_back_into_service(team: Team) -> None:
    team.drain("n2")
    result = team.undrain("n2")
    assert (result.exit_code, result.stdout) == (0, "n2: serves\n"), said(result)
    assert team.drained == ()
    assert team.undrain("n2").stdout == "n2: was not drained; serves\n"


def test_a_node_that_is_ill_does_not_serve_when_it_is_undrained(team: Team) -> None:
    team.drain("n2")
    team.lan.nodes["n2"].tell("state", "serving=no\nheartbeat=FAULT\n")
    result = team.undrain("n2")
    assert result.exit_code == 1
    assert "does not serve yet: keepalived says FAULT" in result.stdout
    assert team.drained == ()


def test_not_undrained_while_somebody_else_deploys(team: Team) -> None:
    team.drain("n2")
    with team.lan.connect("n2") as connection, DeploymentLocks(CLUSTER, "abcdef", "ann@desk") as locks:
        locks.take("n2", connection)
        result = team.undrain("n2", "--json")
    assert result.exit_code == 1
    assert "ann@desk has been deploying to it" in said(result)
    assert team.drained == ("n2",)
    (line,) = json_lines(team.undrain("n2", "--json"))
    assert (line["event"], line["node"], line["serving"]) == ("undrained", "n2", True)


def test_a_drained_node_stays_drained_over_a_reboot(team: Team) -> None:
    team.drain("n2")
    team.lan.reboot("n2")
    await_true(lambda: "n2: drained: takes no new" in said(team.run("status", team.inventory)), "its return")
    assert team.run("status", team.inventory).exit_code == 0


def test_status_tells_who_is_drained(team: Team) -> None:
    team.lan.nodes["n2"].hold(5)
    team.drain("n2")
    result = team.run("status", team.inventory)
    assert result.exit_code == 0, said(result)
    assert "note: n2: drained: takes no new connections, and still holds 5 connections" in result.stdout
    row = next(line.split() for line in result.stdout.splitlines() if line.startswith("n2 "))
    assert row[4:8] == ["drained", "all", "0", "0%"]
