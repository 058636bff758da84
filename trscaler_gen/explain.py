"""Which node a packet belongs to, and why: its bucket, the bucket's order, and who of it is alive. Pure.

A packet that a shared address sends, an answer, is decided by nobody: it leaves from the node that made it.
What can be said of it is whose flow it belongs to, and that is decided by the packets that ask. The same is
true of an ICMP error, which belongs to the flow of the packet that it quotes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from trscaler_gen.inventory.model import Inventory
from trscaler_gen.jhash import bucket_of
from trscaler_gen.lock import Lock
from trscaler_gen.mac import inner_address
from trscaler_gen.packetlines import LineError, Pair, Seen

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Packet:
    """A packet as the nodes decide it: it goes to a shared address, or comes in by the link to be forwarded.

    ``note`` says how it came of what was given, where that was something else.
    """

    source: Address
    destination: Address
    note: str = ""


class State(Enum):
    """What a node is to a bucket."""

    DOWN = "down"
    OWNER = "owner"
    NEXT = "next"
    LATER = ""


@dataclass(frozen=True)
class Place:
    """A node of a bucket's order."""

    node: str
    weight: int
    state: State


@dataclass(frozen=True)
class Explanation:
    """A packet's bucket, and the nodes in the order in which they are asked.

    ``before`` is the order that nodes use until they switch to this one, empty where it is the same or where
    there is no switch. ``notes`` are sentences.
    """

    packet: Packet
    hash_input: str
    bucket: int
    buckets: int
    places: tuple[Place, ...]
    before: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def owner(self) -> str | None:
        """The first node of the order that is not down; None if all are."""
        return next((place.node for place in self.places if place.state is State.OWNER), None)

    @property
    def successors(self) -> tuple[str, ...]:
        """Who owns it if the owner is gone as well, and so on."""
        return tuple(p.node for p in self.places if p.state in (State.NEXT, State.LATER))

    @property
    def down(self) -> tuple[str, ...]:
        """The nodes that are taken to be down."""
        return tuple(place.node for place in self.places if place.state is State.DOWN)


# --- which packet ------------------------------------------------------------------------------------------


def hardware_of(lock: Lock) -> frozenset[str]:
    """The hardware addresses that frames for the nodes have."""
    return frozenset(map(str, (lock.cluster_mac, inner_address(lock.cluster_mac))))


def packet_between(inventory: Inventory, source: Address, destination: Address) -> Packet:
    """The packet from one address to another; raises LineError if no node would decide it."""
    if source.version != destination.version:
        raise LineError(f"{source} and {destination} are of different families")
    if destination in inventory.virtual_addresses or _forwards(inventory):
        return Packet(source, destination)
    if source in inventory.virtual_addresses:
        hint = f"its flow is that of the packets from {destination} to {source}"
        raise LineError(f"a packet from {source} is an answer, and decided by nobody", hint)
    raise _not_shared(inventory, (source, destination))


def packet_of(inventory: Inventory, seen: Seen, hardware: Collection[str]) -> Packet:
    """The packet that a line shows, or that belongs to the same flow; raises LineError.

    ``hardware`` are the addresses of frames for the nodes, empty if they are not known.
    """
    if seen.is_error:
        return _error(inventory, seen, hardware)
    for source, destination in seen.pairs:
        if destination in inventory.virtual_addresses:
            return packet_between(inventory, source, destination)
        if source in inventory.virtual_addresses:
            return _answered(inventory, (source, destination))
    if not _forwards(inventory):
        raise _not_shared(inventory, seen.pairs[0])
    return _forwarded(inventory, seen, hardware)


def _error(inventory: Inventory, seen: Seen, hardware: Collection[str]) -> Packet:
    """The packets of the flow that the quoted packet is an answer in."""
    reporter, told = seen.pairs[0]
    if reporter in inventory.virtual_addresses:
        return _answered(inventory, (reporter, told))
    if told not in inventory.virtual_addresses and not _forwards(inventory):
        raise _not_shared(inventory, seen.pairs[0])
    if _leaves(seen, hardware):
        raise LineError("this ICMP error leaves the node, and is decided by nobody")
    if seen.about is None:
        raise LineError(
            "an ICMP error belongs to the flow that it quotes, which is not on this line",
            "tcpdump -v writes the quoted packet on a line of its own: explain that one",
        )
    note = (
        f"an ICMP error from {reporter} about a packet to {seen.about}: decided like the packets from there"
    )
    packet = packet_between(inventory, seen.about, told)
    return Packet(packet.source, packet.destination, note)


def _answered(inventory: Inventory, answer: Pair) -> Packet:
    packet = packet_between(inventory, answer[1], answer[0])
    return Packet(packet.source, packet.destination, f"what {answer[0]} sends answers such packets")


def _forwarded(inventory: Inventory, seen: Seen, hardware: Collection[str]) -> Packet:
    """A packet that nodes forward: only the frame's destination tells whether it comes in by this link."""
    source, destination = seen.pairs[0]
    if _leaves(seen, hardware):
        packet = packet_between(inventory, destination, source)
        note = f"a frame to {seen.hardware} leaves by this link; such packets come in by it in the same flow"
        return Packet(packet.source, packet.destination, note)
    note = (
        ""
        if seen.hardware
        else f"taken for a packet that comes in by {inventory.link}; tcpdump -e would tell"
    )
    packet = packet_between(inventory, source, destination)
    return Packet(packet.source, packet.destination, note)


def _leaves(seen: Seen, hardware: Collection[str]) -> bool:
    """Whether the frame is known to be for somebody else than the nodes."""
    return bool(seen.hardware and hardware) and seen.hardware not in hardware


def _forwards(inventory: Inventory) -> bool:
    return any(inventory.forwards_to_of(name) for name in inventory.nodes)


def _not_shared(inventory: Inventory, pair: Pair) -> LineError:
    shared = ", ".join(str(address) for address in inventory.virtual_addresses)
    which = "the virtual address is" if len(inventory.virtual_addresses) == 1 else "the virtual addresses are"
    message = f"neither {pair[0]} nor {pair[1]} is a virtual address of {inventory.cluster}"
    return LineError(message, f"{which} {shared}")


# --- whose it is -------------------------------------------------------------------------------------------


def explain(inventory: Inventory, lock: Lock, packet: Packet, down: Collection[str] = ()) -> Explanation:
    """Say which bucket a packet has, and who is asked for it in turn; ``down`` are names."""
    bucket = bucket_in(lock, packet)
    names = {node.node_id: node.name for node in lock.nodes}
    weights = {node.name: node.weight for node in lock.nodes}
    order = [names[node_id] for node_id in lock.orders[bucket]]
    before = [names[node_id] for node_id in lock.before[bucket]] if lock.before else order
    return Explanation(
        packet=packet,
        hash_input=lock.hash_input,
        bucket=bucket,
        buckets=lock.buckets,
        places=_places(order, weights, down),
        before=() if before == order else tuple(before),
        notes=notes_on(inventory, packet),
    )


def bucket_in(lock: Lock, packet: Packet) -> int:
    """The bucket of a packet by the seed, the input and the number of buckets of a lock."""
    return bucket_of(
        packet.source,
        packet.destination,
        hash_input=lock.hash_input,
        seed=lock.seed,
        buckets=lock.buckets,
    )


def _places(order: Sequence[str], weights: dict[str, int], down: Collection[str]) -> tuple[Place, ...]:
    alive = [name for name in order if name not in down]
    states = dict.fromkeys(down, State.DOWN) | dict(zip(alive, (State.OWNER, State.NEXT), strict=False))
    return tuple(Place(name, weights[name], states.get(name, State.LATER)) for name in order)


def notes_on(inventory: Inventory, packet: Packet) -> tuple[str, ...]:
    """What else is to be said of a packet, in sentences."""
    notes = [packet.note] if packet.note else []
    own = [name for name, node in inventory.nodes.items() if node.address == packet.source]
    if own and packet.destination in inventory.virtual_addresses:
        notes.append(
            f"{packet.source} is {own[0]}'s own: what a node sends to a virtual address, it answers itself"
        )
    links = sorted({link for name in inventory.nodes if (link := inventory.forwards_to_of(name))})
    if links and packet.destination not in inventory.virtual_addresses:
        notes.append(
            f"it is forwarded to {', '.join(links)}: the answers come in there, and the cluster of "
            "that link, if the two are alike (hash.like), gives them to the same node"
        )
    return tuple(notes)
