"""Whom a node holds for alive, by the tables that it runs. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address

from trscaler_gen.facts import Facts
from trscaler_gen.lock import Lock


def hears(facts: Facts, lock: Lock, address: IPv4Address) -> bool:
    """Whether a node that runs what ``lock`` built holds another, at this address, for alive.

    Its kernel knows ids alone: what they mean is told by its own tables, not by newer ones.
    """
    node_id = lock.ids.get(address, 0)
    return node_id not in (0, facts.node_id) and node_id in facts.alive
