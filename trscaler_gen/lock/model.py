"""What a lock holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address

from trscaler_gen.inventory.words import MacMode
from trscaler_gen.jhash import HashInput
from trscaler_gen.mac import HardwareAddress
from trscaler_gen.placement import Order, Placement

MAX_EPOCH = 32767
#: heartbeats carry the serial in 16 bits, and one number is kept that is higher than all
MAX_SERIAL = 65534
#: how many locks before it a lock remembers
MAX_ANCESTORS = 32


@dataclass(frozen=True)
class LockedNode:
    """A node of the cluster, as it was last built; ``node_id`` is 1..64.

    ``since`` is the serial of the lock that gave it its places in the orders.
    """

    node_id: int
    name: str
    address: IPv4Address
    weight: int
    since: int = 1


@dataclass(frozen=True)
class RetiredNode:
    """A node that left the inventory but was not yet stopped on its hardware; its id stays taken so long."""

    node_id: int
    name: str
    address: IPv4Address


@dataclass(frozen=True)
class Lock:
    """What one cluster keeps; nodes and retired are sorted by id, ``orders`` has one entry per bucket.

    ``ancestors`` are the fingerprints of the MAX_ANCESTORS locks before this one, the last one first.

    ``before`` has as many entries as ``orders``, each with the same ids, or none at all. With it a node holds
    two placements: it begins with ``before``, and uses ``orders`` once it has *switched*, which all nodes do
    at the same moment (data-path, section 7). ``switch`` is the serial at which ``orders`` last changed among
    nodes that stay; a switch that was made under this number stays made. It is 0 exactly where ``before`` is
    empty. After the switch ``before`` tells who has the connections of old.
    """

    cluster: str
    epoch: int
    serial: int
    ancestors: tuple[str, ...]
    seed: int = field(repr=False)
    hash_input: HashInput
    mac_mode: MacMode
    cluster_mac: HardwareAddress
    interval_ms: int
    missed: int
    first_vrid: int
    nodes: tuple[LockedNode, ...]
    retired: tuple[RetiredNode, ...]
    removals: int
    orders: tuple[Order, ...] = field(repr=False)
    before: tuple[Order, ...] = field(default=(), repr=False)
    switch: int = 0

    @property
    def buckets(self) -> int:
        """How many buckets the hash is scaled to."""
        return len(self.orders)

    @property
    def placement(self) -> Placement:
        """The orders with the weights that they follow."""
        return Placement({node.node_id: node.weight for node in self.nodes}, self.orders)

    @property
    def contract(self) -> tuple[object, ...]:
        """What all nodes of one epoch agree on, beside seed and orders."""
        heartbeat = (self.interval_ms, self.missed)
        return (self.hash_input, self.buckets, self.mac_mode, self.cluster_mac, *heartbeat)

    @property
    def hashing(self) -> tuple[object, ...]:
        """What makes a bucket of two locks the same packets."""
        return (self.seed, self.hash_input, self.buckets)

    @cached_property
    def ids(self) -> Mapping[IPv4Address, int]:
        """Node ids by address: what a node is called may differ from one lock to another."""
        return {node.address: node.node_id for node in self.nodes}

    def with_orders(self, orders: tuple[Order, ...]) -> Lock:
        """Copy the lock with these orders alone: there is nothing to switch."""
        return replace(self, orders=orders, before=(), switch=0)


def forget_retired(lock: Lock, node_ids: Collection[int]) -> Lock:
    """Drop retired nodes that were stopped on their hardware, or have none any more."""
    return replace(lock, retired=tuple(node for node in lock.retired if node.node_id not in node_ids))


def carried(lock: Lock) -> Lock:
    """What nodes carry of a lock: who is still to be stopped is the operator's business alone."""
    return replace(lock, retired=())
