"""A command on every node, one after the other, while clients are served: none of them notices."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from trscaler_gen.lab import Load

from .cluster import UNHEALTHY, Cluster, running_cluster
from .events import assert_nothing_noticed, under_probes

NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e-rolling"), "rolling", nodes=3) as cluster:
        yield cluster


@pytest.fixture
def three(shared: Cluster) -> Iterator[Cluster]:
    """Three nodes that serve, also after a test that failed."""
    yield shared
    for node in NODES:
        shared.lab.exec(node, ["rm", "-f", UNHEALTHY, "/run/marks"])
        shared.script(node, "undrain", check=False)
    shared.settle()


def roll(cluster: Cluster, command: str, *options: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    words = ("rolling", str(cluster.path), "--yes", *options, "--", "sh", "-c", command)
    return cluster.cli(*words, expect=(expect,))


def drained(cluster: Cluster) -> list[str]:
    return [node for node in NODES if cluster.state(node)["draining"] == "yes"]


def test_nobody_notices(three: Cluster) -> None:
    """Connections of a second: the wait is for real ones, and none is broken."""
    load = Load(long=60, sources=30, short_interval_ms=20, life_s=1)
    with three.lab.connecting(load) as connections, under_probes(three) as watched:
        done = roll(three, "ls /etc/trscaler-gen/e2e/drained && cat /run/trscaler-gen/e2e/heartbeat")
        three.settle()
        result = connections.stop()
    assert_nothing_noticed(watched.result, crossing=2)
    assert (result.of().broken, result.of().strayed) == (0, 0), result.broken
    assert done.stdout.splitlines()[-1] == "done: n1, n2, n3"
    for node in NODES:
        assert f"{node} | /etc/trscaler-gen/e2e/drained\n{node} | MASTER\n" in done.stdout
        assert watched.result.by_node[node] > 0
    assert drained(three) == []


def test_a_restart_of_what_serves_is_not_noticed(three: Cluster) -> None:
    """The whole node goes down and comes up again, drained as it was."""
    script = "sh /etc/trscaler-gen/e2e/current/node.sh"
    with under_probes(three) as watched:
        roll(three, f"{script} down && {script} up")
        three.settle()
    assert_nothing_noticed(watched.result, crossing=2)
    assert drained(three) == []


def test_a_command_that_fails_on_the_second_node(three: Cluster) -> None:
    three.lab.exec("n2", ["touch", "/run/marks"])
    with under_probes(three) as watched:
        done = roll(three, "[ ! -e /run/marks ]", expect=1)
    assert_nothing_noticed(watched.result, crossing=2)
    assert "stopped at n2, step command; done: n1; not begun: n3" in done.stdout
    assert "n2: the command failed: exit 1" in done.stderr
    assert drained(three) == ["n2"]
    roll(three, "rm -f /run/marks", "--from", "n2")
    assert drained(three) == []


def test_a_command_after_which_the_service_is_ill(three: Cluster) -> None:
    done = roll(three, f"touch {UNHEALTHY}", "--json", "--return-within", "3", expect=1)
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert (outcome["stopped_at"], outcome["step"], outcome["not_begun"]) == ("n1", "return", ["n2", "n3"])
    assert "its health check fails" in outcome["error"] or "keepalived says FAULT" in outcome["error"]
    assert drained(three) == ["n1"]
