"""Frames as bytes: sockets in the lab's namespaces, frames made by hand, what a wire or a switch showed.

Sockets keep the network namespace that they were made in, so the tests hold them in their own process.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from trscaler_gen.jhash import bucket_of
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.responder import PORT
from trscaler_gen.lock import Lock
from trscaler_gen.lockfile import lock_path, read_lock
from trscaler_gen.mac import HardwareAddress, inner_address

from .cluster import VIPS, Cluster

Address = IPv4Address | IPv6Address

CLIENT_LINK = "eth0"
TABLE = "trscaler_e2e"
NODE_LOCK = "/run/trscaler-gen/e2e/lock"
VRRP_GROUP_MAC = HardwareAddress.parse("01:00:5e:00:00:12")
ICMP, UDP, ICMP6, VRRP = socket.IPPROTO_ICMP, socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6, 112
ETH_P_ALL = 0x0003
ANSWER_DEADLINE_S = 30.0
RECEIVE_BUFFER_BYTES = 4 << 20

_CLONE_NEWNET = 0x40000000
_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>; Python's socket module does not name it
_LIBC = ctypes.CDLL(None, use_errno=True)


# --- sockets in namespaces ------------------------------------------------------------------------


def _open_socket(pid: int, family: int, kind: int, protocol: int) -> socket.socket:
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    return socket.socket(family, kind, protocol)


def socket_of(pid: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in a process's network; setns(2) is the thread's own, so a thread that ends makes it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_open_socket, pid, family, kind, protocol).result()


def socket_in(lab: Lab, member: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in a member's network."""
    process = lab.state.members[member].process
    assert process is not None
    opened = socket_of(process.pid, family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    return opened


def packet_socket(lab: Lab, member: str, link: str = CLIENT_LINK) -> socket.socket:
    """A socket that sends and receives whole frames of one of a member's links."""
    opened = socket_in(lab, member, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    opened.bind((link, ETH_P_ALL))
    return opened


def has_more(sock: socket.socket) -> bool:
    """Whether something waits in the socket now."""
    return bool(select.select([sock], [], [], 0)[0])


def received(sock: socket.socket) -> list[bytes]:
    """Everything that waits in the socket now."""
    found = []
    while has_more(sock):
        found.append(sock.recv(65535))
    return found


def own_mac(lab: Lab, member: str) -> HardwareAddress:
    """The hardware address of a member's link."""
    text = lab.exec(member, ["cat", f"/sys/class/net/{CLIENT_LINK}/address"]).stdout
    return HardwareAddress.parse(text.strip())


# --- frames ---------------------------------------------------------------------------------------


def octets(mac: HardwareAddress) -> bytes:
    """The six bytes as they stand in a frame."""
    return mac.value.to_bytes(6, "big")


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_checksum(message: bytes, at: int, pseudo: bytes = b"") -> bytes:
    """``message`` with its checksum, over ``pseudo`` as well, written at byte ``at``."""
    blank = message[:at] + bytes(2) + message[at + 2 :]
    checksum = internet_checksum(pseudo + blank) or 0xFFFF
    return blank[:at] + struct.pack("!H", checksum) + blank[at + 2 :]


def pseudo_header(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    """What UDP and ICMPv6 checksums cover besides the message (RFC 768, RFC 8200 8.1)."""
    ends = source.packed + destination.packed
    if source.version == 4:
        return ends + struct.pack("!BBH", 0, protocol, length)
    return ends + struct.pack("!II", length, protocol)


@dataclass(frozen=True)
class Packet:
    """An IP packet; ``identification`` and ``ecn`` are written into IPv4 headers only."""

    source: Address
    destination: Address
    protocol: int
    payload: bytes
    ttl: int = 64
    identification: int = 0
    ecn: int = 0

    def __bytes__(self) -> bytes:
        ends = self.source.packed + self.destination.packed
        if self.source.version == 6:
            head = struct.pack("!IHBB", 6 << 28, len(self.payload), self.protocol, self.ttl)
            return head + ends + self.payload
        total = 20 + len(self.payload)
        head = struct.pack("!BBHHH", 0x45, self.ecn, total, self.identification, 0)
        head += struct.pack("!BBH", self.ttl, self.protocol, 0) + ends
        return with_checksum(head, 10) + self.payload

    @property
    def ether_type(self) -> int:
        """What an Ethernet header calls it."""
        return 0x0800 if self.source.version == 4 else 0x86DD


def udp(source: Address, destination: Address, source_port: int, payload: bytes) -> Packet:
    """A datagram to the responder's port."""
    message = struct.pack("!HHHH", source_port, PORT, 8 + len(payload), 0) + payload
    pseudo = pseudo_header(source, destination, UDP, len(message))
    return Packet(source, destination, UDP, with_checksum(message, 6, pseudo))


def icmp(source: Address, destination: Address, kind: int, code: int, rest: bytes, quote: bytes) -> Packet:
    """An ICMP or ICMPv6 message; ``rest`` is the header's second word."""
    message = struct.pack("!BBH", kind, code, 0) + rest + quote
    if source.version == 4:
        return Packet(source, destination, ICMP, with_checksum(message, 2))
    pseudo = pseudo_header(source, destination, ICMP6, len(message))
    return Packet(source, destination, ICMP6, with_checksum(message, 2, pseudo))


def ethernet(
    destination: HardwareAddress, source: HardwareAddress, packet: Packet, vlan: int | None = None
) -> bytes:
    """A frame, with an 802.1Q tag if ``vlan`` (0..4094) is given."""
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return octets(destination) + octets(source) + tag + struct.pack("!H", packet.ether_type) + bytes(packet)


# --- a cluster seen from the client's wire --------------------------------------------------------


@dataclass
class Wire:
    """The client's end of the wire, and sockets on every node that see what reaches the node's own stack."""

    cluster: Cluster
    lock: Lock
    frames: socket.socket
    client_mac: HardwareAddress
    delivered: dict[tuple[str, int, int], socket.socket]
    stack: ExitStack

    @property
    def cluster_mac(self) -> HardwareAddress:
        """What the neighbours send to."""
        return self.lock.cluster_mac

    @property
    def inner_mac(self) -> HardwareAddress:
        """What must never be seen."""
        return inner_address(self.lock.cluster_mac)

    def client_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket on the client, closed with the wire."""
        return self.stack.enter_context(socket_in(self.cluster.lab, "client", inet(family), kind, protocol))

    def asker(self, source: Address) -> socket.socket:
        """A datagram socket of the client's that is bound to ``source``."""
        sock = self.client_socket(source.version, socket.SOCK_DGRAM)
        sock.bind((str(source), 0))
        return sock

    def send(self, packet: Packet, to: HardwareAddress | None = None, vlan: int | None = None) -> None:
        """Put a packet on the wire, to the cluster MAC if no other is given."""
        self.frames.send(ethernet(to or self.cluster_mac, self.client_mac, packet, vlan))

    def owner(self, source: Address, destination: Address) -> str:
        """The node that a packet belongs to while all are alive."""
        found = bucket_of(
            source,
            destination,
            hash_input=self.lock.hash_input,
            seed=self.lock.seed,
            buckets=self.lock.buckets,
        )
        names = {node.node_id: node.name for node in self.lock.nodes}
        return names[self.lock.orders[found][0]]

    def barrier(self, nodes: Sequence[str] = ()) -> None:
        """Wait until every node has answered a question of its own, so that all before it is dealt with.

        ``nodes``: only these, where the others cannot answer.
        """
        asked = nodes or self.cluster.lab.nodes
        for family in (4, 6):
            sock = self.asker(own_address("client", family))
            for node in asked:
                sock.sendto(b"barrier", (str(own_address(node, family)), PORT))
            answers(sock, len(asked))
            sock.close()

    def deliveries(self, version: int, protocol: int) -> dict[str, list[bytes]]:
        """What reached each node's stack since the last call, after all that was sent has been dealt with."""
        self.barrier()
        names = self.cluster.lab.nodes
        return {name: received(self.delivered[name, version, protocol]) for name in names}

    def counters(self) -> dict[str, dict[str, int]]:
        """The packets that each node's ruleset has counted, by the counter's name."""
        return {name: counters(self.cluster.lab, name) for name in self.cluster.lab.nodes}


def inet(version: int) -> int:
    """The address family's number for socket(2)."""
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


def own_address(member: str, version: int) -> Address:
    """A member's address on the lab's link."""
    number = 201 if member == "client" else int(member.removeprefix("n"))
    return IPv4Address(f"192.0.2.{number}") if version == 4 else IPv6Address(f"2001:db8::{number}")


def virtual_address(version: int) -> Address:
    """The cluster's virtual address of one family."""
    return ip_address(VIPS[0] if version == 4 else VIPS[1])


def client_source(number: int, version: int) -> Address:
    """One of the client's 250 further addresses."""
    text = f"198.51.100.{number}" if version == 4 else f"2001:db8:100::{number}"
    return ip_address(text)


def answers(sock: socket.socket, count: int) -> list[bytes]:
    """The next ``count`` answers that a socket gets; fails when they do not come."""
    found: list[bytes] = []
    deadline = time.monotonic() + ANSWER_DEADLINE_S
    while len(found) < count:
        ready = select.select([sock], [], [], max(0.0, deadline - time.monotonic()))[0]
        assert ready, f"{len(found)} of {count} answers within {ANSWER_DEADLINE_S:g} s"
        found.append(sock.recv(65535))
    return found


def counters(lab: Lab, node: str, table: str = TABLE) -> dict[str, int]:
    """The packets that a node's ruleset has counted, by the counter's name.

    Rules of the short way that drop count for themselves.
    """
    argv = ["nft", "-j", "-t", "list", "table", "netdev", table]
    listed = json.loads(lab.exec(node, argv).stdout)["nftables"]
    found = {item["counter"]["name"]: item["counter"]["packets"] for item in listed if "counter" in item}
    for statements in (item["rule"]["expr"] for item in listed if "rule" in item):
        counted = sum(_counted(statement) for statement in statements)
        if counted:
            found["dropped"] += counted
    return found


def _counted(statement: dict[str, Any]) -> int:
    """What a rule's own counter says; a named one is not the rule's own."""
    counter = statement.get("counter")
    return int(counter["packets"]) if isinstance(counter, dict) else 0


def _delivered_sockets(lab: Lab, stack: ExitStack) -> dict[tuple[str, int, int], socket.socket]:
    """Raw sockets get a copy of all that the stack takes for its own, whoever else listens (raw(7))."""
    wanted = [(4, ICMP), (4, UDP), (4, VRRP), (6, ICMP6), (6, UDP)]
    return {
        (node, version, protocol): stack.enter_context(
            socket_in(lab, node, inet(version), socket.SOCK_RAW, protocol)
        )
        for node in lab.nodes
        for version, protocol in wanted
    }


@contextmanager
def wired(cluster: Cluster) -> Iterator[Wire]:
    """The cluster's wire, with every socket closed at the end."""
    lock = read_lock(lock_path(cluster.path))
    assert lock is not None
    with ExitStack() as stack:
        frames = stack.enter_context(packet_socket(cluster.lab, "client"))
        delivered = _delivered_sockets(cluster.lab, stack)
        wire = Wire(cluster, lock, frames, own_mac(cluster.lab, "client"), delivered, stack)
        wire.barrier()
        for sock in delivered.values():
            received(sock)
        yield wire


@contextmanager
def unhealed(cluster: Cluster, node: str) -> Iterator[None]:
    """Keep the node's watcher and health check waiting while the block runs."""
    holder = cluster.lab.popen(
        node, ["flock", "--no-fork", NODE_LOCK, "sh", "-c", "echo held; exec sleep 60"]
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        end(holder)


def end(process: subprocess.Popen[str]) -> str:
    """Terminate a command on a member, and give what else it has said."""
    process.terminate()
    return process.communicate(timeout=60)[0]


# --- the switch's table, and captures -------------------------------------------------------------


@dataclass
class FdbWatch:
    """What the switch's forwarding table was told, line by line, from `bridge monitor fdb`."""

    lab: Lab
    monitor: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    marks: Iterator[int] = field(default_factory=lambda: iter(range(1, 256)))

    def mark(self) -> None:
        """Enter an address of ours, and read until it is seen: then nothing before it is missed."""
        mac = f"00:00:5e:00:53:{next(self.marks):02x}"
        assert self.monitor.stdout is not None
        deadline = time.monotonic() + ANSWER_DEADLINE_S
        while not any(mac in line for line in self.lines):
            assert time.monotonic() < deadline, "the monitor says nothing"
            self.lab.exec("switch", ["bridge", "fdb", "replace", mac, "dev", "p-client", "master", "static"])
            while select.select([self.monitor.stdout], [], [], 0.1)[0]:
                self.lines.append(os.read(self.monitor.stdout.fileno(), 65536).decode())
        self.lab.exec("switch", ["bridge", "fdb", "del", mac, "dev", "p-client", "master"])

    def text(self) -> str:
        """Everything that has been learned since the start, and what the table holds now."""
        self.mark()
        return "".join(self.lines) + fdb(self.lab)


def fdb(lab: Lab) -> str:
    """The switch's forwarding table."""
    return lab.exec("switch", ["bridge", "fdb", "show", "br", "br0"]).stdout


@contextmanager
def watched_fdb(lab: Lab) -> Iterator[FdbWatch]:
    """Watch the switch's table while the block runs."""
    monitor = lab.popen("switch", ["bridge", "monitor", "fdb"])
    try:
        watch = FdbWatch(lab, monitor)
        watch.mark()
        yield watch
    finally:
        end(monitor)


@dataclass
class Capture:
    """What passed the client's wire: frames as bytes, and as tcpdump reads them. Filled when it ends."""

    frames: list[bytes] = field(default_factory=list)
    text: str = ""

    def lines(self, *words: str) -> list[str]:
        """The packets as tcpdump reads them, one line each, that contain all of ``words``."""
        joined = self.text.replace("\n\t", " ").splitlines()
        return [line for line in joined if all(word in line for word in words)]


def _read_pcap(data: bytes) -> list[bytes]:
    """The frames of a capture file (native byte order: the same machine wrote it)."""
    frames, at = [], 24
    while at < len(data):
        (length,) = struct.unpack_from("=I", data, at + 8)
        frames.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return frames


@contextmanager
def captured(lab: Lab, path: Path, expression: Sequence[str]) -> Iterator[Capture]:
    """Capture on the client's wire while the block runs; what is there after it has left no frame out."""
    argv = ["tcpdump", "-i", CLIENT_LINK, "-U", "-n", "--immediate-mode", "-Z", "root", "-w", str(path)]
    capture = Capture()
    tcpdump = lab.popen("client", [*argv, *expression])
    try:
        assert tcpdump.stderr is not None
        first = tcpdump.stderr.readline()
        assert "listening on" in first, first
        yield capture
    finally:
        tcpdump.terminate()
        said = tcpdump.communicate(timeout=60)[1]
    assert "0 packets dropped by kernel" in said, said
    capture.frames = _read_pcap(path.read_bytes())
    capture.text = subprocess.run(
        ["tcpdump", "-vv", "-e", "-n", "-r", str(path)], capture_output=True, text=True, check=True
    ).stdout
