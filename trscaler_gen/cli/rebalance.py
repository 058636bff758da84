"""``trscaler-gen rebalance``."""

from __future__ import annotations

from pathlib import Path

import click

from trscaler_gen.cli.inventories import refuse_follower
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, carried, rebalance, reconcile
from trscaler_gen.lockfile import lock_path, read_lock, write_lock
from trscaler_gen.plan import traffic_of
from trscaler_gen.plan.tell import traffic_sentences
from trscaler_gen.reweigh import unevenness


@click.command(name="rebalance")
@click.argument("inventory", type=click.Path(path_type=Path))
def command(inventory: Path) -> None:
    """Make uneven shares exact again, with the fewest moves; the next apply brings it to the nodes.

    Nodes that were added and removed leave the shares a little less even each time. Only the lock beside
    INVENTORY is changed here; the apply switches all nodes at one moment, and connections stay.

    Example: trscaler-gen rebalance inventory/lab.yaml
    """
    wanted, path = load_inventory(inventory), lock_path(inventory)
    refuse_follower(wanted, inventory)
    lock = _settled_lock(wanted, path, inventory)
    even = rebalance(lock, str(path))
    if even == lock:
        click.echo(f"nothing to do: every node has its exact share ({_fullest(lock)})")
        return
    for sentence in traffic_sentences(traffic_of(lock, even)):
        click.echo(sentence)
    click.echo(f"before: {_fullest(lock)}; after: {_fullest(even)}")
    write_lock(path, even)
    click.echo(f"{path} has the new orders: serial {even.serial}")
    click.echo(f"next: trscaler-gen apply {inventory}")


def _settled_lock(wanted: Inventory, path: Path, inventory: Path) -> Lock:
    """The lock, if nothing in the inventory waits to be carried over; raises OperationError or InputError."""
    lock = read_lock(path)
    if lock is None:
        raise OperationError(f"{path} does not exist; nothing was written", "a fresh cluster is even")
    if carried(reconcile(wanted, lock, seed=lock.seed)) != carried(lock):
        message = f"{inventory} has changes that are not in {path} yet; nothing was written"
        raise OperationError(message, f"bring them to the nodes first: trscaler-gen apply {inventory}")
    return lock


def _fullest(lock: Lock) -> str:
    return f"the fullest node has {unevenness(lock.placement):.2f} times its share"
