"""How the outcome of a change is told: a line per node, then each error once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from trscaler_gen.cli import report
from trscaler_gen.console.progress import show_results
from trscaler_gen.deploy import NodeResult, Report
from trscaler_gen.errors import NodeError

#: addresses, line numbers, and names made of digests differ from node to node where the trouble is the same
_NUMBERS = re.compile(r"\b[0-9a-f]{8,}\b|_[0-9a-f]{8}\b|\d+")


def show_outcome(outcome: Report) -> None:
    """Print the outcome for a person."""
    show_results(outcome.nodes)
    for error in _told_once(result.error for result in outcome.nodes if result.error is not None):
        report(error)


def _told_once(errors: Iterable[NodeError]) -> Iterator[NodeError]:
    """Each error once, with the names of all nodes that have it; told is the first one's."""
    nodes: dict[tuple[object, ...], list[NodeError]] = {}
    for error in errors:
        texts = (error.message, error.hint, error.command, error.stderr)
        alike = (*(_NUMBERS.sub("#", text) for text in texts), error.status)
        nodes.setdefault(alike, []).append(error)
    for same in nodes.values():
        yield same[0].with_node(", ".join(error.node for error in same))


def outcome_as_json(cluster: str, outcome: Report) -> dict[str, object]:
    """The outcome as one document."""
    return {
        "event": "outcome",
        "cluster": cluster,
        "complete": outcome.is_complete,
        "interrupted": outcome.interrupted,
        "nodes": [_node_as_json(result) for result in outcome.nodes],
    }


def _node_as_json(result: NodeResult) -> dict[str, object]:
    error = result.error
    words: dict[str, object] = {
        "node": result.node,
        "action": result.action.value,
        "before": result.before or None,
        "after": result.after or None,
        "message": result.message,
    }
    if error is not None:
        words |= {
            "command": error.command,
            "status": error.status,
            "stderr": error.stderr,
            "hint": error.hint,
        }
    return words
