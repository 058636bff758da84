"""What 240 clients with TCP connections notice when operators change a cluster, and when nodes crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.cluster import Cluster, running_cluster
from e2e.connections import LASTING, Clients, Service, owner_of, under_load
from e2e.events import OTHERS, VICTIM
from e2e.operations import FOUR, write
from e2e.planned import PLANNED

from trscaler_gen.lab.connections import BrokenConnection, Load

INTERVAL_MS = 100
FLAPS = 20
#: longer than what nobody knows takes to be reset
PATIENT = replace(LASTING, deadline_s=10)


@dataclass(frozen=True)
class ConnectionRow:
    """Lists hold one number a run. ``crashed``: the nodes that were cut; ``alien``: what broke on others.

    ``hung``: of those that broke, how many were not reset. ``reset_ms``: the longest time from the first
    packet that nobody has heard until the reset. ``stall_ms``: how long the machine stood still at most.
    """

    event: str
    interval_ms: int
    crashed: list[str]
    opened: list[int]
    broken: list[int]
    alien: list[int]
    hung: list[int]
    reset_ms: list[float]
    slow: list[int]
    probes: list[int]
    lost: list[int]
    doubled: list[int]
    late: list[int]
    stall_ms: list[float]


@dataclass(frozen=True)
class Crash:
    """Nodes that are cut, or come back; one follows the other.

    ``crashed``: those whose connections break. ``drained``: those that take no new ones meanwhile.
    """

    name: str
    happen: Callable[[Clients], object]
    crashed: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()


def _two_return(first: str, second: str) -> Callable[[Clients], None]:
    def happen(clients: Clients) -> None:
        clients.mend(first, first, "n3", "n4")
        clients.mend(second, *FOUR)

    return happen


def _cut_two(clients: Clients) -> None:
    clients.cut("n1", "n2", "n3", "n4")
    clients.cut("n2", "n3", "n4")


def _drain_one_cut_another(clients: Clients) -> None:
    clients.drain("n3", "n1", "n2", "n4")
    clients.cut("n1", "n2", "n4")


def _return_and_undrain(clients: Clients) -> None:
    clients.mend("n1", "n1", "n2", "n4")
    clients.undrain("n3", *FOUR)


def _return_and_cut_another(clients: Clients) -> None:
    clients.mend(VICTIM, *FOUR)
    clients.cut("n1", "n2", "n3", "n4")


def _flap(clients: Clients) -> None:
    for _ in range(FLAPS):
        clients.cluster.lab.cut(VICTIM)
        clients.cluster.settle(OTHERS)
        clients.cluster.lab.mend(VICTIM)
        clients.cluster.settle(FOUR)


CRASHES = [
    Crash("node cut", lambda clients: clients.cut(VICTIM, *OTHERS), (VICTIM,)),
    Crash("its return", lambda clients: clients.mend(VICTIM, *FOUR)),
    Crash("n1 cut, then n2", _cut_two, ("n1", "n2")),
    Crash("n1 returns, then n2", _two_return("n1", "n2")),
    Crash("n1 cut, then n2, again", _cut_two, ("n1", "n2")),
    Crash("n2 returns, then n1", _two_return("n2", "n1")),
    Crash("n3 drains, n1 cut", _drain_one_cut_another, ("n1",), ("n3",)),
    Crash("n1 returns, n3 undrained", _return_and_undrain),
    Crash("node cut, once more", lambda clients: clients.cut(VICTIM, *OTHERS), (VICTIM,)),
    Crash("it returns, a node that stood in is cut", _return_and_cut_another, ("n1",)),
    Crash("its return, once more", lambda clients: clients.mend("n1", *FOUR)),
    Crash(f"node cut and back, {FLAPS} times", _flap, (VICTIM,)),
]


def measure(runs: int, folder: Path) -> list[ConnectionRow]:
    """All changes and crashes in turn, so many times over, on five hosts of which four are nodes at first."""
    here = folder / "connections"
    here.mkdir()
    seen: dict[str, list[Service]] = {}
    with running_cluster(here, "bench-connections", nodes=5, interval_ms=INTERVAL_MS) as cluster:
        write(cluster, *FOUR)
        cluster.cli("apply", "--yes", str(cluster.path))
        for _ in range(runs):
            for name, service in _round(cluster):
                seen.setdefault(name, []).append(service)
    crashes = {crash.name: crash for crash in CRASHES}
    nothing = Crash("", lambda clients: None)
    return [_row(name, crashes.get(name, nothing), services) for name, services in seen.items()]


def _round(cluster: Cluster) -> Iterator[tuple[str, Service]]:
    for change in PLANNED:
        cluster.settle(FOUR)
        yield change.name, _watched(cluster, change.make, change.load)
    for crash in CRASHES:
        yield crash.name, _watched(cluster, crash.happen, PATIENT)


def _watched(cluster: Cluster, happen: Callable[[Clients], object], load: Load) -> Service:
    with under_load(cluster, load) as clients:
        happen(clients)
    return clients.service


def _row(name: str, crash: Crash, services: list[Service]) -> ConnectionRow:
    return ConnectionRow(
        event=name,
        interval_ms=INTERVAL_MS,
        crashed=list(crash.crashed),
        opened=[service.connections.of().opened for service in services],
        broken=[len(service.connections.broken) for service in services],
        alien=[sum(_is_alien(service, each, crash) for each in _broken(service)) for service in services],
        hung=[sum(each.reason != "reset" for each in _broken(service)) for service in services],
        reset_ms=[max((each.unheard_ms for each in _broken(service)), default=0) for service in services],
        slow=[service.connections.of().slow for service in services],
        probes=[sum(seen.sent for seen in service.probes) for service in services],
        lost=[sum(seen.lost for seen in service.probes) for service in services],
        doubled=[sum(seen.doubled for seen in service.probes) for service in services],
        late=[service.connections.late for service in services],
        stall_ms=[max((each.length_s * 1000 for each in service.stalls), default=0) for service in services],
    )


def _broken(service: Service) -> tuple[BrokenConnection, ...]:
    return service.connections.broken


def _is_alien(service: Service, broken: BrokenConnection, crash: Crash) -> bool:
    """Whether it was on no node that crashed; what nobody had answered was on its bucket's owner."""
    ends = (broken.source, broken.destination)
    return (broken.node or owner_of(service.cluster, *ends, crash.drained)) not in crash.crashed
