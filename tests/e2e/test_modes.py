"""The three MAC modes on the wire: who answers, what neighbours learn, and what a switch never does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from trscaler_gen.lab.responder import PORT
from trscaler_gen.mac import HardwareAddress

from .cluster import VIPS, Cluster, eventually, running_cluster
from .events import assert_nothing_noticed
from .wire import (
    UDP,
    Capture,
    Wire,
    answers,
    captured,
    client_source,
    fdb,
    octets,
    own_address,
    own_mac,
    udp,
    unhealed,
    virtual_address,
    watched_fdb,
    wired,
)
from .witness import Seen, watched_probes

VICTIM = "n2"
OTHERS = ("n1", "n3", "n4")
ROUNDS = 3


@dataclass(frozen=True)
class Observed:
    """One cluster of one mode, watched while it works: what was answered, sent, and learned by the switch."""

    mode: str
    wire: Wire
    probes: list[Seen]
    capture: Capture
    learned: str
    own_macs: dict[str, HardwareAddress]

    @property
    def sources(self) -> set[str]:
        """What may be the source of an answer for a virtual address."""
        if self.mode == "unicast":
            return {str(self.wire.cluster_mac)}
        return {str(mac) for mac in self.own_macs.values()}


def telling(wire: Wire) -> list[str]:
    """The frames that neighbours learn from, and any frame from or to the inner MAC."""
    return ["arp", "or", "icmp6", "or", "ether", "host", str(wire.inner_mac)]


def forget_neighbours(wire: Wire) -> None:
    """Let the client ask anew for every address, as after a router's restart."""
    wire.cluster.lab.exec("client", ["ip", "neigh", "flush", "all"])


def ask(wire: Wire, address: str) -> bytes:
    """Ask the responder at an address from the client's own, and give the one answer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = wire.client_socket(6 if family == socket.AF_INET6 else 4, socket.SOCK_DGRAM)
    sock.sendto(b"who", (address, PORT))
    (answer,) = answers(sock, 1)
    sock.close()
    return answer


def restart(cluster: Cluster) -> None:
    """Take a node down and up again: its addresses come and go."""
    cluster.script(VICTIM, "down")
    cluster.settle(OTHERS)
    cluster.script(VICTIM, "up")
    cluster.settle()


def whole_again(wire: Wire) -> None:
    """Wait until the victim has its rules back and serves, and forget what it said without them."""
    eventually(lambda: wire.cluster.state(VICTIM)["ruleset"] == "intact", "the rules are back")
    wire.cluster.settle()
    forget_neighbours(wire)


def probed(wire: Wire) -> list[Seen]:
    """Probe both families at once, several times; each time the client has to ask for its neighbours first.

    It must not forget them meanwhile: a host drops what waits for an entry that is taken away.
    """
    results: list[Seen] = []
    for _ in range(ROUNDS):
        forget_neighbours(wire)
        start: dict[str, Any] = {"sources": 40, "interval_ms": 40, "seconds": 0.4, "families": (4, 6)}
        with watched_probes(wire.cluster.lab, wire.cluster.heartbeat, **start) as watched:
            pass
        results += watched.results
        wire.barrier()
    return results


@pytest.fixture(scope="module", params=["multicast", "stealth", "unicast"])
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    mode, folder = request.param, tmp_path_factory.mktemp(f"mode-{request.param}")
    with running_cluster(folder, mode, mode=mode) as cluster, wired(cluster) as wire:
        macs = {name: own_mac(cluster.lab, name) for name in cluster.lab.nodes}
        with (
            watched_fdb(cluster.lab) as watch,
            captured(cluster.lab, folder / "wire.pcap", telling(wire)) as capture,
        ):
            probes = probed(wire)
            restart(cluster)
            probes += probed(wire)
            learned = watch.text()
        yield Observed(mode, wire, probes, capture, learned, macs)


def test_every_probe_is_answered_exactly_once(observed: Observed) -> None:
    for result in observed.probes:
        assert_nothing_noticed(result)
        assert set(result.by_node) == set(observed.own_macs), "every node answers its share"


def test_switch_never_learns_the_inner_mac(observed: Observed) -> None:
    assert str(observed.wire.inner_mac) not in observed.learned


def test_switch_never_learns_the_cluster_mac(observed: Observed) -> None:
    assert str(observed.wire.cluster_mac) not in observed.learned


def test_switch_learns_hosts_unless_the_mode_forbids_it(observed: Observed) -> None:
    """The table is not empty by accident: where ports may learn, the nodes' own MACs are in it."""
    for mac in observed.own_macs.values():
        assert (str(mac) in observed.learned) == (observed.mode != "unicast")


def test_inner_mac_is_nowhere_on_the_wire(observed: Observed) -> None:
    """Neither as a source, nor in an ARP answer, nor in an option of neighbour discovery."""
    assert observed.capture.frames
    assert not [frame for frame in observed.capture.frames if octets(observed.wire.inner_mac) in frame]


def test_arp_answers_tell_the_cluster_mac(observed: Observed) -> None:
    said = f"Reply {VIPS[0]} is-at {observed.wire.cluster_mac}"
    replies = observed.capture.lines(f"Reply {VIPS[0]} is-at")
    assert len(replies) >= 2 * ROUNDS
    assert [line for line in replies if said not in line] == []
    assert {source_of(line) for line in replies} == observed.sources


def test_neighbour_advertisements_tell_the_cluster_mac(observed: Observed) -> None:
    option = f"destination link-address option (2), length 8 (1): {observed.wire.cluster_mac}"
    adverts = observed.capture.lines("neighbor advertisement", f"tgt is {VIPS[1]}")
    assert len(adverts) >= 2 * ROUNDS
    assert [line for line in adverts if option not in line] == []
    assert {source_of(line) for line in adverts} == observed.sources


def test_checksums_of_neighbour_discovery_are_right(observed: Observed) -> None:
    """Nobody computed them anew: the two MACs have the same sum."""
    messages = observed.capture.lines("ICMP6, neighbor")
    assert messages
    assert [line for line in messages if "[icmp6 sum ok]" not in line] == []


def test_a_nodes_own_address_is_answered_by_its_own_mac_alone(observed: Observed) -> None:
    for name, mac in observed.own_macs.items():
        address4, address6 = own_address(name, 4), own_address(name, 6)
        replies = observed.capture.lines(f"Reply {address4} is-at")
        adverts = observed.capture.lines("neighbor advertisement", f"tgt is {address6},")
        assert replies
        assert adverts
        for line in replies:
            assert f"is-at {mac}" in line
        assert {source_of(line) for line in replies + adverts} == {str(mac)}


def source_of(line: str) -> str:
    """The sender's MAC in a line of `tcpdump -e`."""
    return line.split(" > ")[0].split()[-1]


# --- what these tests would see if the rules were not there ------------------------------------------


def test_without_egress_rules_the_inner_mac_shows(observed: Observed, tmp_path: Path) -> None:
    """The breaking twin: one node loses its egress chain's rules, and nothing puts them back for a while."""
    wire, lab = observed.wire, observed.wire.cluster.lab
    inner = str(wire.inner_mac)
    with unhealed(wire.cluster, VICTIM), captured(lab, tmp_path / "wire.pcap", telling(wire)) as capture:
        lab.exec(VICTIM, ["nft", "flush", "chain", "netdev", "trscaler_e2e", "egress"])
        wire.cluster.settle(OTHERS)
        forget_neighbours(wire)
        for vip in VIPS:
            ask(wire, vip)
        wire.barrier()
        learned = fdb(lab)
    assert capture.lines(f"Reply {VIPS[0]} is-at {inner}")
    assert capture.lines(f"tgt is {VIPS[1]}", f"length 8 (1): {inner}")
    assert (inner in learned) == (observed.mode != "unicast")
    whole_again(wire)


@pytest.mark.parametrize("listening", ["off", "on"])
def test_a_node_without_rules_is_deaf(observed: Observed, listening: str) -> None:
    """Even while somebody looks at all frames with tcpdump, which opens the devices' receive filters."""
    wire, lab = observed.wire, observed.wire.cluster.lab
    devices = ("eth0", "vip-e2e")
    questions = [
        udp(client_source(number, version), virtual_address(version), 4321, b"question")
        for version in (4, 6)
        for number in range(1, 21)
    ]
    with unhealed(wire.cluster, VICTIM):
        lab.exec(VICTIM, ["nft", "flush", "ruleset"])
        for device in devices:
            lab.exec(VICTIM, ["ip", "link", "set", device, "promisc", listening])
        wire.cluster.settle(OTHERS)
        for packet in questions:
            wire.send(packet)
        got = [wire.deliveries(version, UDP) for version in (4, 6)]
        for device in devices:
            lab.exec(VICTIM, ["ip", "link", "set", device, "promisc", "off"])
    reached = {
        name: sum(b"question" in data for family in got for data in family[name]) for name in lab.nodes
    }
    assert (reached[VICTIM], sum(reached.values())) == (0, len(questions))
    whole_again(wire)


def test_a_switch_that_learns_breaks_unicast_mode(observed: Observed) -> None:
    """The breaking twin: why the ports of this mode must not learn, and why the others' may."""
    wire, lab = observed.wire, observed.wire.cluster.lab
    ports = [f"p-{name}" for name in lab.nodes]
    before = "on" if observed.mode != "unicast" else "off"
    try:
        for port in ports:
            lab.exec("switch", ["bridge", "link", "set", "dev", port, "learning", "on"])
        forget_neighbours(wire)
        for vip in map(ip_address, VIPS):
            wire.asker(own_address("client", vip.version)).sendto(b"who", (str(vip), PORT))
        wire.barrier()
        eventually(lambda: str(observed.own_macs["n1"]) in fdb(lab), "the switch learns n1")
        assert (str(wire.cluster_mac) in fdb(lab)) == (observed.mode == "unicast")
    finally:
        for port in ports:
            lab.exec("switch", ["bridge", "link", "set", "dev", port, "learning", before])
            lab.exec("switch", ["ip", "link", "set", port, "type", "bridge_slave", "fdb_flush"])
