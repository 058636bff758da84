"""What the counts of buckets mean: nodes' shares, what a change moves, who is heavy, which hash is better.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from statistics import median

import numpy as np

from trscaler_gen.inventory.model import Inventory
from trscaler_gen.jhash import HashInput, jhash
from trscaler_gen.lock import Lock
from trscaler_gen.simulate.blocks import ReadLog
from trscaler_gen.simulate.result import (
    MEASURES,
    Alternative,
    Counts,
    HeavyClient,
    NodeShare,
    Scenario,
    Simulation,
)
from trscaler_gen.simulate.tally import HEAVY, Client, Hashing, Load, Tallied
from trscaler_gen.simulate.whatif import State

OTHER_SEEDS = 32
#: an alternative is better when its fullest node has at most so much of what it has now
BETTER = 0.9
#: a client is heavy that is alone more than this part of what an average node carries
HEAVY_PART = 0.25
_MOST_HEAVY = 10

#: the other hash input of the same side
_OTHER_INPUT: Mapping[HashInput, HashInput] = {
    "source-destination": "source",
    "source": "source-destination",
    "destination-source": "destination",
    "destination": "destination-source",
}


def hashings_of(lock: Lock) -> tuple[Hashing, ...]:
    """The cluster's own hash, the other input, and the other seeds; the same ones for the same seed."""
    seeds = [jhash(number.to_bytes(4, "little"), lock.seed) for number in range(OTHER_SEEDS)]
    return (
        Hashing(lock.hash_input, lock.seed, lock.buckets),
        Hashing(_OTHER_INPUT[lock.hash_input], lock.seed, lock.buckets),
        *(Hashing(lock.hash_input, seed, lock.buckets) for seed in seeds),
    )


def judge(
    inventory: Inventory,
    states: Sequence[State],
    tallied: Tallied,
    log: ReadLog,
    traffic: str,
    notes: Iterable[str] = (),
) -> Simulation:
    """Judge what was counted; the first of ``states`` is the cluster as it is."""
    own, now = tallied.loads[0], states[0]
    total = own.total
    return Simulation(
        cluster=inventory.cluster,
        traffic=traffic,
        records=log.records,
        skipped=dict(log.skipped.most_common()),
        problems=tuple(log.problems),
        problem_count=log.problem_count,
        has=log.has,
        families={family: counts for family, counts in tallied.families.items() if counts.flows},
        total=total,
        seconds=log.seconds,
        scenarios=tuple(_scenario(state, now, own) for state in states),
        heavy=_heavy(tallied.clients, now, total),
        alternatives=_alternatives(now, tallied.loads, log.has),
        notes=(*notes, *_notes(tallied, log)),
        per_bucket_worst=_fullest_bucket(own),
    )


def _scenario(state: State, now: State, load: Load) -> Scenario:
    found = np.array(state.owners)
    elsewhere = found != np.array(now.owners)
    living = sum(node.weight for node in state.lock.nodes if node.node_id in state.alive)
    shares = tuple(
        NodeShare(
            name=node.name,
            node_id=node.node_id,
            weight=node.weight,
            expected=node.weight / living if node.node_id in state.alive else 0.0,
            counts=_part(load, found == node.node_id),
            alive=node.node_id in state.alive,
        )
        for node in state.lock.nodes
    )
    return Scenario(state.name, shares, _part(load, elsewhere), _worst(shares, load.total))


def _part(load: Load, buckets: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Counts:
    parts = (load.flows, load.packets, load.octets)
    return Counts(*(int(part[buckets].sum()) for part in parts))


def _worst(shares: Iterable[NodeShare], total: Counts) -> dict[str, float]:
    living = [share for share in shares if share.alive]
    return {
        measure: max(share.counts.of(measure) / whole / share.expected for share in living)
        if (whole := total.of(measure))
        else 0.0
        for measure in MEASURES
    }


def _alternatives(now: State, loads: Sequence[Load], has: frozenset[str]) -> tuple[Alternative, ...]:
    """The other input; then what is usual of other seeds, and the best of them by the last measure told."""
    own, other, *seeded = (_scenario(now, now, load).worst for load in loads)
    leading = next(measure for measure in reversed(MEASURES) if measure in has)
    usual = {measure: median(worst[measure] for worst in seeded) for measure in MEASURES}
    best = min(seeded, key=lambda worst: worst[leading])
    other_input = _OTHER_INPUT[now.lock.hash_input]
    found = {
        f"hash.input: {other_input}": other,
        f"median of {OTHER_SEEDS} other seeds": usual,
        f"best of {OTHER_SEEDS} other seeds": best,
    }
    return tuple(
        Alternative(name, worst, better=worst[leading] < BETTER * own[leading])
        for name, worst in found.items()
    )


def _heavy(clients: Sequence[Client], now: State, total: Counts) -> tuple[HeavyClient, ...]:
    threshold = HEAVY_PART / len(now.alive)
    names = {node.node_id: node.name for node in now.lock.nodes}
    found = []
    for client in clients:
        shares = {measure: _share(client.counts, total, measure) for measure in MEASURES}
        if max(shares["packets"], shares["bytes"], _share_of_flows(client, total)) > threshold:
            ids = sorted({now.owners[bucket] for bucket in client.buckets})
            nodes = tuple(names[node_id] for node_id in ids)
            found.append(HeavyClient(str(ip_address(client.packed)), client.counts, shares, nodes))
    found.sort(key=lambda heavy: (-max(heavy.shares.values()), heavy.address))
    return tuple(found[:_MOST_HEAVY])


def _share(counts: Counts, total: Counts, measure: str) -> float:
    return counts.of(measure) / total.of(measure) if total.of(measure) else 0.0


def _share_of_flows(client: Client, total: Counts) -> float:
    """Where nothing but flows is told, they are what a client can be heavy in."""
    return 0.0 if total.packets or total.bytes else _share(client.counts, total, "flows")


def _fullest_bucket(load: Load) -> dict[str, float]:
    """Measure -> the share of the fullest bucket: less than that no placement can give to its node."""
    parts = dict(zip(MEASURES, (load.flows, load.packets, load.octets), strict=True))
    return {name: float(part.max() / part.sum()) if part.sum() else 0.0 for name, part in parts.items()}


def _notes(tallied: Tallied, log: ReadLog) -> list[str]:
    notes = []
    if log.tagged:
        notes.append(
            f"{log.tagged} packets had a VLAN tag and were counted as without it: if the capture is of "
            "several VLANs, filter it first"
        )
    if not tallied.is_exact:
        notes.append(
            "more pairs of addresses than are kept: packets and bytes are exact, flows are estimated within "
            f"1 %, and heavy clients' shares may be up to {1 / HEAVY:.3%} higher than shown"
        )
    return notes
