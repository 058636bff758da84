"""Bundles onto nodes, in the order that leaves no packet with two owners or none: see ``rollout``."""

from trscaler_gen.deploy.fleet import Event, Interrupted, NodeDone, Phase, PhaseBegan
from trscaler_gen.deploy.rollout import Action, NodeResult, Report, Work, apply

__all__ = [
    "Action",
    "Event",
    "Interrupted",
    "NodeDone",
    "NodeResult",
    "Phase",
    "PhaseBegan",
    "Report",
    "Work",
    "apply",
]
