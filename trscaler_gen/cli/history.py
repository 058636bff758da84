"""``trscaler-gen history``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR
from trscaler_gen.cli.clusters import accept_new_option, parallel_option, print_json, tell_new_key
from trscaler_gen.console.history_view import ClusterHistory, show_history
from trscaler_gen.deploy.deployment import connector
from trscaler_gen.deploy.survey import Aim, surveying
from trscaler_gen.errors import NodeError
from trscaler_gen.history import Change, NodeHistory, merge, stragglers, unrecorded
from trscaler_gen.inventory.load import load_inventory


@click.command(name="history")
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accept_new_option
@parallel_option
def command(inventory: Path, as_json: bool, accept_new: bool, parallel: int) -> None:
    """Say what was applied to a cluster, when and by whom, and what can be rolled back to.

    Times are those of the nodes' clocks; the order is that of the nodes' files, and does not depend on them.
    The exit status is 1 if a node could not be asked.

    Example: trscaler-gen history inventory/lab.yaml
    """
    history = _read(inventory, parallel=parallel, accept_new=accept_new)
    if as_json:
        print_json(history_as_json(history))
    else:
        show_history(history)
    if history.errors:
        sys.exit(EXIT_ERROR)


def _read(path: Path, *, parallel: int, accept_new: bool) -> ClusterHistory:
    inventory = load_inventory(path)
    reach = connector(inventory, {}, tell_new_key if accept_new else None)
    aims = {name: Aim(inventory.cluster, name) for name in inventory.nodes}
    with surveying(aims, reach, parallel=parallel) as survey:
        answers = survey.read_histories()
    nodes = {name: answer for name, answer in answers.items() if isinstance(answer, NodeHistory)}
    errors = {name: answer for name, answer in answers.items() if isinstance(answer, NodeError)}
    return ClusterHistory(inventory.cluster, nodes, merge(nodes), errors)


def history_as_json(history: ClusterHistory) -> dict[str, object]:
    """The changes, newest first, and who disagrees."""
    return {
        "cluster": history.cluster,
        "changes": [_change_as_json(change) for change in history.changes],
        "recorded_another_change_last": stragglers(history.nodes, history.changes),
        "run_what_no_line_tells": unrecorded(history.nodes),
        "unreadable_lines": {
            name: told.unreadable for name, told in history.nodes.items() if told.unreadable
        },
        "errors": {name: error.message for name, error in history.errors.items()},
    }


def _change_as_json(change: Change) -> dict[str, object]:
    return {
        "event": change.event.value,
        "change": change.change or None,
        "by": change.by,
        "at": change.at,
        "current": change.is_current,
        "can_roll_back": change.can_roll_back,
        "generation_gone_from": change.lost,
        "nodes": {
            name: {"at": entry.at, "generation": entry.generation or None}
            for name, entry in change.entries.items()
        },
    }
