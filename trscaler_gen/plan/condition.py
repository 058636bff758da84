"""What of a node must not change between a plan and its execution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.text import printable
from trscaler_gen.plan.model import Condition, Seen

#: field of Facts -> how a person calls it
_WORDS = {
    "generation": "generation",
    "loaded": "loaded generation",
    "epoch": "epoch",
    "serial": "serial",
    "ruleset": "ruleset",
    "keepalived": "keepalived",
    "attached": "attached",
    "units": "units",
    "runs": "running",
    "unconfirmed": "unconfirmed change",
    "placement": "placement",
}


def condition_of(facts: Facts) -> dict[str, object]:
    """Pick what a plan depends on; the values are what JSON can hold."""
    picked: dict[str, object] = {name: getattr(facts, name) for name in _WORDS}
    return {**picked, "digests": dict(sorted(facts.digests.items()))}


def stale(conditions: Mapping[str, Condition], seen: Mapping[str, Seen | NodeError]) -> tuple[str, ...]:
    """Say per node what is no longer as the plan saw it; empty when all is.

    A node without a condition could not be reached when the plan was made.
    """
    nodes = dict.fromkeys((*conditions, *seen))
    return tuple(text for node in nodes for text in _changes(node, conditions.get(node), seen.get(node)))


def _changes(node: str, before: Condition | None, now: Seen | NodeError | None) -> Iterator[str]:
    if isinstance(now, Seen) and not before:
        yield f"{node}: could not be reached when the plan was made, and answers now"
    elif isinstance(now, Seen) and before:
        yield from (f"{node}: {text}" for text in _differences(before, condition_of(now.facts)))
    elif before:
        why = f": {now.message}" if isinstance(now, NodeError) else ""
        yield f"{node}: was observed for the plan, and cannot be now{why}"


def _differences(before: Condition, now: Condition) -> Iterator[str]:
    for name, word in _WORDS.items():
        if before.get(name) != now[name]:
            yield f"{word} was {_shown(before.get(name))}, is {_shown(now[name])} now"
    old, new = before.get("digests"), now["digests"]
    if old != new and isinstance(old, Mapping) and isinstance(new, Mapping):
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        yield f"other files lie there than the plan saw: {', '.join(map(str, names))}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value)) if value or value == 0 else "none"
