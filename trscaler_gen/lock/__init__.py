"""The lock: what must stay the same from one build to the next.

The inventory says what the cluster is to be; the lock remembers what was decided for it once: node ids, the
hash seed, the cluster's hardware address, and every bucket's order of nodes. ``reconcile`` brings the two
together and changes as little as it can.

Three things tell locks apart. The *epoch* guards the contract that all nodes must share to agree on a
packet's owner: what is hashed, whom neighbours send to, and how heartbeats are sent and leases counted. It
goes up when one of these changes, so that nodes of the two sides never take each other for alive. The
*serial* goes up with every change of what nodes carry; of two nodes the one with the lower serial has missed
something. *Ancestors* name the locks that this one came from, so that two that grew apart are known even when
their serials differ.

A node is what its address reaches: another name for the same address is the same node, and another address
under the same name is another node, the old one of which has to be stopped.
"""

from trscaler_gen.lock.like import check_likeness
from trscaler_gen.lock.model import (
    MAX_ANCESTORS,
    MAX_EPOCH,
    MAX_SERIAL,
    Lock,
    LockedNode,
    RetiredNode,
    carried,
    forget_retired,
)
from trscaler_gen.lock.parse import parse_lock
from trscaler_gen.lock.reconcile import reconcile, reseed
from trscaler_gen.lock.switch import begin_with, rebalance
from trscaler_gen.lock.text import VERSION, fingerprint, render_lock

__all__ = [
    "MAX_ANCESTORS",
    "MAX_EPOCH",
    "MAX_SERIAL",
    "VERSION",
    "Lock",
    "LockedNode",
    "RetiredNode",
    "begin_with",
    "carried",
    "check_likeness",
    "fingerprint",
    "forget_retired",
    "parse_lock",
    "rebalance",
    "reconcile",
    "render_lock",
    "reseed",
]
