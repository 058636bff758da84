"""``trscaler-gen apply``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from trscaler_gen.cli.carrying import Consent, Task, carry_out_all, carrying_options
from trscaler_gen.cli.clusters import (
    accept_new_option,
    deployer,
    deployments,
    ends_like_ctrl_c,
    forget_option,
    parallel_option,
    plan_all,
    watching,
)
from trscaler_gen.cli.inventories import expand
from trscaler_gen.deploy.deployment import Conditions, Options
from trscaler_gen.errors import OperationError
from trscaler_gen.lock import parse_lock
from trscaler_gen.lockfile import lock_path, read_lock
from trscaler_gen.pipeline import Compiled, compile_inventory, compile_text
from trscaler_gen.plan import SavedPlan, is_saved_plan, load

_PLAN_AGAIN = "plan again: trscaler-gen plan -o FILE INVENTORY"
#: two locks, escaped as JSON, and more than ever stands around them
_MAX_PLAN_BYTES = 64 << 20


@dataclass(frozen=True)
class Source:
    """One cluster to apply; ``conditions`` are what a saved plan saw."""

    compiled: Compiled
    conditions: Conditions | None = None


@click.command(name="apply")
@click.argument(
    "sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INVENTORY|PLAN..."
)
@carrying_options
@forget_option
@accept_new_option
@parallel_option
def command(
    sources: tuple[Path, ...],
    yes: bool,
    allow_disruption: bool,
    allow_unhealthy: bool,
    confirm_within: int,
    as_json: bool,
    forget: tuple[str, ...],
    accept_new: bool,
    parallel: int,
) -> None:
    """Carry a plan out over SSH: commit, prove, confirm; what is not proven goes back by itself.

    Takes inventories, folders of them, or plans that `plan -o` saved: those are carried out as they are, or
    not at all. Several clusters are changed one after the other, and the first that fails is the last.
    Running it again is safe.

    Example: trscaler-gen apply inventory/lab.yaml
    """
    given = _read_all(sources)
    with (
        ends_like_ctrl_c(),
        watching(as_json, several=len(given) > 1) as teller,
        deployments(
            [source.compiled for source in given],
            parallel=parallel,
            accept_new=accept_new,
            forget=forget,
            teller=teller,
        ) as reached,
    ):
        plans = plan_all(reached)
        tasks = [
            Task(deployment, plan, source.conditions)
            for deployment, plan, source in zip(reached, plans, given, strict=True)
        ]
        options = Options(deployer(), confirm_within, allow_unhealthy)
        status = carry_out_all(tasks, Consent(yes, allow_disruption), options, as_json=as_json)
    sys.exit(status)


def _read_all(paths: Iterable[Path]) -> list[Source]:
    """The clusters that the arguments stand for, saved plans first; raises InputError, OperationError."""
    saved: dict[Path, SavedPlan] = {}
    others: list[Path] = []
    for path in paths:
        text = _beginning(path) if path.is_file() else ""
        if is_saved_plan(text):
            saved[path] = load(text, str(path))
        else:
            others.append(path)
    inventories = expand(others) if others else ()
    _refuse_doubles([Path(plan.inventory_path) for plan in saved.values()], inventories)
    return [
        *(_read_plan(plan) for plan in saved.values()),
        *(Source(compile_inventory(path)) for path in inventories),
    ]


def _beginning(path: Path) -> str:
    """The text, as far as a saved plan may reach: cut there it is none, and refused."""
    with path.open("rb") as file:
        return file.read(_MAX_PLAN_BYTES).decode("utf-8", errors="replace")


def _refuse_doubles(planned: Sequence[Path], inventories: Sequence[Path]) -> None:
    every = [path.absolute() for path in (*planned, *inventories)]
    for path in every:
        if every.count(path) > 1:
            raise click.UsageError(f"{path} is here twice, in a saved plan and beside it")


def _read_plan(saved: SavedPlan) -> Source:
    """Compile a saved plan's texts again: it holds what was read, and the result must be the same."""
    path = Path(saved.inventory_path)
    _refuse_other_lock(saved, path)
    lock = parse_lock(saved.lock_after, saved.inventory_path)
    before = parse_lock(saved.lock_before, saved.inventory_path) if saved.lock_before else None
    compiled = compile_text(path, saved.inventory_text, lock=lock, lock_before=before)
    generations = {name: bundle.generation for name, bundle in compiled.bundles.items()}
    if generations != dict(saved.generations):
        message = "this version of trscaler-gen makes other files than the one that planned"
        raise OperationError(message, _PLAN_AGAIN)
    return Source(compiled, saved.conditions)


def _refuse_other_lock(saved: SavedPlan, path: Path) -> None:
    lock = read_lock(lock_path(path))
    current = lock_path(path).read_text(encoding="utf-8") if lock else ""
    if current not in (saved.lock_before, saved.lock_after):
        message = f"{lock_path(path)} is no longer what the plan saw; nothing was changed"
        raise OperationError(message, _PLAN_AGAIN)
