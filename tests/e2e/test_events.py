"""What happens to a cluster, under probes: the events of the table in docs/benchmarks.md.

Heartbeats every 250 ms, three may be missed: a lease is 875 ms, a node's own 8 ms shorter. In those 8 ms
nobody owns what a silent node owned, so each of its sources can lose the one probe that falls into them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest

from .cluster import Cluster, eventually
from .events import (
    CROSSING,
    EVENTS,
    OTHERS,
    VICTIM,
    Event,
    assert_nothing_noticed,
    on,
    sources_of,
    swap_everywhere,
    under_probes,
)
from .wire import unhealed
from .witness import Seen, Span, quietly

SWAPS = 6
FAST_MS = 20


@dataclass(frozen=True)
class Takeover:
    """What clients saw when a node went, and when its leases ended at the latest."""

    seen: Seen
    span: Span

    @property
    def is_quiet(self) -> bool:
        return self.seen.is_quiet

    def judge(self, lost_per_source: float) -> None:
        """Only clients of the victim lose anything, so much each and in that time; none is answered twice.

        One more may cross the heartbeat by which the victim goes.
        """
        assert self.seen.doubles() == (), self.seen
        assert self.seen.losses(self.span) == (), self.seen
        most = lost_per_source * sources_of(VICTIM, self.seen) + CROSSING
        assert len(self.seen.losses()) <= most, self.seen
        strangers = [source for source in self.seen.per_source if VICTIM not in source.by_node]
        assert not self.is_quiet or not any(source.lost for source in strangers), self.seen


def taken_over(
    cluster: Cluster, happen: Callable[[], object], until: Callable[[], object], probes_ms: float = 100
) -> Takeover:
    """Probe while something happens that ends the victim's leases, until the others have taken over."""
    with under_probes(cluster, probes_ms) as watched:
        begin_s = time.monotonic()
        happen()
        end_s = time.monotonic() + cluster.heartbeat.lease_s + 0.05
        until()
    return Takeover(watched.result, Span(begin_s, end_s))


@dataclass(frozen=True)
class Turn:
    """A node goes and comes back."""

    gone: Takeover
    back: Seen

    @property
    def is_quiet(self) -> bool:
        return self.gone.is_quiet and self.back.is_quiet


def turn(cluster: Cluster, event: Event) -> Turn:
    """Let the victim go and come back, each under probes."""
    try:
        gone = taken_over(cluster, lambda: event.go(cluster), lambda: cluster.settle(OTHERS))
    finally:
        with under_probes(cluster) as back:
            event.back(cluster)
            cluster.settle()
    return Turn(gone, back.result)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_others_take_over_and_give_back(cluster: Cluster, event: Event) -> None:
    seen = quietly(lambda: turn(cluster, event))
    seen.gone.judge(event.lost_per_source)
    assert seen.back.by_node[VICTIM] > 0
    assert_nothing_noticed(seen.back, crossing=CROSSING)


@pytest.fixture(autouse=True)
def calm(cluster: Cluster) -> None:
    """Everything happens while almost every packet takes the short way."""
    cluster.calm_down()


def flush(cluster: Cluster) -> None:
    on(cluster, "nft flush ruleset")


def probes_of_a_lease(cluster: Cluster) -> float:
    """How many of each source fall into the time in which a naked node is not replaced yet."""
    return (cluster.heartbeat.lease_s + 0.1) * 1000 / FAST_MS


def is_whole(cluster: Cluster) -> bool:
    state = cluster.state(VICTIM)
    return (state["ruleset"], state["attached"]) == ("intact", "yes")


def test_flushed_ruleset_fails_closed_and_heals(cluster: Cluster) -> None:
    """`nft flush ruleset` on a node: it answers nothing until its rules are back, and then its address."""

    def heal() -> None:
        flush(cluster)
        eventually(lambda: is_whole(cluster), "the rules are back")

    seen = quietly(lambda: taken_over(cluster, heal, cluster.settle, FAST_MS))
    assert seen.seen.lost > 0
    seen.judge(seen.span.length_s * 1000 / FAST_MS)


def test_flushed_node_that_nothing_heals_is_replaced_within_a_lease(cluster: Cluster) -> None:
    """Watcher and health check wait for a lock here, so this is the kernel's part alone.

    keepalived goes on: its heartbeats carry no stamp now, and must count for nothing.
    """

    def replaced() -> None:
        cluster.settle(OTHERS)
        assert "table" not in cluster.lab.exec(VICTIM, ["nft", "list", "tables"]).stdout

    def unhealed_turn() -> Takeover:
        with unhealed(cluster, VICTIM):
            seen = taken_over(cluster, lambda: flush(cluster), replaced, FAST_MS)
        cluster.settle()
        return seen

    quietly(unhealed_turn).judge(probes_of_a_lease(cluster))


@pytest.mark.parametrize(
    "damage",
    ["nft add rule netdev trscaler_e2e decide accept", "nft delete table netdev trscaler_e2e"],
    ids=["altered", "deleted"],
)
def test_damaged_ruleset_is_put_back(cluster: Cluster, damage: str) -> None:
    on(cluster, damage)
    eventually(lambda: cluster.state(VICTIM)["ruleset"] == "intact", "the rules are back")
    cluster.settle()


def test_rank_maps_cannot_be_altered(cluster: Cluster) -> None:
    """The fingerprint covers rules only: the kernel itself must refuse a change of the maps."""
    listing = cluster.lab.exec(VICTIM, ["nft", "-t", "list", "maps", "netdev"]).stdout
    rank0 = next(word for word in listing.split() if word.startswith("rank0_"))
    rank0 = f"netdev trscaler_e2e {rank0}"
    for change in (f"add element {rank0} {{ 5 : 9 }}", f"flush map {rank0}"):
        done = cluster.lab.exec(VICTIM, ["nft", change], check=False)
        assert "busy" in done.stderr


def test_swap_on_all_nodes_under_load(cluster: Cluster) -> None:
    """Every node's rules and maps are replaced, again and again."""
    with under_probes(cluster, interval_ms=50) as watched:
        tags = swap_everywhere(cluster, SWAPS)
    assert all(one != other for one, other in pairwise(tags))
    assert_nothing_noticed(watched.result)
