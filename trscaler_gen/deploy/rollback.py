"""What a cluster ran before, as its nodes still hold it: to roll back is a plan like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trscaler_gen.bundle import LOCK, MANIFEST, Bundle
from trscaler_gen.deploy.fleet import Fleet, Phase
from trscaler_gen.deploy.node import read_files
from trscaler_gen.errors import InputError, NodeError, OperationError
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, RetiredNode, parse_lock
from trscaler_gen.plan import Wanted

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection

_OTHER_HINT = "name another change with --to; which there are: trscaler-gen history INVENTORY"


def wanted_again(
    fleet: Fleet, inventory: Inventory, generations: Mapping[str, str], deployed: Lock
) -> Wanted:
    """Read what nodes ran once, by the generation of each; raises OperationError if it is not there any more.

    Nodes that run now, by the lock ``deployed``, and were none then, leave.
    """
    strangers = [name for name in generations if name not in inventory.nodes]
    if strangers:
        hint = "put it back into the inventory and apply: it has nothing any more to go back to"
        raise OperationError(f"{', '.join(strangers)} was a node then, and is not in the inventory", hint)

    def task(node: str, connection: Connection) -> Bundle:
        return _bundle(node, connection, inventory.cluster, generations[node])

    bundles: dict[str, Bundle] = {}
    names = [name for name in inventory.nodes if name in generations]
    for node, outcome in fleet.each(Phase.OBSERVE, names, task).items():
        if isinstance(outcome, NodeError):
            raise outcome
        bundles[node] = outcome
    lock = _lock(bundles)
    _require_all_members(inventory, lock, bundles)
    return Wanted(
        inventory, lock, bundles, _no_members(inventory, lock, deployed), lock_before=lock, is_rollback=True
    )


def _require_all_members(inventory: Inventory, lock: Lock, bundles: Mapping[str, Bundle]) -> None:
    """A node that missed to write down what it ran then must not be taken for one that was none."""
    there = {inventory.nodes[name].address for name in bundles}
    missing = [node.name for node in lock.nodes if node.address not in there]
    if missing:
        hint = "put the inventory back as it was then, and apply it"
        raise OperationError(f"{', '.join(missing)} was a node then, and does not know what it ran", hint)


def _no_members(inventory: Inventory, lock: Lock, deployed: Lock) -> dict[str, RetiredNode]:
    names = {node.address: name for name, node in inventory.nodes.items()}
    members = {node.address for node in lock.nodes}
    return {
        names.get(node.address, node.name): RetiredNode(node.node_id, node.name, node.address)
        for node in deployed.nodes
        if node.address not in members
    }


def _bundle(node: str, connection: Connection, cluster: str, generation: str) -> Bundle:
    manifest = read_files(node, connection, cluster, generation, [MANIFEST]).get(MANIFEST)
    if manifest is None:
        raise NodeError(node, f"generation {generation} there has no {MANIFEST}", hint=_OTHER_HINT)
    text = manifest.decode(errors="replace")
    lines = (line.split("  ", 1) for line in text.splitlines() if not line.startswith("#"))
    names = [words[1] for words in lines if len(words) == 2]
    files = read_files(node, connection, cluster, generation, names)
    return Bundle(cluster, node, generation, {**files, MANIFEST: manifest})


def _lock(bundles: Mapping[str, Bundle]) -> Lock:
    """The lock of that time, the same on all nodes."""
    texts = {bundle.files.get(LOCK, b"") for bundle in bundles.values()}
    if len(texts) != 1:
        raise OperationError("the nodes did not run one state of the cluster then", _OTHER_HINT)
    try:
        return parse_lock(texts.pop().decode(), "the nodes' lock")
    except (InputError, UnicodeDecodeError) as error:
        message = f"the lock that the nodes ran then cannot be read: {error}"
        raise OperationError(message, _OTHER_HINT) from error
