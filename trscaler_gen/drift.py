"""What on a node is not as it was applied. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from trscaler_gen.facts import Facts


def drift_of(facts: Facts) -> tuple[str, ...]:
    """Say what lies or runs on a node otherwise than its current generation has it.

    That it has another generation than is wanted, or stands aside for its peers, is none.
    """
    return tuple(_drift(facts))


def _drift(facts: Facts) -> Iterator[str]:
    if facts.runs or facts.ruleset != "missing":
        yield from _live(facts)
    gone = [name for name in facts.edited_files if name not in facts.digests]
    for names, what in (
        ([name for name in facts.edited_files if name not in gone], "files edited on the node:"),
        (gone, "files gone from the node:"),
        (sorted(facts.digests.keys() - facts.listed.keys()), "files of somebody else:"),
    ):
        if names:
            yield f"{what} {', '.join(names)}"
    if facts.units == "altered":
        yield "its systemd units were altered"
    if facts.way_back == "stuck":
        yield "could not go back to what it ran before: apply again"


def _live(facts: Facts) -> Iterator[str]:
    if facts.ruleset == "missing":
        yield "its ruleset is gone: it accepts nothing"
    elif facts.ruleset != "intact":
        yield f"its ruleset is {facts.ruleset}"
    if not facts.attached:
        yield "its addresses or kernel settings are not in place"
    if facts.keepalived != "running":
        yield "keepalived does not run"
