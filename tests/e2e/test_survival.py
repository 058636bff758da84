"""What goes wrong at night: changes that die half-way, and things that somebody takes away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab

from .cluster import UNHEALTHY, Cluster, eventually, inventory_text
from .events import assert_nothing_noticed, under_probes
from .test_changes import actions, apply
from .witness import watched_probes

LOCK = "/run/trscaler-gen/e2e/lock"

DEADLY_MV = """#!/bin/sh
case "$*" in */current) rm "$0"; {before} kill -9 $PPID ;; *) exec /bin/mv "$@" ;; esac
"""


@contextmanager
def deadly_mv(cluster: Cluster, node: str, before: str = "") -> Iterator[None]:
    """Let node.sh die on a node at the moment at which it makes its generation the current one; once."""
    path = "/usr/local/sbin/mv"
    script = DEADLY_MV.format(before=before)
    cluster.lab.exec(node, ["sh", "-c", f"cat >{path} && chmod 755 {path}"], input=script)
    try:
        yield
    finally:
        cluster.lab.exec(node, ["rm", "-f", path])


def try_to_apply(cluster: Cluster, document: dict[str, object]) -> None:
    """Apply where a failure is expected."""
    with pytest.raises(AssertionError, match="failed"):
        apply(cluster, document)


def test_swap_that_died_half_way_is_taken_back(cluster: Cluster, inventory: dict[str, object]) -> None:
    """The node does it itself; without a look at what is loaded, it would go on with the new tables."""
    original = dict(inventory)
    before = cluster.state("n2")
    nodes = dict(inventory["nodes"])  # type: ignore[call-overload]
    del nodes["n4"]
    with deadly_mv(cluster, "n2"):
        try_to_apply(cluster, {**inventory, "nodes": nodes})
    after = cluster.state("n2")
    for key in ("generation", "loaded", "ruleset", "unconfirmed"):
        assert after[key] == before[key]
    apply(cluster, original)
    cluster.settle()
    with under_probes(cluster) as watched:
        pass
    assert_nothing_noticed(watched.result)


def test_swap_by_hand_that_died_half_way_is_seen_and_mended(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    """Nobody promised to take it back; the next apply makes the change again."""
    before = cluster.state("n2")["generation"]
    apply(cluster, {**inventory, "heartbeat": {"interval_ms": 100, "missed": 4}})
    with deadly_mv(cluster, "n2"):
        script = f"/etc/trscaler-gen/e2e/generations/{before}/node.sh"
        cluster.lab.exec("n2", ["sh", script, "swap"], check=False)
    assert cluster.state("n2")["ruleset"] == "unfinished"
    assert cluster.state("n2")["loaded"] == before
    assert actions(apply(cluster, inventory))["n2"] == "swapped"
    assert cluster.state("n2")["ruleset"] == "intact"
    cluster.settle()


def test_swap_that_died_half_way_can_be_made_again(cluster: Cluster, inventory: dict[str, object]) -> None:
    nodes = dict(inventory["nodes"])  # type: ignore[call-overload]
    del nodes["n4"]
    with deadly_mv(cluster, "n2"):
        try_to_apply(cluster, {**inventory, "nodes": nodes})
    assert actions(apply(cluster, {**inventory, "nodes": nodes}))["n2"] == "swapped"
    cluster.settle(("n1", "n2", "n3"))


def test_swap_that_died_before_keepalived_heard_of_it(cluster: Cluster, inventory: dict[str, object]) -> None:
    inventory["heartbeat"] = {"interval_ms": 200, "missed": 3}
    with deadly_mv(cluster, "n2", before='/bin/mv "$@";'):
        try_to_apply(cluster, inventory)
    assert actions(apply(cluster, inventory))["n2"] == "swapped"
    cluster.settle()


def test_changed_health_command_is_asked_at_once(cluster: Cluster, inventory: dict[str, object]) -> None:
    """Keepalived is not reloaded for it: it must run the current generation's script."""
    inventory["health"] = {"command": ["/usr/bin/test", "!", "-e", "/run/ill"], "interval_s": 1}
    assert set(actions(apply(cluster, inventory)).values()) == {"swapped"}
    cluster.lab.exec("n2", ["touch", "/run/ill"])
    cluster.settle(("n1", "n3", "n4"))
    cluster.lab.exec("n2", ["rm", "/run/ill"])
    cluster.settle()


def test_missing_health_program_is_refused_before_anything_changes(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    inventory["health"] = {"command": ["/usr/local/bin/no-such-program"]}
    before = cluster.state("n1")
    try_to_apply(cluster, inventory)
    assert cluster.state("n1") == before


def test_health_check_puts_the_rules_back_where_no_watcher_lives(cluster: Cluster) -> None:
    """While one lives, the health check reads the rules only now and then."""
    cluster.lab.exec("n2", ["sh", "-c", "kill -- -$(cat /run/trscaler-gen/e2e/watch.pid); nft flush ruleset"])
    eventually(lambda: cluster.state("n2")["ruleset"] == "intact", "the rules are back")
    cluster.script("n2", "up")  # and the watcher
    # While it was naked it may have shown the switch its inner MAC.
    forget = "for port in /sys/class/net/*/brport/flush; do echo 1 >$port; done"
    cluster.lab.exec("switch", ["sh", "-c", forget])


def test_two_flushes_in_a_row_heal_too(cluster: Cluster) -> None:
    """`systemctl restart nftables` flushes twice: the second one may come just after we loaded."""
    for pause_s in (0, 0.05, 0.1):
        cluster.lab.exec("n2", ["sh", "-c", f"nft flush ruleset; sleep {pause_s}; nft flush ruleset"])
        eventually(lambda: cluster.state("n2")["ruleset"] == "intact", "the rules are back")
        assert "trscaler_e2e" in cluster.lab.exec("n2", ["nft", "list", "tables"]).stdout
        cluster.settle()


@pytest.mark.parametrize(
    "damage",
    [
        "ip addr del 192.0.2.100/32 dev vip-e2e",
        "bridge fdb del {mac} dev eth0 self",
        "echo 0 >/proc/sys/net/ipv4/conf/eth0/arp_ignore",
        "ip link set vip-e2e down",
        "ip link del vip-e2e",
    ],
)
def test_what_somebody_takes_away_is_put_back(cluster: Cluster, damage: str) -> None:
    mac = cluster.lab.exec(
        "n2", ["sh", "-c", "sed -n 's/^FRAME=//p' /etc/trscaler-gen/e2e/current/node.sh"]
    ).stdout.split()[2]
    look = (
        f"ip -o addr show dev vip-e2e up; bridge fdb show dev eth0 | grep {mac};"
        " cat /proc/sys/net/ipv4/conf/eth0/arp_ignore"
    )

    def seen() -> list[str]:
        shown = cluster.lab.exec("n2", ["sh", "-c", f"({look}) | cut -d ' ' -f 2-"], check=False)
        return sorted(shown.stdout.split())

    before = seen()
    cluster.lab.exec("n2", ["sh", "-c", damage.format(mac=mac)])
    eventually(lambda: seen() == before, "it is put back")
    cluster.settle()


def test_down_stays_down(cluster: Cluster) -> None:
    """A health check by hand must not bring back what was taken down."""
    cluster.script("n2", "down")
    done = cluster.script("n2", "health", check=False)
    assert done.returncode != 0
    assert "use up" in done.stderr
    assert cluster.state("n2")["running"] == "no"
    cluster.script("n2", "up")
    cluster.settle()


def second_inventory(cluster: Cluster, folder: Path, **keys: object) -> Path:
    document = yaml.safe_load(inventory_text(cluster.lab.directory))
    path = folder / "second.yaml"
    second = {**document, "cluster": "e2e-two", "virtual_addresses": ["192.0.2.110"], **keys}
    path.write_text(yaml.safe_dump(second, sort_keys=False))
    return path


def test_second_cluster_with_our_router_ids_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """Each would take the other's heartbeats away."""
    second = Cluster(cluster.lab, second_inventory(cluster, tmp_path))
    with pytest.raises(AssertionError, match="first_vrid"):
        second.cli("apply", "--yes", str(second.path))
    cluster.settle()


def test_second_cluster_comes_and_goes_beside_ours(cluster: Cluster, tmp_path: Path) -> None:
    path = second_inventory(cluster, tmp_path, heartbeat={"first_vrid": 101})
    cluster.cli("apply", "--yes", str(path))
    with under_probes(cluster) as watched:
        for node in cluster.lab.nodes:
            cluster.lab.exec(node, ["sh", "/etc/trscaler-gen/e2e-two/current/node.sh", "down"])
    for node in cluster.lab.nodes:
        cluster.lab.exec(node, ["rm", "-r", "/etc/trscaler-gen/e2e-two"])
        setting = cluster.lab.exec(node, ["cat", "/proc/sys/net/ipv4/conf/eth0/arp_ignore"]).stdout
        assert setting == "1\n"
    assert_nothing_noticed(watched.result)


def test_down_leaves_the_host_as_it_was(tmp_path: Path) -> None:
    directory = Path("/run/trscaler-gen") / f"test-traces-{time.time_ns()}"
    path = tmp_path / "cluster.yaml"
    path.write_text(inventory_text(directory, nodes=1))
    look = (
        "sysctl -a 2>/dev/null | grep -E '^net.ipv[46].conf.eth0'; ip -o addr; bridge fdb show dev eth0;"
        " nft list ruleset"
    )
    with Lab.up(load_inventory(path), directory) as lab:
        cluster = Cluster(lab, path)
        before = lab.exec("n1", ["sh", "-c", look]).stdout
        cluster.apply()
        assert lab.exec("n1", ["sh", "-c", look]).stdout != before
        cluster.script("n1", "down")
        assert lab.exec("n1", ["sh", "-c", look]).stdout == before


@contextmanager
def busy_with_changes(cluster: Cluster, seconds: int) -> Iterator[None]:
    """A change is at work on every node, and gets no further: as on a disk that hangs."""
    hold = f"setsid flock {LOCK} sleep {seconds} >/dev/null 2>&1 </dev/null &"
    for node in cluster.lab.nodes:
        cluster.lab.exec(node, ["sh", "-c", hold])
    try:
        yield
    finally:
        for node in cluster.lab.nodes:
            cluster.lab.exec(node, ["pkill", "-f", f"sleep {seconds}"], check=False)


def test_change_that_hangs_on_all_nodes_ends_no_heartbeats(cluster: Cluster) -> None:
    """The health check does not wait for it; an application that fails meanwhile is noticed all the same."""
    with busy_with_changes(cluster, 97):
        with watched_probes(
            cluster.lab, cluster.heartbeat, sources=50, interval_ms=100, seconds=24
        ) as watched:
            pass
        assert_nothing_noticed(watched.result)
        cluster.lab.exec("n2", ["touch", UNHEALTHY])
        cluster.settle(("n1", "n3", "n4"))
        cluster.lab.exec("n2", ["rm", UNHEALTHY])
        cluster.settle()
