"""The plan as a value: what would be done to every node, what it means for the traffic, and why not. Pure."""

from trscaler_gen.plan.condition import condition_of, stale
from trscaler_gen.plan.make import make_plan
from trscaler_gen.plan.model import (
    Condition,
    FileChange,
    Move,
    Plan,
    Refusal,
    Seen,
    Shift,
    Step,
    StepAction,
    Traffic,
    UnfitNode,
    Wanted,
)

__all__ = [
    "Condition",
    "FileChange",
    "Move",
    "Plan",
    "Refusal",
    "Seen",
    "Shift",
    "Step",
    "StepAction",
    "Traffic",
    "UnfitNode",
    "Wanted",
    "condition_of",
    "make_plan",
    "stale",
]
