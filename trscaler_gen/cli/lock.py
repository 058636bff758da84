"""``trscaler-gen lock``: what is done to a lock by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trscaler_gen.cli import report
from trscaler_gen.cli.clusters import accept_new_option, parallel_option, tell_new_key
from trscaler_gen.cli.consent import ask
from trscaler_gen.cli.inventories import refuse_follower
from trscaler_gen.deploy import Phase
from trscaler_gen.deploy.deployment import connector
from trscaler_gen.deploy.fleet import Fleet
from trscaler_gen.deploy.recover import NodeLocks, newest, read_locks
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, reseed
from trscaler_gen.lockfile import draw_seed, lock_path, read_lock, set_aside, write_lock

if TYPE_CHECKING:
    from trscaler_gen.transport import Connection


@click.group(name="lock")
def command() -> None:
    """Get a lost lock back, or give a cluster another seed.

    Example: trscaler-gen lock recover inventory/lab.yaml
    """


@command.command(name="recover")
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option("--without", multiple=True, metavar="NODE", help="Do not ask this node; may be given again.")
@click.option("--force", is_flag=True, help="Replace a lock that is there; it is kept with .bak at its end.")
@accept_new_option
@parallel_option
def recover(inventory: Path, without: tuple[str, ...], force: bool, accept_new: bool, parallel: int) -> None:
    """Read the lock from the nodes and write it beside INVENTORY; nodes are not changed.

    All nodes of the inventory are asked, and the last lock is taken. No node can tell which others were
    removed and not stopped yet.

    Example: trscaler-gen lock recover inventory/lab.yaml
    """
    wanted, path = load_inventory(inventory), lock_path(inventory)
    _refuse_unknown(without, wanted)
    if path.exists() and not force:
        hint = f"if it is to be replaced: --force (it is kept as {path.name}.bak)"
        raise OperationError(f"{path} exists; nothing was written", hint)
    names = [name for name in wanted.nodes if name not in without]
    held = _read(wanted, names, parallel=parallel, accept_new=accept_new)
    _show_serials(names, held)
    chosen = newest(held)
    kept = set_aside(path)
    write_lock(path, chosen)
    _show_written(path, chosen, kept, inventory)


@command.command(name="reseed")
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def reseed_command(inventory: Path, yes: bool) -> None:
    """Draw another hash seed, for one that has become known; the next apply brings it to the nodes.

    Example: trscaler-gen lock reseed inventory/lab.yaml
    """
    wanted, path = load_inventory(inventory), lock_path(inventory)
    lock = read_lock(path)
    if lock is None:
        raise OperationError(f"{path} does not exist; nothing was written", "the first build draws a seed")
    _refuse_other_cluster(lock, wanted, path)
    refuse_follower(wanted, inventory)
    click.echo("With another seed clients meet other nodes: the next apply breaks connections.", err=True)
    ask("Draw another seed?", yes)
    renewed = reseed(lock, draw_seed(), str(path))
    write_lock(path, renewed)
    click.echo(f"{path} has another seed: epoch {renewed.epoch}, serial {renewed.serial}")
    click.echo(f"next: trscaler-gen apply --allow-disruption {inventory}")


def _refuse_unknown(names: Iterable[str], inventory: Inventory) -> None:
    for name in names:
        if name not in inventory.nodes:
            raise click.UsageError(f"--without {name}: not a node of {inventory.source}")


def _refuse_other_cluster(lock: Lock, inventory: Inventory, path: Path) -> None:
    if lock.cluster != inventory.cluster:
        message = f"{path} is the lock of cluster {lock.cluster}, the inventory is of {inventory.cluster}"
        raise OperationError(f"{message}; nothing was written", "give each inventory a file name of its own")


def _read(
    inventory: Inventory, names: Iterable[str], *, parallel: int, accept_new: bool
) -> dict[str, NodeLocks]:
    """Ask all nodes; says what is wrong with each one that cannot tell, and raises OperationError."""
    reach = connector(inventory, {}, tell_new_key if accept_new else None)

    def task(node: str, connection: Connection) -> NodeLocks | None:
        return read_locks(node, connection, inventory.cluster)

    with (
        ThreadPoolExecutor(parallel, thread_name_prefix="lock") as executor,
        Fleet(reach, executor=executor) as fleet,
    ):
        answers = fleet.each(Phase.OBSERVE, names, task)
    if fleet.interrupted:
        raise KeyboardInterrupt
    failed = [answer for answer in answers.values() if isinstance(answer, NodeError)]
    for error in failed:
        report(error)
    if failed:
        hint = "mend that, or leave them out: " + " ".join(f"--without {error.node}" for error in failed)
        raise OperationError("not every node could tell its lock; nothing was written", hint)
    return {node: answer for node, answer in answers.items() if isinstance(answer, NodeLocks)}


def _show_serials(names: Iterable[str], held: Mapping[str, NodeLocks]) -> None:
    for name in names:
        locks = held.get(name)
        click.echo(f"{name}: serial {locks.current.serial}" if locks else f"{name}: nothing of this cluster")


def _show_written(path: Path, lock: Lock, kept: Path | None, inventory: Path) -> None:
    nodes = ", ".join(node.name for node in lock.nodes)
    click.echo(f"wrote {path}: serial {lock.serial}, epoch {lock.epoch}, nodes {nodes}")
    if kept is not None:
        click.echo(f"the lock before is {kept}")
    click.echo(f"next: trscaler-gen plan {inventory}")
