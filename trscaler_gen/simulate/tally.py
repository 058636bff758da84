"""Counting of packets by bucket, for several hashes at once, in memory that has a bound.

Packets are first gathered by their pair of addresses, up to MOST_PAIRS pairs of a family. As long as those
are all, everything is exact. When there are more, the table is emptied: its packets and octets are added to
their buckets under every hash, which stays exact, and

- flows are counted from a uniform sample of the pairs (distinct sampling: Gibbons, VLDB 2001), so their
  number is an estimate: with SAMPLE_PAIRS / 2 or more of them in the sample, right within about 0.3 %;
- the heaviest clients are kept in Misra-Gries summaries of HEAVY entries each (Agarwal et al., "Mergeable
  Summaries", PODS 2012): what is said of them may be too low by at most 1 / HEAVY of all traffic.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trscaler_gen.jhash import HashInput
from trscaler_gen.simulate.blocks import Block, Numbers
from trscaler_gen.simulate.hashing import PAIR_WORDS, Words, buckets_of
from trscaler_gen.simulate.result import Counts

MOST_PAIRS = 1 << 20
SAMPLE_PAIRS = 1 << 19
HEAVY = 1 << 16

#: rows that wait before they are worth a merge
_MERGE = 1 << 16
_CHUNK = 1 << 14
#: clients that are looked at for each measure
_TOP = 20
_PACKETS, _OCTETS = 0, 1

Prints = NDArray[np.uint64]


@dataclass(frozen=True)
class Hashing:
    """One way to place packets."""

    hash_input: HashInput
    seed: int
    buckets: int

    def of(self, pairs: Words) -> NDArray[np.intp]:
        """The buckets of pairs."""
        return buckets_of(pairs, hash_input=self.hash_input, seed=self.seed, buckets=self.buckets)


@dataclass(frozen=True)
class Load:
    """What each bucket has got."""

    flows: Numbers
    packets: Numbers
    octets: Numbers

    def __add__(self, other: Load) -> Load:
        return Load(self.flows + other.flows, self.packets + other.packets, self.octets + other.octets)

    @property
    def total(self) -> Counts:
        """All buckets together."""
        return Counts(int(self.flows.sum()), int(self.packets.sum()), int(self.octets.sum()))


@dataclass(frozen=True)
class Client:
    """One of the busiest clients: its address as octets, and the buckets of its traffic."""

    packed: bytes
    counts: Counts
    buckets: tuple[int, ...]


@dataclass(frozen=True)
class Tallied:
    """What was counted: a load for each hashing; by family; the busiest clients.

    ``is_exact``: no table was too small.
    """

    loads: tuple[Load, ...]
    families: dict[int, Counts]
    clients: tuple[Client, ...]
    is_exact: bool


class Tally:
    """Counts under several hashings; the first one is the cluster's own, and says what a client is."""

    def __init__(self, hashings: Sequence[Hashing], most_pairs: int = MOST_PAIRS) -> None:
        self._families = {family: _Family(family, hashings, most_pairs) for family in PAIR_WORDS}

    def add(self, block: Block) -> None:
        """Count a block of packets."""
        self._families[block.family].add(block)

    def result(self) -> Tallied:
        """Everything so far; nothing can be added after it."""
        families = {number: family.finish() for number, family in self._families.items()}
        loads = tuple(sum(parts[1:], parts[0]) for parts in zip(*families.values(), strict=True))
        return Tallied(
            loads=loads,
            families={number: found[0].total for number, found in families.items()},
            clients=tuple(client for family in self._families.values() for client in family.clients()),
            is_exact=all(family.is_exact for family in self._families.values()),
        )


class _Family:
    """The tally of one family."""

    def __init__(self, family: int, hashings: Sequence[Hashing], most_pairs: int) -> None:
        self._words = PAIR_WORDS[family]
        self._hashings = hashings
        self._most_pairs = most_pairs
        self._table = _Table(self._words)
        self._sample = _Sample(self._words)
        shape = (len(hashings), 2, hashings[0].buckets)
        self._sums = np.zeros(shape, np.int64)
        half = self._words // 2
        first = hashings[0].hash_input.split("-")[0]
        self._client = slice(0, half) if first == "source" else slice(half, self._words)
        self._heavy_clients = [_Heaviest(half, measure) for measure in (_PACKETS, _OCTETS)]
        self._heavy_pairs = [_Heaviest(self._words, measure) for measure in (_PACKETS, _OCTETS)]
        self.is_exact = True

    def add(self, block: Block) -> None:
        for start in range(0, len(block), self._most_pairs):
            part = slice(start, start + self._most_pairs)
            amounts = np.stack([block.packets[part], block.octets[part]], axis=1)
            self._table.add(*grouped(block.pairs[part], amounts))
            if self._table.size > self._most_pairs:
                self._table.merge()
            if self._table.size > self._most_pairs:
                self.is_exact = False
                self._empty(SAMPLE_PAIRS, HEAVY)

    def _empty(self, sample: int | None, heavy: int | None) -> None:
        pairs, amounts = self._table.take()
        weights = [
            (measure, part, bits)
            for measure in (_PACKETS, _OCTETS)
            for part, bits in _exact(amounts[:, measure])
        ]
        for start in range(0, len(pairs), _CHUNK):  # one that all hashings find in the cache
            chunk = slice(start, start + _CHUNK)
            for sums, hashing in zip(self._sums, self._hashings, strict=True):
                found = hashing.of(pairs[chunk])
                for measure, part, bits in weights:
                    counted = np.bincount(found, part[chunk], hashing.buckets)
                    sums[measure] += counted.astype(np.int64) << bits
        self._sample.add(pairs, sample)
        clients = grouped(pairs[:, self._client], amounts)
        for summary in self._heavy_clients:
            summary.add(*clients, heavy)
        for summary in self._heavy_pairs:
            summary.add(pairs, amounts, heavy)

    def finish(self) -> list[Load]:
        """Per hashing, the load of each bucket."""
        self._empty(*((None, None) if self.is_exact else (SAMPLE_PAIRS, HEAVY)))
        return [
            Load(self._sample.counted(hashing), sums[_PACKETS], sums[_OCTETS])
            for sums, hashing in zip(self._sums, self._hashings, strict=True)
        ]

    def clients(self) -> list[Client]:
        """The busiest, by packets and by octets."""
        busiest = np.concatenate([summary.top(_TOP) for summary in self._heavy_clients])
        addresses = np.unique(busiest, axis=0)
        return [self._client_of(address) for address in addresses]

    def _client_of(self, address: Words) -> Client:
        packets, octets = (summary.weight_of(address) for summary in self._heavy_clients)
        flows = self._sample.count_of(self._client, address)
        found: set[int] = set()
        for summary in self._heavy_pairs:
            mine = (summary.rows[:, self._client] == address).all(axis=1)
            found |= set(self._hashings[0].of(summary.rows[mine]).tolist())
        return Client(address.tobytes(), Counts(flows, packets, octets), tuple(sorted(found)))


def _exact(amounts: Numbers) -> list[tuple[NDArray[np.float64], int]]:
    """Numbers, and by how many bits to shift their sums: sums in floating point are exact below 2 ** 53."""
    if amounts.sum(dtype=np.float64) < 2**52:
        return [(amounts.astype(np.float64), 0)]
    low, high = amounts & 0xFFFFFFFF, amounts >> 32
    return [(low.astype(np.float64), 0), (high.astype(np.float64), 32)]


# --- rows that are the same --------------------------------------------------------------------------


def grouped(rows: Words, amounts: Numbers) -> tuple[Words, Numbers]:
    """Every row once, with the sum of its amounts."""
    if not len(rows):
        return rows, amounts
    rows = np.ascontiguousarray(rows)
    keys = rows.view("u8").ravel() if rows.shape[1] == 2 else prints_of(rows)
    order = np.argsort(keys)
    rows, keys = rows[order], keys[order]
    differs = keys[1:] != keys[:-1]
    if rows.shape[1] > 2 and (differs != (rows[1:] != rows[:-1]).any(axis=1)).any():  # two rows of one print
        again = np.lexsort(rows.T)
        rows, order = rows[again], order[again]
        differs = (rows[1:] != rows[:-1]).any(axis=1)
    firsts = np.flatnonzero(np.concatenate([[True], differs]))
    return rows[firsts], np.add.reduceat(amounts[order], firsts, axis=0)


def prints_of(rows: Words) -> Prints:
    """64 bits of each row that have nothing to do with its bucket (finalizer of splitmix64, word by word)."""
    found = np.zeros(len(rows), np.uint64)
    for column in range(rows.shape[1]):
        found += rows[:, column]
        found += np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            found ^= found >> np.uint64(shift)
            found *= np.uint64(factor)
        found ^= found >> np.uint64(31)
    return found


class _Table:
    """Pairs with their packets and octets; what comes in waits until a merge is worth its time."""

    def __init__(self, words: int) -> None:
        self._empty = (np.zeros((0, words), np.uint32), np.zeros((0, 2), np.int64))
        self._parts = [self._empty]
        self._waiting = 0

    @property
    def size(self) -> int:
        """How many pairs there are at most."""
        return len(self._parts[0][0]) + self._waiting

    def add(self, rows: Words, amounts: Numbers) -> None:
        """Take pairs in; each is there once."""
        self._parts.append((rows, amounts))
        self._waiting += len(rows)
        if self._waiting > max(_MERGE, len(self._parts[0][0])):
            self.merge()

    def merge(self) -> None:
        """Have every pair once: then ``size`` is exact."""
        rows, amounts = zip(*self._parts, strict=True)
        self._parts = [grouped(np.concatenate(rows), np.concatenate(amounts))]
        self._waiting = 0

    def take(self) -> tuple[Words, Numbers]:
        """All pairs, once each; none is left."""
        self.merge()
        taken = self._parts[0]
        self._parts = [self._empty]
        return taken


class _Sample:
    """Distinct pairs: all of them, or those whose prints end with ``level`` zeros."""

    def __init__(self, words: int) -> None:
        self._rows = np.zeros((0, words), np.uint32)
        self._level = 0

    def add(self, pairs: Words, most: int | None) -> None:
        rows = np.concatenate([self._rows, self._sampled(pairs)])
        self._rows, _ = grouped(rows, np.zeros((len(rows), 1), np.int64))
        while most is not None and len(self._rows) > most:
            self._level += 1
            self._rows = self._sampled(self._rows)

    def _sampled(self, rows: Words) -> Words:
        if not self._level:
            return rows
        stays: Words = rows[(prints_of(rows) & np.uint64((1 << self._level) - 1)) == 0]
        return stays

    def counted(self, hashing: Hashing) -> Numbers:
        """How many pairs each bucket has."""
        counts = np.bincount(hashing.of(self._rows), minlength=hashing.buckets)
        return counts.astype(np.int64) << self._level

    def count_of(self, part: slice, address: Words) -> int:
        """How many pairs one client has."""
        return int((self._rows[:, part] == address).all(axis=1).sum()) << self._level


class _Heaviest:
    """A Misra-Gries summary of rows by one measure."""

    def __init__(self, words: int, measure: int) -> None:
        self.rows = np.zeros((0, words), np.uint32)
        self._weights = np.zeros((0, 1), np.int64)
        self._measure = measure

    def add(self, rows: Words, amounts: Numbers, most: int | None) -> None:
        """Take rows in; with ``most`` no more of them stay."""
        weights = amounts[:, self._measure, None]
        self.rows, self._weights = grouped(
            np.concatenate([self.rows, rows]), np.concatenate([self._weights, weights])
        )
        if most is not None and len(self.rows) > most:
            cut = np.partition(self._weights[:, 0], -most - 1)[-most - 1]
            stays = self._weights[:, 0] > cut
            self.rows, self._weights = self.rows[stays], self._weights[stays] - cut

    def top(self, count: int) -> Words:
        """The heaviest rows."""
        order = np.argsort(-self._weights[:, 0], kind="stable")
        return self.rows[order[:count]]

    def weight_of(self, row: Words) -> int:
        """The weight of a row; 0 if it is not among the heaviest."""
        return int(self._weights[(self.rows == row).all(axis=1), 0].sum())
