"""What an operator does to a cluster that serves, and what must break no connection.

Shared with the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import yaml

from trscaler_gen.lab.connections import Load

from .cluster import Cluster
from .connections import ENDING, LASTING, Clients
from .events import OTHERS, VICTIM, swap_everywhere
from .operations import FOUR, write

#: the host that is made a node of the cluster, and taken out again
SPARE = "n5"
FIVE = (*FOUR, SPARE)
SWAPS = 2


@dataclass(frozen=True)
class Planned:
    """A change that an operator makes, to the nodes of FOUR; they are as before at its end.

    ``crossing``: probes that may be lost, and doubled: while a frame by which nodes change places is on its
    way, they differ.
    """

    name: str
    make: Callable[[Clients], object]
    load: Load = LASTING
    crossing: int = 0


def drain_and_undrain(clients: Clients) -> None:
    clients.drain(VICTIM, *OTHERS)
    clients.undrain(VICTIM, *FOUR)


def drain_reboot_undrain(clients: Clients) -> None:
    """Connections end while it drains, and it goes when there are none."""
    cluster = clients.cluster
    cluster.script(VICTIM, "drain")
    clients.await_none_held(VICTIM)
    cluster.script(VICTIM, "down")
    clients.ask()
    cluster.script(VICTIM, "up")
    clients.ask()
    clients.undrain(VICTIM, *FOUR)


def stop_and_start(clients: Clients) -> None:
    """It drains by itself as long as `drain_before_stop_s` says; connections end sooner."""
    cluster = clients.cluster
    cluster.script(VICTIM, "down")
    cluster.settle(OTHERS)
    clients.ask()
    cluster.script(VICTIM, "up")
    cluster.settle(FOUR)


def add_and_remove(clients: Clients) -> None:
    add(clients.cluster)
    clients.ask()
    clients.cluster.script(SPARE, "drain")
    clients.await_none_held(SPARE)
    apply(clients.cluster, FOUR)


def add(cluster: Cluster) -> None:
    apply(cluster, FIVE)


def apply(cluster: Cluster, nodes: tuple[str, ...], **keys: object) -> None:
    """Deploy to these nodes, and wait until they agree that they are the cluster."""
    write(cluster, *nodes, **keys)
    cluster.cli("apply", "--yes", str(cluster.path))
    cluster.settle(nodes)


def swap(clients: Clients) -> None:
    swap_everywhere(clients.cluster, SWAPS)


def reweigh(clients: Clients) -> None:
    """A switch, and back: a third of all buckets go to one node."""
    for weight in (3, 1):
        document = yaml.safe_load(clients.cluster.path.read_text())
        document["nodes"][VICTIM]["weight"] = weight
        clients.cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
        clients.cluster.cli("apply", "--yes", str(clients.cluster.path))
        clients.ask()


def roll(clients: Clients) -> None:
    """Every node in turn is drained and left alone, something is done on it, and it comes back."""
    clients.cluster.cli("rolling", str(clients.cluster.path), "--yes", "--", "true")
    clients.cluster.settle(FOUR)


PLANNED = [
    Planned("node drained and undrained", drain_and_undrain, crossing=1),
    Planned("node drained, rebooted, undrained", drain_reboot_undrain, ENDING, crossing=1),
    Planned("node stopped and started", stop_and_start, ENDING, crossing=1),
    Planned("node added, drained, removed", add_and_remove, ENDING, crossing=1),
    Planned("rulesets swapped on all nodes", swap),
    Planned("weight 1, then 3, then 1", reweigh, crossing=5),
    Planned("rolling over all nodes", roll, ENDING, crossing=2),
]
