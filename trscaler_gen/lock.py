"""The lock: what must stay the same from one build to the next.

The inventory says what the cluster is to be; the lock remembers what was decided for it once: node ids, the
hash seed, the cluster's hardware address, and every bucket's order of nodes. ``reconcile`` brings the two
together and changes as little as it can. The epoch guards the contract that all nodes must share to agree on
a packet's owner: what is hashed, whom neighbours send to, and how heartbeats are sent and leases counted. It
goes up when one of these changes, so that nodes of the two sides never take each other for alive.

A node is what its address reaches: another name for the same address is the same node, and another address
under the same name is another node, the old one of which has to be stopped.

As text the lock has one fact per line and one line per bucket, so that a diff shows what changed. A digest
over all other lines sees to it that neither a hand nor a merge changes it unnoticed. The text is valid YAML
as well, for other people's tools; a YAML parser would take most of a build's time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TypeVar, cast, get_args

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.inventory.words import MacMode
from trscaler_gen.jhash import HashInput
from trscaler_gen.mac import HardwareAddress, auto_address
from trscaler_gen.placement import (
    MAX_ID,
    Order,
    Placement,
    add_node,
    movement_violations,
    place,
    remove_node,
    violations,
)

VERSION = 1
MAX_EPOCH = 32767

_MAX_BUCKETS = 16384
_MOST_REPORTED = 10
_RESTORE = "restore the lock from version control; it is never edited by hand"
_DIGEST = "digest: "
_CONFLICT = re.compile(r"(<{7}|={7}|>{7}|\|{7})( |$)")
_SCALARS = ("version", "digest", "cluster", "epoch", "seed", "hash-input", "buckets", "mac-mode")
_NUMBERS = ("interval-ms", "missed", "first-vrid", "removals")
_KEYS = re.compile(rf"(?:{'|'.join((*_SCALARS, *_NUMBERS))}|cluster-mac|(?:node|retired) \d+|\d{{4,5}})")

T = TypeVar("T")


@dataclass(frozen=True)
class LockedNode:
    """A node of the cluster, as it was last built; ``node_id`` is 1..64."""

    node_id: int
    name: str
    address: IPv4Address
    weight: int


@dataclass(frozen=True)
class RetiredNode:
    """A node that left the inventory but was not yet stopped on its hardware; its id stays taken so long."""

    node_id: int
    name: str
    address: IPv4Address


@dataclass(frozen=True)
class Lock:
    """What one cluster keeps; nodes and retired are sorted by id, ``orders`` has one entry per bucket."""

    cluster: str
    epoch: int
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
        """What all nodes of one epoch agree on, beside the seed."""
        heartbeat = (self.interval_ms, self.missed)
        return (self.hash_input, self.buckets, self.mac_mode, self.cluster_mac, *heartbeat)

    def with_orders(self, orders: tuple[Order, ...]) -> Lock:
        """Copy the lock with other orders."""
        return replace(self, orders=orders)


def forget_retired(lock: Lock, node_ids: Collection[int]) -> Lock:
    """Drop retired nodes that were stopped on their hardware, or have none any more."""
    return replace(lock, retired=tuple(node for node in lock.retired if node.node_id not in node_ids))


# Reconciling


def reconcile(inventory: Inventory, lock: Lock | None, *, seed: int) -> Lock:
    """Bring the lock up to the inventory; ``seed`` (32 bits) is used only where there is no lock yet.

    Raises InputError when the lock is another cluster's, or when the inventory asks for what cannot be done
    to a running cluster.
    """
    if lock is None:
        return _checked(inventory, _fresh(inventory, seed))
    if lock.cluster != inventory.cluster:
        raise _refusal(
            inventory,
            "lock-cluster",
            f'the lock is of cluster "{lock.cluster}", the inventory of "{inventory.cluster}"',
            "give each inventory a file name of its own; a cluster that was renamed is a new cluster: move "
            "its lock away",
        )
    _refuse_changed_vrids(inventory, lock)
    kept = _kept_ids(inventory, lock)
    retired = _retired(inventory, lock, kept)
    nodes = _number_nodes(inventory, kept, retired)
    if inventory.hash.buckets == lock.buckets:
        orders, removals = _carry_over(inventory, lock, nodes)
    else:
        orders, removals = _place(inventory, nodes), 0
    changed = replace(lock, nodes=nodes, retired=retired, orders=orders, removals=removals)
    return _checked(inventory, _renew_contract(inventory, lock, changed))


def _fresh(inventory: Inventory, seed: int) -> Lock:
    nodes = _number_nodes(inventory, {}, ())
    return Lock(
        cluster=inventory.cluster,
        epoch=1,
        seed=seed,
        hash_input=inventory.hash.input,
        mac_mode=inventory.mac.mode,
        cluster_mac=_cluster_mac(inventory, None),
        interval_ms=inventory.heartbeat.interval_ms,
        missed=inventory.heartbeat.missed,
        first_vrid=inventory.heartbeat.first_vrid,
        nodes=nodes,
        retired=(),
        removals=0,
        orders=_place(inventory, nodes),
    )


def _cluster_mac(inventory: Inventory, lock: Lock | None) -> HardwareAddress:
    """Resolve the address; ``auto`` keeps what neighbours have learnt already, if the mode allows it."""
    if isinstance(inventory.mac.address, HardwareAddress):
        return inventory.mac.address
    if lock is not None and lock.mac_mode == inventory.mac.mode:
        return lock.cluster_mac
    return auto_address(inventory.mac.mode, inventory.virtual_addresses)


def _kept_ids(inventory: Inventory, lock: Lock) -> dict[str, int]:
    """Name in the inventory -> id in the lock, by address."""
    ids = {node.address: node.node_id for node in lock.nodes}
    return {name: ids[node.address] for name, node in inventory.nodes.items() if node.address in ids}


def _retired(inventory: Inventory, lock: Lock, kept: Mapping[str, int]) -> tuple[RetiredNode, ...]:
    """List who is to be stopped: everybody who was a node at an address that is none any more."""
    ids = frozenset(kept.values())
    gone = [
        RetiredNode(node.node_id, node.name, node.address) for node in lock.nodes if node.node_id not in ids
    ]
    addresses = {node.address for node in inventory.nodes.values()}
    absent = [node for node in (*lock.retired, *gone) if node.address not in addresses]
    return tuple(sorted(absent, key=lambda node: node.node_id))


def _number_nodes(
    inventory: Inventory, kept: Mapping[str, int], retired: tuple[RetiredNode, ...]
) -> tuple[LockedNode, ...]:
    """Give every new node the lowest id that no node and no retired node has."""
    taken = {*kept.values(), *(node.node_id for node in retired)}
    free = (node_id for node_id in range(1, MAX_ID + 1) if node_id not in taken)
    nodes = []
    for name, node in inventory.nodes.items():
        node_id = kept[name] if name in kept else next(free, None)
        if node_id is None:
            message = f"no node id is left for {name}: {len(retired)} retired nodes hold theirs"
            raise _refusal(inventory, "no-free-id", message, "apply first, so that these are stopped")
        nodes.append(LockedNode(node_id, name, node.address, node.weight))
    return tuple(sorted(nodes, key=lambda node: node.node_id))


def _place(inventory: Inventory, nodes: tuple[LockedNode, ...]) -> tuple[Order, ...]:
    try:
        return place({node.node_id: node.weight for node in nodes}, inventory.hash.buckets).orders
    except ValueError as error:
        raise _weight_refusal(inventory, error) from None


def _carry_over(
    inventory: Inventory, lock: Lock, nodes: tuple[LockedNode, ...]
) -> tuple[tuple[Order, ...], int]:
    """Remove who is gone from the orders, then insert who is new."""
    _refuse_changed_weights(inventory, lock, nodes)
    before = placement = lock.placement
    gone = sorted(before.weights.keys() - {node.node_id for node in nodes})
    for node_id in gone:
        placement = remove_node(placement, node_id)
    removals = lock.removals + len(gone) if placement.weights else 0
    for node in nodes:
        if node.node_id not in placement.weights:
            placement = _add(inventory, placement, node)
    moved_wrongly = movement_violations(before, placement)
    if moved_wrongly:
        raise RuntimeError(f"placement moved more than it had to: {moved_wrongly[0]}")
    # Rarely an insertion misses a bound by a fraction of a bucket: that is as uneven as a removal makes it.
    missed = removals == 0 and bool(violations(placement))
    return placement.orders, removals + missed


def _add(inventory: Inventory, placement: Placement, node: LockedNode) -> Placement:
    try:
        return add_node(placement, node.node_id, node.weight)
    except ValueError as error:
        raise _weight_refusal(inventory, error) from None


def _refuse_changed_vrids(inventory: Inventory, lock: Lock) -> None:
    """Nodes of two ranges do not hear each other at all, so no epoch could keep them apart."""
    wanted = inventory.heartbeat.first_vrid
    if wanted != lock.first_vrid:
        message = f"first_vrid changed from {lock.first_vrid} to {wanted}: a cluster that runs cannot follow"
        hint = "take every node down (node.sh down), move the lock away, and apply: the cluster is made anew"
        raise _refusal(inventory, "vrid-changed", message, hint)


def _refuse_changed_weights(inventory: Inventory, lock: Lock, nodes: tuple[LockedNode, ...]) -> None:
    weights = {node.node_id: node.weight for node in lock.nodes}
    problems = [
        _problem(
            inventory,
            "weight-changed",
            f"weight of {node.name} changed from {weights[node.node_id]} to {node.weight}: moving buckets "
            "between living nodes is not supported yet",
            "remove the node from the inventory and apply, then add it with its new weight and apply again",
        )
        for node in nodes
        if weights.get(node.node_id, node.weight) != node.weight
    ]
    if problems:
        raise InputError(problems)


def _renew_contract(inventory: Inventory, before: Lock, changed: Lock) -> Lock:
    """Take the contract from the inventory; another contract is another epoch."""
    renewed = replace(
        changed,
        hash_input=inventory.hash.input,
        mac_mode=inventory.mac.mode,
        cluster_mac=_cluster_mac(inventory, before),
        interval_ms=inventory.heartbeat.interval_ms,
        missed=inventory.heartbeat.missed,
    )
    if renewed.contract == before.contract:
        return renewed
    if before.epoch == MAX_EPOCH:
        message = f"epoch {MAX_EPOCH} is the last: the contract cannot change any more"
        raise _refusal(inventory, "no-epoch-left", message, "take the cluster down and move its lock away")
    return replace(renewed, epoch=before.epoch + 1)


def _checked(inventory: Inventory, lock: Lock) -> Lock:
    """Hold the orders against what placement promises, at every build."""
    broken = violations(lock.placement, lock.removals)
    if broken:
        hint = "restore the lock from version control; if it is as it was committed, please report this"
        shown = broken[:_MOST_REPORTED]
        raise InputError([_problem(inventory, "lock-placement", f"lock: {text}", hint) for text in shown])
    return lock


def _problem(inventory: Inventory, code: str, message: str, hint: str) -> Problem:
    return Problem(inventory.source, 0, 0, code, message, hint)


def _refusal(inventory: Inventory, code: str, message: str, hint: str) -> InputError:
    return InputError([_problem(inventory, code, message, hint)])


def _weight_refusal(inventory: Inventory, error: ValueError) -> InputError:
    hint = "raise its weight, lower the others', or use more buckets (hash: buckets)"
    return _refusal(inventory, "weight-too-small", str(error), hint)


# Writing


def render_lock(lock: Lock) -> str:
    """Write the lock as text; equal locks give equal text."""
    head = _head_lines(lock)
    body = [*_scalar_lines(lock), "", *_node_lines(lock), "", *_order_lines(lock)]
    return "\n".join([*head, _DIGEST + _digest([*head, *body]), *body]) + "\n"


def _head_lines(lock: Lock) -> list[str]:
    return [
        f"# The lock of cluster {lock.cluster}: what trscaler-gen decided once and keeps at every build.",
        "#",
        "# Commit it with the inventory: a cluster whose lock is lost must be taken down and made anew.",
        "# It is a secret: who knows the seed can aim traffic at one node.",
        "# Never edit it. After a merge conflict take one side whole, then build again.",
        "",
        f"version: {VERSION}",
    ]


def _scalar_lines(lock: Lock) -> list[str]:
    return [
        f"cluster: {lock.cluster}",
        f"epoch: {lock.epoch}",
        f"seed: 0x{lock.seed:08x}",
        f"hash-input: {lock.hash_input}",
        f"buckets: {lock.buckets}",
        f"mac-mode: {lock.mac_mode}",
        f"cluster-mac: {lock.cluster_mac}",
        f"interval-ms: {lock.interval_ms}",
        f"missed: {lock.missed}",
        f"first-vrid: {lock.first_vrid}",
        "# nodes removed since the orders were made: each one leaves the shares a little less even",
        f"removals: {lock.removals}",
    ]


def _node_lines(lock: Lock) -> Iterator[str]:
    for node in lock.nodes:
        yield f"node {node.node_id}: {node.name} {node.address} weight {node.weight}"
    for gone in lock.retired:
        yield f"retired {gone.node_id}: {gone.name} {gone.address}"


def _order_lines(lock: Lock) -> Iterator[str]:
    yield "# bucket: ids of the nodes in order of preference; the first one alive owns the bucket"
    for name, order in zip(_bucket_names(lock.buckets), lock.orders, strict=True):
        yield f"{name}: {' '.join(map(str, order))}"


def _bucket_names(buckets: int) -> list[str]:
    width = max(4, len(str(buckets - 1)))
    return [f"{bucket:0{width}}" for bucket in range(buckets)]


def _digest(lines: Iterable[str]) -> str:
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


# Reading


@dataclass(frozen=True)
class _Report:
    """What is wrong with one text."""

    source: str
    lines: list[str]
    problems: list[Problem] = field(default_factory=list)

    def add(self, line: int, message: str, *, code: str = "lock-corrupt", hint: str = _RESTORE) -> None:
        """Note a problem; ``line`` counts from 1."""
        excerpt = self.lines[line - 1][:100] if 0 < line <= len(self.lines) else ""
        if "seed" in excerpt or "0x" in excerpt:
            excerpt = ""  # a secret does not belong into logs, even where its line is spoilt
        self.problems.append(Problem(self.source, line, 1, code, message, hint, excerpt))

    def stop_if_any(self) -> None:
        """End the stage: what follows would only echo what was found; raises InputError."""
        if len(self.problems) > _MOST_REPORTED:
            more = len(self.problems) - _MOST_REPORTED
            del self.problems[_MOST_REPORTED:]
            self.add(0, f"and {more} more lines like these")
        if self.problems:
            raise InputError(self.problems)


@dataclass(frozen=True)
class _Entries:
    """The lines ``key: value`` of one text: key -> line number and value."""

    report: _Report
    found: Mapping[str, tuple[int, str]]

    def read(self, key: str, convert: Callable[[str], T], default: T) -> T:
        """Convert a value; where that fails, report it and go on with ``default``."""
        if key not in self.found:
            self.report.add(len(self.report.lines), f"the line {key} is missing; is the end cut off?")
            return default
        number, value = self.found[key]
        try:
            return convert(value)
        except ValueError:
            self.report.add(number, f"{key} cannot be read")
            return default

    def read_all(self, kind: str, convert: Callable[[int, list[str]], T]) -> tuple[T, ...]:
        """Read the lines ``KIND ID: words``."""
        read: list[T] = []
        for key, (number, value) in self.found.items():
            if key.startswith(f"{kind} "):
                try:
                    read.append(convert(_in_range(key.removeprefix(f"{kind} "), 1, MAX_ID), value.split(" ")))
                except ValueError:
                    self.report.add(number, f"{key} cannot be read")
        return tuple(read)


def parse_lock(text: str, source: str) -> Lock:
    """Read the text of a lock; raises InputError with the problems found, each with its line."""
    report = _Report(source, text.splitlines())
    _refuse_foreign(report)
    report.stop_if_any()
    entries = _Entries(report, _split(report))
    report.stop_if_any()
    nodes, retired = entries.read_all("node", _node), entries.read_all("retired", _retired_node)
    _refuse_doubles(report, nodes, retired)
    buckets = entries.read("buckets", lambda value: _in_range(value, 1, _MAX_BUCKETS), 1)
    lock = Lock(
        cluster=entries.read("cluster", str, ""),
        epoch=entries.read("epoch", lambda value: _in_range(value, 1, MAX_EPOCH), 1),
        seed=entries.read("seed", _seed, 0),
        hash_input=entries.read("hash-input", _hash_input, "source"),
        mac_mode=entries.read("mac-mode", _mac_mode, "multicast"),
        cluster_mac=entries.read("cluster-mac", HardwareAddress.parse, HardwareAddress(0)),
        interval_ms=entries.read("interval-ms", _number, 1),
        missed=entries.read("missed", _number, 1),
        first_vrid=entries.read("first-vrid", _number, 1),
        nodes=nodes,
        retired=retired,
        removals=entries.read("removals", _number, 0),
        orders=(),
    )
    report.stop_if_any()
    orders = _read_orders(entries, buckets, frozenset(node.node_id for node in nodes))
    report.stop_if_any()
    _check_digest(report, entries)
    report.stop_if_any()
    return lock.with_orders(orders)


def _refuse_foreign(report: _Report) -> None:
    """Say it in plain words when the text is no whole lock of this version."""
    conflict = next((n for n, line in enumerate(report.lines, 1) if _CONFLICT.match(line)), None)
    version = next((line for line in report.lines if line.startswith("version: ")), None)
    if not any(line.strip() for line in report.lines):
        report.add(1, "the lock is empty", code="lock-empty")
    elif conflict is not None:
        hint = "take one side whole (git checkout --ours or --theirs), then build again"
        report.add(conflict, "the lock holds a merge conflict", code="lock-conflict", hint=hint)
    elif version is None:
        report.add(1, "this is no lock: it has no version", code="lock-version")
    elif version != f"version: {VERSION}":
        message = f'the lock says "{version}"; this release reads version {VERSION}'
        hint = "use the release of trscaler-gen that made it, or a later one"
        report.add(report.lines.index(version) + 1, message, code="lock-version", hint=hint)


def _split(report: _Report) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(report.lines, 1):
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition(": ")
        if not separator or not _KEYS.fullmatch(key):
            report.add(number, "this line does not belong into a lock")
        elif key in found:
            report.add(number, f"{key} stands in line {found[key][0]} already")
        else:
            found[key] = (number, value)
    return found


def _refuse_doubles(report: _Report, nodes: Collection[LockedNode], retired: Collection[RetiredNode]) -> None:
    if not nodes:
        report.add(len(report.lines), "the lock names no node")
    for what, values in (
        ("id", [*(str(node.node_id) for node in nodes), *(str(node.node_id) for node in retired)]),
        ("name", [node.name for node in nodes]),
        ("address", [str(node.address) for node in nodes]),
    ):
        for value in sorted({value for value in values if values.count(value) > 1}):
            report.add(0, f"two nodes have the {what} {value}")


def _read_orders(entries: _Entries, buckets: int, ids: frozenset[int]) -> tuple[Order, ...]:
    report, found, names = entries.report, entries.found, _bucket_names(buckets)
    missing = [name for name in names if name not in found]
    if missing:
        message = f"{len(missing)} of {buckets} buckets have no order, {missing[0]} is the first of them"
        report.add(len(report.lines), message)
    for extra in sorted(key for key in found.keys() - set(names) if key.isdecimal()):
        report.add(found[extra][0], f"there is no bucket {extra}: the lock has {buckets}")
    return tuple(_read_order(report, name, *found[name], ids) for name in names if name in found)


def _read_order(report: _Report, name: str, number: int, value: str, ids: frozenset[int]) -> Order:
    try:
        order = tuple(map(int, value.split(" ")))
    except ValueError:
        order = ()
    if len(order) != len(ids) or frozenset(order) != ids:
        report.add(number, f"the order of bucket {name} does not name every node once")
    return order


def _check_digest(report: _Report, entries: _Entries) -> None:
    number, value = entries.found.get("digest", (0, ""))
    if value != _digest(line for line in report.lines if not line.startswith(_DIGEST)):
        message = "the lock was changed since it was written: its digest is of another text"
        report.add(number, message, code="lock-digest")


def _in_range(text: str, low: int, high: int) -> int:
    value = int(text)
    if not low <= value <= high:
        raise ValueError(f"{value} is not in {low}..{high}")
    return value


def _number(text: str) -> int:
    return _in_range(text, 0, 10**9)


def _seed(text: str) -> int:
    if not re.fullmatch(r"0x[0-9a-f]{8}", text):
        raise ValueError("not a 32-bit number in hexadecimal digits")
    return int(text, 16)


def _hash_input(text: str) -> HashInput:
    if text not in get_args(HashInput):
        raise ValueError(text)
    return cast(HashInput, text)


def _mac_mode(text: str) -> MacMode:
    if text not in get_args(MacMode):
        raise ValueError(text)
    return cast(MacMode, text)


def _node(node_id: int, words: list[str]) -> LockedNode:
    name, address, keyword, weight = words
    if keyword != "weight":
        raise ValueError(keyword)
    return LockedNode(node_id, name, IPv4Address(address), _in_range(weight, 1, 10**6))


def _retired_node(node_id: int, words: list[str]) -> RetiredNode:
    name, address = words
    return RetiredNode(node_id, name, IPv4Address(address))
