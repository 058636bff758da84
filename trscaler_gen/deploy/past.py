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


def wanted_again(
    fleet: Fleet, inventory: Inventory, generations: Mapping[str, str], deployed: Lock
) -> Wanted:
    """Read what nodes ran once, by the generation of each; raises OperationError if it is not there any more.

    Nodes of the inventory without a generation were no members then: they leave, as in ``deployed`` they are.
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
    gone = {
        node.name: RetiredNode(node.node_id, node.name, node.address)
        for node in deployed.nodes
        if node.name in inventory.nodes and node.name not in generations
    }
    return Wanted(inventory, lock, bundles, gone, lock_before=lock, is_return=True)


def _bundle(node: str, connection: Connection, cluster: str, generation: str) -> Bundle:
    (manifest,) = read_files(node, connection, cluster, generation, [MANIFEST]).values()
    lines = (line.split("  ", 1) for line in manifest.decode().splitlines() if not line.startswith("#"))
    names = [words[1] for words in lines if len(words) == 2]
    files = read_files(node, connection, cluster, generation, names)
    return Bundle(cluster, node, generation, {**files, MANIFEST: manifest})


def _lock(bundles: Mapping[str, Bundle]) -> Lock:
    """The lock of that time, the same on all nodes."""
    texts = {bundle.files.get(LOCK, b"") for bundle in bundles.values()}
    if len(texts) != 1:
        raise OperationError("the nodes did not run one state of the cluster then", "name another with --to")
    try:
        return parse_lock(texts.pop().decode(), "the nodes' lock")
    except (InputError, UnicodeDecodeError) as error:
        raise OperationError(f"the lock that the nodes ran then cannot be read: {error}") from error
