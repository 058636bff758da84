"""What a node spends on one packet, with connections preserved and without.

One process on one CPU sends frames to two labs in turn, a few hundred of a kind, and then a question of its
own, whose answer says that all before it have been dealt with. The same is done with frames that are for
nobody: what those take is subtracted. Only one node of each lab looks at frames to the cluster.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from e2e.cluster import Cluster, eventually, running_cluster
from e2e.connections import owner_of
from e2e.segments import ACK, TCP, segment, sequence
from e2e.wire import (
    UDP,
    Address,
    Packet,
    client_source,
    ethernet,
    own_address,
    own_mac,
    packet_socket,
    socket_in,
    virtual_address,
)

from trscaler_gen.lab.responder import PORT
from trscaler_gen.lockfile import lock_path, read_lock
from trscaler_gen.mac import HardwareAddress

#: no more than a CPU's queue for frames holds, with every copy that the switch makes
BATCH = 250
#: the quickest of so many counts: everything that disturbs only adds
ROUNDS = 300
KEEP_S = 10
MODES = ("hash-only", "preserve")
NODES = ("n1", "n2")
NOBODY = "for nobody"
STRANGER = HardwareAddress.parse("02:00:00:00:00:99")
#: nobody reads what arrives there, and soon it is full
DEAF_PORT = 9
#: before our own chain, which has -100
DROP_ALL = """table netdev deaf {
    chain first {
        type filter hook ingress device eth0 priority -200; policy accept;
        ether daddr %s drop
    }
}
"""


@dataclass(frozen=True)
class PacketRow:
    """Nanoseconds that a node spends on one packet, by the inventory's word for connections."""

    what: str
    ns: dict[str, float]


def measure(folder: Path) -> list[PacketRow]:
    """UDP and TCP, each to a node that is the owner and to one that is not."""
    with ExitStack() as stack:
        senders = {mode: _sender(folder / f"packets-{mode}", mode, stack) for mode in MODES}
        best = {(mode, what): float("inf") for mode in MODES for what in senders[mode].frames}
        stack.enter_context(_one_cpu())
        for number in range(ROUNDS):
            for mode, what in reversed(best) if number % 2 else best:
                best[mode, what] = min(best[mode, what], senders[mode].send(what))
    return [
        PacketRow(what, {mode: best[mode, what] - best[mode, NOBODY] for mode in MODES})
        for what in senders[MODES[0]].frames
        if what != NOBODY
    ]


def _sender(here: Path, mode: str, stack: ExitStack) -> Sender:
    """A lab of its own, in which nothing has happened for a while."""
    here.mkdir()
    keys: dict[str, object] = {"connections": mode, "keep_connections_s": KEEP_S}
    lab = running_cluster(here, f"bench-{mode}", nodes=2, interval_ms=100, **keys)
    cluster = stack.enter_context(lab)
    if mode == "preserve":
        eventually(lambda: _is_settled(cluster), "nothing is to be considered any more")
    cluster.lab.exec("n2", ["nft", "-f", "-"], input=DROP_ALL % _cluster_mac(cluster))
    question = stack.enter_context(socket_in(cluster.lab, "client", socket.AF_INET, socket.SOCK_DGRAM))
    question.connect((str(own_address("n1", 4)), PORT))
    question.settimeout(5)
    wire = stack.enter_context(packet_socket(cluster.lab, "client"))
    return Sender(wire, question, _frames(cluster, stack))


def _is_settled(cluster: Cluster) -> bool:
    return all(cluster.members(node, "settled") == set(cluster.ids.values()) for node in NODES)


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Frames wait for their turn on the CPU on which they were sent."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Sender:
    """The client's wire, a socket to ask n1 itself, and what is sent, by its name."""

    wire: socket.socket
    question: socket.socket
    frames: dict[str, bytes]

    def send(self, what: str) -> float:
        """Nanoseconds for each of these frames."""
        frame, start = self.frames[what], time.perf_counter_ns()
        for _ in range(BATCH):
            self.wire.send(frame)
        self.question.send(b"done?")
        self.question.recv(100)
        return (time.perf_counter_ns() - start) / BATCH


def _frames(cluster: Cluster, stack: ExitStack) -> dict[str, bytes]:
    """What is sent: to n1, which takes it, or to n2, so that n1 drops it."""
    mine, other = (_source(cluster, node) for node in NODES)
    vip = virtual_address(4)
    sink = stack.enter_context(socket_in(cluster.lab, "n1", socket.AF_INET, socket.SOCK_DGRAM))
    sink.bind((str(vip), DEAF_PORT))
    client = stack.enter_context(socket_in(cluster.lab, "client", socket.AF_INET, socket.SOCK_STREAM))
    client.bind((str(mine), 0))
    client.connect((str(vip), PORT))
    numbers, ports = sequence(client), (client.getsockname()[1], PORT)
    datagram = struct.pack("!HHHH", 4711, DEAF_PORT, 8, 0)
    packets = {
        "UDP, dropped": Packet(other, vip, UDP, datagram),
        "TCP, dropped": Packet(other, vip, TCP, segment((other, vip), ports, numbers, flags=ACK)),
        "UDP, accepted": Packet(mine, vip, UDP, datagram),
        "TCP, accepted": Packet(mine, vip, TCP, segment((mine, vip), ports, numbers, flags=ACK)),
    }
    sender = own_mac(cluster.lab, "client")
    frames = {what: ethernet(_cluster_mac(cluster), sender, packet) for what, packet in packets.items()}
    return {NOBODY: ethernet(STRANGER, sender, packets["UDP, dropped"]), **frames}


def _source(cluster: Cluster, node: str) -> Address:
    vip = virtual_address(4)
    sources = (client_source(number, 4) for number in count(1))
    return next(each for each in sources if owner_of(cluster, str(each), str(vip)) == node)


def _cluster_mac(cluster: Cluster) -> HardwareAddress:
    lock = read_lock(lock_path(cluster.path))
    assert lock is not None
    return lock.cluster_mac
