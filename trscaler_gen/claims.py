"""Who answers one packet now, told from what every node says of itself. Pure.

Each node hashes the packet with its own tables and looks for the first node of the bucket's order that is in
its own ``alive`` set; it accepts the packet if that is itself. So every node that could be asked names an
owner, and all should name the same. What cannot be told is as for whole clusters (see ``verdict``).

Connections are not looked at here: a node that drained, came back or gave a bucket away may still have the
one that a packet belongs to (docs/packet-flow.md, "Connections"). Who may is told; who does, the nodes know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from trscaler_gen.explain import Packet, bucket_in
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock
from trscaler_gen.placement import Order
from trscaler_gen.verdict import Member, Sight, State, named, using

#: nobody of the order is alive
NOBODY = ""


@dataclass(frozen=True)
class Claim:
    """What one node says of the packet.

    ``bucket``, ``order`` (names) and ``owner`` are by its own tables, None and empty where they could not be
    read. ``accepts`` is None where it cannot be told. ``condition`` is how the node is, in words.
    """

    node: str
    condition: str
    accepts: bool | None
    facts: Facts | None = None
    bucket: int | None = None
    buckets: int = 0
    hash_input: str = ""
    order: tuple[str, ...] = ()
    owner: str | None = None
    weight: int | None = None
    sight: Sight | None = None

    @property
    def keeps(self) -> bool:
        """Whether it is drained, and would be the owner otherwise: it keeps the connections that it has."""
        if self.facts is None or not self.facts.draining or self.node not in self.order:
            return False
        return self.owner == NOBODY or self.owner in self.order[self.order.index(self.node) :]


@dataclass(frozen=True)
class Ownership:
    """Who answers a packet; ``state`` is healthy if exactly one node does.

    ``claims`` are in the order in which most nodes ask each other, then those that are not in it.
    ``presumed`` are nodes that others take for the owner, and that could not tell themselves.
    """

    packet: Packet
    state: State
    claims: tuple[Claim, ...]
    order: tuple[str, ...]
    answering: tuple[str, ...]
    presumed: tuple[str, ...]
    headline: str
    sentences: tuple[str, ...]

    @property
    def common(self) -> Claim | None:
        """A claim of the tables that most nodes use; None if no node's could be read."""
        return next((claim for claim in self.claims if claim.order and claim.order == self.order), None)


def ask_for(
    inventory: Inventory, packet: Packet, members: Sequence[Member], sights: Mapping[str, Sight]
) -> Ownership:
    """Judge what all nodes say of one packet."""
    in_use = using(members)
    claims = [_claim(member, accepts, packet, in_use, sights) for member, accepts in in_use]
    order = _commonest([claim.order for claim in claims if claim.order])
    claims.sort(key=lambda claim: order.index(claim.node) if claim.node in order else len(order))
    answering = tuple(claim.node for claim in claims if claim.accepts and claim.owner == claim.node)
    taking_part = [claim for claim in claims if _takes_part(claim)]
    unknown = {claim.node for claim in claims if claim.accepts is None}
    is_known = bool(taking_part or not unknown)
    presumed = tuple(name for name in order if name in unknown & {claim.owner for claim in taking_part})
    return Ownership(
        packet=packet,
        state=_state(answering, presumed, is_known=is_known),
        claims=tuple(claims),
        order=order,
        answering=answering,
        presumed=presumed,
        headline=_headline(answering, presumed, taking_part, is_known=is_known),
        sentences=tuple(_sentences(inventory, packet, claims, answering, members)),
    )


# --- what every node says ----------------------------------------------------------------------------------


def _claim(
    member: Member,
    accepts: bool | None,
    packet: Packet,
    in_use: Sequence[tuple[Member, bool | None]],
    sights: Mapping[str, Sight],
) -> Claim:
    facts, lock = member.facts, member.lock
    sight = sights.get(member.name)
    if facts is None or lock is None or facts.ruleset == "missing":
        return Claim(member.name, _condition(facts), accepts, facts, sight=sight)
    names = _names(lock, {other.address: other.name for other, _ in in_use})
    bucket = bucket_in(lock, packet)
    order = lock.orders[bucket]
    return Claim(
        node=member.name,
        condition=_condition(facts),
        accepts=accepts,
        facts=facts,
        bucket=bucket,
        buckets=lock.buckets,
        hash_input=lock.hash_input,
        order=tuple(names[node_id] for node_id in order),
        owner=_first(order, facts.alive, names),
        weight=lock.placement.weights.get(facts.node_id),
        sight=sight,
    )


def _names(lock: Lock, known: Mapping[IPv4Address, str]) -> dict[int, str]:
    """Names by id: those of the inventory, where it has the address."""
    return {node.node_id: known.get(node.address, node.name) for node in lock.nodes}


def _first(order: Order, alive: Collection[int], names: Mapping[int, str]) -> str:
    return next((names[node_id] for node_id in order if node_id in alive), NOBODY)


def _condition(facts: Facts | None) -> str:
    if facts is None:
        return "no answer"
    if facts.ruleset == "missing":
        return "no rules"
    words = [_life(facts)]
    if facts.ruleset != "intact":
        words.append(f"rules {facts.ruleset}")
    if facts.joining:
        words.append("joining")
    if facts.placement != "only":
        words.append(f"{facts.placement} the switch")
    return ", ".join(words)


def _life(facts: Facts) -> str:
    if facts.fenced:
        return "fenced"
    if facts.draining:
        return "drained"
    return "alive" if facts.node_id in facts.alive else "silent"


def _commonest(orders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return Counter(orders).most_common(1)[0][0] if orders else ()


def _takes_part(claim: Claim) -> bool:
    """Whether what a node says of others counts: one that stands aside, or is cut off, may hear nobody."""
    facts = claim.facts
    return facts is not None and claim.owner is not None and (bool(claim.accepts) or facts.draining)


# --- what follows ------------------------------------------------------------------------------------------


def _state(answering: Sequence[str], presumed: Sequence[str], *, is_known: bool) -> State:
    """``is_known``: a node that serves was asked, or all were."""
    if len(answering) > 1:
        return State.DEGRADED
    if presumed or not is_known:
        return State.UNKNOWN
    return State.HEALTHY if answering else State.DEGRADED


def _headline(
    answering: Sequence[str], presumed: Sequence[str], taking_part: Sequence[Claim], *, is_known: bool
) -> str:
    others = named(claim.node for claim in taking_part if claim.owner in presumed)
    if presumed and not answering:
        return f"{named(presumed)} should answer: so {others} see it; it could not tell itself"
    if presumed:
        return f"{named(answering)} answers, and {named(presumed)} may too: so {others} see it"
    if len(answering) > 1:
        return f"{len(answering)} nodes answer: {named(answering)}"
    if not answering:
        return "no node answers" if is_known else "no node that serves could be asked"
    views = {claim.owner for claim in taking_part}
    agree = (
        f"all {len(taking_part)} nodes that serve agree" if len(taking_part) > 1 else "no other node serves"
    )
    return f"{answering[0]} answers" + (f"; {agree}" if len(views) == 1 else "")


def _sentences(
    inventory: Inventory,
    packet: Packet,
    claims: Sequence[Claim],
    answering: Sequence[str],
    members: Sequence[Member],
) -> Iterator[str]:
    yield from _views(claims)
    yield from _differing_buckets(claims)
    if len(answering) != 1:
        return
    by_name = {claim.node: claim for claim in claims}
    owner = by_name[answering[0]]
    if inventory.connections == "hash-only":
        yield "connections are not kept (connections: hash-only): what is open goes where the bucket goes"
        return
    keep = f"for up to {inventory.keep_connections_s} s"
    yield from _before_owner(owner, by_name)
    yield from _joined(owner, by_name, keep)
    yield from _switched(owner, packet, members, keep)


def _views(claims: Sequence[Claim]) -> Iterator[str]:
    """Where nodes name different owners: who names whom."""
    views: dict[str, list[str]] = {}
    for claim in claims:
        if _takes_part(claim) and claim.owner is not None:
            views.setdefault(claim.owner, []).append(claim.node)
    if len(views) > 1:
        told = "; ".join(f"{named(nodes)}: {owner or 'nobody'}" for owner, nodes in views.items())
        yield f"they do not agree on the owner: {told}"


def _differing_buckets(claims: Sequence[Claim]) -> Iterator[str]:
    buckets: dict[int, list[str]] = {}
    for claim in claims:
        if claim.bucket is not None:
            buckets.setdefault(claim.bucket, []).append(claim.node)
    if len(buckets) > 1:
        told = "; ".join(f"{named(nodes)}: {bucket}" for bucket, nodes in buckets.items())
        yield f"they do not hash alike; the bucket is, by the tables of {told}"


def _before_owner(owner: Claim, by_name: Mapping[str, Claim]) -> Iterator[str]:
    """What has become of the nodes that would be asked first."""
    for name in owner.order[: owner.order.index(owner.node)]:
        first = by_name.get(name)
        if _drains(first) or (owner.sight is not None and name in owner.sight.draining):
            yield (
                f"{name} is drained: TCP connections that it has stay with it; "
                f"what is new, and all that is not TCP, goes to {owner.node}"
            )
        else:
            yield f"{name} comes before it and is not alive: the TCP connections that {name} had are reset"


def _drains(claim: Claim | None) -> bool:
    return claim is not None and claim.facts is not None and claim.facts.draining


def _joined(owner: Claim, by_name: Mapping[str, Claim], keep: str) -> Iterator[str]:
    """Who may have connections that were made while the owner was away."""
    assert owner.facts is not None
    if not owner.facts.joining:
        return
    behind = owner.order[owner.order.index(owner.node) + 1 :]
    hosts = [name for name in behind if _hosts(by_name.get(name), owner)]
    if hosts:
        yield (
            f"{owner.node} came alive lately: a TCP connection from before stays with the node that stood in "
            f"for it then, most likely {hosts[0]}, {keep}"
        )


def _hosts(claim: Claim | None, owner: Claim) -> bool:
    assert owner.facts is not None
    return claim is not None and claim.facts is not None and owner.facts.node_id in claim.facts.hosting


def _switched(owner: Claim, packet: Packet, members: Sequence[Member], keep: str) -> Iterator[str]:
    """What the other one of two placements says of the packet."""
    member = next(member for member in members if member.name == owner.node)
    facts, lock = member.facts, member.lock
    if facts is None or lock is None or not lock.before or facts.placement not in ("before", "after"):
        return
    names = _names(lock, {other.address: other.name for other in members})
    after = facts.placement == "after"
    other = _first((lock.before if after else lock.orders)[bucket_in(lock, packet)], facts.alive, names)
    if other == owner.node:
        return
    if after:
        yield f"{other} had it before the switch of placements: TCP connections of then stay with it, {keep}"
    else:
        yield f"after the switch of placements, which is still to come, {other} will own it"
