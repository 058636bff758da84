"""``trscaler-gen rollback``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trscaler_gen.cli.carrying import Consent, Task, carry_out_all, carrying_options
from trscaler_gen.cli.clusters import (
    accept_new_option,
    deployer,
    ends_like_ctrl_c,
    parallel_option,
    tell_new_key,
    watching,
)
from trscaler_gen.deploy.deployment import Deployment, Options, connector
from trscaler_gen.deploy.fleet import Event, Fleet
from trscaler_gen.deploy.rollback import wanted_again
from trscaler_gen.deploy.survey import Aim, Survey, surveying
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.history import NodeHistory, change_before, generations_of, merge, unrecorded
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock
from trscaler_gen.plan import Wanted

_HISTORY_HINT = "what can be gone back to: trscaler-gen history INVENTORY"

if TYPE_CHECKING:
    from trscaler_gen.transport import Connection


@click.command(name="rollback")
@click.argument("path", metavar="INVENTORY", type=click.Path(path_type=Path))
@click.option(
    "--to", "change", metavar="CHANGE", help="What to go back to; default: the change before this one."
)
@carrying_options
@accept_new_option
@parallel_option
def command(
    path: Path,
    change: str | None,
    yes: bool,
    allow_disruption: bool,
    allow_unhealthy: bool,
    confirm_within: int,
    as_json: bool,
    accept_new: bool,
    parallel: int,
) -> None:
    """Go back to what the nodes ran before, in the same safe steps as `apply`.

    The nodes keep the files of their last generations. Inventory and lock stay as they are: `apply` goes
    forward again.

    Example: trscaler-gen rollback --to 1a2b3c4d5e6f inventory/lab.yaml
    """
    inventory = load_inventory(path)
    options = Options(deployer(), confirm_within, allow_unhealthy, erase=False)
    on_new_key = tell_new_key if accept_new else None
    reach = connector(inventory, {}, on_new_key)
    with (
        ends_like_ctrl_c(),
        watching(as_json, several=False) as teller,
        ThreadPoolExecutor(parallel, thread_name_prefix="deploy") as executor,
    ):
        tell = teller(inventory.cluster)
        wanted = _wanted(inventory, change, reach, executor, tell, parallel)
        with Deployment(wanted, None, executor=executor, on_event=tell, on_new_key=on_new_key) as deployment:
            task = Task(deployment, deployment.plan())
            status = carry_out_all([task], Consent(yes, allow_disruption), options, as_json=as_json)
    sys.exit(status)


def _wanted(
    inventory: Inventory,
    change: str | None,
    reach: Callable[[str], Connection],
    executor: Executor,
    tell: Callable[[Event], None],
    parallel: int,
) -> Wanted:
    aims = {name: Aim(inventory.cluster, name) for name in inventory.nodes}
    with surveying(aims, reach, parallel=parallel, on_event=tell) as survey:
        lock = _deployed_lock(survey)
        generations = _generations(survey, change)
    with Fleet(reach, executor=executor, on_event=tell) as fleet:
        return wanted_again(fleet, inventory, generations, lock)


def _deployed_lock(survey: Survey) -> Lock:
    """The lock that the nodes run now; raises OperationError where one cannot be asked."""
    answers = survey.observe()
    for answer in answers.values():
        if isinstance(answer, NodeError):
            raise answer
    locks = (survey.lock_of(answer) for answer in answers.values() if not isinstance(answer, NodeError))
    lock = next((lock for lock in locks if lock is not None), None)
    if lock is None:
        raise OperationError("no node runs anything: there is nothing to go back from", _HISTORY_HINT)
    return lock


def _generations(survey: Survey, change: str | None) -> dict[str, str]:
    """What each node is to run again; raises OperationError where that is not known or not there."""
    histories: dict[str, NodeHistory] = {}
    for node, answer in survey.read_histories().items():
        if isinstance(answer, NodeError):
            raise answer
        histories[node] = answer
    changes = merge(histories)
    late = unrecorded(histories)
    if late and not change:
        message = f"{', '.join(late)} runs something that is in no history: an apply did not come to its end"
        raise OperationError(message, "apply again, which writes it down; or say where to go: --to CHANGE")
    change = change or change_before(changes)
    if not change:
        raise OperationError("there is no change before this one", _HISTORY_HINT)
    generations = generations_of(changes, change)
    if not generations:
        raise OperationError(f"no node has change {change} in its history", _HISTORY_HINT)
    lost = [node for node, generation in generations.items() if generation not in histories[node].generations]
    if lost:
        raise OperationError(f"{', '.join(lost)} no longer has the files of change {change}", _HISTORY_HINT)
    return generations
