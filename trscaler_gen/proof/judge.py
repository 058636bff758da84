"""One node's rules held against what is claimed of it. Pure.

For each state of the cluster and each kind of packet the rules are evaluated for a packet of every bucket,
with the nodes that are alive left open. What comes out (under which sets of living nodes this node answers)
must be what the orders of the lock say: a bucket's owner is the first node of its order that is alive. There
is exactly one for every set with a living node, so nodes that each do what is claimed never share a packet,
and never leave one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trscaler_gen.placement import Order
from trscaler_gen.proof.evaluate import NOTHING, Machine, Members, Memory, Surroundings
from trscaler_gen.proof.lanes import Lanes, in_order, merge, start
from trscaler_gen.proof.packets import Flags, Indices, Numbers
from trscaler_gen.proof.regions import (
    Regions,
    everywhere,
    ids_of,
    is_in,
    mask,
    outside,
)
from trscaler_gen.proof.rules import Table, UnknownRule
from trscaler_gen.proof.states import Claim, Claims, Orders, State
from trscaler_gen.proof.traffic import Fate, Kind, Traffic
from trscaler_gen.proof.words import Place

_DADDR = Place("ll", 0, 48)
#: what the sets of the host's table hold when a packet is the first of its kind
_HOST_SETS = {"unanswered": NOTHING}


@dataclass(frozen=True)
class Judged:
    """A node whose rules are judged."""

    node: str
    node_id: int
    link: str
    device: str
    inner_mac: int
    tables: tuple[Table, ...] = field(repr=False)
    memory: Mapping[str, Memory] = field(
        default_factory=lambda: {"netdev": Memory(), "inet": Memory()}, repr=False, compare=False
    )

    def table(self, family: str) -> Table | None:
        """The node's table of a family; raises UnknownRule if there are two."""
        found = [table for table in self.tables if table.family == family]
        if len(found) > 1:
            raise UnknownRule(f"{len(found)} tables of the family {family}")
        return found[0] if found else None


@dataclass(frozen=True)
class Cluster:
    """What all nodes have in common: ``names`` are the nodes' by id."""

    names: Mapping[int, str]
    orders: tuple[Order, ...] = field(repr=False)
    before: tuple[Order, ...] = field(repr=False)
    traffic: Traffic = field(repr=False)

    @cached_property
    def everybody(self) -> int:
        """A bit for each node."""
        return mask(self.names)

    def orders_in(self, state: State) -> Orders:
        """The orders by which nodes go in a state."""
        return Orders(self.orders if state.is_switched else self.before, self.before)


@dataclass(frozen=True)
class Fault:
    """Where a node's rules do something else than what is claimed.

    ``bucket`` is -1 where it is not about one; ``dead`` are the ids of the nodes that are not alive.
    """

    node: str
    state: str
    packets: str
    bucket: int
    dead: tuple[int, ...]
    what: str


@dataclass(frozen=True)
class Answers:
    """When a node lets packets of one kind through: for each row a bucket, and a region."""

    bucket: Indices
    yes: Numbers
    no: Numbers


@dataclass(frozen=True)
class Reading:
    """What a node's rules do in a state: answers by kind, and packets that pass as they came."""

    answers: tuple[Answers, ...]
    untouched: tuple[Answers, ...]


def read_states(judged: Judged, cluster: Cluster, states: Sequence[State]) -> Iterator[Reading]:
    """Evaluate a node's rules, and yield what they do in each of these states; raises UnknownRule."""
    netdev = judged.table("netdev")
    if netdev is None:
        raise UnknownRule("there is no table of the family netdev")
    machine = Machine(netdev, cluster.traffic.frames, _surroundings(judged, cluster, states, netdev))
    accepted = machine.run("ingress", _packets(judged, cluster, states)).accepted
    frame, lane = machine.groups.spread(accepted)
    # Frames are numbered by kind, then by bucket.
    order = in_order(frame, cluster.traffic.frames.count)
    frame, lane = frame[order], lane[order]
    # What was not changed has the address that it came with, whichever packet stands for it.
    came_with = cluster.traffic.frames.bits(_DADDR)[0][frame]
    daddr = _daddr(machine, accepted)[lane]
    daddr = np.where(daddr == 0, came_with, daddr)
    inside = daddr == np.uint64(judged.inner_mac)
    untouched = (daddr == came_with) & ~inside
    inside &= _passes_host(judged, cluster, accepted.mark, (frame, lane), inside)
    rows = (frame, accepted.yes[lane], accepted.no[lane])
    states_of = accepted.states[lane]
    for number in range(len(states)):
        here = states_of & np.uint64(1 << number) != 0
        yield Reading(
            _by_kind(cluster.traffic, rows, here & inside), _by_kind(cluster.traffic, rows, here & untouched)
        )


def _packets(judged: Judged, cluster: Cluster, states: Sequence[State]) -> Lanes:
    """Every packet, in all states with the nodes alive that these are judged for."""
    frames = cluster.traffic.frames
    together: dict[int | None, int] = {}
    for number, state in enumerate(states):
        living = state.living(judged.node_id, cluster.everybody)
        together[living] = together.get(living, 0) | 1 << number
    found = []
    for living, numbers in together.items():
        lanes = start(frames, np.arange(frames.count), numbers)
        # Connections are not known yet where frames come in (nft refuses ct there).
        lanes = replace(lanes, state=np.zeros(lanes.count, np.uint64))
        if living is not None:
            yes = np.full(lanes.count, living, np.uint64)
            lanes = replace(lanes, yes=yes, no=np.uint64(cluster.everybody) & ~yes)
        found.append(lanes)
    return merge(found)


def _surroundings(judged: Judged, cluster: Cluster, states: Sequence[State], table: Table) -> Surroundings:
    loaded = {
        name: Members(frozenset(key for key in found.elements if not isinstance(key, tuple)))
        for name, found in table.sets.items()
        if not found.is_constant
    }
    has_peers = len(cluster.names) > 1
    members = [state.members(judged.node_id, judged.link, loaded, has_peers=has_peers) for state in states]
    return Surroundings(members, cluster.everybody, judged.link)


def _daddr(machine: Machine, lanes: Lanes) -> Numbers:
    """The address that a frame goes on to; 0 where the rules have not set it."""
    values, has = lanes.traces.get(_DADDR, (np.zeros(lanes.count, np.uint64), np.zeros(lanes.count, bool)))
    return np.where(has, values, np.uint64(0))


def _passes_host(
    judged: Judged, cluster: Cluster, marks: Numbers, packets: tuple[Indices, Indices], asked: Flags
) -> Flags:
    """Whether packets pass the host's own table as well; that one does not ask who is alive.

    ``marks`` are those of lanes, ``packets`` frames with their lanes, a row each.
    """
    frame, lane = packets
    table = judged.table("inet")
    if table is None:
        return np.ones(len(frame), bool)
    frames = cluster.traffic.frames
    machine = Machine(table, frames, Surroundings([_HOST_SETS], cluster.everybody, judged.device))
    machine.memory = judged.memory["inet"]
    passes = np.zeros(len(frame), bool)
    values, numbers = np.unique(marks, return_inverse=True)
    number_of = numbers.reshape(-1).astype(np.int32)[lane]
    for number, value in enumerate(values):
        rows = np.flatnonzero(asked & (number_of == number))
        is_there = np.zeros(frames.count, bool)
        is_there[frame[rows]] = True
        if not is_there.any():
            continue
        lanes = start(frames, np.flatnonzero(is_there))
        lanes = replace(lanes, mark=np.full(lanes.count, value, np.uint64))
        accepted, _ = machine.groups.spread(machine.run("prerouting", lanes).accepted)
        is_there[:] = False
        is_there[accepted] = True
        passes[rows] = is_there[frame[rows]]
    return passes


def _by_kind(traffic: Traffic, rows: tuple[Indices, Numbers, Numbers], chosen: Flags) -> tuple[Answers, ...]:
    """The answers to each kind of packet, of rows that are in the frames' order."""
    frame, yes, no = rows[0][chosen], rows[1][chosen], rows[2][chosen]
    ends = np.searchsorted(frame, np.arange(len(traffic.kinds) + 1) * traffic.buckets)
    return tuple(
        Answers(frame[first:last] - kind * traffic.buckets, yes[first:last], no[first:last])
        for kind, (first, last) in enumerate(pairwise(ends.tolist()))
    )


# Claims


def judge_state(judged: Judged, cluster: Cluster, state: State, reading: Reading) -> Iterator[Fault]:
    """Yield what a node's rules do against the claims, for every kind of packet and every bucket."""
    orders = cluster.orders_in(state)
    claims = state.claims(orders, judged.node_id)
    all_of_them = everywhere(len(cluster.orders))
    always, never = Claim((all_of_them,), (all_of_them,)), Claim((), ())
    right: set[tuple[object, ...]] = set()
    for number, kind in enumerate(cluster.traffic.kinds):
        court = _Court(judged, cluster, state, kind, right)
        answers, untouched = reading.answers[number], reading.untouched[number]
        if kind.fate is Fate.NOBODY_OF_US:
            yield from court.judge(always, untouched, "leaves alone", "does not leave alone")
            continue
        claim = always if kind.fate is Fate.EVERY else _claim(claims, kind)
        yield from court.judge(claim, answers, "answers", "does not answer")
        yield from court.judge(never, untouched, "lets through as they came", "")


def _claim(claims: Claims, kind: Kind) -> Claim:
    if kind.fate is Fate.ONE:
        return claims.new
    return claims.known if kind.known else claims.unknown


@dataclass(frozen=True)
class _Court:
    """One node, state and kind of packet.

    ``right``: claims with answers to other kinds of packets, in the same state, that have no fault.
    """

    judged: Judged
    cluster: Cluster
    state: State
    kind: Kind
    right: set[tuple[object, ...]] = field(repr=False)

    def judge(self, claim: Claim, answers: Answers, does: str, does_not: str) -> Iterator[Fault]:
        """Yield a fault for each bucket with one; none is looked for where rules say what is claimed."""
        case = (id(claim), *(column.tobytes() for column in (answers.bucket, answers.yes, answers.no)))
        if case in self.right:
            return
        faults = list(self._faults(claim, answers, does, does_not))
        if not faults:
            self.right.add(case)
        yield from faults

    def _faults(self, claim: Claim, answers: Answers, does: str, does_not: str) -> Iterator[Fault]:
        only = self.state.living(self.judged.node_id, self._everybody)
        if only is not None:
            claim = claim.at(only, self._everybody)
        allowed = _contained(answers, claim.allowed)
        for row in np.flatnonzero(~allowed):
            bucket = int(answers.bucket[row])
            region = int(answers.yes[row]), int(answers.no[row])
            living = outside(region, [regions[bucket] for regions in claim.allowed], self._everybody)
            if living is not None:
                yield self._fault(bucket, living, does)
        for regions in claim.required:
            for bucket in np.flatnonzero(~_covered(answers, regions)).tolist():
                rows = slice(*np.searchsorted(answers.bucket, [bucket, bucket + 1]))
                found = list(zip(answers.yes[rows].tolist(), answers.no[rows].tolist(), strict=True))
                living = outside(regions[bucket], found, self._everybody)
                if living is not None:
                    yield self._fault(bucket, living, does_not)

    @property
    def _everybody(self) -> int:
        return self.cluster.everybody

    def _fault(self, bucket: int, living: int, what: str) -> Fault:
        dead = ids_of(self._everybody & ~living)
        owner = self._owner(bucket, living)
        if self.kind.fate in (Fate.ONE, Fate.CONNECTION):
            what += f"; its owner is {owner}" if owner else "; nobody is alive"
        return Fault(self.judged.node, self.state.label, self.kind.label, bucket, dead, what)

    def _owner(self, bucket: int, living: int) -> str:
        """Who owns a bucket by the lock."""
        orders = self.cluster.orders_in(self.state).used
        found = next((node for node in orders[bucket] if is_in(living, (mask([node]), 0))), None)
        if found is None:
            return ""
        return "itself" if found == self.judged.node_id else self.cluster.names[found]


def _contained(answers: Answers, allowed: Sequence[Regions]) -> Flags:
    """Which answers are given only within one of the regions; the others have to be looked at."""
    result: Flags = (answers.yes & answers.no) != 0
    for regions in allowed:
        yes, no = regions.yes[answers.bucket], regions.no[answers.bucket]
        result |= ((answers.yes & yes) == yes) & ((answers.no & no) == no)
    return result


def _covered(answers: Answers, regions: Regions) -> Flags:
    """The buckets in which answers cover the whole region; the others have to be looked at.

    A packet goes one way at a time, so no two answers of a node have a set in common, and their sizes add up:
    each node that a region says something about halves it. 32 nodes leave these sums exact.
    """
    yes, no = regions.yes[answers.bucket], regions.no[answers.bucket]
    inside = ((answers.yes & yes) == yes) & ((answers.no & no) == no) & ((answers.yes & answers.no) == 0)
    size = 2.0 ** (_count(yes | no) - _count(answers.yes | answers.no))
    sums = np.bincount(answers.bucket, np.where(inside, size, 0.0), minlength=len(regions.yes))
    covered: Flags = regions.is_empty | (sums == 1.0)
    return covered


def _count(masks: Numbers) -> npt.NDArray[np.float64]:
    """How many bits are set."""
    octets = np.ascontiguousarray(masks).view(np.uint8).reshape(-1, 8)
    found: npt.NDArray[np.float64] = np.unpackbits(octets, axis=1).sum(axis=1).astype(np.float64)
    return found
