"""What 100 clients notice when a node of four fails in every way that the tests know, and when it returns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import Cluster, eventually, running_cluster
from e2e.events import EVENTS, OTHERS, SOURCES, VICTIM, on, swap_everywhere, under_probes

from trscaler_gen.lab.probe import ProbeResult

PROBE_INTERVAL_MS = 20
STEADY_S = 5.0
SWAPS = 20


@dataclass(frozen=True)
class EventRow:
    """Lists hold one number a run. ``longest_gap_ms``: how long the worst source went without an answer."""

    event: str
    interval_ms: int
    sources: int
    probe_interval_ms: int
    sent: list[int]
    lost: list[int]
    doubled: list[int]
    longest_gap_ms: list[float]
    late: list[int]

    @property
    def median_gap_ms(self) -> float:
        """The middle run's longest gap."""
        return statistics.median(self.longest_gap_ms)


def measure(interval_ms: int, runs: int, folder: Path) -> list[EventRow]:
    """All events in turn, so many times over, on one cluster."""
    here = folder / f"events-{interval_ms}"
    here.mkdir()
    seen: dict[str, list[ProbeResult]] = {}
    with running_cluster(here, f"bench-{interval_ms}", interval_ms=interval_ms) as cluster:
        for _ in range(runs):
            for name, result in _round(cluster):
                seen.setdefault(name, []).append(result)
    return [row(name, interval_ms, results) for name, results in seen.items()]


def _round(cluster: Cluster) -> Iterator[tuple[str, ProbeResult]]:
    yield "steady", _steady(cluster)
    for event in EVENTS:
        yield event.name, watched(cluster, lambda event=event: event.go(cluster), OTHERS)  # type: ignore[misc]
        yield f"back after: {event.name}", watched(cluster, lambda event=event: event.back(cluster))  # type: ignore[misc]
    yield "nft flush ruleset on a node", watched(cluster, lambda: _flush(cluster))
    yield (
        f"rulesets swapped on all nodes, {SWAPS} times",
        watched(cluster, lambda: swap_everywhere(cluster, SWAPS)),
    )


def _steady(cluster: Cluster) -> ProbeResult:
    cluster.settle()
    with ExitStack() as stack:
        probing = cluster.lab.probing(sources=SOURCES, interval_ms=PROBE_INTERVAL_MS, seconds=STEADY_S)
        return stack.enter_context(probing).wait()


def watched(
    cluster: Cluster, happen: Callable[[], object], survivors: tuple[str, ...] | None = None
) -> ProbeResult:
    """Probe while it happens, until the cluster agrees again on who is alive."""
    with under_probes(cluster, PROBE_INTERVAL_MS) as probes:
        happen()
        cluster.settle(survivors)
    return probes.result


def _flush(cluster: Cluster) -> None:
    on(cluster, "nft flush ruleset")
    eventually(lambda: cluster.state(VICTIM)["ruleset"] == "intact", "the rules are back")


def row(name: str, interval_ms: int, results: list[ProbeResult]) -> EventRow:
    """The runs of one event."""
    return EventRow(
        event=name,
        interval_ms=interval_ms,
        sources=SOURCES,
        probe_interval_ms=PROBE_INTERVAL_MS,
        sent=[result.sent for result in results],
        lost=[result.lost for result in results],
        doubled=[result.doubled for result in results],
        longest_gap_ms=[result.longest_gap_ms for result in results],
        late=[result.late for result in results],
    )
