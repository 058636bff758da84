"""What no single value shows: things that contradict each other.

The checks read the plain values of the file, not the model: they also find what they can in a file whose
other parts are wrong, and pass over what does not read as the thing they compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from trscaler_gen.errors import Problem
from trscaler_gen.inventory.document import Document, KeyPath
from trscaler_gen.inventory.model import MAX_NODES, MAX_VIRTUAL_ADDRESSES
from trscaler_gen.inventory.text import quoted
from trscaler_gen.inventory.words import (
    HOST,
    Address,
    attempt,
    mac_trouble,
    read_mac,
    read_node_address,
    read_virtual_address,
)
from trscaler_gen.mac import HardwareAddress


def cross_problems(document: Document) -> Iterator[Problem]:
    """Find every contradiction of the file."""
    for check in (_counts, _node_names, _node_addresses, _virtual_addresses, _mac, _links, _ssh_targets):
        yield from check(document)


def _mapping(document: Document, *path: str) -> dict[str, object]:
    """The mapping at a path, or an empty one."""
    value = document.value
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _line(document: Document, path: KeyPath) -> int:
    return document.value_mark(path).line


def _counts(document: Document) -> Iterator[Problem]:
    top, nodes = _mapping(document), _mapping(document, "nodes")
    if top.get("nodes") == {}:
        mark, hint = document.value_mark(("nodes",)), f"list 1 to {MAX_NODES} of them"
        yield document.problem(mark, "no-nodes", "the cluster has no nodes", hint)
    if len(nodes) > MAX_NODES:
        mark = document.key_mark(("nodes", list(nodes)[MAX_NODES]))
        message = f"{len(nodes)} nodes; a cluster has {MAX_NODES} at most"
        yield document.problem(mark, "too-many-nodes", message, "make two clusters")
    shared = top.get("virtual_addresses")
    if isinstance(shared, list) and len(shared) > MAX_VIRTUAL_ADDRESSES:
        mark = document.value_mark(("virtual_addresses", MAX_VIRTUAL_ADDRESSES))
        message = f"{len(shared)} virtual addresses; {MAX_VIRTUAL_ADDRESSES} is the limit"
        yield document.problem(mark, "too-many", message)


def _node_names(document: Document) -> Iterator[Problem]:
    """Host names know no case (RFC 1123), and nodes are hosts."""
    seen: dict[str, str] = {}
    for name in _mapping(document, "nodes"):
        first = seen.setdefault(name.lower(), name)
        if first != name:
            message = f"node names {quoted(first)} and {quoted(name)} differ in case only"
            yield document.problem(document.key_mark(("nodes", name)), "duplicate-node", message)


def _addresses_of_nodes(document: Document) -> Iterator[tuple[str, IPv4Address]]:
    nodes = _mapping(document, "nodes")
    for name in nodes:
        address = attempt(read_node_address, _mapping(document, "nodes", name).get("address"))
        if address is not None:
            yield name, address


def _node_addresses(document: Document) -> Iterator[Problem]:
    seen: dict[Address, str] = {}
    for name, address in _addresses_of_nodes(document):
        first = seen.setdefault(address, name)
        if first != name:
            line = _line(document, ("nodes", first, "address"))
            message = f"{address} is already the address of node {quoted(first)} (line {line})"
            mark = document.value_mark(("nodes", name, "address"))
            yield document.problem(mark, "duplicate-address", message, "each node needs its own address")


def _virtual_addresses(document: Document) -> Iterator[Problem]:
    shared = _mapping(document).get("virtual_addresses")
    owners: dict[Address, str] = {
        address: name for name, address in reversed(list(_addresses_of_nodes(document)))
    }
    seen: dict[Address, int] = {}
    for index, value in enumerate(shared if isinstance(shared, list) else []):
        address = attempt(read_virtual_address, value)
        if address is None:
            continue
        mark = document.value_mark(("virtual_addresses", index))
        if seen.setdefault(address, index) != index:
            yield document.problem(
                mark, "duplicate-address", f"virtual address {address} is here twice", "keep one"
            )
        elif address in owners:
            owner = owners[address]
            line = _line(document, ("nodes", owner, "address"))
            message = f"virtual address {address} is also the address of node {quoted(owner)} (line {line})"
            hint = "a virtual address belongs to all nodes; give the node another"
            yield document.problem(mark, "address-conflict", message, hint)


_MAC_HINTS = {
    "multicast": "write auto, or a locally administered group address like 03:00:5e:00:01:01",
    "stealth": "write auto, or a locally administered unicast address like 02:00:5e:00:01:01",
    "unicast": "write auto, or a locally administered unicast address like 02:00:5e:00:01:01",
}


def _mac(document: Document) -> Iterator[Problem]:
    mac = _mapping(document, "mac")
    mode = mac.get("mode", "multicast")
    address = attempt(read_mac, mac.get("address"))
    if not isinstance(mode, str) or mode not in _MAC_HINTS or not isinstance(address, HardwareAddress):
        return
    if trouble := mac_trouble(mode, address):
        yield document.problem(document.value_mark(("mac", "address")), "mac-mode", trouble, _MAC_HINTS[mode])


def _links(document: Document) -> Iterator[Problem]:
    """What comes in by a link cannot be forwarded to itself by another node's answer."""
    top = _mapping(document)
    for path in ((), *(("nodes", name) for name in _mapping(document, "nodes"))):
        own = _mapping(document, *path)
        other = own.get("forwards_to") or (top.get("forwards_to") if "link" in own else None)
        if isinstance(other, str) and other == (own.get("link") or top.get("link")):
            mark = document.value_mark((*path, "forwards_to" if "forwards_to" in own else "link"))
            message = f"{quoted(other)} is both link and forwards_to"
            yield document.problem(mark, "same-link", message, "forwards_to is the node's other link")


def _ssh_targets(document: Document) -> Iterator[Problem]:
    """Two nodes behind one host and port would be one machine that gets both bundles."""
    seen: dict[tuple[str | None, str], str] = {}
    for name in _mapping(document, "nodes"):
        path, target = _ssh_target(document, name)
        first = seen.setdefault(target, name) if target[0] else name
        if first != name:
            message = f"ssh reaches node {quoted(name)} at the same host and port as node {quoted(first)}"
            hint = "give each node a host or port of its own"
            yield document.problem(document.value_mark(path), "duplicate-host", message, hint)
        if first != name and path == ("ssh", "host"):
            return  # one place, said once


def _ssh_target(document: Document, name: str) -> tuple[KeyPath, tuple[str | None, str]]:
    """Where a node's ssh host is written, and host and port; no host where the address is the host."""
    own, cluster = _mapping(document, "nodes", name, "ssh"), _mapping(document, "ssh")
    path: KeyPath = ("nodes", name, "ssh", "host") if own.get("host") else ("ssh", "host")
    host = own.get("host") or cluster.get("host")
    readable = attempt(HOST.check, host) if isinstance(host, str) else None
    return path, (readable, str(own.get("port") or cluster.get("port")))
