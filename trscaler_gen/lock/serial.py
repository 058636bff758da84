"""Counting the changes of a lock, and remembering what was before them."""

from __future__ import annotations

from dataclasses import replace

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.lock.model import MAX_ANCESTORS, MAX_EPOCH, MAX_SERIAL, Lock, carried
from trscaler_gen.lock.text import fingerprint

#: what is left where a cluster cannot follow
MAKE_ANEW = (
    "make the cluster anew: take every node down and erase it (node.sh down, then node.sh erase), move the "
    "lock away, and apply"
)


def numbered(changed: Lock, before: Lock, source: str) -> Lock:
    """Count a change of what nodes carry, and remember what was before it; raises InputError at the end."""
    if carried(changed) == carried(before):
        return changed
    if before.serial == MAX_SERIAL:
        message = f"serial {MAX_SERIAL} is the last: nothing can change any more"
        raise InputError([Problem(source, 0, 0, "no-serial-left", message, MAKE_ANEW)])
    ancestors = (fingerprint(before), *before.ancestors)[:MAX_ANCESTORS]
    return replace(changed, serial=before.serial + 1, ancestors=ancestors)


def in_next_epoch(lock: Lock, source: str) -> Lock:
    """Begin another epoch; raises InputError when the last one is reached.

    Nodes of two epochs never take each other for alive, so nothing is left to switch: who begins the new one
    uses the new orders.
    """
    if lock.epoch == MAX_EPOCH:
        message = f"epoch {MAX_EPOCH} is the last: the contract cannot change any more"
        raise InputError([Problem(source, 0, 0, "no-epoch-left", message, MAKE_ANEW)])
    return replace(lock, epoch=lock.epoch + 1, before=(), switch=0)
