"""Whose a packet is, for a person: its bucket, and the nodes in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trscaler_gen.console.status_view import columns, wrapped
from trscaler_gen.explain import Explanation, State
from trscaler_gen.inventory.text import printable

_HEADING = ("place", "node", "weight", "role")
_NUMBERS = ("place", "weight")
_STYLES = {State.OWNER: "bold green", State.DOWN: "red"}
#: how many of those who come after the owner a line names
_MAX_NAMED = 2


def show_explanation(
    explanation: Explanation, seed: str, remarks: Sequence[str] = (), console: Console | None = None
) -> None:
    """Print where a packet goes; ``seed`` says where the hash's seed is."""
    console = console or Console()
    for text in (*_head(explanation, seed), ""):
        say(console, text)
    rows = [
        (str(number), place.node, str(place.weight), place.state.value)
        for number, place in enumerate(explanation.places, 1)
    ]
    styles = [_STYLES.get(place.state, "") for place in explanation.places]
    show_rows(console, _HEADING, rows, styles)
    say(console, "")
    for text in (_told(explanation), *_also(explanation), *(f"note: {remark}" for remark in remarks)):
        say(console, text)


def packet_line(explanation: Explanation) -> str:
    """One packet of many, on one line."""
    packet = explanation.packet
    successors = ", ".join(explanation.successors[:_MAX_NAMED])
    then = f" (then {successors})" if successors else ""
    owner = explanation.owner or "nobody"
    return f"{packet.source} -> {packet.destination}  bucket {explanation.bucket}  {owner}{then}"


def say(console: Console, text: str, style: str = "") -> None:
    """Print one sentence, broken where a terminal ends."""
    for line in wrapped(printable(text), console):
        console.print(Text(line, style), soft_wrap=True)


def show_rows(
    console: Console, heading: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> None:
    """Print a table on a terminal, columns of plain text in a pipe."""
    safe = [tuple(map(printable, row)) for row in rows]
    if not console.is_terminal:
        for line in columns([heading, *safe]):
            console.print(Text(line), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in heading:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for row, style in zip(safe, styles, strict=True):
        table.add_row(*(Text(cell, style) for cell in row))
    console.print(table)


def _head(explanation: Explanation, seed: str) -> Iterator[str]:
    packet = explanation.packet
    hashed = explanation.hash_input.replace("-", " and ")
    yield f"packet  {packet.source} -> {packet.destination}"
    yield f"bucket  {explanation.bucket} of {explanation.buckets}: jhash of {hashed}, with the seed in {seed}"


def _told(explanation: Explanation) -> str:
    """The answer, as a sentence."""
    if explanation.owner is None:
        return "nobody answers: every node of the order is down"
    if explanation.places[0].node != explanation.owner:
        return f"{explanation.owner} answers in place of {explanation.places[0].node}"
    return f"{explanation.owner} answers"


def _also(explanation: Explanation) -> Iterator[str]:
    if explanation.before:
        yield f"note: before nodes switch to this placement, the order is {', '.join(explanation.before)}"
    yield from (f"note: {text}" for text in explanation.notes)
