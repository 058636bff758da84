"""The whole proof: every node's rules, in every state, for every kind of packet; then the cluster's loads.

Pure: what the kernels list is handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trscaler_gen.lock import Lock
from trscaler_gen.nodeplan import NodePlan
from trscaler_gen.proof.heartbeats import Sender, judge_heartbeats
from trscaler_gen.proof.judge import Answers, Cluster, Fault, Judged, judge_state, read_states
from trscaler_gen.proof.loads import Count, count
from trscaler_gen.proof.rules import UnknownRule, read_tables
from trscaler_gen.proof.states import State, states
from trscaler_gen.proof.traffic import Fate, HashContract, make_traffic

#: faults that are told of one node, state and kind of packet; all are counted
_FIRST = 3


@dataclass(frozen=True)
class Movement:
    """Buckets that change their owner from one placement to another, and the fewest that could."""

    what: str
    moved: int
    least: int


@dataclass(frozen=True)
class Proof:
    """What was proven, or what was found against it.

    ``faults`` are the first of each node, state and kind of packet; ``faulty`` counts all.
    """

    cluster: str
    nodes: Mapping[int, str]
    buckets: int
    states: tuple[str, ...]
    kinds: tuple[str, ...]
    rules: int
    heartbeats: int
    count: Count
    movements: tuple[Movement, ...]
    faults: tuple[Fault, ...] = field(repr=False)
    faulty: int

    @property
    def is_proven(self) -> bool:
        """Whether no fault was found."""
        return not self.faulty


@dataclass(frozen=True)
class NodeVerdict:
    """What was found of one node: its first faults, how many there are, and its answers in each state.

    ``answers`` are those to the first kind of packet, by the state's label.
    """

    faults: tuple[Fault, ...]
    faulty: int
    answers: Mapping[str, Answers]


#: applies a function to each of several nodes, in any manner, and returns the results in order
Each = Callable[[Callable[[Judged], NodeVerdict], Sequence[Judged]], Iterable[NodeVerdict]]


def prove(
    plans: Sequence[NodePlan],
    lock: Lock,
    listings: Mapping[str, Any],
    *,
    lock_before: Lock | None = None,
    each: Each = map,
    tell: Callable[[str], None] = lambda what: None,
) -> Proof:
    """Judge what kernels listed of the nodes' rulesets, by node; raises UnknownRule with the node's name."""
    first = plans[0]
    judged = {plan.node_id: _judged(plan, listings[plan.node]) for plan in plans}
    cluster = _cluster(plans, lock)
    found = states(
        preserves=first.preserves,
        has_peers=len(plans) > 1,
        has_switch=bool(lock.before),
        has_calm=_has_calm(judged),
    )
    verdicts: dict[int, NodeVerdict] = {}
    results = each(partial(judge_node, cluster, found), tuple(judged.values()))
    for one, verdict in zip(judged.values(), results, strict=True):
        tell(f"{one.node} is judged")
        verdicts[one.node_id] = verdict
    tell("follows heartbeats")
    senders = {
        plan.node_id: Sender(judged[plan.node_id], plan.address, plan.vrid, plan.leases.peer_ms / 1000)
        for plan in plans
    }
    heard = judge_heartbeats(cluster, senders)
    tell("counts loads")
    weights = {node.node_id: node.weight for node in lock.nodes}
    used = next(state for state in reversed(found) if _is_plain(state))
    counted = count(_in_state(verdicts, used), weights, lock.buckets)
    own = [fault for verdict in verdicts.values() for fault in verdict.faults]
    return Proof(
        cluster=first.cluster,
        nodes=cluster.names,
        buckets=lock.buckets,
        states=tuple(state.label for state in found),
        kinds=tuple(kind.label for kind in cluster.traffic.kinds),
        rules=_rules(judged.values()),
        heartbeats=heard.heartbeats,
        count=counted,
        movements=tuple(_movements(verdicts, found, lock, lock_before)),
        faults=(*own, *heard.faults, *_doubts(counted, cluster, used)),
        faulty=sum(verdict.faulty for verdict in verdicts.values()) + len(heard.faults) + counted.doubted,
    )


def judge_node(cluster: Cluster, found: Sequence[State], judged: Judged) -> NodeVerdict:
    """Judge one node in every state; raises UnknownRule with its name."""
    faults: list[Fault] = []
    answers: dict[str, Answers] = {}
    kept: Counter[tuple[str, str]] = Counter()
    try:
        readings = tuple(read_states(judged, cluster, found))
    except UnknownRule as error:
        raise UnknownRule(f"{judged.node}: {error}") from None
    for state, reading in zip(found, readings, strict=True):
        answers[state.label] = reading.answers[_first_new(cluster)]
        for fault in judge_state(judged, cluster, state, reading):
            kept[fault.state, fault.packets] += 1
            if kept[fault.state, fault.packets] <= _FIRST:
                faults.append(fault)
    return NodeVerdict(tuple(faults), kept.total(), answers)


def _has_calm(judged: Mapping[int, Judged]) -> bool:
    """Whether any node's rules know a state in which everybody is settled."""
    return any("calm" in table.sets for one in judged.values() for table in one.tables)


def _in_state(verdicts: Mapping[int, NodeVerdict], state: State) -> dict[int, Answers]:
    return {node_id: verdict.answers[state.label] for node_id, verdict in verdicts.items()}


def _first_new(cluster: Cluster) -> int:
    return next(number for number, kind in enumerate(cluster.traffic.kinds) if kind.fate is Fate.ONE)


def _is_plain(state: State) -> bool:
    """Whether nothing but who is alive decides in a state."""
    return state.is_switched and state.label.startswith("settled")


def _judged(plan: NodePlan, listing: Any) -> Judged:
    try:
        tables = read_tables(listing)
    except UnknownRule as error:
        raise UnknownRule(f"{plan.node}: {error}") from None
    return Judged(plan.node, plan.node_id, plan.link, plan.device, plan.inner_mac.value, tables)


def _cluster(plans: Sequence[NodePlan], lock: Lock) -> Cluster:
    first = plans[0]
    destinations: dict[int, list[bytes]] = {}
    for address in first.virtual_addresses:
        destinations.setdefault(address.version, []).append(address.packed)
    if any(plan.forwards_to for plan in plans):
        destinations = {4: [], 6: []}  # what is routed goes anywhere
    traffic = make_traffic(
        HashContract(lock.hash_input, lock.seed, lock.buckets),
        destinations,
        first.cluster_mac.value.to_bytes(6, "big"),
        first.inner_mac.value.to_bytes(6, "big"),
    )
    return Cluster({node.node_id: node.name for node in lock.nodes}, lock.orders, lock.before, traffic)


def _rules(judged: Iterable[Judged]) -> int:
    return sum(len(chain.rules) for one in judged for table in one.tables for chain in table.chains.values())


def _doubts(counted: Count, cluster: Cluster, state: State) -> Iterable[Fault]:
    for doubt in counted.doubts:
        who = ", ".join(cluster.names[node_id] for node_id in doubt.owners) or "nobody"
        kind = cluster.traffic.kinds[_first_new(cluster)]
        yield Fault("the cluster", state.label, kind.label, doubt.bucket, doubt.dead, f"is answered by {who}")


# Movement


def _movements(
    verdicts: Mapping[int, NodeVerdict], found: Sequence[State], lock: Lock, before: Lock | None
) -> Iterable[Movement]:
    used = next(state for state in reversed(found) if _is_plain(state))
    now = _all_alive(_in_state(verdicts, used), lock)
    plain = next((state for state in found if not state.is_switched), None)
    if plain is not None:
        yield _movement("the switch of placements", _all_alive(_in_state(verdicts, plain), lock), now)
    elif before is not None and before.hashing == lock.hashing and before.orders != lock.orders:
        was = [order[0] if order else 0 for order in before.orders]
        yield _movement("from the lock as it is written", was, now)


def _all_alive(answers: Mapping[int, Answers], lock: Lock) -> list[int]:
    """Per bucket who answers when everybody is alive, 0 for nobody."""
    owners = [0] * lock.buckets
    for node_id, given in answers.items():
        for bucket in given.bucket[given.no == 0].tolist():
            owners[bucket] = node_id
    return owners


def _movement(what: str, was: Sequence[int], now: Sequence[int]) -> Movement:
    moved = sum(one != other for one, other in zip(was, now, strict=True))
    gains = (now.count(node_id) - was.count(node_id) for node_id in set(now))
    return Movement(what, moved, sum(gain for gain in gains if gain > 0))
