"""Placement: for each bucket, all nodes in order of preference; the first one alive owns the bucket.

There is one primitive, the insertion of a node into orders that exist. It never swaps two other nodes, so
a bucket can only move *to* the new node; a fresh placement is a series of insertions. Removing a node deletes
it from each order, so only its own buckets move. What is free is the place at which a bucket's order takes
the new node in, and it is chosen so that

- first places follow the weights within one bucket: the new node takes first place from each owner by what
  that one has above its new share;
- the buckets of any one failed node spread over the others by weight within two buckets: second place is
  taken in the same way from each pair (first, second);
- deeper places follow the weights by systematic sampling over the buckets in the order of the *set* of nodes
  before that place, because it is the set of the failed that decides who is asked next.

Removals are not free to choose anything, so evenness erodes with each of them: see ``erosion``.
Everything here is deterministic: same calls, same orders, on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

Order = tuple[int, ...]

#: The highest node id.
MAX_ID = 64


@dataclass(frozen=True)
class Placement:
    """Node id -> weight, and per bucket a permutation of the ids."""

    weights: Mapping[int, int]
    orders: tuple[Order, ...]

    @property
    def buckets(self) -> int:
        """How many orders there are."""
        return len(self.orders)


def place(weights: Mapping[int, int], buckets: int) -> Placement:
    """Make fresh orders; raises ValueError when a weight is worth less than one bucket."""
    require_a_bucket_each(weights, buckets)
    return Placement(dict(weights), _fresh_orders(tuple(sorted(weights.items())), buckets))


@lru_cache(maxsize=16)
def _fresh_orders(weights_by_id: tuple[tuple[int, int], ...], buckets: int) -> tuple[Order, ...]:
    """Many clusters that are built in a row have the same nodes and weights, and so the same orders."""
    weights = dict(weights_by_id)
    # Inserted by id, about one in a thousand mixes of very light and heavy nodes misses a bound by a tenth of
    # a bucket; another order of insertion then keeps it.
    for sequence in (
        list(weights),
        sorted(weights, key=lambda node: -weights[node]),
        sorted(weights, key=lambda node: weights[node]),
    ):
        placement = Placement({}, ((),) * buckets)
        for node_id in sequence:
            placement = _insert(placement, node_id, weights[node_id])
        if not violations(placement):
            break
    return placement.orders


def add_node(placement: Placement, node_id: int, weight: int) -> Placement:
    """Insert a node; raises ValueError when it, or another one now, is worth less than one bucket."""
    if node_id in placement.weights:
        raise ValueError(f"node {node_id} is placed already")
    added = _insert(placement, node_id, weight)
    require_a_bucket_each(added.weights, added.buckets)
    return added


def remove_node(placement: Placement, node_id: int) -> Placement:
    """Delete a node from every order; the others keep theirs."""
    if node_id not in placement.weights:
        raise ValueError(f"node {node_id} is not placed")
    weights = {each: weight for each, weight in placement.weights.items() if each != node_id}
    orders = tuple(tuple(each for each in order if each != node_id) for order in placement.orders)
    return Placement(weights, orders)


def owners(placement: Placement, alive: Collection[int]) -> tuple[int | None, ...]:
    """Per bucket, the first node of its order that is alive; None when no one is."""
    living = frozenset(alive)
    return tuple(next((node for node in order if node in living), None) for order in placement.orders)


def moved(before: Placement, after: Placement) -> tuple[int, ...]:
    """List the buckets whose first choice is another one; both have as many buckets."""
    pairs = zip(before.orders, after.orders, strict=True)
    return tuple(bucket for bucket, (old, new) in enumerate(pairs) if old[:1] != new[:1])


# What must hold


#: By how many buckets the first places of a node, and its part of a failed node's buckets, may be off.
FIRST_TOLERANCE = 1
SPREAD_TOLERANCE = 2

_MOST_EROSION = 8


def erosion(removals: int, share: float) -> float:
    """Say by how many buckets more a share may be off after ``removals``.

    What is below a removed node moves up, and deep places follow the weights only as well as systematic
    sampling does. Random orders would be off by about the root of the share, so that is the unit: one for
    each removal, 8 at most. Trials (1-32 nodes, 40 changes each) needed 0.6 after one and 4.1 at worst.
    """
    return float(min(removals, _MOST_EROSION) * (share + 1) ** 0.5)


def violations(placement: Placement, removals: int = 0) -> list[str]:
    """List what is wrong with a placement that has seen ``removals`` since it was made; empty when sound."""
    broken = list(_broken_orders(placement))
    if broken or not placement.weights:
        return broken
    return [
        *_uneven_firsts(placement, removals, placement.weights.keys()),
        *_uneven_spreads(placement, removals),
    ]


def movement_violations(before: Placement, after: Placement) -> list[str]:
    """List what a change of membership moved and should not have; empty when sound.

    A new node takes exactly its share and a removed one loses its own; no one else gains a bucket from a
    node that stays, and no two nodes that stay change places.
    """
    if before.buckets != after.buckets:
        return [f"{before.buckets} buckets became {after.buckets}"]
    staying = before.weights.keys() & after.weights.keys()
    changed = sorted(node for node in staying if before.weights[node] != after.weights[node])
    return [
        *(f"the weight of node {node} changed" for node in changed),
        *_swapped(before, after, staying),
        *_uneven_firsts(after, 0, after.weights.keys() - staying),
    ]


def _broken_orders(placement: Placement) -> Iterator[str]:
    ids = placement.weights.keys()
    for bucket, order in enumerate(placement.orders):
        if len(order) != len(ids) or set(order) != ids:
            yield f"order of bucket {bucket} does not name every node once"


def _uneven_firsts(placement: Placement, removals: int, nodes: Collection[int]) -> Iterator[str]:
    counts = Counter(order[0] for order in placement.orders)
    total = sum(placement.weights.values())
    for node in sorted(nodes):
        share = placement.buckets * placement.weights[node] / total
        if abs(counts[node] - share) > FIRST_TOLERANCE + erosion(removals, share):
            yield f"node {node} is first in {counts[node]} buckets, its share is {share:.2f}"


def _uneven_spreads(placement: Placement, removals: int) -> Iterator[str]:
    weights = placement.weights
    total = sum(weights.values())
    firsts = Counter(order[0] for order in placement.orders)
    seconds = Counter(order[:2] for order in placement.orders)
    for failed, node in permutations(sorted(weights), 2):
        share = firsts[failed] * weights[node] / (total - weights[failed])
        inherited = seconds[failed, node]
        if abs(inherited - share) > SPREAD_TOLERANCE + erosion(removals, share):
            yield f"node {node} would inherit {inherited} buckets of node {failed}, its share is {share:.2f}"


def _swapped(before: Placement, after: Placement, staying: Collection[int]) -> Iterator[str]:
    for bucket, (old, new) in enumerate(zip(before.orders, after.orders, strict=True)):
        if [node for node in old if node in staying] != [node for node in new if node in staying]:
            yield f"nodes that stay changed places in the order of bucket {bucket}"


def require_a_bucket_each(weights: Mapping[int, int], buckets: int) -> None:
    total = sum(weights.values())
    for node, weight in sorted(weights.items()):
        if buckets * weight < total:
            raise ValueError(
                f"node {node} would get no bucket: its weight is {weight} of {total}, "
                f"less than one of {buckets} buckets"
            )


# Insertion


def _insert(placement: Placement, node_id: int, weight: int) -> Placement:
    """Take a node into every order, at the place that keeps all shares."""
    if weight < 1 or not 1 <= node_id <= MAX_ID:
        raise ValueError(f"node {node_id} with weight {weight} cannot be placed")
    places = _choose_places(placement, weight)
    orders = tuple(
        (*order[:at], node_id, *order[at:]) for order, at in zip(placement.orders, places, strict=True)
    )
    return Placement({**placement.weights, node_id: weight}, orders)


def _choose_places(placement: Placement, weight: int) -> list[int]:
    """Per bucket, how many nodes stay ahead of the new one."""
    if not placement.weights:
        return [0] * placement.buckets
    if len(placement.weights) == 1:
        return _share_with_only_node(placement, weight)
    places = _choose_first_and_second(placement, weight)
    places.update(deeper_places(placement, weight, places))
    return [places[bucket] for bucket in range(placement.buckets)]


def _share_with_only_node(placement: Placement, weight: int) -> list[int]:
    total = weight + sum(placement.weights.values())
    firsts = frozenset(evenly(range(placement.buckets), _rounded(placement.buckets * weight, total)))
    return [0 if bucket in firsts else 1 for bucket in range(placement.buckets)]


def _choose_first_and_second(placement: Placement, weight: int) -> dict[int, int]:
    """Choose the buckets whose order the new node leads (0) or follows as second (1)."""
    weights = placement.weights
    total = sum(weights.values()) + weight
    firsts = _first_places_taken(placement, weight)
    places: dict[int, int] = {}
    carried = 0.0  # what the rounding of second places took from the new node in the rows before
    for first, row in sorted(_buckets_by_pair(placement).items()):
        share = _Share(sum(map(len, row.values())) - firsts[first], weight, total - weights[first])
        taken = _take_best(_turn(row, first), weights, share, firsts[first], carried)
        chosen = [bucket for second in row for bucket in evenly(row[second], taken[second])]
        carried += share.exact - (len(chosen) - firsts[first])
        leading = frozenset(evenly(chosen, firsts[first]))
        places.update((bucket, 0 if bucket in leading else 1) for bucket in chosen)
    return places


def _buckets_by_pair(placement: Placement) -> dict[int, dict[int, list[int]]]:
    """First node -> second node -> buckets, these in the order of what follows."""
    ids = sorted(placement.weights)
    rows: dict[int, dict[int, list[int]]] = {
        first: {second: [] for second in ids if second != first} for first in ids
    }
    for bucket in sorted(range(placement.buckets), key=placement.orders.__getitem__):
        first, second = placement.orders[bucket][:2]
        rows[first][second].append(bucket)
    return rows


def _first_places_taken(placement: Placement, weight: int) -> dict[int, int]:
    """Per node, how many first places it gives to the new one."""
    counts = Counter(order[0] for order in placement.orders)
    share = _Share(placement.buckets, weight, sum(placement.weights.values()) + weight)
    return _take_best({node: counts[node] for node in sorted(placement.weights)}, placement.weights, share)


def _turn(row: Mapping[int, Sequence[int]], first: int) -> dict[int, int]:
    """Count a row's buckets, beginning elsewhere in each row: of equal surpluses the first is taken."""
    turned = sorted(row, key=lambda second: (second - first) % (MAX_ID + 1))
    return {second: len(row[second]) for second in turned}


@dataclass(frozen=True)
class _Share:
    """The new node's share of some buckets: its weight of a total that includes it."""

    buckets: int
    weight: int
    total: int

    @property
    def exact(self) -> float:
        """As a number of buckets."""
        return self.buckets * self.weight / self.total

    @property
    def roundings(self) -> tuple[int, ...]:
        """Whole numbers of buckets less than one away."""
        floor, rest = divmod(self.buckets * self.weight, self.total)
        return (floor, floor + 1) if rest else (floor,)

    def error(self, count: int, weight: int) -> int:
        """How far a count is from the share of a weight, in units of one bucket / ``total``."""
        return count * self.total - self.buckets * weight

    def outlook(self, count: int, weight: int) -> int:
        """How far off it would be, half a bucket more at most, half way to another node like the new one."""
        drift = self.buckets * weight * self.weight // (2 * (self.total + self.weight))
        return self.error(count, weight) + min(drift, self.total // 2)


def _take_best(
    counts: Mapping[int, int],
    weights: Mapping[int, int],
    share: _Share,
    extra: int = 0,
    carried: float = 0.0,
) -> dict[int, int]:
    """Take the new node's share and ``extra``, rounded in the way that leaves the least squared error.

    Rounding to the nearest would be wrong: of many nodes with a share of 2.4 each would get 2, and the few
    heavy ones would keep all the rest. What counts is the outlook: with the next node the shares shrink,
    and those of heavy nodes the most. Where both ways are as good, ``carried`` decides.
    """
    best: tuple[int, float] | None = None
    result: dict[int, int] = {}
    for own in share.roundings:
        taken = _take(counts, weights, share, own + extra)
        outlooks = [share.outlook(counts[n] - taken[n], weights[n]) for n in counts]
        cost = sum(error * error for error in (*outlooks, share.outlook(own, share.weight)))
        rank = (cost, abs(carried + share.exact - own))
        if best is None or rank < best:
            best, result = rank, taken
    return result


def _take(counts: Mapping[int, int], weights: Mapping[int, int], share: _Share, quota: int) -> dict[int, int]:
    """Take ``quota`` in all from ``counts``, so that what is left follows the weights, and what is taken too.

    What is left is off by less than one wherever counts allow it, and matters eight times as much as what is
    taken. All arithmetic is in integers.
    """
    old = sum(weights[n] for n in counts)
    unit = 9 * share.total * old
    wish = {
        n: 8 * old * share.error(counts[n], weights[n]) + quota * weights[n] * share.total for n in counts
    }
    low = {n: max(0, share.error(counts[n], weights[n]) // share.total) for n in counts}
    high = {n: max(0, -(-share.error(counts[n], weights[n]) // share.total)) for n in counts}
    taken = {n: min(max(wish[n] // unit, low[n]), high[n]) for n in counts}
    missing = quota - sum(taken.values())
    for _ in range(missing):
        free = [n for n in counts if taken[n] < high[n]] or [n for n in counts if taken[n] < counts[n]]
        taken[max(free, key=lambda n: wish[n] - unit * taken[n])] += 1
    for _ in range(-missing):
        free = [n for n in counts if taken[n] > low[n]] or [n for n in counts if taken[n] > 0]
        taken[min(free, key=lambda n: wish[n] - unit * taken[n])] -= 1
    return taken


def deeper_places(placement: Placement, weight: int, chosen: Collection[int]) -> dict[int, int]:
    """Choose a place from the third on for the buckets not in ``chosen``, by systematic sampling.

    A bucket's chance at a place is the new node's weight among the weights not yet placed before it.
    """
    weights, orders = placement.weights, placement.orders
    total = sum(weights.values()) + weight
    waiting = [bucket for bucket in range(len(orders)) if bucket not in chosen]
    ahead = [sum(1 << node for node in order[:2]) for order in orders]
    behind = [total - sum(weights[node] for node in order[:2]) for order in orders]
    places: dict[int, int] = {}
    sampled = 0.5
    for depth in range(2, len(weights)):
        turns = {bucket: ahead[bucket] * (MAX_ID + 1) + orders[bucket][depth] for bucket in waiting}
        left = []
        for bucket in sorted(turns, key=turns.__getitem__):
            sampled += weight / behind[bucket]
            if sampled >= 1:
                sampled -= 1
                places[bucket] = depth
            else:
                node = orders[bucket][depth]
                ahead[bucket] |= 1 << node
                behind[bucket] -= weights[node]
                left.append(bucket)
        waiting = left
    places.update(dict.fromkeys(waiting, len(weights)))
    return places


def evenly(items: Sequence[int], count: int) -> list[int]:
    """Pick ``count`` items at equal distances."""
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
