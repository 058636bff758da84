"""Reading a lock: whatever is wrong with its text is found, with its line, before anything is believed.

It is read line by line: a YAML parser would take most of a build's time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TypeVar, cast, get_args

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.words import MacMode
from trscaler_gen.jhash import HashInput
from trscaler_gen.lock.model import (
    MAX_ANCESTORS,
    MAX_EPOCH,
    MAX_SERIAL,
    Lock,
    LockedNode,
    RetiredNode,
)
from trscaler_gen.lock.text import BEFORE, DIGEST, VERSION, bucket_names, digest
from trscaler_gen.mac import HardwareAddress
from trscaler_gen.placement import MAX_ID, Order

_MAX_BUCKETS = 16384
_MOST_REPORTED = 10
_RESTORE = "restore the lock from version control; it is never edited by hand"
_CONFLICT = re.compile(r"(<{7}|={7}|>{7}|\|{7})( |$)")
_SCALARS = ("version", "digest", "cluster", "epoch", "serial", "ancestors", "seed", "hash-input", "buckets")
_NUMBERS = ("switch", "interval-ms", "missed", "first-vrid", "removals")
_KEYS = re.compile(
    rf"(?:{'|'.join((*_SCALARS, *_NUMBERS))}|mac-mode|cluster-mac|(?:node|retired) \d+"
    rf"|(?:{BEFORE} )?\d{{4,5}})"
)
_FINGERPRINT = re.compile(r"[0-9a-f]{12}")

T = TypeVar("T")


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

    def read_if_there(self, key: str, convert: Callable[[str], T], default: T) -> T:
        """As ``read``, for what older locks do not have."""
        return self.read(key, convert, default) if key in self.found else default

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
        serial=entries.read_if_there("serial", lambda value: _in_range(value, 1, MAX_SERIAL), 1),
        ancestors=entries.read_if_there("ancestors", _ancestors, ()),
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
    ids = frozenset(node.node_id for node in nodes)
    lock = lock.with_orders(_read_orders(entries, buckets, ids))
    report.stop_if_any()
    lock = _with_switch(entries, lock, ids)
    report.stop_if_any()
    _check_digest(report, entries)
    report.stop_if_any()
    return lock


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
    report, found, names = entries.report, entries.found, bucket_names(buckets)
    missing = [name for name in names if name not in found]
    if missing:
        message = f"{len(missing)} of {buckets} buckets have no order, {missing[0]} is the first of them"
        report.add(len(report.lines), message)
    for extra in sorted(key for key in found.keys() - set(names) if key.isdecimal()):
        report.add(found[extra][0], f"there is no bucket {extra}: the lock has {buckets}")
    return tuple(_read_order(report, name, *found[name], ids) for name in names if name in found)


def _with_switch(entries: _Entries, lock: Lock, ids: frozenset[int]) -> Lock:
    """Add the orders until the switch; those of buckets that are not listed are the same."""
    report, found = entries.report, entries.found
    listed = [key for key in found if key.startswith(f"{BEFORE} ")]
    if "switch" not in found:
        for key in listed:
            report.add(found[key][0], f"{key}: the lock knows of no switch")
        return lock
    names = [f"{BEFORE} {name}" for name in bucket_names(lock.buckets)]
    for key in sorted(set(listed) - set(names)):
        report.add(found[key][0], f"there is no bucket {key.split()[1]}: the lock has {lock.buckets}")
    before = tuple(
        _read_order(report, name, *found[name], ids) if name in found else order
        for name, order in zip(names, lock.orders, strict=True)
    )
    switch = entries.read("switch", lambda value: _in_range(value, 1, lock.serial), lock.serial)
    return replace(lock, before=before, switch=switch)


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
    if value != digest(line for line in report.lines if not line.startswith(DIGEST)):
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


def _ancestors(text: str) -> tuple[str, ...]:
    words = tuple(text.split(" "))
    if len(words) > MAX_ANCESTORS or not all(_FINGERPRINT.fullmatch(word) for word in words):
        raise ValueError("not a list of fingerprints")
    return words


def _hash_input(text: str) -> HashInput:
    if text not in get_args(HashInput):
        raise ValueError(text)
    return cast(HashInput, text)


def _mac_mode(text: str) -> MacMode:
    if text not in get_args(MacMode):
        raise ValueError(text)
    return cast(MacMode, text)


def _node(node_id: int, words: list[str]) -> LockedNode:
    name, address, *facts = words
    if facts[::2] not in (["weight"], ["weight", "since"]):  # older locks do not have the second
        raise ValueError("not the facts of a node")
    weight, since = (*facts[1::2], "1")[:2]
    return LockedNode(
        node_id, name, IPv4Address(address), _in_range(weight, 1, 10**6), _in_range(since, 1, MAX_SERIAL)
    )


def _retired_node(node_id: int, words: list[str]) -> RetiredNode:
    name, address = words
    return RetiredNode(node_id, name, IPv4Address(address))
