"""What others use to spread keys over nodes, written from their papers, to compare with.

Each says for every bucket which of the nodes has it; nodes are numbers, and a key is a bucket's number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

Owners = npt.NDArray[np.int64]
Scheme = Callable[[Sequence[int], int], Owners]

_U64 = (1 << 64) - 1


def rendezvous(nodes: Sequence[int], buckets: int) -> Owners:
    """The highest weight: Thaler, Ravishankar, "Using name-based mappings to increase hit rates", 1998."""
    keys = np.arange(buckets, dtype=np.uint64)[:, None]
    names = np.array(nodes, dtype=np.uint64)[None, :]
    weights = _mix(keys + _mix(names))
    found: Owners = np.array(nodes)[weights.argmax(axis=1)]
    return found


def maglev(nodes: Sequence[int], buckets: int) -> Owners:
    """Population of the lookup table: Eisenbud and others, "Maglev" (NSDI 2016), 3.4; ``buckets``: prime."""
    turns = sorted(nodes)
    hashes = _mix(np.arange(2 * (max(nodes) + 1), dtype=np.uint64)).tolist()
    places = [hashes[2 * node] % buckets for node in turns]
    skips = [hashes[2 * node + 1] % (buckets - 1) + 1 for node in turns]
    table = [-1] * buckets
    for entry in range(buckets):
        turn = entry % len(turns)
        while table[places[turn]] >= 0:
            places[turn] = (places[turn] + skips[turn]) % buckets
        table[places[turn]] = turns[turn]
    return np.array(table)


def jump(nodes: Sequence[int], buckets: int) -> Owners:
    """Jump consistent hash: Lamping, Veach, "A fast, minimal memory, consistent hash algorithm" (2014).

    It knows slots, not nodes: ``nodes`` are in the order of the slots.
    """
    keys = _mix(np.arange(buckets, dtype=np.uint64)).tolist()
    return np.array(nodes)[_slots(tuple(keys), len(nodes))]


@cache
def _slots(keys: tuple[int, ...], slots: int) -> Owners:
    return np.array([_slot(key, slots) for key in keys])


def _slot(key: int, slots: int) -> int:
    slot, after = -1, 0
    while after < slots:
        slot = after
        key = (key * 2862933555777941757 + 1) & _U64
        after = int((slot + 1) * (float(1 << 31) / float((key >> 33) + 1)))
    return slot


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A 64-bit mixer: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
