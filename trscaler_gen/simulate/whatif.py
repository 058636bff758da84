"""What if: the cluster with nodes down, nodes added, or other weights, as an apply would make it.

Orders come from the same ``reconcile`` that a change of the inventory goes through, never from a likeness of
it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from pydantic import TypeAdapter, ValidationError

from trscaler_gen.inventory.model import MAX_NODES, Inventory, Node
from trscaler_gen.inventory.text import quoted
from trscaler_gen.inventory.words import NodeName
from trscaler_gen.lock import Lock, reconcile
from trscaler_gen.placement import owners

AS_IT_IS = "as it is"
#: nobody is spoken to at the address of a node that is only thought of
_FIRST_ADDRESS = IPv4Address("192.0.2.1")


@dataclass(frozen=True)
class Change:
    """What is different at once: who is down, who is new (name -> weight), who weighs something else."""

    down: tuple[str, ...] = ()
    add: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the views call it."""
        words = [f"{name} down" for name in self.down]
        words += [f"with {name}" + (f" at weight {w}" if w != 1 else "") for name, w in self.add.items()]
        words += [f"{name} at weight {weight}" for name, weight in self.weights.items()]
        return ", ".join(words) or AS_IT_IS


@dataclass(frozen=True)
class State:
    """A state of the cluster: ``owners`` has a node id for each bucket, ``alive`` ids."""

    name: str
    lock: Lock
    owners: tuple[int, ...]
    alive: frozenset[int]


def together(changes: Iterable[Change]) -> Change:
    """All changes as one; what a later one says of a node holds."""
    down: dict[str, None] = {}
    add: dict[str, int] = {}
    weights: dict[str, int] = {}
    for change in changes:
        down |= dict.fromkeys(change.down)
        add |= change.add
        weights |= change.weights
    return Change(tuple(down), add, weights)


def state_after(inventory: Inventory, lock: Lock, change: Change) -> State:
    """The cluster after a change; raises ValueError when there is no such change, InputError as a build."""
    changed = _changed(inventory, lock, change)
    after = lock if changed is inventory else reconcile(changed, lock, seed=lock.seed)
    ids = {node.name: node.node_id for node in after.nodes}
    for name in change.down:
        _require(name, ids, "down")
    alive = frozenset(ids.values()) - {ids[name] for name in change.down}
    found = owners(after.placement, alive)
    if not alive:
        raise ValueError(f"{change.name}: no node is left")
    return State(change.name, after, tuple(owner or 0 for owner in found), alive)


def _changed(inventory: Inventory, lock: Lock, change: Change) -> Inventory:
    if not change.add and not change.weights:
        return inventory
    if inventory.hash.like is not None:
        raise ValueError(f"nodes and weights are those of {inventory.hash.like}: simulate the change there")
    nodes = dict(inventory.nodes)
    for name, weight in change.weights.items():
        _require(name, nodes, "weight")
        node = inventory.nodes[name]
        nodes[name] = node.model_copy(update={"weight": _node(node.address, weight, name).weight})
    taken: set[object] = {node.address for node in nodes.values()} | {node.address for node in lock.retired}
    taken |= set(inventory.virtual_addresses)
    for name, weight in change.add.items():
        if name in nodes:
            raise ValueError(f"add: {name} is a node already")
        address = next(a for n in range(2**16) if (a := _FIRST_ADDRESS + n) not in taken)
        taken.add(address)
        nodes[_checked_name(name)] = _node(address, weight, name)
    if len(nodes) > MAX_NODES:
        raise ValueError(f"{change.name}: {len(nodes)} nodes, and a cluster has {MAX_NODES} at most")
    return inventory.model_copy(update={"nodes": nodes})


def _require(name: str, known: Iterable[str], option: str) -> None:
    if name not in known:
        raise ValueError(f"{option}: {quoted(name)} is not a node (there are: {', '.join(sorted(known))})")


def _node(address: object, weight: int, name: str) -> Node:
    try:
        return Node.model_validate({"address": str(address), "weight": weight})
    except ValidationError as error:
        raise ValueError(f"{name}={weight}: {error.errors()[0]['msg']}") from None


def _checked_name(name: str) -> str:
    try:
        return str(TypeAdapter(NodeName).validate_python(name))
    except ValidationError as error:
        raise ValueError(f"add: {error.errors()[0]['msg']}") from None
