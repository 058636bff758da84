"""Sets of sets: under which sets of living nodes something happens. Pure.

A region has a bit mask of the nodes that must be alive (``yes``) and one of those that must not be (``no``);
about all others it says nothing. Where a mask has a bit in both, no set is in the region.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trscaler_gen.placement import Order
from trscaler_gen.proof.packets import Flags, Numbers


@dataclass(frozen=True)
class Regions:
    """A region for each bucket."""

    yes: Numbers
    no: Numbers

    def __getitem__(self, bucket: int) -> tuple[int, int]:
        return int(self.yes[bucket]), int(self.no[bucket])

    @property
    def is_empty(self) -> Flags:
        """The buckets for which no set is in the region."""
        result: Flags = (self.yes & self.no) != 0
        return result

    def without(self, empty: Flags) -> Regions:
        """The same regions, but for some buckets none at all."""
        every = np.uint64(0xFFFFFFFFFFFFFFFF)
        return Regions(np.where(empty, every, self.yes), np.where(empty, every, self.no))

    def at(self, living: int, everybody: int) -> Regions:
        """Nothing but this one set, where the regions have it."""
        return Regions(self.yes | np.uint64(living), self.no | np.uint64(everybody & ~living))

    def within_dead(self, also_dead: Numbers) -> Regions:
        """The parts of the regions in which these nodes are dead as well."""
        return Regions(self.yes, self.no | also_dead)


def bit(node_id: int) -> int:
    """The bit of a node."""
    return 1 << (node_id - 1)


def mask(node_ids: Iterable[int]) -> int:
    """The bits of several nodes."""
    return sum(bit(node_id) for node_id in set(node_ids))


def ids_of(bits: int) -> tuple[int, ...]:
    """The nodes whose bits are set."""
    return tuple(number + 1 for number in range(bits.bit_length()) if bits >> number & 1)


def owned(orders: tuple[Order, ...], node_id: int) -> Regions:
    """Where a node is the first of each bucket's order that is alive."""
    node_ids, ahead = _ahead(orders)
    return Regions(np.full(len(orders), bit(node_id), np.uint64), ahead[node_ids == node_id])


@lru_cache(maxsize=2)
def _ahead(orders: tuple[Order, ...]) -> tuple[Numbers, Numbers]:
    """The nodes of each bucket's order, a row a bucket; and for each the bits of those before it."""
    node_ids = np.array(orders, np.uint64)
    bits = np.uint64(1) << (node_ids - np.uint64(1))
    return node_ids, np.cumsum(bits, axis=1) - bits


def nobody_up_to(orders: tuple[Order, ...], node_id: int) -> Regions:
    """Where neither a node is alive nor any before it in each bucket's order."""
    regions = owned(orders, node_id)
    return Regions(np.zeros(len(orders), np.uint64), regions.no | regions.yes)


def alive(buckets: int, node_id: int) -> Regions:
    """Wherever a node is alive."""
    return Regions(np.full(buckets, bit(node_id), np.uint64), np.zeros(buckets, np.uint64))


def everywhere(buckets: int) -> Regions:
    """Whoever is alive."""
    return Regions(np.zeros(buckets, np.uint64), np.zeros(buckets, np.uint64))


def is_in(living: int, region: tuple[int, int]) -> bool:
    """Whether a set of living nodes is in a region."""
    yes, no = region
    return living & yes == yes and living & no == 0


def outside(region: tuple[int, int], others: Sequence[tuple[int, int]], everybody: int) -> int | None:
    """Find a set that is in a region and in none of others, with few dead nodes; None if there is none."""
    yes, no = region
    if yes & no:
        return None
    touching = [other for other in others if not (other[0] | yes) & (other[1] | no)]
    if not touching:
        return everybody & ~no
    other_yes, other_no = touching[0]
    for number in ids_of(other_no & ~yes & ~no):
        found = outside((yes | bit(number), no), touching, everybody)
        if found is not None:
            return found
        no |= bit(number)
    for number in ids_of(other_yes & ~yes & ~no):
        found = outside((yes, no | bit(number)), touching, everybody)
        if found is not None:
            return found
        yes |= bit(number)
    return None
