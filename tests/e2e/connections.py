"""TCP connections in use while something happens to a cluster, and a judge of those that break.

Shared with the benchmarks. As with probes, a stall of the machine excuses what it costs (witness.py), and
nothing else is excused.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from trscaler_gen.jhash import bucket_of
from trscaler_gen.lab.connections import BrokenConnection, Connections, ConnectionsResult, Load, SlowRequest
from trscaler_gen.lockfile import lock_path, read_lock

from .cluster import Cluster, eventually
from .witness import Heartbeat, Seen, Span, Watched, watched_probes, witness

#: 200 that ask all the time and 40 that mostly rest, over both families, and a short one every 5 ms
LASTING = Load(long=200, idle=40, sources=100, idle_interval_s=2, short_interval_ms=5)
#: the same, and they end after a few seconds, as connections of most services do
ENDING = replace(LASTING, life_s=3)
PROBED = 50
PROBE_INTERVAL_MS = 100
#: While the first heartbeat of a node that returns crosses the switch, it and its substitute both answer.
#: Who opens a connection in this moment gets two answers, and goes on with one. Between hosts the two have
#: nothing in common, and conntrack keeps what is meant for one node from the other. The kernel of a lab gives
#: both nearly the same sequence number, so conntrack is mistaken, and the other resets: twice in 50 returns.
CROSSED = 2
#: a packet that opens a connection is sent again after 1 s (RFC 6298, 2)
OPENED_AGAIN_MS = 950


@dataclass(frozen=True)
class Service:
    """What clients saw of the cluster meanwhile."""

    cluster: Cluster
    connections: ConnectionsResult
    probes: tuple[Seen, ...]
    stalls: tuple[Span, ...]

    @property
    def heartbeat(self) -> Heartbeat:
        return self.cluster.heartbeat

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is excused."""
        return not self._excused()

    @property
    def broken(self) -> tuple[BrokenConnection, ...]:
        """The connections that broke, but for those that a stall may have broken."""
        return tuple(
            each for each in self.connections.broken if not self._has_excuse(each.at_ms, each.waited_ms)
        )

    @property
    def unopened(self) -> tuple[SlowRequest, ...]:
        """Likewise, connections whose first packet was lost: it had to be sent again."""
        slow = (each for each in self.connections.slow if each.taken_ms > OPENED_AGAIN_MS)
        return tuple(each for each in slow if not self._has_excuse(each.at_ms + each.taken_ms, each.taken_ms))

    def _excused(self) -> tuple[Span, ...]:
        return self.heartbeat.excused(self.stalls)

    def _has_excuse(self, at_ms: float, waited_ms: float) -> bool:
        end_s = self.connections.started_s + at_ms / 1000
        start_s = end_s - waited_ms / 1000
        return any(span.start_s <= end_s and start_s <= span.end_s for span in self._excused())

    def __str__(self) -> str:
        """Counts, how connections broke, and the probes."""
        all_of = self.connections.of()
        told = f"{all_of.opened} opened, {all_of.broken} broken ({len(self.broken)} without excuse)"
        told += f", {all_of.slow} slow ({len(self.unopened)} opened late), {all_of.strayed} strayed"
        late = [
            f"{each.kind} of {each.source} on {each.node}, at {each.at_ms:.0f} ms: {each.taken_ms:.0f} ms"
            for each in self.unopened
        ]
        return "; ".join([told, *how(self.broken), *late, *map(str, self.probes)])


def how(broken: Iterable[BrokenConnection]) -> list[str]:
    """In which ways connections broke, one line each way."""
    ways: dict[str, list[BrokenConnection]] = {}
    for each in broken:
        way = f"{each.kind} IPv{each.family} on {each.node or 'nobody'}: {each.reason} ({each.doing})"
        ways.setdefault(way, []).append(each)
    return [
        f"{len(found)} {way}, unheard up to {max(each.unheard_ms for each in found):.0f} ms"
        for way, found in ways.items()
    ]


def assert_nothing_broke(service: Service, crossing: int = 0) -> None:
    """No connection broken; no more than ``crossing`` opened late, and probes lost, or answered twice.

    What crosses the heartbeat by which nodes change places has reached some of them before.
    """
    assert [each for each in service.broken if each.doing != "connect"] == [], str(service)
    assert len(service.broken) <= CROSSED, str(service)
    assert len(service.unopened) <= crossing, str(service)
    assert service.connections.of().strayed == 0, str(service)
    for seen in service.probes:
        assert max(len(seen.losses()), len(seen.doubles())) <= crossing, str(service)


@dataclass
class Clients:
    """Connections and probes under way; what they saw is there once the block has ended."""

    cluster: Cluster
    connections: Connections
    probes: Watched
    _service: list[Service] = field(default_factory=list)

    @property
    def service(self) -> Service:
        """What they saw."""
        return self._service[0]

    def ask(self) -> ConnectionsResult:
        """Wait until as many answers have come as if each has asked twice, and who rests once."""
        before, load = self.connections.so_far(), self.connections.load
        wanted = {"long": 2 * load.long, "idle": load.idle}

        def asked() -> bool:
            now = self.connections.so_far()
            return all(now.of(kind).answered >= before.of(kind).answered + n for kind, n in wanted.items())

        eventually(asked, "connections are in use")
        return self.connections.so_far()

    def cut(self, node: str, *survivors: str) -> None:
        """Pull a node's cable, and wait until the others serve in its place."""
        self.cluster.lab.cut(node)
        self.cluster.settle(survivors)
        self.ask()

    def mend(self, node: str, *living: str) -> None:
        """Undo it, and wait until these serve, or all."""
        self.cluster.lab.mend(node)
        self.cluster.settle(living)
        self.ask()

    def drain(self, node: str, *others: str) -> None:
        """Let new connections go to the others."""
        self.cluster.script(node, "drain")
        self.cluster.settle(others)
        self.ask()

    def undrain(self, node: str, *living: str) -> None:
        """Undo it, and wait until these serve, or all."""
        self.cluster.script(node, "undrain")
        self.cluster.settle(living)
        self.ask()

    def await_none_held(self, node: str) -> None:
        """Wait until a node that takes no new connections has no old ones either."""
        eventually(lambda: self.cluster.script(node, "held").stdout.strip() == "0", f"{node} holds nothing")


@contextmanager
def under_load(cluster: Cluster, load: Load = LASTING) -> Iterator[Clients]:
    """Keep connections in use, and probe over both families, while the block runs."""
    watching, began_s = witness(), time.monotonic()
    with ExitStack() as stack:
        probes = stack.enter_context(
            watched_probes(
                cluster.lab,
                cluster.heartbeat,
                sources=PROBED,
                interval_ms=PROBE_INTERVAL_MS,
                families=(4, 6),
            )
        )
        clients = Clients(cluster, stack.enter_context(cluster.lab.connecting(load)), probes)
        clients.ask()
        yield clients
        clients.ask()
        result = clients.connections.stop()
    stalls = watching.stalls(began_s)
    clients._service.append(Service(cluster, result, tuple(probes.results), stalls))


def owner_of(cluster: Cluster, source: str, destination: str, away: Collection[str] = ()) -> str:
    """The node to which new connections between the two go while all are alive but these."""
    return next(node for node in order_of(cluster, source, destination) if node not in away)


def order_of(cluster: Cluster, source: str, destination: str) -> tuple[str, ...]:
    """The nodes, in the order in which packets between the two are theirs."""
    lock = read_lock(lock_path(cluster.path))
    assert lock is not None
    bucket = bucket_of(
        ip_address(source),
        ip_address(destination),
        hash_input=lock.hash_input,
        seed=lock.seed,
        buckets=lock.buckets,
    )
    names = {node.node_id: node.name for node in lock.nodes}
    return tuple(names[node] for node in lock.orders[bucket])
