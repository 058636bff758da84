"""What can happen to a node, and how to watch a cluster meanwhile; shared with the benchmarks."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from trscaler_gen.lab.probe import ProbeResult
from trscaler_gen.lockfile import lock_path

from .cluster import UNHEALTHY, Cluster

VICTIM = "n2"
OTHERS = ("n1", "n3", "n4")
SOURCES = 100
INTERVAL_MS = 100
DAEMONS = "$(cat /run/trscaler-gen/e2e/keepalived.pid) $(cat /run/trscaler-gen/e2e/vrrp.pid)"


@dataclass
class Watched:
    """Probes under way; the result is there once the block has ended."""

    results: list[ProbeResult] = field(default_factory=list)

    @property
    def result(self) -> ProbeResult:
        return self.results[0]


@contextmanager
def under_probes(cluster: Cluster, interval_ms: float = INTERVAL_MS, family: int = 4) -> Iterator[Watched]:
    """Probe while the block runs, and for half a second before and after."""
    watched = Watched()
    with cluster.lab.probing(sources=SOURCES, interval_ms=interval_ms, family=family) as probe:
        time.sleep(0.5)
        yield watched
        time.sleep(0.5)
        watched.results.append(probe.stop())


def slack(result: ProbeResult) -> int:
    """How many probes may go wrong through no fault of the cluster's: none, unless the machine was late.

    On a machine that stops for some milliseconds a heartbeat arrives late as well, and two nodes differ that
    long.
    A fault of the product costs a share of all probes; the benchmarks count every single one.
    """
    is_disturbed = result.late > 0 or result.slowest_answer_ms > 10
    return result.sent // 500 if is_disturbed else 0


def assert_nothing_noticed(result: ProbeResult) -> None:
    """No probe lost, none answered twice."""
    assert result.lost <= slack(result)
    assert result.doubled <= slack(result)


def on(cluster: Cluster, command: str) -> None:
    cluster.lab.exec(VICTIM, ["sh", "-c", command])


def sources_of(node: str, result: ProbeResult) -> int:
    """How many sources a node answered at all."""
    return sum(1 for source in result.per_source if source.by_node.get(node))


def start(cluster: Cluster) -> None:
    assert "serving" in cluster.script(VICTIM, "up").stdout


@dataclass(frozen=True)
class Event:
    """Something that takes the victim away, what brings it back, and how many probes a source may lose."""

    name: str
    go: Callable[[Cluster], object]
    back: Callable[[Cluster], object]
    lost_per_source: int


EVENTS = [
    # A cut is noticed when the lease ends, 3.5 intervals later.
    Event("cut", lambda c: c.lab.cut(VICTIM), lambda c: c.lab.mend(VICTIM), 6),
    Event("keepalived stopped", lambda c: on(c, f"kill {DAEMONS}"), start, 0),
    Event("keepalived killed", lambda c: on(c, f"kill -9 {DAEMONS}"), start, 1),
    Event(
        "keepalived frozen",
        lambda c: on(c, f"kill -STOP {DAEMONS}"),
        lambda c: on(c, f"kill -CONT {DAEMONS}"),
        1,
    ),
    Event(
        "health check failed",
        lambda c: on(c, f"touch {UNHEALTHY}"),
        lambda c: on(c, f"rm {UNHEALTHY}"),
        0,
    ),
    Event("node taken down", lambda c: c.script(VICTIM, "down"), start, 0),
]


def ruleset_tag(cluster: Cluster) -> str:
    """The name of the victim's ruleset, which its maps carry; a swap leaves no maps of another one."""
    listing = cluster.lab.exec(VICTIM, ["nft", "-t", "list", "maps", "netdev"]).stdout
    (tag,) = set(re.findall(r"map \w+_([0-9a-f]+)", listing))
    return str(tag)


def swap_everywhere(cluster: Cluster, times: int) -> list[str]:
    """Replace all rules and maps on all nodes so many times; returns the rulesets' names, first to last.

    A ruleset names the file that it comes from: the same cluster from a file of another name is another
    ruleset, whole, that decides everything as before.
    """
    other = cluster.path.with_name("renamed.yaml")
    shutil.copy(cluster.path, other)
    shutil.copy(lock_path(cluster.path), lock_path(other))
    tags = [ruleset_tag(cluster)]
    for turn in range(times):
        cluster.cli("apply", "--yes", str(cluster.path if turn % 2 else other))
        tags.append(ruleset_tag(cluster))
    return tags
