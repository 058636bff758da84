"""What a plan means for the connections that nodes hold now. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from trscaler_gen.errors import NodeError
from trscaler_gen.plan.model import Seen, Step, StepAction, Wanted
from trscaler_gen.plan.words import counted

_STOPPING = (StepAction.STOP, StepAction.RESTART)


def connection_notes(
    wanted: Wanted, seen: Mapping[str, Seen | NodeError], steps: tuple[Step, ...]
) -> Iterator[str]:
    """Say which nodes stay drained, and which connections break when a node stops."""
    keeps = wanted.inventory.connections == "preserve"
    for step in steps:
        there = seen.get(step.node)
        if not isinstance(there, Seen):
            continue
        if step.is_drained and step.action is not StepAction.STOP:
            yield f"{step.node} is drained, and stays so until: {_command('undrain', step, wanted)}"
        if keeps and step.action in _STOPPING and there.facts.runs and there.facts.held > 0:
            yield _breakage(step, there.facts.held, wanted)


def _breakage(step: Step, held: int, wanted: Wanted) -> str:
    """A node that stops waits a little by itself; how long it really does, its own files say."""
    drain = f"{_command('drain', step, wanted)} --wait"
    return (
        f"{step.node} holds {counted(held, 'connection')}: those that do not end soon after it has to stop "
        f"would break; to keep them, wait first: {drain}"
    )


def _command(verb: str, step: Step, wanted: Wanted) -> str:
    return shlex.join(["trscaler-gen", verb, step.node, "--inventory", wanted.inventory.source])
