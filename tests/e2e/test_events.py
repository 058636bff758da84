"""What happens to a cluster, under probes: the events of the table in docs/benchmarks.md.

Heartbeats every 100 ms, three may be missed: a lease is 350 ms, a node's own 8 ms shorter. In those 8 ms
nobody owns what a silent node owned, so each of its sources can lose the one probe that falls into them.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from .cluster import Cluster, eventually
from .events import (
    EVENTS,
    INTERVAL_MS,
    OTHERS,
    VICTIM,
    Event,
    assert_nothing_noticed,
    on,
    slack,
    sources_of,
    swap_everywhere,
    under_probes,
)

#: served again within 3.5 intervals and 50 ms; the gap is counted from probe to probe
LONGEST_GAP_MS = 3.5 * 100 + 50 + 2 * INTERVAL_MS


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_others_take_over_and_give_back(cluster: Cluster, event: Event) -> None:
    try:
        with under_probes(cluster) as gone:
            event.go(cluster)
            cluster.settle(OTHERS)
    finally:
        with under_probes(cluster) as back:
            event.back(cluster)
            cluster.settle()
    spare = slack(gone.result)
    assert gone.result.doubled <= spare
    assert gone.result.lost <= event.lost_per_source * sources_of(VICTIM, gone.result) + spare
    assert gone.result.longest_gap_ms <= LONGEST_GAP_MS * (2 if spare else 1)
    assert back.result.by_node[VICTIM] > 0
    assert_nothing_noticed(back.result)


def test_flushed_ruleset_fails_closed_and_heals(cluster: Cluster) -> None:
    """`nft flush ruleset` on a node: it answers nothing until its rules are back."""
    with under_probes(cluster, interval_ms=20) as watched:
        on(cluster, "nft flush ruleset")
        eventually(lambda: cluster.state(VICTIM)["ruleset"] == "intact", "the rules are back")
        cluster.settle()
    assert watched.result.doubled <= slack(watched.result)
    assert 0 < watched.result.lost <= 20 * sources_of(VICTIM, watched.result)


def test_flushed_node_that_nothing_heals_is_replaced_within_a_lease(cluster: Cluster) -> None:
    """Watcher and health check wait for a lock here, so this is the kernel's part alone.

    keepalived goes on: its heartbeats carry no stamp now, and must count for nothing.
    """
    on(cluster, "setsid flock /run/trscaler-gen/e2e/lock sleep 3 >/dev/null 2>&1 &")
    with under_probes(cluster, interval_ms=20) as watched:
        on(cluster, "nft flush ruleset")
        cluster.settle(OTHERS)
        assert "table" not in cluster.lab.exec(VICTIM, ["nft", "list", "tables"]).stdout
    assert watched.result.doubled <= slack(watched.result)
    assert watched.result.longest_gap_ms <= LONGEST_GAP_MS * (2 if slack(watched.result) else 1)
    cluster.settle()


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
    """Every node's rules and maps are replaced, twenty times."""
    with under_probes(cluster, interval_ms=20) as watched:
        tags = swap_everywhere(cluster, 20)
    assert all(one != other for one, other in pairwise(tags))
    assert_nothing_noticed(watched.result)
