"""Nodes, their clocks and what is between them, in virtual time; and a judge who sees all at once.

Times are whole microseconds. Packets of every bucket are at every node all the time: whoever would answer one
is seen at each moment at which anything can change.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations, permutations

from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.nodeplan import NodePlan, plan_nodes

from .bounds import US
from .node import GOODBYE, SERVES, Heartbeat, Node

TICK_MS = 4
MILLION = 1_000_000

#: how long a heartbeat from one node to another is on its way; None: it is lost
Fate = Callable[[int, int], int | None]


@cache
def plans(
    nodes: int, interval_ms: int, missed: int = 3, connections: str = "preserve"
) -> tuple[NodePlan, ...]:
    """What the product makes of an inventory of so many nodes."""
    named = "".join(f"  n{number}: {{address: 192.0.2.{number}}}\n" for number in range(1, nodes + 1))
    text = (
        "cluster: model\nlink: eth0\nvirtual_addresses: [192.0.2.100]\nhash: {buckets: 64}\n"
        f"heartbeat: {{interval_ms: {interval_ms}, missed: {missed}}}\nconnections: {connections}\n"
        f"nodes:\n{named}"
    )
    inventory = parse_inventory(text.encode(), "model.yaml")
    return plan_nodes(inventory, reconcile(inventory, None, seed=1))


@dataclass
class Clock:
    """A node's clock: how it runs, where its ticks are, and for how long it stood."""

    ppm: int = 0
    phase_us: int = 0
    stood_us: int = 0

    def ticks(self, now: int) -> int:
        """The node's ticks at a moment."""
        return self._local(now) // (TICK_MS * US)

    def _local(self, now: int) -> int:
        return (now - self.stood_us) * (MILLION + self.ppm) // MILLION + self.phase_us

    def when(self, tick: int) -> int:
        """The moment at which a tick is reached."""
        local = tick * TICK_MS * US - self.phase_us
        return -(-local * MILLION // (MILLION + self.ppm)) + self.stood_us

    def lasts(self, local_us: int) -> int:
        """How long something really takes that lasts so long by this clock."""
        return local_us * MILLION // (MILLION + self.ppm)


@dataclass(frozen=True)
class Stretch:
    """From when to when a bucket had these owners at once; none: nobody answered."""

    bucket: int
    owners: tuple[int, ...]
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass
class World:
    """The nodes of a cluster under probes.

    ``fate`` says what becomes of a heartbeat, ``late`` how much later than an interval the next one leaves.
    ``blind`` nodes see no packets, ``silent`` ones send no heartbeats; ``frozen`` neither, nor hear any.
    ``sides``: a switch in parts; packets of one part are seen by its nodes alone.
    """

    nodes: dict[int, Node]
    clocks: dict[int, Clock]
    fate: Fate = lambda _sender, _receiver: 0
    late: Callable[[], int] = lambda: 0
    now: int = 0
    blind: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    sides: tuple[frozenset[int], ...] = ()
    stretches: list[Stretch] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    _events: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _open: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    _beats: dict[int, int] = field(default_factory=dict)

    # --- what happens ---------------------------------------------------------------------------------

    def at(self, time: int, event: Callable[[], None]) -> None:
        """Let something happen at a moment."""
        self._count += 1
        heapq.heappush(self._events, (max(time, self.now), self._count, event))

    def start(self, node: int, after: int = 0) -> None:
        """A node's keepalived begins to send."""
        self.silent.discard(node)
        self._beats[node] = self._beats.get(node, 0) + 1
        beat = self._beats[node]
        self.at(self.now + after, lambda: self._beat(node, beat))

    def stop(self, node: int) -> None:
        """A node's keepalived ends without a word: killed, hung or starved."""
        self._tell(f"{node} falls silent")
        self.silent.add(node)
        self._beats[node] = self._beats.get(node, 0) + 1

    def leave(self, node: int) -> None:
        """A node's keepalived is stopped, and says goodbye."""
        self.send(node, GOODBYE)
        self.stop(node)

    def crash(self, node: int) -> None:
        """A host dies."""
        self.stop(node)
        self.blind.add(node)
        self.frozen.add(node)

    def freeze(self, node: int) -> None:
        """A virtual machine is paused."""
        self._tell(f"{node} is paused")
        self.frozen.add(node)

    def boot(self, node: int) -> None:
        """A host that died is back: its keepalived sends after four intervals."""
        self.frozen.discard(node)
        self._told(node).attach()
        self.blind.discard(node)
        self.start(node, 4 * self._interval(node))

    def thaw(self, node: int, since: int, *, clock_stood: bool) -> None:
        """It goes on; its next heartbeat leaves after what was left of the interval, or at once."""
        self._tell(f"{node} goes on")
        self.frozen.discard(node)
        if clock_stood:
            self.clocks[node].stood_us += self.now - since
        self.start(node, self._interval(node) if clock_stood else 0)

    def send(self, node: int, priority: int = SERVES) -> None:
        """A heartbeat leaves a node."""
        said = self._told(node).heartbeat_out(priority)
        for peer in sorted(self.nodes):
            delay = self.fate(node, peer) if peer != node and self._joined(node, peer) else None
            if delay is not None:
                self.at(self.now + delay, lambda peer=peer: self._arrive(peer, said))  # type: ignore[misc]

    def _joined(self, one: int, other: int) -> bool:
        return not self.sides or any({one, other} <= side for side in self.sides)

    def _beat(self, node: int, beat: int) -> None:
        if self._beats[node] != beat or node in self.silent | self.frozen:
            return
        self.send(node)
        self.at(self.now + self._interval(node) + self.late(), lambda: self._beat(node, beat))

    def _interval(self, node: int) -> int:
        return self.clocks[node].lasts(self.nodes[node].plan.interval_ms * US)

    def _arrive(self, node: int, said: Heartbeat) -> None:
        if node not in self.frozen:
            self._told(node).heartbeat_in(said)

    def _told(self, node: int) -> Node:
        """The node, with the time of its clock."""
        self.nodes[node].now = self.clocks[node].ticks(self.now)
        return self.nodes[node]

    # --- what is seen ---------------------------------------------------------------------------------

    def run(self, until: int) -> None:
        """Let time pass."""
        while True:
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self._judge()
            following = min(self._moments(), default=until + 1)
            if following > until:
                break
            self.now = following
        self.now = until

    def _moments(self) -> Iterator[int]:
        """When something can change next."""
        if self._events:
            yield self._events[0][0]
        for number in self.nodes:
            if number not in self.frozen:
                yield max(self.now + 1, self.clocks[number].when(self._told(number).next_end()))

    def owners(self, bucket: int) -> tuple[int, ...]:
        """The nodes that answer for a bucket now."""
        seeing = [node for node in sorted(self.nodes) if node not in self.blind | self.frozen]
        return tuple(node for node in seeing if self._told(node).takes(bucket))

    def _judge(self) -> None:
        wrong = {}
        for bucket in range(len(next(iter(self.nodes.values())).orders)):
            owners = self.owners(bucket)
            for side in self.sides or (frozenset(self.nodes),):
                wrong.update({(bucket, pair): True for pair in _faults(owners, side)})
        for gone in self._open.keys() - wrong.keys():
            self.stretches.append(Stretch(*gone, self._open.pop(gone), self.now))
        for new in wrong.keys() - self._open.keys():
            self._tell(f"bucket {new[0]} has the owners {new[1]}" if new[1] else f"bucket {new[0]} has none")
            self._open[new] = self.now

    def _tell(self, event: str) -> None:
        self.log.append(f"{self.now / US:9.3f} ms  {event}")

    def forget(self) -> None:
        """What was seen until now does not count."""
        self.stretches.clear()
        self._open.clear()

    def longest(self, *, two: bool) -> int:
        """The longest time for which two nodes had a bucket, or nobody had it."""
        ended = [stretch.length for stretch in self.stretches if bool(stretch.owners) == two]
        lasting = [self.now - start for (_, owners), start in self._open.items() if bool(owners) == two]
        return max([*ended, *lasting, 0])


def _faults(owners: Sequence[int], side: frozenset[int]) -> Iterable[tuple[int, ...]]:
    """Every two owners of one side; or the empty tuple if it has none."""
    here = [owner for owner in owners if owner in side]
    return combinations(here, 2) if here else ((),)


def world(made: Sequence[NodePlan], clocks: Sequence[Clock] = (), **options: object) -> World:
    """A cluster of which nobody serves yet, with a bucket for every order of its nodes."""
    orders = tuple(permutations(plan.node_id for plan in made))
    nodes = {plan.node_id: Node(plan, TICK_MS, orders) for plan in made}
    ticking = dict(zip(nodes, clocks or [Clock() for _ in nodes], strict=True))
    return World(nodes, ticking, **options)  # type: ignore[arg-type]


def serving(made: Sequence[NodePlan], clocks: Sequence[Clock] = (), **options: object) -> World:
    """The same after its nodes have begun to serve, their heartbeats spread over an interval."""
    begun = world(made, clocks, **options)
    interval = made[0].interval_ms * US
    for number, node in begun.nodes.items():
        node.now = begun.clocks[number].ticks(0)
        node.attach()
        begun.start(number, 4 * interval + number * interval // (len(made) + 1))
    begun.run(20 * interval)
    settle(begun)
    begun.forget()
    return begun


def settle(begun: World) -> None:
    """Nobody is joining any more: keep_connections_s are over."""
    for node in begun.nodes.values():
        node.ends = {key: end for key, end in node.ends.items() if key[0] not in ("joining", "hosting")}
    begun.run(begun.now + 4 * begun.nodes[1].plan.interval_ms * US)


def changed(made: Sequence[NodePlan], **changes: object) -> tuple[NodePlan, ...]:
    """The same plans with other values: another epoch, another serial, a mistake."""
    return tuple(replace(plan, **changes) for plan in made)  # type: ignore[arg-type]
