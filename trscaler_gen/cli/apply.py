"""``trscaler-gen apply``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR, report
from trscaler_gen.console.progress import Watch, show_results
from trscaler_gen.deploy import Action, NodeResult, Report, Work, apply
from trscaler_gen.errors import NodeError
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, RetiredNode, forget_retired
from trscaler_gen.lockfile import write_lock
from trscaler_gen.pipeline import Compiled, compile_inventory
from trscaler_gen.transport import Connection, connect, resolve

_EXIT_INTERRUPTED = 130


@click.command(name="apply")
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option(
    "--parallel",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="How many nodes are worked on at a time.",
)
@click.option(
    "--forget",
    multiple=True,
    metavar="NODE",
    help="A node that left the inventory and is powered off for good; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(inventory: Path, parallel: int, forget: tuple[str, ...], as_json: bool) -> None:
    """Deploy a cluster over SSH: check on every node, then activate.

    Nothing is activated anywhere before every node has accepted its files. Running it again is safe.

    Example: trscaler-gen apply inventory/lab.yaml
    """
    compiled = compile_inventory(inventory)
    lock = _forget(compiled.inventory, compiled.lock, forget)
    with Watch() as watch:
        outcome = apply(
            _work(compiled, lock),
            _connector(compiled.inventory, lock),
            parallel=parallel,
            on_event=watch.on_event,
            before_change=lambda: write_lock(compiled.lock_path, lock),
        )
    _forget_stopped(compiled, lock, outcome)
    _show(compiled.inventory.cluster, outcome, as_json)
    if not outcome.is_complete:
        sys.exit(_EXIT_INTERRUPTED if outcome.interrupted else EXIT_ERROR)


def _departed(inventory: Inventory, lock: Lock) -> dict[str, RetiredNode]:
    """Who is to be stopped, by name; with the address where another node has the name now."""
    return {
        f"{node.name}@{node.address}" if node.name in inventory.nodes else node.name: node
        for node in lock.retired
    }


def _forget(inventory: Inventory, lock: Lock, names: tuple[str, ...]) -> Lock:
    ids = {label: node.node_id for label, node in _departed(inventory, lock).items()}
    unknown = [name for name in names if name not in ids]
    if unknown:
        waiting = ", ".join(ids) or "none"
        raise click.UsageError(
            f"--forget {unknown[0]}: not a node that waits to be stopped (these do: {waiting})"
        )
    return forget_retired(lock, [ids[name] for name in names])


def _work(compiled: Compiled, lock: Lock) -> Work:
    inventory = compiled.inventory
    return Work(
        cluster=inventory.cluster,
        bundles=compiled.bundles,
        links={name: inventory.link_of(name) for name in inventory.nodes},
        retired=tuple(_departed(inventory, lock)),
    )


def _connector(inventory: Inventory, lock: Lock) -> Callable[[str], Connection]:
    """How to reach a node by name; one that has left the inventory is reached as the others are."""
    departed = _departed(inventory, lock)

    def connector(name: str) -> Connection:
        if name in departed:
            return connect(resolve(name, str(departed[name].address), inventory.ssh))
        return connect(resolve(name, str(inventory.nodes[name].address), inventory.ssh_of(name)))

    return connector


def _forget_stopped(compiled: Compiled, lock: Lock, outcome: Report) -> None:
    """A node that was stopped gives its id back."""
    stopped = {result.node for result in outcome.nodes if result.action is Action.STOPPED}
    departed = _departed(compiled.inventory, lock)
    ids = [node.node_id for label, node in departed.items() if label in stopped]
    if ids:
        write_lock(compiled.lock_path, forget_retired(lock, ids))


def _show(cluster: str, outcome: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(cluster, outcome), indent=2))
        return
    show_results(outcome.nodes)
    for error in _told_once(result.error for result in outcome.nodes if result.error is not None):
        report(error)


def _told_once(errors: Iterable[NodeError]) -> Iterator[NodeError]:
    """Each error once, with the names of all nodes that have it."""
    nodes: dict[tuple[object, ...], list[NodeError]] = {}
    for error in errors:
        alike = (error.message, error.hint, error.command, error.status, error.stderr)
        nodes.setdefault(alike, []).append(error)
    for same in nodes.values():
        first = same[0]
        yield NodeError(
            ", ".join(error.node for error in same),
            first.message,
            hint=first.hint,
            command=first.command,
            status=first.status,
            stderr=first.stderr,
        )


def _as_json(cluster: str, outcome: Report) -> dict[str, object]:
    return {
        "cluster": cluster,
        "complete": outcome.is_complete,
        "interrupted": outcome.interrupted,
        "nodes": [_node_as_json(result) for result in outcome.nodes],
    }


def _node_as_json(result: NodeResult) -> dict[str, object]:
    error = result.error
    words: dict[str, object] = {
        "node": result.node,
        "action": result.action.value,
        "before": result.before or None,
        "after": result.after or None,
        "message": result.message,
    }
    if error is not None:
        words |= {
            "command": error.command,
            "status": error.status,
            "stderr": error.stderr,
            "hint": error.hint,
        }
    return words
