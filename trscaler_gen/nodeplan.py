"""What one node is to run, with every decision taken: the templates only lay it out.

Leases (data-path): a peer's lease outlives ``missed`` heartbeats and a half; a node's own lease is a
little shorter, so that an owner that stopped being heard stops answering before its substitute starts.
The difference must cover the kernel's rounding of set timeouts to jiffies (4 ms at HZ=250) at both ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from trscaler_gen.inventory.model import Address, Health, Inventory
from trscaler_gen.lock import MAX_SERIAL, Lock, LockedNode
from trscaler_gen.mac import HardwareAddress, inner_address

#: two jiffies at HZ=250: enough where hosts' ticks differ in phase, and where 250 and 1000 Hz are mixed
ROUNDING_MARGIN_MS = 8
#: by how much a heartbeat may be late that is still in time for the next look at all peers
CALM_SLACK_MS = 3
#: two hosts' clocks run apart by less than one part in a thousand
CLOCK_DRIFT = 1000
#: IFNAMSIZ less the terminating zero
MAX_DEVICE_NAME = 15
#: heartbeats carry the serial in their low 16 bits of 32; the others tell it from keepalived's own word
SERIAL_MARK = int.from_bytes(b"TS") << 16
#: a swap reaches all nodes in less, one after the other
ABREAST_MS = 5000
#: what tells the host's rules how a packet came in: 16 bits that nobody else is likely to use
KEEPER_MARK = SERIAL_MARK | 1
NEWCOMER_MARK = SERIAL_MARK | 2
#: only MASTER or FAULT are ever meant; 255 could not be demoted and 0 says goodbye
VRRP_PRIORITY = 100
#: an operator waits no longer than this for a node to serve
MAX_WAIT_S = 50
#: a health check may have to load the ruleset first, or to wait for somebody who does
MEND_S = 25
#: without a health command of the user's, the health check still looks after the ruleset
RULESET_CHECK = Health(command=("/bin/true",))


@dataclass(frozen=True)
class Peer:
    """Another node, as this one recognises it."""

    node_id: int
    name: str
    address: IPv4Address
    vrid: int


@dataclass(frozen=True)
class Column:
    """One place in the preference orders: the id of the node that has it, for every bucket.

    All nodes of a cluster share its columns, so they are hashed by their place alone.
    """

    place: int
    node_ids: tuple[int, ...] = field(hash=False)


@dataclass(frozen=True)
class Rank:
    """One place in the preference orders, as a node needs it: ``needed`` has a byte a bucket, 1 or 0."""

    column: Column
    needed: bytes

    @property
    def place(self) -> int:
        """Counted from 0."""
        return self.column.place


@dataclass(frozen=True)
class Leases:
    """How long a heartbeat keeps a node alive, in its own eyes and in its peers'."""

    own_ms: int
    peer_ms: int


@dataclass(frozen=True)
class NodePlan:
    """Everything that the templates need for one node; equal plans render to equal bytes.

    ``before``: the orders that nodes use until the switch to ``ranks``; empty if there is none under way.
    ``switch``: the serial at which ownership last moved between living nodes, 0 if it never did.
    ``handed_over``: buckets that this node gives to nodes which are new at this serial, or at the switch.
    ``inherited``: buckets that this node gets from living ones at the switch.
    ``metrics_folder``: where the node writes its metrics; empty where it does not.
    ``forwards_to``: the other link of a node that forwards packets; empty where it only serves.
    """

    source: str
    cluster: str
    node: str
    node_id: int
    address: IPv4Address
    vrid: int
    link: str
    forwards_to: str
    device: str
    table: str
    mac_mode: str
    cluster_mac: HardwareAddress
    inner_mac: HardwareAddress
    virtual_addresses: tuple[Address, ...]
    hash_input: str
    buckets: int
    seed: int
    epoch: int
    serial: int
    interval_ms: int
    leases: Leases
    peers: tuple[Peer, ...]
    ranks: tuple[Rank, ...]
    before: tuple[Rank, ...]
    switch: int
    handed_over: tuple[int, ...]
    inherited: tuple[int, ...]
    preserves: bool
    keep_s: int
    drain_before_stop_s: int
    health_command: tuple[str, ...]
    health_interval_s: int
    health_timeout_s: int
    metrics_folder: str
    metrics_interval_s: int
    vrrp_priority: int = VRRP_PRIORITY
    keeper_mark: int = KEEPER_MARK
    newcomer_mark: int = NEWCOMER_MARK

    def __repr__(self) -> str:
        """Leave the seed out: it is a secret."""
        return f"NodePlan({self.cluster!r}, {self.node!r})"

    @property
    def stamp(self) -> int:
        """The IP identification that this node's heartbeats carry.

        Two consecutive stamps belong to an epoch: the odd one is for heartbeats that announce a switch
        to another placement within it.
        """
        return 2 * self.epoch

    @property
    def last_stamp(self) -> int:
        """The highest stamp of this epoch; a known peer with a higher one makes this node outdated."""
        return 2 * self.epoch + 1

    @property
    def mark(self) -> int:
        """The 32 bits by which this node's heartbeats tell its serial."""
        return SERIAL_MARK | self.serial

    @property
    def marks_ahead(self) -> tuple[int, int]:
        """The marks of higher serials, first and last; there always is a higher one."""
        return self.mark + 1, SERIAL_MARK | (MAX_SERIAL + 1)

    @property
    def switched_stamp(self) -> int:
        """The IP identification by which this node's heartbeats say that it uses the new placement."""
        return self.last_stamp

    @property
    def marks_of_switch(self) -> tuple[int, int]:
        """The marks of senders that can mean this switch of placement by it, first and last."""
        return SERIAL_MARK | self.switch, SERIAL_MARK | (MAX_SERIAL + 1)

    @property
    def own_buckets(self) -> tuple[int, ...]:
        """The buckets in whose order this node is the first."""
        first = self.ranks[0].column.node_ids
        return tuple(bucket for bucket, node_id in enumerate(first) if node_id == self.node_id)

    @property
    def calm_ms(self) -> int:
        """How long one look at the peers stands for all of them; 0 where that is no interval of heartbeats.

        A peer counts that was heard within this time, and what is found holds as long again: together no more
        than its lease, so that what is said of all peers ends before anything that is said of one. Jiffies
        change nothing in that: rounded down, two halves are no more than the whole, and rounded up at most
        one more, in which the look itself falls.
        """
        half_ms = self.leases.peer_ms // 2
        return half_ms if self.peers and half_ms >= self.interval_ms + CALM_SLACK_MS else 0

    @property
    def lately_ms(self) -> int:
        """How long after the last heartbeat of anybody a node takes the others for gone, not itself."""
        return 2 * self.leases.peer_ms

    @property
    def unsure_ms(self) -> int:
        """How long a node that may have been cut off waits for a heartbeat: an interval and a little more."""
        return self.interval_ms + ROUNDING_MARGIN_MS

    @property
    def abreast_ms(self) -> int:
        """How long the heartbeat of a peer of no higher serial shows that a change is still under way."""
        return max(ABREAST_MS, 3 * self.leases.peer_ms)

    @property
    def serves_within_s(self) -> int:
        """Seconds after which a healthy node has sent its first heartbeat.

        keepalived waits three intervals and a skew (RFC 9568, 6.1) after the first good health check.
        """
        heartbeats_s = -(-4 * self.interval_ms // 1000)
        return min(MAX_WAIT_S, heartbeats_s + self.health_interval_s + 2)

    @property
    def stops_within_s(self) -> int:
        """Seconds that systemd gives the heartbeats to end."""
        return self.drain_before_stop_s + 5

    @property
    def vrids(self) -> tuple[int, ...]:
        """The virtual router ids of the whole cluster, in order."""
        return tuple(sorted((self.vrid, *(peer.vrid for peer in self.peers))))

    @property
    def node_words(self) -> str:
        """All nodes of the cluster as words NAME=ID for the node's script, in order of their ids."""
        ids = {self.node: self.node_id} | {peer.name: peer.node_id for peer in self.peers}
        return " ".join(f"{name}={ids[name]}" for name in sorted(ids, key=ids.__getitem__))

    @property
    def metrics(self) -> str:
        """Where and how often metrics are written, as words for the node's script; empty if they are not."""
        return f"{self.metrics_folder} {self.metrics_interval_s}" if self.metrics_folder else ""

    @property
    def health_program(self) -> str:
        """The program of the health command; empty if there is none."""
        return self.health_command[0] if self.health_command else ""

    @property
    def health_words(self) -> tuple[str, ...]:
        """The health command with its deadline, killed a second later if it does not heed it."""
        if not self.health_command:
            return (":",)
        return ("timeout", "-k", "1", str(self.health_timeout_s), *self.health_command)

    @property
    def health_run_s(self) -> int:
        """Seconds that keepalived gives the health check: the command's, and some to mend what is broken."""
        return self.health_timeout_s + MEND_S

    @property
    def has_ipv6(self) -> bool:
        """Whether any virtual address is an IPv6 one."""
        return any(address.version == 6 for address in self.virtual_addresses)

    @property
    def frame(self) -> str:
        """What cannot change under a running cluster, as words for the node's script."""
        words = (self.link, self.device, self.cluster_mac, self.inner_mac, self.mac_mode)
        return " ".join(str(word) for word in words)

    @property
    def root(self) -> str:
        """Where the generations live on the node."""
        return f"/etc/trscaler-gen/{self.cluster}"

    @property
    def runtime(self) -> str:
        """Where pids, locks and fingerprints live on the node until it reboots."""
        return f"/run/trscaler-gen/{self.cluster}"

    @property
    def unit(self) -> str:
        """The stem of the systemd units' names."""
        return f"trscaler-gen-{self.cluster}"


def plan_nodes(inventory: Inventory, lock: Lock) -> tuple[NodePlan, ...]:
    """Decide what each node of the inventory runs, in the inventory's order."""
    by_name = {node.name: node for node in lock.nodes}
    ranks = _ranks(lock.orders)
    before = _ranks(lock.before)
    handed_over = _handed_over(lock)
    return tuple(
        _plan_node(inventory, lock, by_name[name], ranks, before, handed_over) for name in inventory.nodes
    )


def leases(interval_ms: int, missed: int) -> Leases:
    """Durations in milliseconds for a heartbeat every ``interval_ms`` and ``missed`` misses allowed."""
    peer_ms = missed * interval_ms + interval_ms // 2
    # A node must outlive as many misses in its own eyes as in its peers': at 10 ms that leaves one jiffy.
    margin_ms = min(ROUNDING_MARGIN_MS, interval_ms // 2) + peer_ms // CLOCK_DRIFT
    return Leases(own_ms=peer_ms - margin_ms, peer_ms=peer_ms)


def device_name(cluster: str) -> str:
    """Name the macvlan that holds the cluster's addresses; unique per cluster, at most 15 characters."""
    name = f"vip-{cluster}"
    if len(name) <= MAX_DEVICE_NAME:
        return name
    digest = hashlib.sha256(cluster.encode()).hexdigest()[:4]
    return f"{name[: MAX_DEVICE_NAME - 5]}-{digest}"


def table_name(cluster: str) -> str:
    """Name the nftables table; ``-`` is no identifier character there, and clusters have no ``_``."""
    return f"trscaler_{cluster.replace('-', '_')}"


def _plan_node(
    inventory: Inventory,
    lock: Lock,
    node: LockedNode,
    ranks: Mapping[int, tuple[Rank, ...]],
    before: Mapping[int, tuple[Rank, ...]],
    handed_over: Mapping[int, Sequence[int]],
) -> NodePlan:
    health = inventory.health_of(node.name)
    peers = tuple(_peer(inventory, other) for other in lock.nodes if other.node_id != node.node_id)
    return NodePlan(
        source=inventory.source,
        cluster=inventory.cluster,
        node=node.name,
        node_id=node.node_id,
        address=node.address,
        vrid=_vrid(inventory, node),
        link=inventory.link_of(node.name),
        forwards_to=inventory.forwards_to_of(node.name) or "",
        device=device_name(inventory.cluster),
        table=table_name(inventory.cluster),
        mac_mode=lock.mac_mode,
        cluster_mac=lock.cluster_mac,
        inner_mac=inner_address(lock.cluster_mac),
        virtual_addresses=inventory.virtual_addresses,
        hash_input=lock.hash_input,
        buckets=lock.buckets,
        seed=lock.seed,
        epoch=lock.epoch,
        serial=lock.serial,
        interval_ms=inventory.heartbeat.interval_ms,
        leases=leases(inventory.heartbeat.interval_ms, inventory.heartbeat.missed),
        peers=peers,
        ranks=ranks[node.node_id],
        before=before.get(node.node_id, ()),
        switch=lock.switch,
        handed_over=tuple(handed_over.get(node.node_id, ())),
        inherited=_inherited(lock, node.node_id),
        preserves=inventory.connections == "preserve",
        keep_s=inventory.keep_connections_s,
        drain_before_stop_s=inventory.drain_before_stop_s,
        health_command=health.command if health else (),
        health_interval_s=health.interval_s if health else RULESET_CHECK.interval_s,
        health_timeout_s=health.timeout_s if health else RULESET_CHECK.timeout_s,
        metrics_folder=inventory.metrics.textfile_directory if inventory.metrics else "",
        metrics_interval_s=inventory.metrics.interval_s if inventory.metrics else 0,
    )


def _peer(inventory: Inventory, node: LockedNode) -> Peer:
    return Peer(node.node_id, node.name, node.address, _vrid(inventory, node))


def _vrid(inventory: Inventory, node: LockedNode) -> int:
    return inventory.heartbeat.first_vrid + node.node_id - 1


def _handed_over(lock: Lock) -> dict[int, list[int]]:
    """Per node, find the buckets whose connections it has, and in which another one is to be the first.

    That the rules learn from packets as well, but an idle connection shows none between the swap and a new
    node's first heartbeat.
    """
    new = {node.node_id for node in lock.nodes if node.since == lock.serial > 1}
    found: dict[int, list[int]] = {}
    for bucket, (order, before) in enumerate(zip(lock.orders, lock.before or lock.orders, strict=True)):
        leader = next((node_id for node_id in before if node_id not in new), None)
        if leader is not None and leader != order[0]:
            found.setdefault(leader, []).append(bucket)
    return found


def _inherited(lock: Lock, node_id: int) -> tuple[int, ...]:
    """Find the buckets in which this node is to be the first, and a living one was."""
    return tuple(
        bucket
        for bucket, order in enumerate(lock.before)
        if order[0] != node_id and lock.orders[bucket][0] == node_id
    )


def _ranks(orders: Sequence[tuple[int, ...]]) -> dict[int, tuple[Rank, ...]]:
    """Cut every order after each node's own place: whoever stands behind it never matters to that node."""
    columns = [Column(place, node_ids) for place, node_ids in enumerate(zip(*orders, strict=True))]
    own_places = {node_id: bytearray(len(orders)) for node_id in (orders[0] if orders else ())}
    for column in columns:
        for bucket, node_id in enumerate(column.node_ids):
            own_places[node_id][bucket] = column.place
    return {node_id: tuple(_needed(columns, places)) for node_id, places in own_places.items()}


def _needed(columns: Sequence[Column], own_places: bytearray) -> Iterator[Rank]:
    for column in columns[: max(own_places) + 1]:
        is_reached = bytes(column.place) + b"\1" * (256 - column.place)
        yield Rank(column, bytes(own_places.translate(is_reached)))
