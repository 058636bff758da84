"""``trscaler-gen plan``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR
from trscaler_gen.cli.clusters import (
    accept_new_option,
    deployments,
    forget_option,
    parallel_option,
    plan_all,
    print_json,
    watching,
)
from trscaler_gen.cli.inventories import expand
from trscaler_gen.console.plan_view import show_plan
from trscaler_gen.deploy.deployment import Deployment
from trscaler_gen.files import write_secret
from trscaler_gen.lock import render_lock
from trscaler_gen.pipeline import Compiled, compile_inventory
from trscaler_gen.plan import Plan, SavedPlan, plan_as_json, save

_EXIT_CHANGES = 2


@click.command(name="plan")
@click.argument("inventories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Save the plan, for `apply FILE`; 0600."
)
@click.option("--full", is_flag=True, help="Show every line of every file.")
@click.option(
    "--detailed-exitcode", is_flag=True, help="Exit with 0 if there is nothing to do, 2 if there is."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, one line per cluster.")
@forget_option
@accept_new_option
@parallel_option
def command(
    inventories: tuple[Path, ...],
    output: Path | None,
    full: bool,
    detailed_exitcode: bool,
    as_json: bool,
    forget: tuple[str, ...],
    accept_new: bool,
    parallel: int,
) -> None:
    """Say what `apply` would do, and what it means for the traffic; changes nothing.

    Takes inventories, or folders of them. The exit status is 1 where a plan could not be carried out.

    Example: trscaler-gen plan inventory/lab.yaml
    """
    paths = expand(inventories)
    if output and len(paths) > 1:
        raise click.UsageError(f"-o saves the plan of one inventory, and these are {len(paths)}")
    clusters = [compile_inventory(path) for path in paths]
    with (
        watching(False, several=len(paths) > 1) as teller,
        deployments(
            clusters, parallel=parallel, accept_new=accept_new, forget=forget, teller=teller
        ) as reached,
    ):
        plans = plan_all(reached)
    for plan in plans:
        print_json(plan_as_json(plan)) if as_json else show_plan(plan, full=full)
    if output:
        write_secret(output, save(_to_save(clusters[0], paths[0], reached[0], plans[0])))
    sys.exit(_status(plans, detailed_exitcode))


def _to_save(compiled: Compiled, path: Path, deployment: Deployment, plan: Plan) -> SavedPlan:
    wanted = deployment.wanted
    return SavedPlan(
        inventory_path=str(path.absolute()),
        inventory_text=compiled.text,
        lock_before=render_lock(wanted.lock_before) if wanted.lock_before else "",
        lock_after=render_lock(wanted.lock),
        generations={name: bundle.generation for name, bundle in wanted.bundles.items()},
        conditions=plan.conditions,
    )


def _status(plans: Sequence[Plan], detailed: bool) -> int:
    if not all(plan.is_applicable for plan in plans):
        return EXIT_ERROR
    return _EXIT_CHANGES if detailed and not all(plan.is_empty for plan in plans) else 0
