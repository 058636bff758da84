"""A plan for machines. No secrets."""

from __future__ import annotations

from trscaler_gen.errors import NodeError
from trscaler_gen.plan.comparable import count_lines
from trscaler_gen.plan.diff import differences
from trscaler_gen.plan.model import FileChange, Plan, Step, Switch, Traffic
from trscaler_gen.secret import redact


def plan_as_json(plan: Plan) -> dict[str, object]:
    """Write a plan as what JSON can hold; the diffs are those that a person is shown."""
    return {
        "cluster": plan.cluster,
        "source": plan.source,
        "change": plan.change,
        "epoch": {"before": plan.epoch_before, "after": plan.epoch_after},
        "serial": {"before": plan.serial_before, "after": plan.serial_after},
        "empty": plan.is_empty,
        "applicable": plan.is_applicable,
        "disruption": list(plan.disruption),
        "refusals": [{"message": redact(each.message), "hint": each.hint} for each in plan.refusals],
        "notes": [redact(note) for note in plan.notes],
        "nodes": [_step(step) for step in plan.steps],
        "diffs": [
            {
                "file": each.name,
                "nodes": list(each.nodes),
                "diff": [f"{line.mark}{line.text}" for line in each.lines],
            }
            for each in differences(plan.steps)
        ],
        "traffic": _traffic(plan.traffic),
        "switch": _switch(plan.switch),
    }


def _step(step: Step) -> dict[str, object]:
    return {
        "node": step.node,
        "action": step.action.value,
        "before": step.before or None,
        "after": step.after or None,
        "files": [_file(change) for change in step.files],
        "services": list(step.services),
        "drift": list(step.drift),
        "stops_first": step.stops_first,
        "drained": step.is_drained,
        "problem": _problem(step.problem),
    }


def _file(change: FileChange) -> dict[str, object]:
    lines = {"before": count_lines(change.before), "after": count_lines(change.after)}
    return {"name": change.name, "kind": change.kind, "lines": lines}


def _problem(error: NodeError | None) -> dict[str, object] | None:
    if error is None:
        return None
    return {
        "message": redact(error.message),
        "hint": error.hint,
        "command": error.command,
        "status": error.status,
        "stderr": redact(error.stderr),
    }


def _traffic(traffic: Traffic) -> dict[str, object]:
    return {
        "first": traffic.is_first,
        "unknown": traffic.is_unknown,
        "buckets": traffic.buckets,
        "moved": traffic.moved if traffic.kept is None else None,
        "least": traffic.least if traffic.kept is None else None,
        "moves": [{"from": move.giver, "to": move.taker, "buckets": move.buckets} for move in traffic.moves],
        "kept_fraction": traffic.kept,
        "kept_is_exact": traffic.is_exact,
        "disrupted": traffic.is_disrupted,
        "shares": {"before": dict(traffic.shares_before), "after": dict(traffic.shares_after)},
        "weights": [{"node": w.node, "before": w.before, "after": w.after} for w in traffic.weights],
    }


def _switch(switch: Switch | None) -> dict[str, object] | None:
    if switch is None:
        return None
    return {
        "nodes": list(switch.nodes),
        "moved": switch.moved,
        "keeps_connections": switch.keeps_connections,
    }
