"""Whose a packet is, for a person: its bucket, and the nodes in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trscaler_gen import verdict
from trscaler_gen.claims import Claim, Ownership
from trscaler_gen.console.status_view import columns, sight_words, unanswered, wrapped
from trscaler_gen.errors import NodeError
from trscaler_gen.explain import Explanation, Packet, State
from trscaler_gen.inventory.text import printable
from trscaler_gen.secret import redact

_HEADING = ("place", "node", "weight", "role")
_LIVE_HEADING = ("place", "node", "weight", "state", "hears", "owner", "packet")
_NUMBERS = ("place", "weight")
_STYLES = {State.OWNER: "bold green", State.DOWN: "red"}
_STATES = {
    verdict.State.HEALTHY: "bold green",
    verdict.State.UNKNOWN: "bold yellow",
    verdict.State.DEGRADED: "bold red",
}
#: how many of those who come after the owner a line names
_MAX_NAMED = 2


def show_explanation(
    explanation: Explanation, seed: str, remarks: Sequence[str] = (), console: Console | None = None
) -> None:
    """Print where a packet goes; ``seed`` says where the hash's seed is."""
    console = console or Console()
    hashed = (explanation.bucket, explanation.buckets, explanation.hash_input)
    for text in (*_head(explanation.packet, *hashed, seed), ""):
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


def show_ownership(
    ownership: Ownership,
    notes: Sequence[str],
    errors: Mapping[str, NodeError],
    console: Console | None = None,
) -> None:
    """Print who answers a packet now, and what each node says; ``errors`` are those of nodes not asked."""
    console = console or Console()
    packet, common = ownership.packet, ownership.common
    if common is None:
        say(console, f"packet  {packet.source} -> {packet.destination}")
    else:
        assert common.bucket is not None
        for text in _head(packet, common.bucket, common.buckets, common.hash_input, "the nodes' locks"):
            say(console, text)
    say(console, "")
    rows = [_claim_row(ownership, claim) for claim in ownership.claims]
    show_rows(console, _LIVE_HEADING, rows, [_claim_style(claim) for claim in ownership.claims])
    say(console, "")
    say(console, ownership.headline, _STATES[ownership.state])
    for text in (*(f"  {text}" for text in ownership.sentences), *(f"  note: {text}" for text in notes)):
        say(console, text)
    for text in unanswered(errors):
        say(console, f"  {redact(text)}")


def ownership_line(ownership: Ownership) -> str:
    """Who answers one packet of many, on one line."""
    packet, common = ownership.packet, ownership.common
    bucket = "-" if common is None else common.bucket
    return printable(f"{packet.source} -> {packet.destination}  bucket {bucket}  {ownership.headline}")


def _claim_row(ownership: Ownership, claim: Claim) -> tuple[str, ...]:
    place = str(ownership.order.index(claim.node) + 1) if claim.node in ownership.order else "-"
    weight = "-" if claim.weight is None else str(claim.weight)
    owner = "?" if claim.owner is None else claim.owner or "nobody"
    return (place, claim.node, weight, claim.condition, sight_words(claim.sight), owner, does(claim))


def does(claim: Claim) -> str:
    """What a node does with the packet."""
    if claim.accepts is None:
        return "?"
    if claim.keeps:
        return "keeps its own"
    return "accepts" if claim.accepts and claim.owner == claim.node else "drops"


def _claim_style(claim: Claim) -> str:
    if claim.accepts is None:
        return "yellow"
    if claim.accepts and claim.owner == claim.node:
        return "bold green"
    return "" if claim.accepts else "red"


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


def _head(packet: Packet, bucket: int, buckets: int, hash_input: str, seed: str) -> Iterator[str]:
    hashed = hash_input.replace("-", " and ")
    yield f"packet  {packet.source} -> {packet.destination}"
    yield f"bucket  {bucket} of {buckets}: jhash of {hashed}, with the seed in {seed}"


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
