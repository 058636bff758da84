"""What the verbs that change nodes share: their options, the question, and carrying plans out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from trscaler_gen.cli import EXIT_ERROR, EXIT_INTERRUPTED
from trscaler_gen.cli.clusters import print_json
from trscaler_gen.cli.consent import ask
from trscaler_gen.cli.outcome import outcome_as_json, show_outcome
from trscaler_gen.console.plan_view import show_plan
from trscaler_gen.deploy.deployment import Conditions, Deployment, Options
from trscaler_gen.errors import OperationError
from trscaler_gen.plan import Plan, plan_as_json

_OPTIONS = (
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    click.option("--allow-disruption", is_flag=True, help="Carry out a plan that interrupts connections."),
    click.option(
        "--allow-unhealthy", is_flag=True, help="Keep a node that starts but whose health check fails."
    ),
    click.option(
        "--confirm-within",
        type=click.IntRange(10, 3600),
        default=60,
        show_default=True,
        metavar="SECONDS",
        help="A node goes back by itself to what it ran before if it is not proven and confirmed by then.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print plan, events and outcome as JSON, a line each."
    ),
)


def carrying_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the verbs that change nodes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Consent:
    """What the user has agreed to beforehand."""

    yes: bool
    allow_disruption: bool


@dataclass(frozen=True)
class Task:
    """One cluster's plan; ``conditions`` are what a saved plan saw, None: what this one saw."""

    deployment: Deployment
    plan: Plan
    conditions: Conditions | None = None


def carry_out_all(tasks: Sequence[Task], consent: Consent, options: Options, *, as_json: bool) -> int:
    """Show the plans, ask, and carry them out one after the other; answers the exit status.

    A mistake that shows in the first cluster does not reach the second.
    """
    for task in tasks:
        print_json({"event": "plan", **plan_as_json(task.plan)}) if as_json else show_plan(task.plan)
    if not all(task.plan.is_applicable for task in tasks):
        click.echo("nothing was changed", err=True)
        return EXIT_ERROR
    _refuse_disruption([task.plan for task in tasks], consent)
    _ask(tasks, consent)
    for task in tasks:
        status = _carry_out(task, options, as_json)
        if status != 0:
            return status
    return 0


def _refuse_disruption(plans: Sequence[Plan], consent: Consent) -> None:
    names = ", ".join(plan.cluster for plan in plans if plan.needs_disruption)
    if names and not consent.allow_disruption:
        hint = "if connections may break now, say so: --allow-disruption"
        raise OperationError(f"the plan for {names} interrupts connections; nothing was changed", hint)


def _ask(tasks: Sequence[Task], consent: Consent) -> None:
    """A saved plan was decided on when it was saved."""
    is_decided = all(task.plan.is_empty or task.conditions is not None for task in tasks)
    ask("Carry this out?", consent.yes or is_decided)


def _carry_out(task: Task, options: Options, as_json: bool) -> int:
    if task.plan.is_empty and task.deployment.is_recorded(task.plan):
        task.deployment.keep_lock()  # a node may have been forgotten
        return 0
    report = task.deployment.carry_out(task.plan, options, task.conditions)
    if as_json:
        print_json(outcome_as_json(task.plan.cluster, report))
    else:
        show_outcome(report)
    if report.is_complete:
        return 0
    return EXIT_INTERRUPTED if report.interrupted else EXIT_ERROR
