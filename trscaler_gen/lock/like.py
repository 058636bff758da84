"""Two clusters of the same nodes with the same placement: the lock of one is taken from the other's.

Nodes that forward have a cluster on each of two links. Both directions of a flow come to the same node where
the two clusters put the same things into the same buckets (one seed, mirrored inputs), and rank their nodes
alike (the same ids and orders). Everything else is each cluster's own: addresses, heartbeats, epoch, serial.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.jhash import MIRRORED
from trscaler_gen.lock.model import Lock, LockedNode, RetiredNode
from trscaler_gen.lock.switch import switching
from trscaler_gen.placement import Placement

#: how many VRRP router ids a cluster has
_VRIDS = 64


def check_likeness(inventory: Inventory, like: Lock) -> None:
    """Hold an inventory against the lock that it is to follow; raises InputError with all that differs."""
    problems = list(_differences(inventory, like))
    if problems:
        raise InputError(problems)


def check_ids(inventory: Inventory, like: Lock, lock: Lock) -> None:
    """Make sure that ids which the other lock gives are free here, or the same node's; raises InputError."""
    problems = []
    holders: list[LockedNode | RetiredNode] = [*lock.nodes, *lock.retired]
    for name, node in inventory.nodes.items():
        node_id = like_node(like, name).node_id
        for holder in holders:
            if (holder.node_id == node_id) != (holder.address == node.address):
                message = (
                    f"{name} has id {node_id} in {inventory.hash.like}; "
                    f"here {holder.name} at {holder.address} has id {holder.node_id}"
                )
                hint = f"take {name} out of both inventories and apply both, then add it to both"
                problems.append(_problem(inventory, "like-ids", message, hint))
    if problems:
        raise InputError(problems)


def like_node(like: Lock, name: str) -> LockedNode:
    """The other cluster's entry for the node of this name."""
    return next(node for node in like.nodes if node.name == name)


def follow_orders(lock: Lock, like: Lock) -> Lock:
    """Take the other cluster's orders: from those that this one has, by a switch."""
    goal = Placement(lock.placement.weights, like.orders)
    return replace(switching(lock, goal), removals=like.removals)


def _differences(inventory: Inventory, like: Lock) -> Iterator[Problem]:
    other, own = inventory.hash.like, inventory.hash
    yield from _different_names(inventory, like)
    if "buckets" in own.model_fields_set and own.buckets != like.buckets:
        message = f"hash.buckets is {own.buckets} here, and {like.buckets} in {other}"
        yield _problem(inventory, "like-buckets", message, "leave it out here: it is taken from there")
    for node in like.nodes:
        mine = inventory.nodes.get(node.name)
        if mine and "weight" in mine.model_fields_set and mine.weight != node.weight:
            message = f"{node.name} has weight {mine.weight} here, and {node.weight} in {other}"
            yield _problem(inventory, "like-weight", message, "leave it out here: it is taken from there")
    forwards = any(inventory.forwards_to_of(name) for name in inventory.nodes)
    if forwards and own.input != MIRRORED[like.hash_input]:
        message = f"{other} hashes {like.hash_input}, so a flow's other direction needs another input here"
        yield _problem(inventory, "like-input", message, f"write input: {MIRRORED[like.hash_input]}")
    if abs(inventory.heartbeat.first_vrid - like.first_vrid) < _VRIDS:
        message = f"{_VRIDS} VRRP ids from {inventory.heartbeat.first_vrid} on meet those of {other}"
        hint = f"give one of the two another heartbeat.first_vrid, at least {_VRIDS} away"
        yield _problem(inventory, "like-vrid", message, hint)
    if inventory.cluster == like.cluster:
        message = f'{other} is of cluster "{like.cluster}" too; both run on the same hosts'
        yield _problem(inventory, "like-cluster", message, "give this cluster another name")


def _different_names(inventory: Inventory, like: Lock) -> Iterator[Problem]:
    names = {node.name for node in like.nodes}
    for missing in sorted(names - inventory.nodes.keys()):
        message = f"{inventory.hash.like} has a node {missing}, and this inventory has none"
        yield _problem(inventory, "like-nodes", message, "both need the same nodes, by name")
    for extra in sorted(inventory.nodes.keys() - names):
        message = f"{inventory.hash.like} has no node {extra}"
        yield _problem(inventory, "like-nodes", message, "both need the same nodes, by name")


def _problem(inventory: Inventory, code: str, message: str, hint: str) -> Problem:
    return Problem(inventory.source, 0, 0, code, message, hint)
