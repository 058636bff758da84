"""What changes on a node from one second to the next, read from the lines of ``glance.sh``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trscaler_gen.facts import Facts

_BLOCK = re.compile(r"\bset (\w+) \{(.*?)\n\t?\}", re.DOTALL)
_MEMBER = re.compile(r"0x([0-9a-f]{1,8})\b(?: timeout (\w+))?(?: expires (\w+))?")
_PART = re.compile(r"(\d+)(ms|[dhms])")
_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclass(frozen=True)
class Glance:
    """A quick look at a node.

    ``uptime_s`` is the node's own clock, from its boot. ``has_table``: the cluster's table is in its kernel.
    ``counted`` are the packets that each of the table's counters has seen since the rules were loaded.
    ``ages_ms`` tells, by node id, how long ago a node that counts as living was heard, as far as the kernel
    tells; the node itself is among them. ``said`` are the other lines.
    """

    uptime_s: float
    has_table: bool
    counted: Mapping[str, int] = field(default_factory=dict)
    ages_ms: Mapping[int, int] = field(default_factory=dict)
    sets: Mapping[str, frozenset[int]] = field(default_factory=dict)
    has_switched: bool = False
    said: Mapping[str, str] = field(default_factory=dict)


def parse_glance(text: str) -> Glance:
    """Read the lines of ``glance.sh``; raises ValueError if they are not all there."""
    said = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[a-z_]+=", line))
    if "uptime" not in said or "has_table" not in said:
        raise ValueError("the answer is not complete")
    elements = {name: list(_members(block)) for name, block in _BLOCK.findall(text)}
    ages = {
        node_id: age
        for name in ("alive", "draining")
        for node_id, age in elements.get(name, ())
        if age is not None
    }
    return Glance(
        uptime_s=float(said["uptime"]),
        has_table=said["has_table"] == "yes",
        counted={name: int(said[name]) for name in ("accepted", "dropped", "kept") if _is_number(said, name)},
        ages_ms=ages,
        sets={name: frozenset(node_id for node_id, _ in members) for name, members in elements.items()},
        has_switched=any(name == "switched" and '"' in block for name, block in _BLOCK.findall(text)),
        said=said,
    )


def _is_number(said: Mapping[str, str], key: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,20}", said.get(key, "")))


def _members(block: str) -> list[tuple[int, int | None]]:
    """The node ids in a set, each with its age in milliseconds where it has a lease."""
    found = []
    for digits, timeout, expires in _MEMBER.findall(block):
        age = max(0, milliseconds(timeout) - milliseconds(expires)) if timeout and expires else None
        found.append((int(digits, 16), age))
    return found


def milliseconds(text: str) -> int:
    """A time as nft writes it: ``1m2s345ms``."""
    return sum(int(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text))


def sets_to_read(facts: Facts) -> tuple[str, ...]:
    """The sets that a glance at a node with these facts has to tell."""
    return ("alive", "draining", "hosting", "joining", *(("switched",) if facts.placement != "only" else ()))


def refreshed(facts: Facts, glance: Glance) -> Facts:
    """Facts of a while ago with what a glance tells anew; they have to be of the same generation."""
    own = facts.node_id
    alive = glance.sets.get("alive", frozenset())
    deployer, _, since = glance.said.get("holder", "").partition(" ")
    placement = facts.placement
    if placement != "only":
        placement = "after" if glance.has_switched else "before"
    return replace(
        facts,
        heartbeat=glance.said.get("heartbeat", ""),
        keepalived=glance.said.get("keepalived", "stopped"),
        serving=own in alive,
        alive=alive,
        accepted=glance.counted.get("accepted", 0),
        dropped=glance.counted.get("dropped", 0),
        deployer=deployer,
        since=since,
        draining=glance.said.get("draining") == "yes",
        joining=own in glance.sets.get("joining", ()),
        hosting=glance.sets.get("hosting", frozenset()),
        peers_draining=glance.sets.get("draining", frozenset()) - {own},
        placement=placement,
    )


def is_of_another(facts: Facts, glance: Glance) -> bool:
    """Whether another generation runs by now, or none: nothing of the facts is to be taken for true then."""
    said = glance.said
    return (
        said.get("generation", "") != facts.generation
        or said.get("loaded", "") != facts.loaded
        or said.get("serial", "") != (str(facts.serial) if facts.serial else "")
        or said.get("epoch", "") != (str(facts.epoch) if facts.epoch else "")
    )


def is_outdated(facts: Facts, glance: Glance) -> bool:
    """Whether something else has changed that only a whole look explains: its rules, its lease."""
    has_lease = facts.node_id in glance.sets.get("alive", ())
    return glance.has_table != (facts.ruleset != "missing") or has_lease != facts.serving
