"""One node as its ruleset makes it: sets whose elements end, and what heartbeats and packets do to them.

A chain of templates/ruleset.nft.j2 is a method of the same name, in the same order of statements, as far as
it decides who owns what. Left out is what only concerns connections that exist (``hosted``, ``absent``,
keepers): of a new connection, and of everything that is not TCP, the owner is the only judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trscaler_gen.nodeplan import NodePlan

GOODBYE, DRAINS, SERVES = 0, 1, 100
NEVER = 1 << 62
MS_PER_HOUR = 3_600_000

Key = tuple[str, int]
#: what sets hold that is no node id
LINK = 0


@dataclass(frozen=True)
class Heartbeat:
    """What of a frame the rules look at."""

    sender: int
    priority: int
    epoch: int
    serial: int
    switched: bool = False


@dataclass
class Node:
    """The sets of one node; ``now`` and the ends of elements are ticks of its own clock.

    ``orders`` are the preference orders, ``before`` those until the switch (empty: there is none).
    ``calm_ms``: -1 stands for the product's. ``disputes``: the ticks at which the short way and the long one
    led to different answers.
    """

    plan: NodePlan
    tick_ms: int
    orders: Sequence[Sequence[int]]
    before: Sequence[Sequence[int]] = ()
    now: int = 0
    calm_ms: int = -1
    disputes: list[int] = field(default_factory=list)
    ends: dict[Key, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calm_ms = self.plan.calm_ms if self.calm_ms < 0 else self.calm_ms
        self.me = self.plan.node_id
        self.peers = frozenset(peer.node_id for peer in self.plan.peers)

    # --- sets ---------------------------------------------------------------------------------------

    def holds(self, name: str, key: int) -> bool:
        """Whether an element is in a set, and its time is not over."""
        return self.ends.get((name, key), 0) > self.now

    def update(self, name: str, key: int, timeout_ms: int) -> None:
        """Renew an element: its time is cut to whole ticks."""
        self.ends[name, key] = self.now + timeout_ms // self.tick_ms

    def add(self, name: str, key: int) -> None:
        """Put an element in whose time is never over."""
        self.ends[name, key] = NEVER

    def delete(self, name: str, key: int) -> None:
        """Take an element out, if it is there."""
        self.ends.pop((name, key), None)

    def next_end(self) -> int:
        """The tick at which the next element ends."""
        return min((end for end in self.ends.values() if end > self.now), default=NEVER)

    # --- what node.sh does --------------------------------------------------------------------------

    def attach(self) -> None:
        """Rules are loaded: nothing is known, and all peers are alive for a lease (peers.nft)."""
        self.ends.clear()
        self.assume_peers()

    def assume_peers(self) -> None:
        """The elements of peers.nft."""
        for peer in sorted(self.peers):
            self.update("alive", peer, self.plan.leases.peer_ms)

    def take_over_epoch(self, plan: NodePlan, orders: Sequence[Sequence[int]]) -> None:
        """The rules of another epoch come over these, with sets of their own, and peers.nft after them."""
        self.swap(plan, orders, ())
        others = ("alive", "fenced", "announcing", "abreast", "settled", "fresh", "calm", "company")
        self.ends = {key: end for key, end in self.ends.items() if key[0] not in others}
        self.assume_peers()
        self.add("announcing", self.me)

    def swap(self, plan: NodePlan, orders: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> None:
        """Rules of the same epoch are loaded over these: the sets stay."""
        self.plan, self.orders, self.before = plan, orders, before
        self.ends = {key: end for key, end in self.ends.items() if key[0] not in ("behind", "calm", "fresh")}
        self.delete("switched", LINK)
        self.__post_init__()

    def drain(self) -> None:
        """The operator wants new connections to go elsewhere."""
        self.add("drained", self.me)

    def switch(self) -> None:
        """The next heartbeat is to begin the switch to the newer placement."""
        self.add("pending", self.me)

    # --- heartbeats out -----------------------------------------------------------------------------

    def heartbeat_out(self, priority: int = SERVES) -> Heartbeat:
        """A heartbeat passes the egress hook: what it says then, and what it does to this node's leases."""
        if self.holds("fenced", self.me):
            priority = GOODBYE
        if self.holds("pending", self.me):
            self.switch_over()
            self.delete("pending", self.me)
        said = Heartbeat(self.me, priority, self.plan.epoch, self.plan.serial, self.holds("switched", LINK))
        if priority == GOODBYE:
            self.stand_down()
            return said
        if self.holds("drained", self.me):
            return self.say_drain(said)
        if self.holds("announcing", self.me):
            self.delete("announcing", self.me)
            return said
        self.renew_own()
        return said

    def say_drain(self, said: Heartbeat) -> Heartbeat:
        self.delete("settled", self.me)
        self.no_calm(self.me)
        self.update("draining", self.me, self.plan.leases.own_ms)
        self.delete("alive", self.me)
        return Heartbeat(said.sender, DRAINS, said.epoch, said.serial, said.switched)

    def renew_own(self) -> None:
        """The end of the chain heartbeat_out."""
        own_ms = self.plan.leases.own_ms
        if not self.holds("alive", self.me):
            self.come_anew()
        is_steady = self.has_company and not self.holds("joining", self.me) and not self.holds("moving", LINK)
        if is_steady:
            self.update("settled", self.me, own_ms)
        if (is_steady or not self.plan.preserves) and (not self.before or self.holds("switched", LINK)):
            self.look_around()
        if self.holds("alive", self.me):
            self.delete("draining", self.me)
        self.update("alive", self.me, own_ms)

    def look_around(self) -> None:
        if self.calm_ms and all(self.holds("fresh", peer) for peer in self.peers):
            self.update("calm", LINK, self.calm_ms)

    def no_calm(self, node: int) -> None:
        self.delete("fresh", node)
        self.delete("calm", LINK)

    def switch_over(self) -> None:
        self.update("moving", LINK, self.plan.keep_s * 1000)
        self.add("switched", LINK)

    def stand_down(self) -> None:
        self.no_calm(self.me)
        for name in ("settled", "alive", "draining"):
            self.delete(name, self.me)

    def come_anew(self) -> None:
        self.update("joining", self.me, self.plan.keep_s * 1000)
        self.delete("settled", self.me)
        self.no_calm(self.me)
        self.delete("reached", LINK)

    # --- heartbeats in ------------------------------------------------------------------------------

    def heartbeat_in(self, heard: Heartbeat) -> None:
        """A heartbeat of a node passes the ingress hook, with its sender's stamp."""
        if heard.sender not in self.peers or heard.epoch < self.plan.epoch:
            return
        if heard.epoch > self.plan.epoch:
            self.outdated()
        else:
            self.heard(heard)

    def heard(self, heard: Heartbeat) -> None:
        is_of_switch = self.before and heard.switched and heard.serial >= self.plan.switch
        if is_of_switch and not self.holds("switched", LINK):
            self.switch_over()
        if heard.priority == GOODBYE:
            self.no_calm(heard.sender)
            for name in ("settled", "alive", "draining"):
                self.delete(name, heard.sender)
        elif heard.priority == DRAINS:
            self.drains(heard)
        else:
            self.lives(heard)

    def drains(self, heard: Heartbeat) -> None:
        self.delete("settled", heard.sender)
        self.no_calm(heard.sender)
        self.update("draining", heard.sender, self.plan.leases.peer_ms)
        self.delete("alive", heard.sender)
        self.renewed(heard)

    def lives(self, heard: Heartbeat) -> None:
        sender, peer_ms = heard.sender, self.plan.leases.peer_ms
        if self.holds("alive", sender):
            self.delete("draining", sender)
        else:
            self.update("hosting", sender, self.plan.keep_s * 1000)
        is_kept_out = self.holds("hosting", sender) or self.holds("moving", LINK)
        if not is_kept_out:
            self.update("settled", sender, peer_ms)
        if not self.plan.preserves or not is_kept_out:
            self.update("fresh", sender, self.calm_ms)
        self.update("alive", sender, peer_ms)
        self.renewed(heard)

    def renewed(self, heard: Heartbeat) -> None:
        if self.plan.preserves:
            if not any((self.has_company, self.holds("lately", self.me), self.holds("reached", LINK))):
                self.update("unsure", LINK, self.plan.unsure_ms)
            if not self.has_company:
                self.come_anew()
            self.update("lately", self.me, self.plan.lately_ms)
            self.update("company", self.me, self.plan.leases.peer_ms)
        if heard.serial > self.plan.serial:
            self.ahead()
        else:
            self.update("abreast", self.me, self.plan.abreast_ms)

    @property
    def has_company(self) -> bool:
        """Whether anybody has been heard within a lease."""
        return self.holds("company", self.me)

    def ahead(self) -> None:
        serves = self.holds("alive", self.me) or self.holds("draining", self.me)
        if serves and self.holds("abreast", self.me) and not self.holds("behind", self.me):
            return
        self.add("behind", self.me)
        self.outdated()

    def outdated(self) -> None:
        self.stand_down()
        self.update("fenced", self.me, self.plan.leases.peer_ms)

    # --- packets ------------------------------------------------------------------------------------

    def takes(self, bucket: int) -> bool:
        """Whether this node is the one that answers the first packet of a connection."""
        has_switched = not self.before or self.holds("switched", LINK)
        order = (self.orders if has_switched else self.before)[bucket]
        known = [node for node in order if node == self.me or node in self.peers]
        answer = self.walk(known)
        if not self.holds("calm", LINK):
            return answer
        if answer != (known[0] == self.me):
            self.disputes.append(self.now)
        return known[0] == self.me

    def walk(self, known: Sequence[int]) -> bool:
        """The long way: the first node of the order that is alive."""
        if self.plan.preserves and self.holds("settled", known[0]):
            return known[0] == self.me
        owner = next((node for node in known if self.holds("alive", node)), None)
        return owner == self.me and (not self.plan.preserves or self.owner())

    def owner(self) -> bool:
        """Whether this node answers for a bucket that is its own."""
        if self.holds("unsure", LINK):
            return False
        return self.has_company or self.alone()

    def alone(self) -> bool:
        if self.holds("lately", self.me):
            self.update("reached", LINK, MS_PER_HOUR)
        was_reached = self.holds("reached", LINK)
        self.update("reached", LINK, MS_PER_HOUR)
        if not was_reached:
            self.update("unsure", LINK, self.plan.unsure_ms)
        return was_reached
