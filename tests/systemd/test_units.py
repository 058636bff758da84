"""A node under a real systemd: its units through boots, blows, and the hands of operators."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from e2e.by_hand import CHANGE, HOME, NEVER_S, RUN, TIMER, TOKEN
from e2e.cluster import PACE, eventually
from e2e.events import INTERVAL_MS, SOURCES, assert_nothing_noticed
from e2e.wire import packet_socket, received
from e2e.witness import Watched, watched_probes

from trscaler_gen.bundle import Bundle
from trscaler_gen.lab.members import PATH
from trscaler_gen.lab.processes import lab_processes

from .host import PATIENCE_S, Host, start_keeper
from .site import (
    DATAPATH,
    HEALTH,
    HEARTBEAT,
    NODE,
    OWN_ADDRESS,
    TABLE,
    UNIT,
    UNITS,
    WATCH,
    Site,
    running_site,
)

DEVICE = "vip-e2e"
INNER_MAC = "cat /sys/class/net/vip-e2e/address"
#: in the path before ip(8): writes down whether the rules were there when the device was made
_IP = """\
#!/bin/sh
case "$*" in
    "link add "*) nft list tables >/run/trscaler-gen/e2e/tables-at-link-add ;;
esac
exec /usr/sbin/ip "$@"
"""


def host_mounts() -> list[str]:
    """The outer host's mounts that could be ours: tmpfs and overlays."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if re.search(" - (tmpfs|overlay) host ", line)]


def cgroups(name: str) -> str:
    """Where the outer host has a cgroup of this name."""
    argv = ["find", "/sys/fs/cgroup", "-name", name]  # others' come and go meanwhile
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    mounts = host_mounts()
    with running_site(tmp_path_factory.mktemp("systemd"), "systemd") as site:
        yield site
        group = site.host.group
        assert cgroups(group) != ""
    assert not lab_processes(site.lab.directory)
    assert cgroups(group) == ""
    assert host_mounts() == mounts


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The host runs the first generation, recorded, and its peers hear it; the second is staged."""
    running.reset()
    yield running
    running.hang_up()


@pytest.fixture
def host(site: Site) -> Host:
    return site.host


@pytest.fixture
def first(site: Site) -> Bundle:
    return site.first[NODE]


@pytest.fixture
def second(site: Site) -> Bundle:
    return site.second[NODE]


def probing(site: Site, seconds: float | None = None) -> AbstractContextManager[Watched]:
    return watched_probes(site.lab, PACE, sources=SOURCES, interval_ms=INTERVAL_MS, seconds=seconds)


def assert_shared(site: Site) -> None:
    """The host answers for its share, and nobody else does."""
    with probing(site, seconds=1) as probes:
        pass
    assert_nothing_noticed(probes.result)
    assert probes.result.by_node[NODE] > 0


# Starting


def test_up(site: Site, host: Host, first: Bundle) -> None:
    for unit in UNITS:
        assert host.is_active(unit)
        assert host.property(unit, "UnitFileState") == "enabled"
        assert host.property(unit, "NeedDaemonReload") == "no"
    facts = site.facts()
    assert (facts.running, facts.units, facts.change) == (first.generation, "intact", CHANGE)
    assert "failed" not in host.sh("systemctl --no-legend list-units --state=failed")
    assert_shared(site)
    assert "up" in site.call(first, "up").stdout.decode()  # once more changes nothing
    assert site.runs(first)


# Boots


def assert_boot_order(host: Host) -> None:
    """Each began when the one before had ended: the host's rules, its link, our rules, our heartbeats."""
    order = [("nftables.service", "host-link.service"), ("host-link.service", DATAPATH)]
    for earlier, later in [*order, ("nftables.service", DATAPATH), (DATAPATH, HEARTBEAT), (DATAPATH, WATCH)]:
        is_right = host.moment(earlier, "ActiveEnter") <= host.moment(later, "InactiveExit")
        assert is_right, f"{later} began before {earlier} had ended"


def assert_rules_came_first(host: Host) -> None:
    """When the macvlan was made, the table was there, and the host's own flush had been."""
    tables = host.sh(f"cat {RUN}/tables-at-link-add")
    assert f"netdev {TABLE}" in tables
    assert "inet host" in tables


def shown_inside_out(frames: list[bytes], inner: bytes) -> list[bytes]:
    """The frames that show the MAC that is to stay inside."""
    return [frame for frame in frames if inner in frame]


def inner_mac(host: Host) -> bytes:
    return bytes.fromhex(host.sh(INNER_MAC).strip().replace(":", ""))


def test_power_fails_and_comes_back(site: Site, host: Host, first: Bundle) -> None:
    host.write("/usr/local/sbin/ip", _IP, 0o755)
    inner = inner_mac(host)
    with packet_socket(site.lab, "client") as wire:
        host.power_off()
        site.await_peers(2)
        received(wire)
        host.boot()
        site.await_running(first)
        site.await_peers(3)
        frames = received(wire)
    host.disk("/usr/local/sbin/ip").unlink()
    assert frames
    assert not shown_inside_out(frames, inner)
    assert_boot_order(host)
    assert_rules_came_first(host)
    assert host.sh("nft list table inet host")
    assert_shared(site)


def test_orderly_reboot_is_not_noticed(site: Site, host: Host, first: Bundle) -> None:
    """The last heartbeat says goodbye while the link is there, and nobody flushes the rules before."""
    with probing(site) as probes:
        host.shut_down()
        site.await_peers(2)
        host.boot()
        site.await_running(first)
    assert_nothing_noticed(probes.result, crossing=1)


def test_wrong_boot_order_is_seen(site: Site, host: Host) -> None:
    """The twin: rules that are flushed by the host after ours were loaded, addresses that are shown bare."""
    path = host.disk(f"/etc/systemd/system/{DATAPATH}")
    path.write_text(re.sub(r"(?m)^(After|Wants)=.*", "", path.read_text()))
    host.write("/etc/systemd/system/nftables.service.d/late.conf", f"[Unit]\nAfter={DATAPATH}\nBefore=\n")
    inner = inner_mac(host)
    with packet_socket(site.lab, "client") as wire:
        host.sh(f"nft delete table netdev {TABLE}; ip link set {DEVICE} down; ip link set {DEVICE} up")
        eventually(lambda: bool(shown_inside_out(received(wire), inner)), "the inner MAC is seen", PATIENCE_S)
    host.power_off()
    host.boot()
    with pytest.raises(AssertionError, match=f"{DATAPATH} began before"):
        assert_boot_order(host)
    host.disk("/etc/systemd/system/nftables.service.d/late.conf").unlink()


def test_link_comes_late(site: Site, host: Host, first: Bundle) -> None:
    host.power_off()
    host.power_on(wired=False)
    eventually(lambda: "has no link" in host.journal(), "the node misses its link", PATIENCE_S)
    host.lay_wire()
    host.sh("systemctl restart host-link.service keepalived.service")
    site.await_running(first)


# Blows


@pytest.mark.parametrize("blow", ["$MAIN", "$CHILD", "$MAIN $CHILD"])
def test_killed_keepalived_comes_back(site: Site, host: Host, first: Bundle, blow: str) -> None:
    child = f"cat {RUN}/vrrp.pid"
    before = host.sh(child)
    host.sh(
        f"MAIN={host.main_pid(HEARTBEAT)} CHILD={before.strip()}; kill -9 {blow}", check=False
    )  # of two, one goes with the other
    eventually(
        lambda: host.sh(child, check=False) not in ("", before), "another sends heartbeats", PATIENCE_S
    )
    site.await_running(first)
    site.await_peers(3)


def test_killed_watcher_comes_back(site: Site, host: Host, first: Bundle) -> None:
    before = host.main_pid(WATCH)
    host.sh(f"systemctl kill --signal=KILL {WATCH}")
    eventually(lambda: host.main_pid(WATCH) not in (0, before), "the watcher is back", PATIENCE_S)
    host.sh(f"nft flush chain netdev {TABLE} ingress")
    site.await_running(first)


@pytest.mark.parametrize("verb", ["restart", "reload", "stop"])
def test_flush_by_the_hosts_firewall_is_healed(site: Site, host: Host, first: Bundle, verb: str) -> None:
    listing = host.sh("nft list table inet host")
    host.sh(f"systemctl {verb} nftables.service")
    eventually(lambda: site.runs(first), "the rules are back", PATIENCE_S)
    site.await_peers(3)
    host.sh("systemctl start nftables.service")  # flushes as well
    assert host.sh("nft list table inet host") == listing
    site.await_running(first)


# Changes


def test_hosts_own_services_are_left_alone(site: Site, host: Host, first: Bundle, second: Bundle) -> None:
    def looks() -> tuple[str, ...]:
        marks = "--property=MainPID,ActiveEnterTimestampMonotonic,ActiveState,NRestarts"
        services = host.sh(f"systemctl show {marks} keepalived.service nftables.service")
        processes = host.sh("pgrep -f '/keepalived --dont-fork$'")
        return services, processes, host.sh("nft list table inet host"), own_address()

    def own_address() -> str:
        return host.sh(f"ip -o address show dev eth0 to {OWN_ADDRESS}")

    eventually(lambda: own_address() != "", "the host's own keepalived holds its address", PATIENCE_S)
    before = looks()
    assert before[1].count("\n") == 2
    for bundle, verb in ((second, "swap"), (second, "down"), (second, "up"), (second, "down")):
        site.call(bundle, verb)
        assert looks() == before, verb
    site.call(second, "erase")
    assert looks() == before
    site.start()
    assert looks() == before
    host.sh("systemctl restart keepalived.service")  # nor does it disturb ours
    assert site.runs(first)


def test_change_goes_back_without_its_session(site: Site, host: Host, first: Bundle, second: Bundle) -> None:
    """The timer is systemd's own, not the session's, which logind ends with all its processes."""
    path = f"{HOME}/generations/{second.generation}/node.sh"
    hold = site.hold_lock()
    site.call(second, "check")
    change = site.open_session(f"sh {path} swap {TOKEN} {NEVER_S}; echo done; exec sleep 900")
    assert change.stdout is not None
    assert "swapped" in change.stdout.readline()
    host.sh("systemctl kill --signal=KILL 'session-*.scope'")
    assert site.runs(second)
    assert site.facts().unconfirmed == TOKEN
    host.sh(f"pgrep -f '{TIMER}' | xargs -n 1 pkill -x sleep -P")  # its time is over
    eventually(lambda: site.facts().unconfirmed == "", "the change has gone back", PATIENCE_S)
    site.await_running(first)
    assert hold.wait(PATIENCE_S) != 0
    eventually(
        lambda: host.sh(f"systemctl --no-legend --all list-units '{UNIT}-return*'") == "", "", PATIENCE_S
    )


def test_unconfirmed_swap_is_not_booted(site: Site, host: Host, first: Bundle, second: Bundle) -> None:
    site.hold_lock()
    site.call(second, "swap", TOKEN, NEVER_S)
    assert site.runs(second)
    site.hang_up()
    host.power_off()
    host.boot()
    site.await_running(first)
    assert site.facts().unconfirmed == ""
    assert_boot_order(host)


def test_unconfirmed_stop_is_not_booted(site: Site, host: Host, first: Bundle) -> None:
    site.hold_lock()
    site.call(first, "down", TOKEN, NEVER_S)
    site.hang_up()
    host.power_off()
    host.boot()
    site.await_running(first)


def test_unconfirmed_start_is_not_booted(site: Site, host: Host, first: Bundle, second: Bundle) -> None:
    site.call(first, "down")
    host.sh(f"rm {HOME}/current")
    site.hold_lock()
    site.call(second, "up", TOKEN, NEVER_S)
    eventually(lambda: site.runs(second), "it serves", PATIENCE_S)
    site.hang_up()
    host.power_off()
    host.boot()
    facts = site.facts()
    assert (facts.generation, facts.runs, facts.unconfirmed, facts.keepalived) == ("", False, "", "stopped")
    assert not any(host.is_active(unit) for unit in UNITS)
    assert host.property(DATAPATH, "ExecMainStatus") == "69"  # it says so, and does not try again
    assert host.sh(f"find /etc/systemd/system -path '*wants/{UNIT}*'") == ""
    host.power_off()
    host.boot()
    assert host.sh("systemctl is-system-running").strip() == "running"
    assert not any(host.is_active(unit) for unit in UNITS)


def test_confirmed_change_is_booted(site: Site, host: Host, second: Bundle) -> None:
    site.hold_lock()
    site.call(second, "swap", TOKEN, NEVER_S)
    site.call(second, "confirm", TOKEN)
    site.hang_up()
    host.power_off()
    host.boot()
    site.await_running(second)


def test_nothing_is_left_of_an_erased_cluster(site: Site, host: Host, first: Bundle) -> None:
    site.call(first, "down")
    assert not any(host.is_active(unit) for unit in UNITS)
    assert f"{DATAPATH} disabled" in re.sub(
        " +", " ", host.sh(f"systemctl --no-legend list-unit-files '{UNIT}*'")
    )
    site.call(first, "erase")
    for command in ("list-unit-files", "list-units --all"):
        assert "trscaler" not in host.sh(f"systemctl --no-legend {command}")
    assert host.sh("find /etc /run /var/lib /usr/local -name '*trscaler*'") == ""
    assert "trscaler" not in host.sh(
        f"nft list tables; ip -o link show; bridge fdb show | grep {DEVICE}", check=False
    )
    site.await_peers(2)


# Operators


def test_operator_stops_and_starts_the_cluster(site: Site, host: Host, first: Bundle) -> None:
    """Goodbye first, while rules and addresses are there: the peers take over without a gap."""
    with probing(site) as probes:
        host.sh(f"systemctl stop {UNIT}")
        assert host.moment(HEARTBEAT, "InactiveEnter") <= host.moment(DATAPATH, "ActiveExit")
        site.await_peers(2)
        assert not any(host.is_active(unit) for unit in UNITS)
        facts = site.facts()
        assert (facts.runs, facts.keepalived, facts.generation) == (False, "stopped", first.generation)
        assert TABLE not in host.sh("nft list tables")
        assert host.sh(f"ip -o link show {DEVICE}", check=False) == ""
        host.sh(f"systemctl start {UNIT}")
        site.await_running(first)
        site.await_peers(3)
    assert_nothing_noticed(probes.result, crossing=1)
    assert host.moment(DATAPATH, "ActiveEnter") <= host.moment(HEARTBEAT, "InactiveExit")


def test_operator_restarts_the_units(site: Site, host: Host, first: Bundle) -> None:
    with probing(site) as probes:
        for unit in UNITS:
            host.sh(f"systemctl restart {unit}")
            site.await_running(first)
    assert_nothing_noticed(probes.result, crossing=1)


def test_operator_stops_the_heartbeat(site: Site, host: Host, first: Bundle) -> None:
    """It is a drain: rules and addresses stay, and nothing starts it again."""
    with probing(site) as probes:
        host.sh(f"systemctl stop {HEARTBEAT}")
        site.await_peers(2)
        assert host.is_active(DATAPATH)
        facts = site.facts()
        assert (facts.serving, facts.attached, facts.ruleset) == (False, True, "intact")
        host.sh(f"systemctl start {HEARTBEAT}")
        site.await_running(first)
    assert_nothing_noticed(probes.result, crossing=1)


# Fences


@pytest.mark.parametrize(("unit", "limit"), [(DATAPATH, 2.5), (WATCH, 2.5), (HEARTBEAT, 9.2)])
def test_exposure(host: Host, unit: str, limit: float) -> None:
    """As docs/operations.md has it; how the heartbeat's is meant stands in its unit."""
    assert host.exposure(unit) <= limit


def test_watcher_writes_only_where_it_must(host: Host) -> None:
    enter = f"nsenter --target={host.main_pid(WATCH)} --mount"
    for path in ("/etc/x", "/var/x", "/usr/local/x", "/tmp/x", "/run/x", f"{HOME}/x"):
        host.sh(f"touch {path} && rm {path}")
        assert "Read-only file system" in host.sh(f"{enter} touch {path} 2>&1", check=False)
    host.sh(f"{enter} touch {RUN}/x && rm {RUN}/x")
    host.sh("mkdir /home/app && test -d /home/app")
    assert host.sh(f"{enter} ls /home /root; rmdir /home/app").split() == ["/home:", "/root:"]


@pytest.mark.parametrize("blow", ["flush ruleset", f"flush chain netdev {TABLE} ingress"])
def test_watcher_mends_alone(site: Site, host: Host, blow: str) -> None:
    """Without the heartbeat's unit, whose health check mends as well, and has no fence."""
    host.sh(f"systemctl stop {HEARTBEAT}; nft {blow}")
    eventually(lambda: site.facts().ruleset == "intact" and site.facts().attached, "mended", PATIENCE_S)


def test_fence_that_is_too_narrow_is_seen(site: Site, host: Host) -> None:
    """The twin: a watcher without network namespaces, which it compares rules in."""
    host.write(f"/etc/systemd/system/{WATCH}.d/narrow.conf", "[Service]\nRestrictNamespaces=yes\n")
    host.sh(f"systemctl daemon-reload; systemctl stop {HEARTBEAT}; systemctl restart {WATCH}")
    host.sh("nft flush ruleset")
    eventually(lambda: "ruleset does not load" in host.journal(), "it does not mend", PATIENCE_S)
    assert not site.facts().attached
    host.disk(f"/etc/systemd/system/{WATCH}.d/narrow.conf").unlink()
    host.sh(f"systemctl daemon-reload; systemctl start {HEARTBEAT}; systemctl restart {WATCH}")
    site.await_running(site.first[NODE])


#: what health commands do on real hosts, by one of them
_DEMANDING = """\
#!/bin/sh -e
[ ! -e /run/unhealthy ]
[ -e /tmp/flag ]
read -r _ </home/app/flag
echo >/var/lib/well.stamp
setpriv --reuid=65534 --regid=65534 --clear-groups sudo -n true
unshare --mount --pid --fork true
python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'
"""


def test_health_command_is_not_fenced_in(site: Site, host: Host, first: Bundle) -> None:
    plain = host.disk(HEALTH).read_text()
    host.write("/home/app/flag", "well\n")
    host.write("/etc/sudoers.d/app", "#65534 ALL=(root) NOPASSWD: ALL\n", 0o440)
    host.sh("touch /tmp/flag")
    host.write(HEALTH, _DEMANDING, 0o755)
    host.sh(f"systemctl restart {HEARTBEAT}")
    site.await_running(first)
    for fence in ("NoNewPrivileges=yes", "ProtectHome=yes", "PrivateTmp=yes"):  # the twins
        host.write(f"/etc/systemd/system/{HEARTBEAT}.d/fence.conf", f"[Service]\n{fence}\n")
        host.sh(f"systemctl daemon-reload; systemctl restart {HEARTBEAT}")
        eventually(lambda: site.facts().heartbeat == "FAULT", fence, PATIENCE_S)
    host.disk(f"/etc/systemd/system/{HEARTBEAT}.d/fence.conf").unlink()
    host.write(HEALTH, plain, 0o755)
    host.sh(f"systemctl daemon-reload; systemctl restart {HEARTBEAT}")
    site.await_running(first)


def test_heartbeat_can_be_closed(site: Site, host: Host, first: Bundle) -> None:
    """As docs/operations.md proposes: it still serves, and mends alone."""
    fence = "ProtectSystem=full\nProtectHome=yes\nPrivateTmp=yes\nNoNewPrivileges=yes\n"
    host.write(f"/etc/systemd/system/{HEARTBEAT}.d/fence.conf", f"[Service]\n{fence}")
    host.sh(f"systemctl daemon-reload; systemctl restart {HEARTBEAT}")
    site.await_running(first)
    host.sh(f"systemctl stop {WATCH}; ip link del {DEVICE}; nft flush ruleset")
    eventually(lambda: site.facts().serving and site.facts().attached, "mended", PATIENCE_S)
    host.disk(f"/etc/systemd/system/{HEARTBEAT}.d/fence.conf").unlink()
    host.sh(f"systemctl daemon-reload; systemctl restart {HEARTBEAT}; systemctl start {WATCH}")
    site.await_running(first)


# Where it cannot be tried


def test_without_root_it_fails_and_says_so() -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with pytest.raises(AssertionError, match=r"no systemd can be booted here .*not permitted"):
        start_keeper("test-nobody", {"PATH": PATH}, *nobody)
