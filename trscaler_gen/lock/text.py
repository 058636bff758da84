"""The lock as text: one fact per line and one line per bucket, so that a diff shows what changed.

A digest over all other lines sees to it that neither a hand nor a merge changes it unnoticed. The text is
valid YAML as well, for other people's tools.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from trscaler_gen.lock.model import Lock, carried

VERSION = 1
DIGEST = "digest: "
#: before the number of a bucket: its order until the switch
BEFORE = "before"


def render_lock(lock: Lock) -> str:
    """Write the lock as text; equal locks give equal text."""
    head = _head_lines(lock)
    body = [*_scalar_lines(lock), "", *_node_lines(lock), "", *_order_lines(lock)]
    return "\n".join([*head, DIGEST + digest([*head, *body]), *body]) + "\n"


def fingerprint(lock: Lock) -> str:
    """Name a lock by what nodes carry of it (12 hex digits): its words about itself do not count."""
    facts = carried(lock)
    lines = [*_scalar_lines(facts), *_node_lines(facts), *_order_lines(facts)]
    return hashlib.sha256("\n".join(line for line in lines if line[0] != "#").encode()).hexdigest()[:12]


def _head_lines(lock: Lock) -> list[str]:
    return [
        f"# The lock of cluster {lock.cluster}: what trscaler-gen decided once and keeps at every build.",
        "#",
        "# Commit it with the inventory. If it is lost: trscaler-gen lock recover reads it from the nodes.",
        "# It is a secret: who knows the seed can aim traffic at one node.",
        "# Never edit it. After a merge conflict take one side whole, then build again.",
        "",
        f"version: {VERSION}",
    ]


def _scalar_lines(lock: Lock) -> list[str]:
    return [
        f"cluster: {lock.cluster}",
        f"epoch: {lock.epoch}",
        f"serial: {lock.serial}",
        *_switch_lines(lock),
        *_ancestor_lines(lock),
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


def _switch_lines(lock: Lock) -> list[str]:
    if not lock.switch:
        return []
    return ["# the serial at which nodes that stay last changed places", f"switch: {lock.switch}"]


def _ancestor_lines(lock: Lock) -> list[str]:
    if not lock.ancestors:
        return []
    return ["# the locks before this one, the last one first", f"ancestors: {' '.join(lock.ancestors)}"]


def _node_lines(lock: Lock) -> Iterator[str]:
    for node in lock.nodes:
        yield f"node {node.node_id}: {node.name} {node.address} weight {node.weight} since {node.since}"
    for gone in lock.retired:
        yield f"retired {gone.node_id}: {gone.name} {gone.address}"


def _order_lines(lock: Lock) -> Iterator[str]:
    yield "# bucket: ids of the nodes in order of preference; the first one alive owns the bucket"
    for name, order in zip(bucket_names(lock.buckets), lock.orders, strict=True):
        yield f"{name}: {' '.join(map(str, order))}"
    if lock.switch:
        yield "# before NUMBER: the order of a bucket until the switch, where it is another one"
        for name, order, before in zip(bucket_names(lock.buckets), lock.orders, lock.before, strict=True):
            if before != order:
                yield f"{BEFORE} {name}: {' '.join(map(str, before))}"


def bucket_names(buckets: int) -> list[str]:
    """Name every bucket, all in the same width."""
    width = max(4, len(str(buckets - 1)))
    return [f"{bucket:0{width}}" for bucket in range(buckets)]


def digest(lines: Iterable[str]) -> str:
    """Digest the lines of a lock, the digest's own left out."""
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()
