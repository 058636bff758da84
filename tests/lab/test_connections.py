from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.test_lab_cli import COMMAND, run
from lab.world import VIP6, VIPS, eventually, forget_neighbours, inventory, virtual_addresses_on
from trscaler_gen.errors import OperationError
from trscaler_gen.lab import Connections, ConnectionsResult, Lab, Load

RESPONDER = "/run/trscaler-lab/responder.py"
FEW = Load(long=20, short_interval_ms=20, request_interval_ms=50, deadline_s=2)
LONG_ONLY = replace(FEW, short_interval_ms=None)

#: a server with a fault: what it answers comes from %s, where `name` is the node's and `line` what was asked
FAULTY = """
import socket
server = socket.create_server(("", 7))
while True:
    connection, _ = server.accept()
    try:
        for number, line in enumerate(connection.makefile("rb")):
            connection.sendall(%s)
    except OSError:
        pass  # the client has seen enough
"""


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """Two nodes for a test that ends their responders."""
    directory = Path("/run/trscaler-gen") / f"test-connections-{os.getpid()}"
    with Lab.up(inventory(2), directory) as running:
        yield running


def signal_responder(lab: Lab, node: str, number: str) -> None:
    lab.exec(node, ["pkill", f"-{number}", "-f", RESPONDER.rpartition("/")[2]])


@contextmanager
def serving(lab: Lab, node: str, *argv: str) -> Iterator[None]:
    """Another server on the node, in the place of its responder, which has ended."""
    with lab.popen(node, ["/usr/bin/python3", "-I", "-S", "-E", *argv]) as process:
        listening = ["sh", "-c", "ss -Htln sport = 7 | grep -q ."]
        try:
            eventually(lambda: lab.exec(node, listening, check=False).returncode == 0, "it listens")
            yield
        finally:
            process.terminate()


def established(lab: Lab, node: str) -> list[int]:
    """How much waits to be read on each of the node's connections."""
    said = lab.exec(node, ["ss", "-Htn", "state", "established", "sport = 7"]).stdout
    return [int(line.split()[0]) for line in said.splitlines()]


def until(connections: Connections, holds: Callable[[ConnectionsResult], bool], what: str) -> None:
    """Wait until it has seen something."""
    eventually(lambda: holds(connections.so_far()), what, 30)


def how(result: ConnectionsResult, kind: str = "long") -> set[tuple[str, str]]:
    """In which ways connections of a kind broke."""
    return {(broken.reason, broken.doing) for broken in result.broken if broken.kind == kind}


def move_addresses(lab: Lab, source: str, target: str) -> None:
    """The virtual addresses go to another node, which knows nothing of the connections."""
    for address in VIPS.values():
        lab.exec(source, ["ip", "address", "del", str(address), "dev", "eth0"])
        nodad = ["nodad"] if address.version == 6 else []
        lab.exec(target, ["ip", "address", "add", str(address), "dev", "eth0", *nodad])
    forget_neighbours(lab, "client")


def test_nothing_breaks_where_nothing_happens(lab: Lab) -> None:
    with virtual_addresses_on(lab, "n1"), lab.connecting() as connections:
        assert connections.so_far().of("long").holding == {"n1": 200}
        until(connections, lambda seen: seen.of("short").closed >= 100, "short ones come and go")
        result = connections.stop()
    for family in (4, 6):
        long, short = result.of("long", family), result.of("short", family)
        assert (long.opened, long.closed, long.broken, long.holding) == (100, 0, 0, {"n1": 100})
        assert long.answered == long.by_node["n1"] >= 100
        assert short.opened == short.closed == short.answered >= 50
        assert (short.broken, short.holding) == (0, {})
    assert (result.broken, result.of().strayed) == ((), 0)
    assert result.of("idle").opened == 0


def test_idle_ones_rest(lab: Lab) -> None:
    load = replace(FEW, idle=10, idle_interval_s=60)
    with virtual_addresses_on(lab, "n1"), lab.connecting(load) as connections:
        until(connections, lambda seen: seen.of("long").answered >= 10 * 20, "the others ask again and again")
        result = connections.stop()
    assert 10 <= result.of("idle").answered <= 20


def test_the_schedule_of_short_ones_never_stretches(lab: Lab) -> None:
    """Frozen in the middle, it opens what was due all the same, and says that it was late."""
    load = replace(FEW, long=2, short_interval_ms=5)
    with virtual_addresses_on(lab, "n1"), lab.connecting(load) as connections:
        until(connections, lambda seen: seen.of("short").opened > 0, "it is at work")
        os.kill(connections.pid, signal.SIGSTOP)
        frozen_ms = connections.elapsed_ms
        eventually(lambda: connections.elapsed_ms > frozen_ms + 500, "it is behind")
        os.kill(connections.pid, signal.SIGCONT)
        until(connections, lambda seen: seen.of("short").opened >= 100, "it has caught up")
        result = connections.stop()
    assert result.late > 50
    assert result.worst_late_ms > 400
    assert result.broken == ()


def test_answers_are_counted_by_node(lab: Lab) -> None:
    own = (ip_address("192.0.2.1"), ip_address("192.0.2.2"))
    with lab.connecting(FEW, destinations=own) as connections:
        until(connections, lambda seen: seen.of("short").closed >= 10, "short ones come and go")
        result = connections.stop()
    assert result.of("long").holding == {"n1": 10, "n2": 10}
    assert result.of("short").by_node.keys() == {"n1", "n2"}
    assert (result.of(family=6).opened, result.of().strayed) == (0, 0)


def test_idle_ones_ask_seldom(lab: Lab) -> None:
    load = replace(LONG_ONLY, idle=10, idle_interval_s=0.5)
    with virtual_addresses_on(lab, "n1"), lab.connecting(load) as connections:
        until(connections, lambda seen: seen.of("idle").answered >= 25, "they ask now and then")
        result = connections.stop()
    assert result.of("idle").holding == {"n1": 10}
    assert result.of("long").answered > 4 * result.of("idle").answered
    assert result.broken == ()


def test_lives_end_in_an_orderly_way(lab: Lab) -> None:
    load = replace(LONG_ONLY, idle=4, life_s=0.3)
    with virtual_addresses_on(lab, "n1"), lab.connecting(load) as connections:
        until(connections, lambda seen: seen.of("long").closed > 40, "new ones follow on old ones")
        until(connections, lambda seen: seen.of("idle").closed > 8, "the same for idle ones")
        result = connections.stop()
    assert result.broken == ()
    for count in result.counts:
        assert count.opened == count.closed + sum(count.holding.values())


def test_slow_answers_are_counted(lab: Lab) -> None:
    with virtual_addresses_on(lab, "n1"), lab.connecting(FEW) as connections:
        until(connections, lambda seen: seen.of("short").closed > 5, "all is well")
        signal_responder(lab, "n1", "STOP")
        stopped_ms = connections.elapsed_ms
        eventually(lambda: connections.elapsed_ms > stopped_ms + 400, "everything waits")
        signal_responder(lab, "n1", "CONT")
        until(connections, lambda seen: seen.of("long").slow >= 20, "answered in the end")
        result = connections.stop()
    assert (result.broken, result.of().strayed) == ((), 0)
    assert result.of("short").slow > 0
    assert result.of().slow == len(result.slow)
    assert result.of("long").slowest_ms == max(slow.taken_ms for slow in result.slow if slow.kind == "long")
    assert all(slow.taken_ms > 150 and slow.node == "n1" for slow in result.slow)


def test_a_server_that_hangs_is_no_reset(lab: Lab) -> None:
    load = replace(FEW, deadline_s=1)
    with virtual_addresses_on(lab, "n1"), lab.connecting(load) as connections:
        signal_responder(lab, "n1", "STOP")
        until(connections, lambda seen: seen.of("long").broken >= 20, "all have hung")
        until(connections, lambda seen: seen.of("short").broken > 0, "short ones too")
        signal_responder(lab, "n1", "CONT")
        until(connections, lambda seen: seen.of("long").holding == {"n1": 20}, "all are there again")
        result = connections.stop()
    assert how(result) == how(result, "short") == {("hang", "request")}
    held = [broken for broken in result.broken if broken.kind == "long" and broken.node]
    assert len(held) == 20
    assert all(broken.node == "n1" and broken.waited_ms > 1000 for broken in held)
    assert all(broken.unheard_ms < broken.waited_ms for broken in held)  # acknowledged, and asked again


@pytest.mark.parametrize("kind", ["long", "idle"])
def test_packets_that_vanish_are_a_hang(lab: Lab, kind: str) -> None:
    load = replace(FEW, long=0, idle=0, deadline_s=1, idle_interval_s=0.2) if kind == "idle" else FEW
    load = replace(load, **{kind: 20}, deadline_s=1)
    with virtual_addresses_on(lab, "n1"), lab.connecting(load) as connections:
        lab.cut("n1", silent=True)
        until(connections, lambda seen: seen.of(kind).broken >= 20, "all have hung")
        until(connections, lambda seen: ("hang", "connect") in how(seen, "short"), "nobody to connect to")
        lab.mend("n1")
        until(connections, lambda seen: seen.of(kind).holding == {"n1": 20}, "all are there again")
        result = connections.stop()
    held = [broken for broken in result.broken if broken.kind == kind and broken.node]
    assert {(broken.reason, broken.doing) for broken in held} == {("hang", "request")}
    assert all(broken.unheard_ms > 1000 for broken in held)  # never acknowledged
    assert {reason for reason, _ in how(result, "short")} <= {"hang", "unreachable"}


def test_a_node_that_knows_nothing_of_a_connection_resets_it(own_lab: Lab) -> None:
    with virtual_addresses_on(own_lab, "n1"), own_lab.connecting(LONG_ONLY) as connections:
        move_addresses(own_lab, "n1", "n2")
        until(connections, lambda seen: seen.of("long").holding == {"n2": 20}, "the other node has them")
        result = connections.stop()
        move_addresses(own_lab, "n2", "n1")
    held = [broken for broken in result.broken if broken.node]
    assert Counter(broken.family for broken in held) == {4: 10, 6: 10}
    assert all((broken.node, broken.reason) == ("n1", "reset") for broken in held)
    assert all(broken.age_ms > broken.waited_ms >= 0 for broken in held)
    assert result.of("long").broken == len(result.broken)


def test_an_acknowledged_request_does_not_leave_a_connection_waiting_for_ever(own_lab: Lab) -> None:
    """The kernel has nothing to repeat, so the next request must go out, or nobody could reset it."""
    with virtual_addresses_on(own_lab, "n1"), own_lab.connecting(LONG_ONLY) as connections:
        signal_responder(own_lab, "n1", "STOP")
        before_ms = connections.elapsed_ms
        eventually(lambda: connections.elapsed_ms > before_ms + 300, "all have asked, and are acknowledged")
        move_addresses(own_lab, "n1", "n2")
        until(connections, lambda seen: seen.of("long").holding == {"n2": 20}, "the other node has them")
        result = connections.stop()
        move_addresses(own_lab, "n2", "n1")
    held = [broken for broken in result.broken if broken.node]
    assert {(broken.reason, broken.doing) for broken in held} == {("reset", "request")}
    assert all(broken.waited_ms > broken.unheard_ms for broken in held)


def test_a_server_that_is_killed_and_started_again(own_lab: Lab) -> None:
    with virtual_addresses_on(own_lab, "n1"), own_lab.connecting(FEW) as connections:
        signal_responder(own_lab, "n1", "STOP")  # what it has not read is reset at its end
        eventually(lambda: all(established(own_lab, "n1")), "all have asked")
        signal_responder(own_lab, "n1", "KILL")
        until(connections, lambda seen: seen.of("short").broken > 10, "nobody is there")
        with serving(own_lab, "n1", RESPONDER, "n1"):
            until(connections, lambda seen: seen.of("long").holding == {"n1": 20}, "all are there again")
            result = connections.stop()
    held = [broken for broken in result.broken if broken.kind == "long" and broken.node]
    assert [(broken.reason, broken.doing) for broken in held] == [("reset", "request")] * 20
    assert ("refused", "connect") in how(result, "long") & how(result, "short")
    assert result.of("long").answered > 20


def test_a_server_that_closes_is_no_reset(own_lab: Lab) -> None:
    load = replace(LONG_ONLY, long=0, idle=10, idle_interval_s=60)
    with virtual_addresses_on(own_lab, "n1"), own_lab.connecting(load) as connections:
        signal_responder(own_lab, "n1", "KILL")
        until(connections, lambda seen: seen.of("idle").broken > 10, "all are closed")
        result = connections.stop()
    held = [broken for broken in result.broken if broken.node]
    assert [(broken.reason, broken.doing) for broken in held] == [("closed", "nothing")] * 10
    assert all(broken.waited_ms == broken.unheard_ms == 0 for broken in held)


@pytest.mark.parametrize(
    ("answer", "strayed", "reason"),
    [
        ('b"n%d " % min(number, 2) + line', True, None),
        ('b"n1 " + line.replace(b" ", b" 1")', False, "wrong answer"),
        ("b'n1 ' + line * 2", False, "wrong answer"),
        ('b"nonsense\\n"', False, "wrong answer"),
    ],
)
def test_answers_that_should_never_be_are_seen(
    own_lab: Lab, answer: str, strayed: bool, reason: str | None
) -> None:
    signal_responder(own_lab, "n1", "KILL")
    load = replace(LONG_ONLY, long=1)
    with serving(own_lab, "n1", "-c", FAULTY % answer):
        node = ip_address("192.0.2.1")
        with own_lab.connecting(load, destinations=(node,)) as connections:
            until(connections, lambda seen: bool(seen.of().strayed or seen.broken), "the fault is seen")
            result = connections.stop()
    assert bool(result.of("long").strayed) == strayed
    assert {broken.reason for broken in result.broken} == ({reason} if reason else set())


def test_nobody_there_is_a_start_all_the_same(lab: Lab) -> None:
    result = lab.connecting(replace(FEW, deadline_s=1, seconds=0.2)).wait()
    assert result.of().answered == 0
    assert result.of().opened == result.of().broken >= 20
    assert {broken.doing for broken in result.broken} == {"connect"}
    assert {broken.reason for broken in result.broken} <= {"hang", "unreachable"}
    assert all(broken.node == "" for broken in result.broken)


def test_its_time_ends_it_and_stopping_twice_says_the_same(lab: Lab) -> None:
    with virtual_addresses_on(lab, "n1"):
        connections = lab.connecting(replace(FEW, seconds=0.3))
        result = connections.wait()
    assert connections.stop() is result
    assert connections.so_far() is result
    assert result.of("short").opened >= 10
    assert result.of("short").opened == result.of("short").closed


def test_the_result_of_connections_is_a_value_that_json_can_carry(lab: Lab) -> None:
    with virtual_addresses_on(lab, "n1"):
        result = lab.connecting(replace(FEW, seconds=0.1)).wait()
    assert json.loads(json.dumps(result.as_json()))["counts"][0]["opened"] == 10
    assert replace(result, late=-1) != result


def test_a_connector_that_is_killed_is_not_a_result(lab: Lab) -> None:
    with virtual_addresses_on(lab, "n1"):
        connections = lab.connecting(FEW)
        os.kill(connections.pid, signal.SIGKILL)
        with pytest.raises(OperationError, match="the connector died"):
            connections.wait()
        connections = lab.connecting(FEW)
        os.kill(connections.pid, signal.SIGKILL)
        with pytest.raises(OperationError, match="the connector died"):
            connections.so_far()


@pytest.mark.parametrize(
    "load",
    [
        Load(sources=0),
        Load(sources=251),
        Load(long=-1),
        Load(idle=-1),
        Load(request_interval_ms=0),
        Load(idle_interval_s=0),
        Load(short_interval_ms=0),
        Load(life_s=0),
        Load(deadline_s=0),
        Load(seconds=0),
    ],
)
def test_a_senseless_load_is_refused(lab: Lab, load: Load) -> None:
    with pytest.raises(OperationError):
        lab.connecting(load)


def test_connections_as_text_and_as_json(lab: Lab) -> None:
    words = ("connections", "--long", "6", "--idle", "2", "--short-interval-ms", "20", "--seconds", "0.3")
    with virtual_addresses_on(lab, "n1"):
        text = run(lab.directory, *words).stdout
        only = run(lab.directory, *words, "--destination", str(VIP6), "--json").stdout
    rows = [line.split() for line in text.splitlines()]
    assert ["long", "IPv4", "3", "0", "0"] in [row[:5] for row in rows]
    assert any(row[:2] == ["short", "IPv6"] for row in rows)
    counts = json.loads(only)["counts"]
    assert {count["family"] for count in counts if count["opened"]} == {6}


def test_connections_as_text_say_how_they_broke(lab: Lab) -> None:
    words = ("--long", "4", "--short-interval-ms", "0", "--seconds", "0.1", "--destination", "192.0.2.201")
    done = run(lab.directory, "connections", *words)
    assert done.returncode == 0
    assert any(line.split()[1:] == ["refused", "connect", "nobody"] for line in done.stdout.splitlines())


def test_interrupted_connections_print_what_they_have(lab: Lab) -> None:
    argv = ["connections", "--seconds", "600", "--long", "4", "--json"]
    before = accepted(lab, "n1")
    with virtual_addresses_on(lab, "n1"):
        process = subprocess.Popen(
            [*COMMAND, *argv],
            env={**os.environ, "TRSCALER_LAB_DIR": str(lab.directory)},
            stdout=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: accepted(lab, "n1") > before + 20, "it is at work")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert sum(count["opened"] for count in json.loads(output)["counts"]) >= 4


def accepted(lab: Lab, node: str) -> int:
    """Connections that the node has taken, over both families."""
    rows = lab.exec(node, ["grep", "^Tcp:", "/proc/net/snmp"]).stdout.splitlines()
    return int(dict(zip(rows[0].split(), rows[1].split(), strict=True))["PassiveOpens"])
