"""Counting by bucket: exact while all pairs are kept, and within its bounds when they are too many."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import IPv4Address

import numpy as np
import pytest

from trscaler_gen.jhash import bucket_of
from trscaler_gen.simulate import tally as tallying
from trscaler_gen.simulate.blocks import Block
from trscaler_gen.simulate.tally import Hashing, Tallied, Tally, grouped

from .captures import VIP4

BUCKETS = 64
HASHINGS = (
    Hashing("source-destination", 7, BUCKETS),
    Hashing("source", 7, BUCKETS),
    Hashing("source", 8, BUCKETS),
)
HEAVY = IPv4Address("203.0.113.9")

Record = tuple[IPv4Address, int, int]


def records(count: int, sources: int) -> list[Record]:
    """Source, packets and bytes: many small clients, and one that has a tenth of the packets."""
    draw = random.Random(count)
    return [
        (
            IPv4Address("198.18.0.0") + draw.randrange(sources) if draw.random() > 0.1 else HEAVY,
            1,
            draw.randrange(1500),
        )
        for _ in range(count)
    ]


def tallied(traffic: list[Record], most_pairs: int = 1 << 20, block: int = 1000) -> Tallied:
    tally = Tally(HASHINGS, most_pairs)
    for start in range(0, len(traffic), block):
        part = traffic[start : start + block]
        data = b"".join(source.packed + VIP4.packed for source, _, _ in part)
        pairs = np.frombuffer(data, "<u4").reshape(-1, 2)
        tally.add(Block(4, pairs, np.array([p for _, p, _ in part]), np.array([o for _, _, o in part])))
    return tally.result()


def by_hand(traffic: list[Record], hashing: Hashing, column: int) -> list[int]:
    counts: Counter[int] = Counter()
    for record in traffic:
        found = bucket_of(
            record[0], VIP4, hash_input=hashing.hash_input, seed=hashing.seed, buckets=hashing.buckets
        )
        counts[found] += record[column]  # type: ignore[operator]
    return [counts[bucket] for bucket in range(BUCKETS)]


@pytest.mark.parametrize("most_pairs", [1 << 20, 300])
def test_packets_and_bytes_are_exact_however_many_pairs_there_are(most_pairs: int) -> None:
    traffic = records(20_000, 2000)
    found = tallied(traffic, most_pairs)
    assert found.is_exact == (most_pairs > 2000)
    for hashing, load in zip(HASHINGS, found.loads, strict=True):
        assert load.packets.tolist() == by_hand(traffic, hashing, 1)
        assert load.octets.tolist() == by_hand(traffic, hashing, 2)


def test_flows_are_exact_while_all_pairs_are_kept() -> None:
    traffic = records(20_000, 2000)
    once = [(source, 1, 1) for source in {source for source, _, _ in traffic}]
    found = tallied(traffic)
    for hashing, load in zip(HASHINGS, found.loads, strict=True):
        assert load.flows.tolist() == by_hand(once, hashing, 1)


def test_flows_are_estimated_from_a_sample_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallying, "SAMPLE_PAIRS", 4096)
    traffic = records(60_000, 1 << 16)
    flows = len({source for source, _, _ in traffic})
    found = tallied(traffic, most_pairs=5000)
    assert not found.is_exact
    assert found.loads[0].total.flows == pytest.approx(flows, rel=0.1)  # five times its standard error
    assert found.families[4] == found.loads[0].total


@pytest.mark.parametrize("most_pairs", [1 << 20, 500])
def test_a_heavy_client_is_found_and_never_exaggerated(
    most_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallying, "HEAVY", 100)
    traffic = records(20_000, 1 << 16)
    found = tallied(traffic, most_pairs)
    (heavy,) = (client for client in found.clients if client.packed == HEAVY.packed)
    true = sum(source == HEAVY for source, _, _ in traffic)
    assert true - len(traffic) / 100 <= heavy.counts.packets <= true
    assert (heavy.counts.packets == true) or not found.is_exact
    assert heavy.buckets == (
        bucket_of(HEAVY, VIP4, hash_input="source-destination", seed=7, buckets=BUCKETS),
    )


def test_counts_beyond_what_floating_point_holds_stay_exact() -> None:
    traffic = [(HEAVY, 1, 2**53), (HEAVY, 1, 1), (IPv4Address("198.51.100.1"), 1, 2**53 - 1)]
    assert tallied(traffic).loads[0].total.bytes == 2**54


def test_two_rows_of_one_print_stay_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had found addresses of the same print."""
    monkeypatch.setattr(tallying, "prints_of", lambda rows: np.zeros(len(rows), np.uint64))
    rows = np.array([[1] * 8, [2] * 8, [1] * 8, [3] * 8], np.uint32)
    found, sums = grouped(rows, np.array([[1], [10], [100], [1000]]))
    assert {int(row[0]): int(total[0]) for row, total in zip(found, sums, strict=True)} == {
        1: 101,
        2: 10,
        3: 1000,
    }
