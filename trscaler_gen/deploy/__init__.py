"""Bundles onto nodes, in the order that leaves no packet with two owners or none: see ``rollout``."""

from trscaler_gen.deploy.fleet import Event, Interrupted, NodeDone, Phase, PhaseBegan
from trscaler_gen.deploy.rollout import Action, Goal, Job, NodeResult, Report, Work, carry_out

__all__ = [
    "Action",
    "Event",
    "Goal",
    "Interrupted",
    "Job",
    "NodeDone",
    "NodeResult",
    "Phase",
    "PhaseBegan",
    "Report",
    "Work",
    "carry_out",
]
