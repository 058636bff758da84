"""How much each node carries, for every set of dead nodes, counted from what the rules answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from trscaler_gen.proof.judge import Answers
from trscaler_gen.proof.packets import Numbers
from trscaler_gen.proof.regions import ids_of, mask

#: with as many nodes every set of dead ones is counted; with more, up to MOST_DEAD and single survivors
EVERY_SET_UP_TO = 12
MOST_DEAD = 3


@dataclass(frozen=True)
class Load:
    """The worst of all sets with as many dead nodes.

    ``excess``: the fullest node's buckets as a multiple of its share by weight; ``node_id`` is that node, and
    ``dead`` the set. ``moved``: buckets that change their owner when as many die, in the set with the most
    above its ``least``, the dead nodes' own.
    """

    dead_count: int
    sets: int
    excess: float
    node_id: int
    buckets: int
    dead: tuple[int, ...]
    moved: int
    least: int


@dataclass(frozen=True)
class Doubt:
    """A bucket that under one set has not exactly one owner."""

    bucket: int
    dead: tuple[int, ...]
    owners: tuple[int, ...]


@dataclass(frozen=True)
class Count:
    """What was counted: worst loads by number of dead nodes, and the first doubts with how many there are."""

    sets: int
    loads: tuple[Load, ...]
    doubts: tuple[Doubt, ...]
    doubted: int


def count(answers: Mapping[int, Answers], weights: Mapping[int, int], buckets: int) -> Count:
    """Count the owners of every bucket for every set; ``answers`` are those of each node by id."""
    everybody = mask(weights)
    living = _living(tuple(sorted(weights)))
    owners, hits = _owners(answers, living, buckets)
    doubts = np.argwhere(hits != 1)
    first = tuple(
        Doubt(
            int(bucket),
            ids_of(everybody & ~int(living[number])),
            _who(answers, int(bucket), int(living[number])),
        )
        for number, bucket in doubts[:5]
    )
    return Count(len(living), tuple(_loads(owners, living, weights)), first, len(doubts))


def _living(ids: tuple[int, ...]) -> Numbers:
    """The sets to count, as masks of the living, by how many are dead; all alive is the first."""
    sizes = [*range(MOST_DEAD + 1), len(ids) - 1] if len(ids) > EVERY_SET_UP_TO else range(len(ids))
    everybody = mask(ids)
    return np.array(
        [everybody & ~mask(dead) for size in sizes for dead in combinations(ids, size)], np.uint64
    )


def _owners(
    answers: Mapping[int, Answers], living: Numbers, buckets: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    """Per set and bucket the node that answers (the last one, if several), and how many do."""
    owners = np.zeros((len(living), buckets), np.int8)
    hits = np.zeros((len(living), buckets), np.uint8)
    for node_id, given in answers.items():
        # Regions that only few of the sets can be in have many dead nodes: these sets are found first.
        for no in np.unique(given.no):
            sets = np.flatnonzero(living & no == 0)
            if not len(sets):
                continue
            rows = given.no == no
            for yes in np.unique(given.yes[rows]):
                chosen = sets[living[sets] & yes == yes]
                at = np.ix_(chosen, given.bucket[rows & (given.yes == yes)])
                owners[at] = node_id
                hits[at] += 1
    return owners, hits


def _loads(owners: npt.NDArray[np.int8], living: Numbers, weights: Mapping[int, int]) -> list[Load]:
    ids = sorted(weights)
    counts = np.stack([(owners == node_id).sum(axis=1) for node_id in ids], axis=1)
    alive = np.stack([living >> np.uint64(node_id - 1) & np.uint64(1) for node_id in ids], axis=1) != 0
    weight = np.array([weights[node_id] for node_id in ids], np.float64)
    shares = owners.shape[1] * np.where(alive, weight, 0) / (alive * weight).sum(axis=1, keepdims=True)
    excess = np.where(alive, counts / np.where(alive, shares, 1), 0.0)
    moved = (owners != owners[0]).sum(axis=1)
    least = (~alive * counts[0]).sum(axis=1)
    dead = (~alive).sum(axis=1)
    result = []
    for size in np.unique(dead):
        sets = np.flatnonzero(dead == size)
        worst = sets[excess[sets].max(axis=1).argmax()]
        node = int(excess[worst].argmax())
        farthest = sets[(moved - least)[sets].argmax()]
        result.append(
            Load(
                dead_count=int(size),
                sets=len(sets),
                excess=float(excess[worst, node]),
                node_id=ids[node],
                buckets=int(counts[worst, node]),
                dead=tuple(ids[i] for i in np.flatnonzero(~alive[worst])),
                moved=int(moved[farthest]),
                least=int(least[farthest]),
            )
        )
    return result


def _who(answers: Mapping[int, Answers], bucket: int, living: int) -> tuple[int, ...]:
    """Who answers for a bucket when these nodes are alive."""
    found = []
    for node_id, given in answers.items():
        rows = given.bucket == bucket
        yes, no = given.yes[rows], given.no[rows]
        if ((np.uint64(living) & yes == yes) & (np.uint64(living) & no == 0)).any():
            found.append(node_id)
    return tuple(found)
