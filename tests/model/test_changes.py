"""Changes that heartbeats carry: epochs, serials, and the switch from one placement to another."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from .bounds import US
from .cluster import World, changed, plans, serving
from .node import LINK

INTERVALS_MS = [10, 100]
DELAY_US = 100


def begin(interval_ms: int, nodes: int = 3) -> World:
    return serving(plans(nodes, interval_ms), fate=lambda *_: DELAY_US)


def let_pass(begun: World, intervals: float = 12) -> World:
    begun.run(begun.now + int(intervals * begun.nodes[1].plan.interval_ms * US))
    return begun


# --- the switch of placements ----------------------------------------------------------------------


def with_two_placements(begun: World) -> World:
    """Every node has other orders for every bucket, and uses those of before."""
    orders = begun.nodes[1].orders
    turned = tuple(order[1:] + order[:1] for order in map(tuple, orders))
    for node in begun.nodes.values():
        node.swap(replace(node.plan, serial=2, switch=2), turned, orders)
    begun.run(begun.now + 12 * begun.nodes[1].plan.interval_ms * US)
    assert (begun.longest(two=True), begun.longest(two=False)) == (0, 0)
    return begun


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
def test_a_switch_takes_as_long_as_a_frame(interval_ms: int) -> None:
    begun = with_two_placements(begin(interval_ms))
    begun.nodes[2].switch()
    let_pass(begun)
    assert all(node.holds("switched", LINK) for node in begun.nodes.values())
    assert (begun.longest(two=True), begun.longest(two=False)) == (DELAY_US, DELAY_US), begun.log


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
def test_a_node_that_misses_the_frame_learns_it_from_the_next_one(interval_ms: int) -> None:
    begun = with_two_placements(begin(interval_ms))
    begun.nodes[2].switch()
    begun.fate = lambda sender, receiver: None if (sender, receiver) == (2, 3) else DELAY_US
    let_pass(begun, 2)
    assert 0 < begun.longest(two=True) <= interval_ms * US + DELAY_US, begun.log


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
def test_twin_a_switch_that_does_not_begin_with_its_heartbeat(interval_ms: int) -> None:
    begun = with_two_placements(begin(interval_ms))
    let_pass(begun, 0.1)
    begun.nodes[2].add("switched", LINK)
    let_pass(begun)
    assert begun.longest(two=True) > DELAY_US, begun.log


# --- epochs ----------------------------------------------------------------------------------------


def change_epoch(begun: World, *, announce: bool) -> None:
    """All nodes take the rules of another epoch, with other orders, within a third of an interval."""
    orders = tuple(tuple(order[1:] + order[:1]) for order in permutations(sorted(begun.nodes)))
    later = changed(plans(len(begun.nodes), begun.nodes[1].plan.interval_ms), epoch=2)
    for plan in later:
        begun.nodes[plan.node_id].take_over_epoch(plan, orders)
        if not announce:
            begun.nodes[plan.node_id].delete("announcing", plan.node_id)
        let_pass(begun, 0.3)


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
def test_another_epoch(interval_ms: int) -> None:
    begun = begin(interval_ms)
    change_epoch(begun, announce=True)
    let_pass(begun)
    assert begun.longest(two=True) == 0, begun.log


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
def test_nodes_of_an_epoch_that_is_over_stand_aside(interval_ms: int) -> None:
    begun = begin(interval_ms)
    (later,) = changed(plans(3, interval_ms)[:1], epoch=2)
    begun.nodes[1].take_over_epoch(later, begun.nodes[1].orders)
    let_pass(begun, 3)
    begun.forget()
    let_pass(begun)
    assert [begun.owners(bucket) for bucket in range(6)] == [(1,)] * 6
    assert begun.longest(two=True) == 0


# --- serials ---------------------------------------------------------------------------------------


def add_a_third(begun: World) -> None:
    """A node is added while another one, n2, is down and knows nothing of it."""
    begun.crash(2)
    let_pass(begun)
    one, three = (replace(plan, serial=2) for plan in plans(3, begun.nodes[1].plan.interval_ms)[::2])
    begun.nodes[1].swap(one, begun.nodes[1].orders, ())
    begun.nodes[3].swap(three, begun.nodes[3].orders, ())
    begun.boot(3)
    let_pass(begun)


def two_of_three(interval_ms: int) -> World:
    """n1 and n2 serve and know nobody else; n3 is there, and off."""
    begun = begin(interval_ms)
    begun.crash(3)
    for node in (1, 2):
        begun.nodes[node].peers = frozenset({3 - node})
    return let_pass(begun)


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
@pytest.mark.parametrize("has_serial", [True, False], ids=["", "twin: serials are not told"])
def test_a_node_that_missed_a_change_stands_aside(interval_ms: int, has_serial: bool) -> None:
    begun = two_of_three(interval_ms)
    add_a_third(begun)
    if not has_serial:
        for node in (1, 3):
            begun.nodes[node].plan = replace(begun.nodes[node].plan, serial=1)
    begun.forget()
    begun.boot(2)
    begun.nodes[2].peers = frozenset({1})
    let_pass(begun, 40)
    longest = begun.longest(two=True)
    assert longest == 0 if has_serial else longest > interval_ms * US, begun.log


@pytest.mark.parametrize("interval_ms", INTERVALS_MS)
def test_twin_a_first_heartbeat_of_an_epoch_that_takes_the_lease(interval_ms: int) -> None:
    begun = begin(interval_ms)
    change_epoch(begun, announce=False)
    let_pass(begun)
    assert begun.longest(two=True) == DELAY_US, begun.log
