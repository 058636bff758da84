"""Whether a lock may replace the one that a node runs. Pure.

Locks form a line: each comes from the one before it, and counts one serial more. Along the line membership
changes leave all other nodes in their order, so that nodes that run different locks of one line agree about
everybody whom both know. That is what makes it safe to change them one after the other, and it is lost when
two people go on from the same lock in two directions, when an old lock is taken out of an archive, or when a
lost one is made anew.

Where the line changes the order of nodes that stay, its locks hold the orders from before as well, and nodes
begin with those until all of them switch. So what matters is not what a lock is heading for but what a node
*uses*: whether it has switched, only the node can tell. ``keeps_orders`` compares what it uses now with what
it would use right after it has taken the other lock's tables.

Nodes may run a lock that is behind: an earlier one of the line (after a rollback) is no conflict. A node that
the wanted lock does not know at all is none either: on one line it was removed, and then stopped or given up.
"""

from __future__ import annotations

from dataclasses import dataclass

from trscaler_gen.lock import Lock, LockedNode, carried, fingerprint

_PULL = "get the latest lock from version control, or from the nodes: trscaler-gen lock recover --force"
_RECOVER = "take the lock that runs, and build again: trscaler-gen lock recover --force INVENTORY"


@dataclass(frozen=True)
class Conflict:
    """Why a lock must not replace what runs, and what to do about it."""

    message: str
    hint: str


def conflict(deployed: Lock, wanted: Lock) -> Conflict | None:
    """Judge ``wanted`` against the lock that a node runs; linear in buckets times nodes."""
    if carried(deployed) == carried(wanted):
        return None
    return (
        _other_cluster(deployed, wanted)
        or _other_contract(deployed, wanted)
        or _older(deployed, wanted)
        or _grown_apart(deployed, wanted)
        or _reordered(deployed, wanted)
    )


def reinserted(deployed: Lock, wanted: Lock) -> tuple[str, ...]:
    """Nodes of both locks that have other places in the orders, or another id, by their names in ``wanted``.

    They were removed and added again in between. They have to stop before any node changes from one lock to
    the other, and to start when all have changed, as if they were removed and added now.
    """
    if deployed.epoch != wanted.epoch:  # no node takes the other epoch's for alive
        return ()
    before = {node.address: _birth(node) for node in deployed.nodes}
    return tuple(node.name for node in wanted.nodes if before.get(node.address, _birth(node)) != _birth(node))


def used(lock: Lock, *, has_switched: bool) -> Lock:
    """The lock with those orders alone that a node uses which runs it."""
    return lock.with_orders(lock.before if lock.switch and not has_switched else lock.orders)


def begun(deployed: Lock, wanted: Lock, *, has_switched: bool) -> Lock:
    """The lock with those orders alone that a node uses which goes from one lock to the other.

    A switch that it has made stays made, as long as no other one follows.
    """
    return used(wanted, has_switched=has_switched and deployed.switch == wanted.switch)


def keeps_orders(deployed: Lock, wanted: Lock, *, has_switched: bool) -> bool:
    """Whether a node that takes the wanted lock's tables goes on to agree with all that stay."""
    if deployed.epoch != wanted.epoch:  # they stand aside for one another
        return True
    now = used(deployed, has_switched=has_switched)
    return _swapped(now, begun(deployed, wanted, has_switched=has_switched)) is None


def agree(one: Lock, other: Lock) -> bool:
    """Whether two locks with one placement each give every packet the same owner, among nodes of both."""
    return one.hashing == other.hashing and _swapped(one, other) is None


def _birth(node: LockedNode) -> tuple[int, int]:
    return node.node_id, node.since


def _other_cluster(deployed: Lock, wanted: Lock) -> Conflict | None:
    if deployed.cluster == wanted.cluster:
        return None
    message = f"what runs is of cluster {deployed.cluster}, this lock of {wanted.cluster}"
    return Conflict(message, "is this the right inventory? clusters on one node need names of their own")


def _other_contract(deployed: Lock, wanted: Lock) -> Conflict | None:
    """Within an epoch all agree on the owner of every packet; a new seed there is not this line's."""
    if deployed.first_vrid != wanted.first_vrid:
        message = f"what runs begins at VRRP id {deployed.first_vrid}, this lock at {wanted.first_vrid}"
        return Conflict(message, _RECOVER)
    is_same = (deployed.seed, deployed.contract) == (wanted.seed, wanted.contract)
    if deployed.epoch != wanted.epoch or is_same:
        return None
    message = f"this lock was made anew: it is of the same epoch ({wanted.epoch}) as what runs, with another"
    return Conflict(f"{message} {'seed' if deployed.seed != wanted.seed else 'hash contract'}", _RECOVER)


def _older(deployed: Lock, wanted: Lock) -> Conflict | None:
    for word, there, here in (
        ("serial", deployed.serial, wanted.serial),
        ("epoch", deployed.epoch, wanted.epoch),
    ):
        if there > here:
            message = f"this lock is older than what runs: it has {word} {here}, what runs {there}"
            return Conflict(message, _PULL)
    return None


def _grown_apart(deployed: Lock, wanted: Lock) -> Conflict | None:
    """Compare with the ancestor of the same serial, as far back as ancestors are remembered."""
    steps = wanted.serial - deployed.serial
    if steps > len(wanted.ancestors):
        return None
    if steps and wanted.ancestors[steps - 1] == fingerprint(deployed):
        return None
    message = f"what runs (serial {deployed.serial}) and this lock (serial {wanted.serial}) have grown apart"
    return Conflict(f"{message}: neither came from the other", _RECOVER)


def _reordered(deployed: Lock, wanted: Lock) -> Conflict | None:
    """In no bucket may two nodes that stay change places, unless there was a switch since.

    Only where ancestors do not tell: along a line nothing else can be.
    """
    is_known = wanted.serial - deployed.serial <= len(wanted.ancestors)
    if is_known or deployed.epoch != wanted.epoch or wanted.switch > deployed.serial:
        return None
    bucket = _swapped(deployed, wanted)
    if bucket is None or keeps_orders(deployed, wanted, has_switched=False):
        return None
    message = f"nodes that stay have other places in the order of bucket {bucket} than in what runs"
    return Conflict(message, _RECOVER)


def _swapped(before: Lock, after: Lock) -> int | None:
    """The first bucket in which two nodes of both change places; None if there is none."""
    if before.orders == after.orders:
        return None
    stay = {(_birth(node), node.address) for node in after.nodes}
    ids = frozenset(node.node_id for node in before.nodes if (_birth(node), node.address) in stay)
    for bucket, (old, new) in enumerate(zip(before.orders, after.orders, strict=True)):
        if [node for node in old if node in ids] != [node for node in new if node in ids]:
            return bucket
    return None
