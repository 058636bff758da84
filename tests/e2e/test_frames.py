"""Frames that are not meant for the cluster, or pretend to be: what they must not change.

Each of them has a twin here that differs in one thing and does change something.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import pytest
import yaml

from trscaler_gen.mac import HardwareAddress

from .cluster import Cluster, eventually
from .wire import (
    ICMP,
    ICMP6,
    TABLE,
    UDP,
    VRRP,
    VRRP_GROUP_MAC,
    Packet,
    Wire,
    answers,
    client_source,
    counters,
    ethernet,
    has_more,
    icmp,
    octets,
    own_address,
    own_mac,
    packet_socket,
    received,
    udp,
    unhealed,
    virtual_address,
    wired,
    with_checksum,
)
from .witness import watched_probes

#: whose heartbeats are forged, and who hears them
VICTIM = "n2"
HEARER = "n1"
OTHERS = ("n1", "n3", "n4")
DAEMONS = "$(cat /run/trscaler-gen/e2e/keepalived.pid) $(cat /run/trscaler-gen/e2e/vrrp.pid)"
VRRP_GROUP = IPv4Address("224.0.0.18")
CONGESTION_EXPERIENCED = 3
VLAN = 5
PRIORITY_TAG = 0
REPEATED = 20


@pytest.fixture(params=["long way", "short way"])
def wire(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """While nodes remember what happened, and while they need not look at each other one by one."""
    if request.param == "short way":
        cluster.calm_down()
    with wired(cluster) as opened:
        yield opened


def question(version: int = 4, number: int = 1) -> Packet:
    """A datagram to the virtual address from a client that does not listen."""
    return udp(client_source(number, version), virtual_address(version), 4321, b"question")


def arrived(wire: Wire, version: int) -> list[str]:
    """The nodes whose stacks took a question since the last call."""
    got = wire.deliveries(version, UDP)
    return [node for node, packets in got.items() for data in packets if b"question" in data]


# --- each packet once ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("to", ["cluster", "inner"])
def test_a_frame_to_either_mac_reaches_its_owner_alone(wire: Wire, version: int, to: str) -> None:
    """The inner MAC is what a neighbour may have learned while a node's rules were missing."""
    packet = question(version)
    wire.send(packet, wire.cluster_mac if to == "cluster" else wire.inner_mac)
    assert arrived(wire, version) == [wire.owner(packet.source, packet.destination)]


@pytest.mark.parametrize("version", [4, 6])
def test_an_echo_request_is_answered_once(wire: Wire, version: int) -> None:
    client, vip = client_source(9, version), virtual_address(version)
    kind, protocol = (8, ICMP) if version == 4 else (128, ICMP6)
    before = wire.counters()
    sock = wire.client_socket(version, socket.SOCK_RAW, protocol)
    sock.bind((str(client), 0))
    sock.sendto(icmp(client, vip, kind, 0, struct.pack("!HH", 77, 1), b"echo").payload, (str(vip), 0))
    assert answers(sock, 1)[0].endswith(b"echo")
    wire.barrier()
    assert not has_more(sock)
    owner = wire.owner(client, vip)
    for node, now in wire.counters().items():
        expected = {"accepted": int(node == owner), "dropped": int(node != owner)}
        assert {name: now[name] - before[node][name] for name in expected} == expected


def test_a_nodes_own_traffic_is_none_of_our_business(wire: Wire) -> None:
    before = wire.counters()
    for node in wire.cluster.lab.nodes:
        ssh(wire.cluster, node)
    wire.barrier()
    assert wire.counters() == before


def ssh(cluster: Cluster, node: str) -> None:
    """Log in to a node's own address over the wire, from the client."""
    options = ["-o", "BatchMode=yes", "-o", "ProxyCommand=none"]
    argv = ["ssh", "-F", str(cluster.lab.ssh_config), *options, node, "true"]
    cluster.lab.exec("client", argv)


# --- tagged frames ---------------------------------------------------------------------------------


@contextmanager
def watcher(wire: Wire) -> Iterator[Callable[[], int]]:
    """A chain of the hearer's own behind ours: how many tagged frames have passed us as they were sent."""
    lab = wire.cluster.lab
    rules = f"""
        table netdev e2e_watch {{
            counter passed {{ }}
            chain ingress {{
                type filter hook ingress device "eth0" priority 0; policy accept;
                ether daddr {{ {wire.cluster_mac}, {VRRP_GROUP_MAC} }} vlan id {VLAN} counter name passed
            }}
        }}
    """
    lab.exec(HEARER, ["nft", "-f", "-"], input=rules)
    try:
        yield lambda: counters(lab, HEARER, "e2e_watch")["passed"]
    finally:
        lab.exec(HEARER, ["nft", "delete table netdev e2e_watch"])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("to", ["cluster", "inner"])
def test_a_frame_of_a_vlan_is_not_answered(wire: Wire, version: int, to: str) -> None:
    before = wire.counters()
    wire.send(question(version), wire.cluster_mac if to == "cluster" else wire.inner_mac, vlan=VLAN)
    assert arrived(wire, version) == []
    assert wire.counters() == before


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("to", ["cluster", "inner"])
def test_a_frame_with_a_priority_is_answered_as_any_other(wire: Wire, version: int, to: str) -> None:
    """VLAN 0 is no VLAN: the host's stack takes such a frame for untagged, so it must be decided like one."""
    packet = question(version)
    wire.send(packet, wire.cluster_mac if to == "cluster" else wire.inner_mac, vlan=PRIORITY_TAG)
    assert arrived(wire, version) == [wire.owner(packet.source, packet.destination)]


def test_frames_of_a_vlan_pass_untouched(wire: Wire) -> None:
    """Questions, and heartbeats that would end a lease without their tag."""
    with watcher(wire) as passed:
        for vlan in (None, VLAN):
            wire.send(question(), vlan=vlan)
            wire.send(heartbeat(wire, priority=0), VRRP_GROUP_MAC, vlan=vlan)
        wire.barrier()
        assert passed() == 2


def test_vrrp_of_a_vlan_leaves_unstamped(wire: Wire) -> None:
    """A keepalived of the host's own may use the same router id on a VLAN; untagged, it is stamped."""
    lab = wire.cluster.lab
    plain = replace(heartbeat(wire, HEARER), identification=77, ecn=0)
    ends = (VRRP_GROUP_MAC, own_mac(lab, HEARER))
    for vlan in (VLAN, None):
        with packet_socket(lab, HEARER) as sock:
            sock.send(ethernet(*ends, plain, vlan))
        wire.barrier()
        # Sockets see a frame without its tag.
        assert (ethernet(*ends, plain) in received(wire.frames)) == (vlan == VLAN)


# --- what neighbours are told ----------------------------------------------------------------------

BROADCAST_MAC = HardwareAddress.parse("ff:ff:ff:ff:ff:ff")


def arp_question(wire: Wire) -> bytes:
    """An ARP request for the virtual address (RFC 826)."""
    client, vip = own_address("client", 4), virtual_address(4)
    head = (
        octets(BROADCAST_MAC) + octets(wire.client_mac) + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
    )
    return head + octets(wire.client_mac) + client.packed + bytes(6) + vip.packed


def solicitation(wire: Wire) -> bytes:
    """The same question for IPv6, to the solicited-node multicast address (RFC 4861, 4.3)."""
    client, vip = own_address("client", 6), virtual_address(6)
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + vip.packed[13:])
    option = struct.pack("!BB", 1, 1) + octets(wire.client_mac)
    packet = replace(icmp(client, group, 135, 0, bytes(4), vip.packed + option), ttl=255)
    to = HardwareAddress(0x3333 << 32 | int.from_bytes(group.packed[12:], "big"))
    return ethernet(to, wire.client_mac, packet)


def tells(frame: bytes, version: int) -> bool:
    """Whether a frame is the answer to such a question, about the virtual address."""
    vip = virtual_address(version).packed
    if version == 4:
        return frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == vip
    return frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x88" and frame[62:78] == vip


def tellers(wire: Wire, version: int, wanted: set[str]) -> set[str]:
    """The nodes that answer a question for the virtual address, ``wanted`` among them.

    A macvlan hands broadcasts on when its host finds the time: answers may come after the barrier.
    """
    macs = {octets(own_mac(wire.cluster.lab, node)): node for node in wire.cluster.lab.nodes}
    received(wire.frames)
    wire.frames.send(arp_question(wire) if version == 4 else solicitation(wire))
    wire.barrier()
    told: set[str] = set()

    def all_told() -> bool:
        answered = {frame[6:12] for frame in received(wire.frames) if tells(frame, version)}
        told.update(node for mac, node in macs.items() if mac in answered)
        return told >= wanted

    eventually(all_told, f"{wanted} answer")
    return told


@contextmanager
def fenced(cluster: Cluster) -> Iterator[None]:
    """Let the hearer stand aside while the block runs."""
    held, own = f"element netdev {TABLE} fenced", cluster.ids[HEARER]
    cluster.lab.exec(HEARER, ["nft", f"add {held} {{ {own} timeout 60s }}"])
    try:
        cluster.settle(("n2", "n3", "n4"))
        yield
    finally:
        cluster.lab.exec(HEARER, ["nft", f"delete {held} {{ {own} }}"])
        cluster.settle()


@pytest.mark.parametrize("version", [4, 6])
def test_a_node_that_stands_aside_tells_neighbours_nothing(wire: Wire, version: int) -> None:
    """After a change of the MAC they would learn one that only this node hears."""
    everybody = set(wire.cluster.lab.nodes)
    assert tellers(wire, version, everybody) == everybody
    with fenced(wire.cluster):
        assert tellers(wire, version, everybody - {HEARER}) == everybody - {HEARER}
        announcement = ["ip", "link", "set", "dev", "vip-e2e"]
        received(wire.frames)
        wire.cluster.lab.exec(HEARER, [*announcement, "down"])
        wire.cluster.lab.exec(HEARER, [*announcement, "up"])
        wire.barrier()
        assert not [f for f in received(wire.frames) if f[28:32] == virtual_address(4).packed]
    assert tellers(wire, version, everybody) == everybody


@pytest.mark.parametrize("version", [4, 6])
def test_without_that_rule_it_does(wire: Wire, version: int) -> None:
    """The breaking twin."""
    chain = f"netdev {TABLE} neighbour_out"
    lab = wire.cluster.lab
    with unhealed(wire.cluster, HEARER), fenced(wire.cluster):
        listed = lab.exec(HEARER, ["nft", "-a", f"list chain {chain}"]).stdout.splitlines()
        for line in listed:
            if "stands aside" in line:
                lab.exec(HEARER, ["nft", f"delete rule {chain} handle {line.split()[-1]}"])
        everybody = set(lab.nodes)
        assert tellers(wire, version, everybody) == everybody
    eventually(lambda: wire.cluster.state(HEARER)["ruleset"] == "intact", "the rules are back")
    wire.cluster.settle()


# --- a MAC that is over ----------------------------------------------------------------------------


def test_nobody_takes_frames_to_a_multicast_mac_of_before(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    """A neighbour with a static entry still sends to it; but for the kernel's settings all would answer."""
    with wired(cluster) as wire:
        before = wire.cluster_mac
    inventory["mac"] = {"mode": "stealth", "address": "02:00:5e:00:01:01"}
    cluster.path.write_text(yaml.safe_dump(inventory))
    cluster.apply()
    with wired(cluster) as wire:
        assert sent_to(wire, before) == []
        with unhealed(cluster, HEARER):
            for family in ("ipv4", "ipv6"):
                setting = f"/proc/sys/net/{family}/conf/eth0/drop_unicast_in_l2_multicast"
                cluster.lab.exec(HEARER, ["sh", "-c", f"echo 0 >{setting}"])
            assert sent_to(wire, before) == [HEARER] * 2 * REPEATED, "the breaking twin"
        eventually(lambda: cluster.state(HEARER)["attached"] == "yes", "the settings are back")
        assert sent_to(wire, before) == []


def sent_to(wire: Wire, mac: HardwareAddress) -> list[str]:
    """The nodes whose stacks take questions to a MAC, once for each question."""
    for version in (4, 6):
        for number in range(1, REPEATED + 1):
            wire.send(question(version, number), mac)
    return [node for version in (4, 6) for node in arrived(wire, version)]


# --- heartbeats ------------------------------------------------------------------------------------


def advert(vrid: int, priority: int) -> bytes:
    """A VRRPv3 advertisement (RFC 9568, 5.1) of one marker address, every 100 ms."""
    message = struct.pack("!BBBBHH", 0x31, vrid, priority, 1, 10, 0) + bytes([127, 84, 83, vrid])
    return with_checksum(message, 6)


def heartbeat(wire: Wire, node: str = VICTIM, priority: int = 100) -> Packet:
    """What the node's own heartbeats look like on the wire: stamped with the epoch, marked, never routed."""
    vrid = wire.lock.first_vrid + wire.cluster.ids[node] - 1
    return Packet(
        own_address(node, 4),
        VRRP_GROUP,
        VRRP,
        advert(vrid, priority),
        ttl=255,
        identification=2 * wire.lock.epoch,
        ecn=CONGESTION_EXPERIENCED,
    )


@dataclass(frozen=True)
class Cut(Packet):
    """A packet whose last bytes got lost: its header tells another length."""

    def __bytes__(self) -> bytes:
        return super().__bytes__()[:21]


@dataclass(frozen=True)
class Forgery:
    """One thing that is wrong with a heartbeat."""

    name: str
    spoil: Callable[[Packet], Packet]


STRANGER = IPv4Address("192.0.2.77")
FORGERIES = [
    Forgery("unmarked", lambda p: replace(p, ecn=0)),
    Forgery("marked ECT(0)", lambda p: replace(p, ecn=2)),
    Forgery("routed", lambda p: replace(p, ttl=254)),
    Forgery("of a stranger", lambda p: replace(p, source=STRANGER)),
    Forgery("of an epoch that is over", lambda p: replace(p, identification=p.identification - 2)),
    Forgery("without a VRRP header", lambda p: replace(p, payload=b"")),
    Forgery("cut before the priority", lambda p: replace(p, payload=p.payload[:2])),
    Forgery("longer than its frame", lambda p: Cut(**vars(p))),
    Forgery(
        "of a stranger, of a later epoch",
        lambda p: replace(p, source=STRANGER, identification=p.identification + 2),
    ),
    Forgery("unmarked, of a later epoch", lambda p: replace(p, ecn=0, identification=p.identification + 2)),
    Forgery("routed, of a later epoch", lambda p: replace(p, ttl=254, identification=p.identification + 2)),
]


def elements(cluster: Cluster, name: str) -> set[int]:
    """The ids in one of the hearer's sets."""
    done = cluster.lab.exec(HEARER, ["nft", "-j", "list", "set", "netdev", TABLE, name])
    found = next(item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item)
    held = found.get("elem", [])
    return {element["elem"]["val"] if isinstance(element, dict) else element for element in held}


@pytest.fixture(scope="class")
def frozen(shared_cluster: Cluster) -> Iterator[Wire]:
    """The wire of a cluster in which the victim sends no heartbeats: who revives it, forged them."""
    shared_cluster.settle()
    shared_cluster.lab.exec(VICTIM, ["sh", "-c", f"kill -STOP {DAEMONS}"])
    with wired(shared_cluster) as wire:
        yield wire
    shared_cluster.lab.exec(VICTIM, ["sh", "-c", f"kill -CONT {DAEMONS}"])
    shared_cluster.settle()


class TestForgedHeartbeats:
    """Against a victim that is silent."""

    @pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
    def test_it_renews_no_lease(self, frozen: Wire, forgery: Forgery) -> None:
        frozen.cluster.settle(OTHERS)
        for _ in range(REPEATED):
            frozen.send(forgery.spoil(heartbeat(frozen)), VRRP_GROUP_MAC)
        frozen.barrier()
        assert elements(frozen.cluster, "alive") == {frozen.cluster.ids[node] for node in OTHERS}
        assert elements(frozen.cluster, "fenced") == set()

    @pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
    def test_it_ends_no_lease(self, frozen: Wire, forgery: Forgery) -> None:
        victim = frozen.cluster.ids[VICTIM]
        give_lease(frozen.cluster, victim)
        for _ in range(REPEATED):
            frozen.send(forgery.spoil(heartbeat(frozen, priority=0)), VRRP_GROUP_MAC)
        frozen.barrier()
        assert victim in elements(frozen.cluster, "alive")
        frozen.send(heartbeat(frozen, priority=0), VRRP_GROUP_MAC)
        frozen.barrier()
        assert victim not in elements(frozen.cluster, "alive"), "a true one does"

    def test_a_true_one_renews_it(self, frozen: Wire) -> None:
        """The breaking twin: what the forgeries lack is all that there is to it."""
        frozen.cluster.settle(OTHERS)

        def revived() -> bool:
            frozen.send(heartbeat(frozen), VRRP_GROUP_MAC)
            frozen.barrier()
            return frozen.cluster.ids[VICTIM] in elements(frozen.cluster, "alive")

        eventually(revived, "the victim's lease is renewed")

    def test_tagged_ones_count_for_nothing(self, frozen: Wire) -> None:
        frozen.cluster.settle(OTHERS)
        for _ in range(REPEATED):
            frozen.send(heartbeat(frozen), VRRP_GROUP_MAC, vlan=VLAN)
        frozen.barrier()
        assert elements(frozen.cluster, "alive") == {frozen.cluster.ids[node] for node in OTHERS}


def give_lease(cluster: Cluster, node_id: int) -> None:
    """Let the hearer take a node for alive for a minute."""
    element = f"netdev {TABLE} alive {{ {node_id} timeout 60s }}"
    cluster.lab.exec(HEARER, ["nft", f"add element {element}"])


def test_vrrp_of_others_passes_untouched(wire: Wire) -> None:
    """A virtual router that is none of ours; of our own, nothing reaches the stack."""
    foreign = replace(heartbeat(wire), source=STRANGER, payload=advert(200, 100), identification=77, ecn=0)
    wire.send(foreign, VRRP_GROUP_MAC)
    wire.send(heartbeat(wire), VRRP_GROUP_MAC)
    assert wire.deliveries(4, VRRP) == {node: [bytes(foreign)] for node in wire.cluster.lab.nodes}


def test_a_later_epoch_makes_a_node_stand_aside_for_a_lease(wire: Wire) -> None:
    """Everybody but the node that seems to be ahead falls silent; when it was a mistake, they come back."""
    cluster = wire.cluster
    later = replace(heartbeat(wire), identification=2 * wire.lock.epoch + 2)

    def all_fenced() -> bool:
        wire.send(later, VRRP_GROUP_MAC)
        return cluster.alive(VICTIM) == {cluster.ids[VICTIM]}

    with watched_probes(cluster.lab, cluster.heartbeat, sources=40, interval_ms=50) as watched:
        eventually(all_fenced, "the victim alone is alive")
        wire.send(later, VRRP_GROUP_MAC)
        wire.barrier()
        assert elements(cluster, "fenced") == {cluster.ids[HEARER]}
        cluster.settle()
    assert watched.result.doubles() == (), watched.result
    assert wire.cluster.state(HEARER)["ruleset"] == "intact"


# --- serials ---------------------------------------------------------------------------------------


def with_serial(packet: Packet, serial: int) -> Packet:
    """As the sender's rules leave it: the serial in place of the address."""
    message = packet.payload[:8] + struct.pack("!2sH", b"TS", serial)
    return replace(packet, payload=message)


def test_heartbeats_tell_the_serial(wire: Wire) -> None:
    told = wire.cluster.lab.exec(
        HEARER, ["sh", "-c", "nft -s list chain netdev trscaler_e2e heartbeat_out | grep '@th,64,32'"]
    )
    assert f"set 0x5453{wire.lock.serial:04x}" in told.stdout


def test_a_higher_serial_leaves_those_alone_that_serve_in_company(wire: Wire) -> None:
    for _ in range(REPEATED):
        wire.send(with_serial(heartbeat(wire), wire.lock.serial + 1), VRRP_GROUP_MAC)
    wire.barrier()
    assert elements(wire.cluster, "fenced") == elements(wire.cluster, "behind") == set()
    assert wire.cluster.sees_all()


@dataclass(frozen=True)
class Further:
    """What a heartbeat may hold, and whether a node that does not serve stands aside when it hears it."""

    name: str
    make: Callable[[Packet, int], Packet]
    stands_aside: bool


FURTHER = [
    Further("the next", lambda p, own: with_serial(p, own + 1), True),
    Further("the last", lambda p, own: with_serial(p, 65535), True),
    Further("its own", with_serial, False),
    Further("none yet", lambda p, own: with_serial(p, 0), False),
    Further("an address, unmarked", lambda p, own: p, False),
    Further("cut before it", lambda p, own: replace(p, payload=p.payload[:8]), False),
    Further("cut within it", lambda p, own: replace(with_serial(p, own + 1), payload=p.payload[:11]), False),
    Further("of a stranger", lambda p, own: replace(with_serial(p, own + 1), source=STRANGER), False),
    Further("unstamped", lambda p, own: replace(with_serial(p, own + 1), ecn=0), False),
    Further(
        "of an epoch that is over",
        lambda p, own: replace(with_serial(p, own + 1), identification=p.identification - 2),
        False,
    ),
]


@pytest.fixture(scope="class")
def silent(shared_cluster: Cluster) -> Iterator[Wire]:
    """The wire of a cluster in which the hearer sends no heartbeats, and so does not serve."""
    shared_cluster.settle()
    shared_cluster.lab.exec(HEARER, ["sh", "-c", f"kill -STOP {DAEMONS}"])
    with wired(shared_cluster) as wire:
        yield wire
    forget_it_was_behind(shared_cluster)
    shared_cluster.lab.exec(HEARER, ["sh", "-c", f"kill -CONT {DAEMONS}"])
    shared_cluster.settle()


def forget_it_was_behind(cluster: Cluster) -> None:
    cluster.lab.exec(HEARER, ["nft", "flush", "set", "netdev", TABLE, "behind"])


class TestSerials:
    """Heard by a node that does not serve."""

    @pytest.mark.parametrize("further", FURTHER, ids=lambda further: further.name)
    def test_who_was_away_stands_aside(self, silent: Wire, further: Further) -> None:
        own = silent.cluster.ids[HEARER]
        eventually(lambda: own not in elements(silent.cluster, "alive"), "the hearer's lease is over")
        forget_it_was_behind(silent.cluster)
        for _ in range(REPEATED):
            silent.send(further.make(heartbeat(silent), silent.lock.serial), VRRP_GROUP_MAC)
        silent.barrier()
        assert elements(silent.cluster, "behind") == ({own} if further.stands_aside else set())
        assert own not in elements(silent.cluster, "alive")
        assert not further.stands_aside or own in elements(silent.cluster, "fenced")
