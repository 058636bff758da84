from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lab.world import VIP4, eventually, host_network, inventory, virtual_addresses_on
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Node, Ssh
from trscaler_gen.lab import Lab, MemberStatus


def seen(lab: Lab, name: str) -> MemberStatus:
    return next(member for member in lab.status() if member.name == name)


def ssh(lab: Lab, host: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", host, command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_hosts_own_network_stays_as_it_was(directory: Path) -> None:
    before = host_network()
    with Lab.up(inventory(2), directory) as lab:
        assert host_network() == before
        assert all(member.running and member.services for member in lab.status())
    assert host_network() == before
    assert not directory.exists()


@pytest.mark.parametrize("host", ["n2", "192.0.2.2"])
def test_ssh_reaches_a_node_by_name_and_by_address(lab: Lab, host: str) -> None:
    done = ssh(lab, host, "hostname; id -u; cat /etc/hostname")
    assert (done.stdout.split(), done.stderr) == (["n2", "0", "n2"], "")


def test_ssh_on_another_port_and_link(directory: Path) -> None:
    node = Node(address=IPv4Address("192.0.2.9"), link="lan0", ssh=Ssh(port=2022))
    with Lab.up(inventory(nodes={"web": node}), directory) as lab:
        assert ssh(lab, "192.0.2.9", "ip -br address show lan0").stdout.split()[2] == "192.0.2.9/24"


def test_an_unknown_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    config = lab.ssh_config.read_text().replace(str(lab.directory / "known_hosts"), str(tmp_path / "none"))
    copy = tmp_path / "ssh_config"
    copy.write_text(config)
    done = subprocess.run(["ssh", "-F", copy, "n1", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_sftp_works(lab: Lab) -> None:
    done = subprocess.run(
        ["sftp", "-q", "-F", str(lab.ssh_config), "-b", "-", "n1"],
        input="ls /etc/hostname\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1].strip()) == (0, "/etc/hostname"), done.stderr


def test_a_connection_goes_over_the_switch(lab: Lab) -> None:
    lab.cut("n3")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-F", lab.ssh_config, "n3", "true"], timeout=1, check=False, capture_output=True
            )
    finally:
        lab.mend("n3")
    assert ssh(lab, "n3", "hostname").stdout == "n3\n"


@pytest.mark.parametrize(
    "place", ["/etc", "/var/lib", "/usr/local/sbin", "/root", "/tmp", "/run", "/dev/shm"]
)
def test_what_a_node_writes_stays_on_that_node(lab: Lab, place: str) -> None:
    path = f"{place}/written-by-n1"
    lab.exec("n1", ["touch", path])
    assert not Path(path).exists()
    assert lab.exec("n2", ["test", "-e", path], check=False).returncode == 1


def test_what_a_node_must_not_write_it_cannot(lab: Lab) -> None:
    done = lab.exec("n1", ["touch", "/usr/bin/written-by-n1"], check=False)
    assert "Read-only file system" in done.stderr


def test_exec_is_inside_all_namespaces(lab: Lab) -> None:
    assert lab.exec("n1", ["hostname"]).stdout == "n1\n"
    assert lab.exec("n1", ["cat", "/proc/1/comm"]).stdout == "tini\n"
    assert "192.0.2.1/24" in lab.exec("n1", ["ip", "-br", "address"]).stdout
    assert lab.exec("client", ["hostname"]).stdout == "client\n"
    assert "br0" in lab.exec("switch", ["bridge", "link"]).stdout


def test_exec_passes_input_and_status(lab: Lab) -> None:
    done = lab.exec("n1", ["sh", "-c", "cat; exit 7"], check=False, input="hello")
    assert (done.stdout, done.returncode) == ("hello", 7)
    with pytest.raises(OperationError, match=r"n1: `false` failed with status 1"):
        lab.exec("n1", ["false"])


def test_a_command_that_takes_too_long_is_ended(lab: Lab) -> None:
    with pytest.raises(OperationError, match="did not end within"):
        lab.exec("n1", ["sleep", "4711"], timeout_s=0.3)
    gone = "sleep 4711 has ended on the node"
    eventually(lambda: lab.exec("n1", ["pgrep", "-f", "sleep 4711"], check=False).returncode == 1, gone)


def test_a_dead_daemon_does_not_stay_a_zombie(lab: Lab) -> None:
    lab.exec("n1", ["sh", "-c", "(sleep 0.05; exit 1) & exit 0"])
    no_zombies = ["sh", "-c", "! grep -q '^State:.Z' /proc/[0-9]*/status"]
    eventually(lambda: lab.exec("n1", no_zombies, check=False).returncode == 0, "the orphan is reaped")


def test_nodes_start_with_the_kernels_defaults(lab: Lab) -> None:
    """What the product must switch off itself is not switched off for it."""
    path = "/proc/sys/net/ipv6/conf/default/accept_dad"
    assert lab.exec("n1", ["cat", path]).stdout == "1\n"


def carrier(lab: Lab, node: str) -> bool:
    return "LOWER_UP" in lab.exec(node, ["ip", "-o", "link", "show", "eth0"]).stdout


def reaches(lab: Lab, node: str, destination: str) -> bool:
    """Whether a TCP connection works, by the answer of the responder there."""
    argv = ["sh", "-c", f"echo hello | nc.openbsd -N -w 1 {destination} 7"]
    return lab.exec(node, argv, check=False).stdout.endswith("hello\n")


def test_a_cut_takes_the_carrier_away_from_both_ends(lab: Lab) -> None:
    assert reaches(lab, "n1", "192.0.2.2")
    lab.cut("n1")
    assert not carrier(lab, "n1")
    assert seen(lab, "n1").port == "cut"
    assert not reaches(lab, "n1", "192.0.2.2")
    lab.mend("n1")
    assert carrier(lab, "n1")
    assert seen(lab, "n1").port == "up"
    eventually(lambda: reaches(lab, "n1", "192.0.2.2"), "n1 reaches n2 again")


def test_a_silent_cut_keeps_the_carrier_and_blocks_both_ways(lab: Lab) -> None:
    lab.cut("n1", silent=True)
    assert carrier(lab, "n1")
    assert seen(lab, "n1").port == "silent"
    before = received(lab, "n1")
    for node, other in (("n1", "192.0.2.2"), ("n2", "192.0.2.1")):
        lab.exec(node, ["ip", "neigh", "flush", "dev", "eth0"])
        assert not reaches(lab, node, other)
    assert received(lab, "n1") == before
    lab.mend("n1")
    eventually(lambda: reaches(lab, "n1", "192.0.2.2"), "n1 reaches n2 again")
    assert received(lab, "n1") > before


def received(lab: Lab, node: str) -> int:
    """Frames that have come in on the node's link."""
    link = json.loads(lab.exec(node, ["ip", "-json", "-statistics", "link", "show", "eth0"]).stdout)[0]
    return int(link["stats64"]["rx"]["packets"])


def test_the_client_can_be_cut_too(lab: Lab) -> None:
    lab.cut("client")
    assert not reaches(lab, "client", "192.0.2.1")
    lab.mend("client")
    eventually(lambda: reaches(lab, "client", "192.0.2.1"), "the client reaches n1 again")


@pytest.mark.parametrize("destination", ["192.0.2.1", "2001:db8::1"])
def test_a_tcp_connection_is_answered_line_by_line(lab: Lab, destination: str) -> None:
    with lab.popen("client", ["nc.openbsd", "-N", destination, "7"]) as connection:
        assert connection.stdin is not None
        assert connection.stdout is not None
        for line in ("one", "two"):
            connection.stdin.write(f"{line}\n")
            connection.stdin.flush()
            assert connection.stdout.readline() == f"n1 {line}\n"
        connection.terminate()


def test_every_source_of_the_client_has_a_way_back(lab: Lab) -> None:
    for source in ("198.51.100.250", "2001:db8:100::250"):
        destination = "2001:db8::2" if ":" in source else "192.0.2.2"
        argv = ["sh", "-c", f"echo hello | nc.openbsd -N -w 2 -s {source} {destination} 7"]
        assert lab.exec("client", argv, check=False).stdout == "n2 hello\n"


@pytest.mark.parametrize("mode", ["multicast", "unicast"])
def test_the_switch_learns_as_the_mode_needs(directory: Path, mode: str) -> None:
    with Lab.up(inventory(2, mac={"mode": mode}), directory) as lab:
        assert reaches(lab, "n1", "192.0.2.2")
        learned = "dynamic" if mode == "multicast" else "nothing"
        entries = lab.exec("switch", ["bridge", "fdb", "show", "br", "br0", "dynamic"]).stdout
        assert bool(entries.strip()) == (learned == "dynamic")


def test_loading_finds_the_running_lab(lab: Lab) -> None:
    found = Lab.load(lab.directory)
    assert found.nodes == ("n1", "n2", "n3")
    assert found.state == lab.state


def test_names_are_checked(lab: Lab) -> None:
    with pytest.raises(OperationError, match='no member "cleint"') as refusal:
        lab.cut("cleint")
    assert refusal.value.hint == 'did you mean "client"?'
    with pytest.raises(OperationError, match="switch itself"):
        lab.cut("switch")


def test_a_dead_node_is_seen_and_named(directory: Path) -> None:
    with Lab.up(inventory(2), directory) as lab:
        subprocess.run(["kill", "-9", str(seen(lab, "n2").pid)], check=True)
        eventually(lambda: not seen(lab, "n2").running, "n2 is dead")
        assert seen(lab, "n1").running
        with pytest.raises(OperationError, match="n2 is dead"):
            lab.exec("n2", ["true"])


def test_thirty_two_nodes_come_up(directory: Path) -> None:
    with Lab.up(inventory(32), directory) as lab:
        assert len(lab.nodes) == 32
        with virtual_addresses_on(lab, "n32"):
            result = lab.probing(seconds=0.5, sources=50).wait()
    assert (result.lost, list(result.by_node)) == (0, ["n32"])
    assert result.destination == str(VIP4)
