"""What can happen to a node, and how to watch a cluster meanwhile; shared with the benchmarks."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trscaler_gen.lockfile import lock_path

from .cluster import UNHEALTHY, Cluster
from .witness import Seen, Watched, watched_probes

VICTIM = "n2"
OTHERS = ("n1", "n3", "n4")
SOURCES = 100
INTERVAL_MS = 100
#: probes that may be lost, or answered twice, while a heartbeat by which nodes change places is on its way to
#: them. Of 33 changes under 5,000 probes a second one lost one; tests send 1,000
CROSSING = 1
DAEMONS = "$(cat /run/trscaler-gen/e2e/keepalived.pid) $(cat /run/trscaler-gen/e2e/vrrp.pid)"


@contextmanager
def under_probes(cluster: Cluster, interval_ms: float = INTERVAL_MS, family: int = 4) -> Iterator[Watched]:
    """Probe while the block runs, and for half a second before and after."""
    start: dict[str, Any] = {"sources": SOURCES, "interval_ms": interval_ms, "families": (family,)}
    with watched_probes(cluster.lab, cluster.heartbeat, **start) as watched:
        time.sleep(0.5)
        yield watched
        time.sleep(0.5)


def assert_nothing_noticed(seen: Seen, crossing: int = 0) -> None:
    """No probe lost, none answered twice, but for what a machine that stood still has to answer for.

    ``crossing``: and for so many that cross heartbeats by which nodes change places.
    """
    assert len(seen.losses()) + len(seen.doubles()) <= crossing, seen


def on(cluster: Cluster, command: str) -> None:
    cluster.lab.exec(VICTIM, ["sh", "-c", command])


def sources_of(node: str, seen: Seen) -> int:
    """How many sources a node answered at all."""
    return sum(1 for source in seen.per_source if source.by_node.get(node))


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
    # A cut is noticed when the lease ends, 3.5 intervals of 250 ms later.
    Event("cut", lambda c: c.lab.cut(VICTIM), lambda c: c.lab.mend(VICTIM), 10),
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
