"""While all nodes are settled packets take a short way: it always leads where the long one does."""

from __future__ import annotations

from random import Random

import pytest

from .bounds import US
from .cluster import Clock, World, plans, serving
from .node import LINK
from .test_faults import something

CONNECTIONS = ["preserve", "hash-only"]


def let_pass(begun: World, intervals: float) -> None:
    begun.run(begun.now + int(intervals * begun.nodes[1].plan.interval_ms * US))


def troubled(connections: str, seed: int, *, calm_ms: int = -1) -> World:
    """Nodes that fall silent, crash, drain and come back, half of their heartbeats lost or late at times."""
    random = Random(seed)
    clocks = [Clock(random.choice((-500, 500)), random.randrange(4000)) for _ in range(3)]
    begun = serving(plans(3, 100, 3, connections), clocks, fate=lambda *_: 100)
    for node in begun.nodes.values():
        node.calm_ms = node.plan.calm_ms if calm_ms < 0 else calm_ms
    begun.fate = lambda *_: random.choice((None, 100, 100, 2000, 90_000))
    for _ in range(10):
        let_pass(begun, random.uniform(0, 5))
        something(begun, random)
    return begun


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_it_is_taken(connections: str) -> None:
    begun = serving(plans(3, 100, 3, connections), fate=lambda *_: 100)
    let_pass(begun, 10)
    assert all(begun._told(number).holds("calm", LINK) for number in begun.nodes)
    begun.leave(1)
    begun.run(begun.now + 200)
    assert not any(begun._told(number).holds("calm", LINK) for number in begun.nodes)


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_it_leads_where_the_long_one_does(connections: str) -> None:
    for seed in range(25):
        begun = troubled(connections, seed)
        assert not any(node.disputes for node in begun.nodes.values()), (seed, begun.log)


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_twin_a_look_that_stands_for_a_whole_lease(connections: str) -> None:
    """A peer that fell silent just after it is believed in for longer than its lease."""
    whole = plans(3, 100, 3, connections)[0].leases.peer_ms
    worlds = [troubled(connections, seed, calm_ms=whole) for seed in range(25)]
    assert any(node.disputes for begun in worlds for node in begun.nodes.values())
