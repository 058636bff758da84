"""Heartbeats, from one node's rules through another's: who is taken for whom. Pure.

keepalived's advertisement (RFC 9568, 5.2) leaves by the sender's egress rules, which stamp it; what comes out
of them goes into each peer's ingress rules. What counts is which ids these put into their sets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import numpy as np

from trscaler_gen.proof.evaluate import NOTHING, Machine, Members, Surroundings
from trscaler_gen.proof.judge import Cluster, Fault, Judged
from trscaler_gen.proof.lanes import Lanes, Wrote, merge, start
from trscaler_gen.proof.packets import ETHER_BYTES, Bytes, Frames, Layout, frames
from trscaler_gen.proof.regions import ids_of
from trscaler_gen.proof.rules import InSet, Match, SetWrite, Statement, UnknownRule
from trscaler_gen.proof.states import quiet
from trscaler_gen.proof.words import Place

_VRRP = 112
_GROUP_MAC = bytes.fromhex("01005e000012")
_GROUP = IPv4Address("224.0.0.18")
_NETWORK_BYTES = 20


@dataclass(frozen=True)
class Sender:
    """Whose heartbeats these are."""

    judged: Judged
    address: IPv4Address
    vrid: int
    lease_s: float


@dataclass(frozen=True)
class Message:
    """A heartbeat and what it is to do: ids put into sets, or taken out, at the sender and at its peers."""

    label: str
    priority: int
    sets: Mapping[str, str]
    puts: frozenset[str]
    takes: frozenset[str]


#: what heartbeats keep up, and for how many leases at most
_LEASES = {
    "alive": 1,
    "draining": 1,
    "settled": 1,
    "fresh": 1,
    "calm": 1,
    "company": 1,
    "fenced": 1,
    "lately": 2,
}
_OWN, _LINK = "its own id", "the link"
_SERVES = Message("serves", 100, {}, frozenset({"alive"}), frozenset())
_MESSAGES = (
    _SERVES,
    Message("says goodbye", 0, {}, frozenset(), frozenset({"alive", "draining"})),
    Message("drains", 100, {"drained": _OWN}, frozenset({"draining"}), frozenset({"alive"})),
    Message("is fenced", 100, {"fenced": _OWN}, frozenset(), frozenset({"alive", "draining"})),
)
_SWITCHED = Message("has switched", 100, {"switched": _LINK}, frozenset({"alive"}), frozenset())


@dataclass(frozen=True)
class Heard:
    """What was found: how many heartbeats were followed to a peer, and faults."""

    heartbeats: int
    faults: tuple[Fault, ...]


def judge_heartbeats(cluster: Cluster, senders: Mapping[int, Sender]) -> Heard:
    """Follow every kind of heartbeat from every node to every other; raises UnknownRule."""
    messages = (*_MESSAGES, _SWITCHED) if cluster.before else _MESSAGES
    faults: list[Fault] = []
    followed = 0
    for message in messages:
        sent: dict[int, bytes] = {}
        for node_id, sender in senders.items():
            frame, found = _send(cluster, sender, message)
            faults += found
            if frame is not None:
                sent[node_id] = frame
        for sender in senders.values():
            heard = {node_id: frame for node_id, frame in sent.items() if node_id != sender.judged.node_id}
            faults += _hear(cluster, sender.judged, message, heard)
            followed += len(heard)
    faults += _unstamped(cluster, senders)
    for sender in senders.values():
        faults += _looks_around(cluster, sender)
        faults += _too_long(sender)
    return Heard(followed, tuple(faults))


def _send(cluster: Cluster, sender: Sender, message: Message) -> tuple[bytes | None, list[Fault]]:
    """Let a heartbeat leave; what is on the wire, None if nothing is."""
    made = _frames([advertisement(sender.address, sender.vrid, message.priority)])
    machine = _machine(cluster, sender.judged, made, message)
    out = machine.run("egress", start(made, np.arange(1)))
    wrong = "" if out.accepted.count == 1 else "does not leave"
    if not wrong:
        wrong = _wrong(message, _effects(out.accepted)[0], sender.judged.node_id, _closed(sender.judged))
    faults = [_fault(cluster, sender.judged, f"its own heartbeat that it {message.label}", wrong)]
    frame = _edited(made.data, out.accepted)[0].tobytes() if out.accepted.count else None
    return frame, [fault for fault in faults if fault is not None]


def _hear(cluster: Cluster, judged: Judged, message: Message, heard: Mapping[int, bytes]) -> Iterator[Fault]:
    if not heard:
        return
    made = _frames(list(heard.values()))
    machine = _machine(cluster, judged, made, None)
    out = machine.run("ingress", start(made, np.arange(made.count)))
    lanes = merge([out.accepted, *out.dropped])
    effects, closed = _effects(lanes), _closed(judged)
    for row, (node_id, _) in enumerate(heard.items()):
        mine = [effects[lane] for lane in np.flatnonzero(lanes.frame == row)]
        wrong = _wrong(message, mine[0], node_id, closed) if len(mine) == 1 else "goes several ways"
        label = f"a heartbeat of {cluster.names[node_id]} that it {message.label}"
        fault = _fault(cluster, judged, label, wrong)
        if fault is not None:
            yield fault


def _unstamped(cluster: Cluster, senders: Mapping[int, Sender]) -> Iterator[Fault]:
    """A heartbeat that did not pass its sender's rules counts for nothing."""
    for sender in senders.values():
        others = [other for other in senders.values() if other is not sender]
        if not others:
            continue
        made = _frames([advertisement(other.address, other.vrid, 100) for other in others])
        machine = _machine(cluster, sender.judged, made, None)
        out = machine.run("ingress", start(made, np.arange(made.count)))
        for lanes in (out.accepted, *out.dropped):
            for lane, (puts, _) in enumerate(_effects(lanes)):
                if "alive" in puts:
                    other = others[int(lanes.frame[lane])].judged.node
                    label = f"a heartbeat of {other} without a stamp"
                    yield Fault(sender.judged.node, "heartbeats", label, -1, (), "takes it for alive")


def _looks_around(cluster: Cluster, sender: Sender) -> Iterator[Fault]:
    """The short way is open for a heartbeat's time if every peer is fresh, and is not if one is not."""
    judged = sender.judged
    table = judged.table("netdev")
    if table is None or "calm" not in table.sets:
        return
    peers = frozenset(ids_of(cluster.everybody)) - {judged.node_id}
    message = replace(_SERVES, sets=_SWITCHED.sets if cluster.before else {})
    for missing in (None, *sorted(peers)):
        made = _frames([advertisement(sender.address, sender.vrid, message.priority)])
        fresh = {"fresh": Members(peers - {missing})}
        machine = _machine(cluster, judged, made, message, fresh)
        ((puts, _),) = _effects(machine.run("egress", start(made, np.arange(1))).accepted)
        label = "its own heartbeat while " + (
            f"{cluster.names[missing]} is not fresh" if missing else "all are fresh"
        )
        if missing and puts.get("calm"):
            yield Fault(judged.node, "heartbeats", label, -1, (), "opens the short way")
        if not missing and puts.get("calm") != {0}:
            yield Fault(judged.node, "heartbeats", label, -1, (), "does not open the short way")


def _too_long(sender: Sender) -> Iterator[Fault]:
    """What heartbeats write ends by itself, within a lease: to the second, as nft lists no less."""
    for chain, statement in _statements(sender.judged):
        if not isinstance(statement, SetWrite) or statement.set not in _LEASES or statement.op == "delete":
            continue
        longest_s = _LEASES[statement.set] * sender.lease_s
        if statement.timeout_s is None or statement.timeout_s > longest_s:
            lasts = "for good" if statement.timeout_s is None else f"for {statement.timeout_s} s"
            wrong = f"writes @{statement.set} {lasts}, and {longest_s:g} s is right"
            yield Fault(sender.judged.node, "heartbeats", f"chain {chain}", -1, (), wrong)


def _statements(judged: Judged) -> Iterator[tuple[str, Statement]]:
    """All of the node's own table, with the names of their chains."""
    table = judged.table("netdev")
    for chain in table.chains.values() if table else ():
        for rule in chain.rules:
            for statement in rule.statements:
                yield chain.name, statement


def _machine(
    cluster: Cluster,
    judged: Judged,
    made: Frames,
    message: Message | None,
    holds: Mapping[str, Members] | None = None,
) -> Machine:
    table = judged.table("netdev")
    if table is None:
        raise UnknownRule("there is no table of the family netdev")
    everybody = Members(frozenset(ids_of(cluster.everybody)))
    members = {
        **quiet(judged.node_id, judged.link, has_peers=len(cluster.names) > 1),
        "alive": everybody,
        "settled": everybody,
        "reached": NOTHING,
        **(holds or {}),
    }
    words = {_OWN: Members(frozenset([judged.node_id])), _LINK: Members(frozenset([judged.link]))}
    if message is not None:
        members |= {name: words[content] for name, content in message.sets.items()}
    return Machine(table, made, Surroundings([members], cluster.everybody, judged.link))


def _closed(judged: Judged) -> frozenset[str]:
    """What a farewell ends besides the lease, where these rules use it."""
    read = {
        statement.right.name
        for _, statement in _statements(judged)
        if isinstance(statement, Match) and isinstance(statement.right, InSet)
    }
    return frozenset({"settled", "calm"} & read)


Effects = tuple[dict[str, set[int]], dict[str, set[int]]]


def _effects(lanes: Lanes) -> list[Effects]:
    """Per lane, which keys are in which set in the end because of it, and which are not any more."""
    found: list[Effects] = [({}, {}) for _ in range(lanes.count)]
    writes = sorted((key for key in lanes.traces if isinstance(key, Wrote)), key=lambda key: key.turn)
    for key in writes:
        values, wrote = lanes.traces[key]
        for lane in np.flatnonzero(wrote):
            into, out_of = found[lane] if key.present else found[lane][::-1]
            into.setdefault(key.set, set()).add(int(values[lane]))
            out_of.get(key.set, set()).discard(int(values[lane]))
    return found


def _wrong(message: Message, effects: Effects, node_id: int, has_closed: frozenset[str]) -> str:
    """What a heartbeat does that it should not, or the other way round; empty if nothing."""
    puts, takes = effects
    for name in ("alive", "draining"):
        wanted = {node_id} if name in message.puts else set()
        if puts.get(name, set()) != wanted:
            return f"puts {_ids(puts.get(name, set()))} into @{name}, and {_ids(wanted)} is right"
        gone = takes.get(name, set())
        if gone - {node_id} or (name in message.takes and not gone):
            return f"takes {_ids(gone)} out of @{name}, and {_ids({node_id})} is right"
    if "alive" in message.takes and not has_closed <= takes.keys():
        return f"leaves {', '.join(f'@{name}' for name in sorted(has_closed - takes.keys()))} as it was"
    return ""


def _ids(ids: set[int]) -> str:
    return ", ".join(f"id {one}" for one in sorted(ids)) or "nothing"


def _fault(cluster: Cluster, judged: Judged, label: str, wrong: str) -> Fault | None:
    return Fault(judged.node, "heartbeats", label, -1, (), wrong) if wrong else None


# Frames


def advertisement(address: IPv4Address, vrid: int, priority: int) -> bytes:
    """An advertisement as keepalived sends it, with an IP identification of its own."""
    vrrp = struct.pack("!BBBBHHI", 0x31, vrid, priority, 1, 10, 0, 0x7F000001)
    head = struct.pack("!BBHHHBBH", 0x45, 0xC0, _NETWORK_BYTES + len(vrrp), 9, 0, 255, _VRRP, 0)
    ether = _GROUP_MAC + bytes.fromhex("020000000001") + struct.pack("!H", 0x0800)
    return ether + head + address.packed + _GROUP.packed + vrrp


def _frames(found: list[bytes]) -> Frames:
    layout = Layout(ETHER_BYTES, ETHER_BYTES + _NETWORK_BYTES, 0x0800, _VRRP, 8)
    return frames([(layout, np.frombuffer(b"".join(found), np.uint8).reshape(len(found), -1))])


def _edited(data: Bytes, lanes: Lanes) -> Bytes:
    """Frames with all that the rules have set in them."""
    result = data[lanes.frame].copy()
    base = {"ll": 0, "nh": ETHER_BYTES, "th": ETHER_BYTES + _NETWORK_BYTES}
    for place, (values, has) in lanes.traces.items():
        if not isinstance(place, Place):
            continue
        first = base[place.base] + place.offset // 8
        last = base[place.base] + (place.offset + place.bits + 7) // 8
        behind = 8 * (last - base[place.base]) - place.offset - place.bits
        for lane in np.flatnonzero(has):
            old = int.from_bytes(result[lane, first:last].tobytes(), "big")
            kept = old & ~(((1 << place.bits) - 1) << behind)
            new = (kept | int(values[lane]) << behind).to_bytes(last - first, "big")
            result[lane, first:last] = np.frombuffer(new, np.uint8)
    return result
