"""The plan as a value: what would be done to every node, what it means for the traffic, and why not. Pure."""

from trscaler_gen.plan.condition import condition_of, stale
from trscaler_gen.plan.diff import Difference, Line, Whole, differences, whole_files
from trscaler_gen.plan.export import plan_as_json
from trscaler_gen.plan.fit import fitted_lock
from trscaler_gen.plan.make import make_plan
from trscaler_gen.plan.model import (
    Condition,
    FileChange,
    Move,
    Plan,
    Refusal,
    Seen,
    Step,
    StepAction,
    Switch,
    Traffic,
    UnfitNode,
    Wanted,
    WeightChange,
)
from trscaler_gen.plan.saved import SavedPlan, is_saved_plan, load, save
from trscaler_gen.plan.traffic import traffic_of

__all__ = [
    "Condition",
    "Difference",
    "FileChange",
    "Line",
    "Move",
    "Plan",
    "Refusal",
    "SavedPlan",
    "Seen",
    "Step",
    "StepAction",
    "Switch",
    "Traffic",
    "UnfitNode",
    "Wanted",
    "WeightChange",
    "Whole",
    "condition_of",
    "differences",
    "fitted_lock",
    "is_saved_plan",
    "load",
    "make_plan",
    "plan_as_json",
    "save",
    "stale",
    "traffic_of",
    "whole_files",
]
