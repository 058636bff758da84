"""``trscaler-gen explain``."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR
from trscaler_gen.cli.clusters import print_json
from trscaler_gen.console.explain_view import packet_line, show_explanation
from trscaler_gen.errors import OperationError
from trscaler_gen.explain import Explanation, Packet, explain, packet_between, packet_of
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.inventory.text import printable, quoted
from trscaler_gen.lock import Lock, carried
from trscaler_gen.packetlines import MAX_LINE, LineError, parse_line, records
from trscaler_gen.pipeline import compile_inventory

_STREAM = "-"


@click.command(name="explain")
@click.argument("path", metavar="INVENTORY", type=click.Path(path_type=Path))
@click.argument("what", nargs=-1, required=True, metavar="SOURCE DESTINATION|LINE|-")
@click.option(
    "--down", multiple=True, metavar="NODE,...", help="Nodes that are taken to be dead; may be given again."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line per packet.")
def command(path: Path, what: tuple[str, ...], down: tuple[str, ...], as_json: bool) -> None:
    """Say which node a packet belongs to, and why: its bucket, and the nodes in the order of preference.

    Instead of two addresses takes one line, in quotes, as `tcpdump -n`, `conntrack -L` or `conntrack -E`
    print it, or - for such lines on standard input. Answers belong to the flow that they answer, ICMP errors
    to the flow that they quote. Writes nothing. The exit status is 1 if a line could not be explained.

    Example: trscaler-gen explain inventory/lab.yaml 203.0.113.9 192.0.2.100 --down n1,n2
    """
    words = _words(what)
    desk = _Desk(path, *_locked(path), as_json)
    names = desk.known(down)
    if words == (_STREAM,):
        sys.exit(_explain_stream(desk, names))
    packet = desk.packet_between(*words) if len(words) == 2 else desk.packet_on(words[0])
    desk.show(explain(desk.inventory, desk.lock, packet, names))


def _words(what: tuple[str, ...]) -> tuple[str, ...]:
    if len(what) > 2:
        raise click.UsageError("two addresses, or one line: put the line in quotes")
    return what


def _locked(path: Path) -> tuple[Inventory, Lock, tuple[str, ...]]:
    """The inventory, and the lock that the next `build` or `apply` would write; raises OperationError."""
    compiled = compile_inventory(path)
    if compiled.lock_before is None:
        raise OperationError(
            f"there is no lock beside {path} yet, and it decides which node is whose; nothing was written",
            f"trscaler-gen build {path} -o DIR; or, if the cluster runs: trscaler-gen lock recover {path}",
        )
    is_ahead = carried(compiled.lock) != carried(compiled.lock_before)
    remark = f"the inventory has changed since {compiled.lock_path} was written: so it will be after `apply`"
    return compiled.inventory, compiled.lock, (remark,) if is_ahead else ()


@dataclass(frozen=True)
class _Desk:
    """What questions are answered from, and how."""

    path: Path
    inventory: Inventory
    lock: Lock
    remarks: tuple[str, ...]
    as_json: bool

    @property
    def seed(self) -> str:
        """Where the seed is; the seed itself is a secret."""
        return str(self.path.with_suffix(".lock"))

    def known(self, down: tuple[str, ...]) -> frozenset[str]:
        """The names in ``--down``; raises UsageError for one that is no node's."""
        names = [name for word in down for name in word.split(",") if name]
        for name in names:
            if name not in self.inventory.nodes:
                nodes = ", ".join(self.inventory.nodes)
                raise click.UsageError(
                    f"--down: {self.path} has no node {quoted(name)}; its nodes are {nodes}"
                )
        return frozenset(names)

    def packet_between(self, source: str, destination: str) -> Packet:
        """The packet between two addresses; raises UsageError, or OperationError."""
        addresses = _address(source), _address(destination)
        try:
            return packet_between(self.inventory, *addresses)
        except LineError as error:
            raise OperationError(error.message, error.hint) from None

    def packet_on(self, line: str) -> Packet:
        """The packet that a line shows; raises OperationError."""
        try:
            return packet_of(self.inventory, self.lock, parse_line(line))
        except LineError as error:
            raise OperationError(error.message, error.hint) from None

    def show(self, explanation: Explanation) -> None:
        """Tell of one packet."""
        if self.as_json:
            print_json(explanation_as_json(self, explanation))
        else:
            show_explanation(explanation, self.seed, self.remarks)

    def show_briefly(self, explanation: Explanation) -> None:
        """Tell of one packet of many."""
        if self.as_json:
            print_json(explanation_as_json(self, explanation))
        else:
            click.echo(packet_line(explanation))


def _address(word: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(word)
    except ValueError:
        hint = "a host name has to be looked up first; a line goes in quotes"
        raise click.UsageError(f"{quoted(word)} is not an IP address: {hint}") from None


def _explain_stream(desk: _Desk, down: frozenset[str]) -> int:
    """Explain every line of standard input as it comes; answers the exit status."""
    told = failed = 0
    for remark in desk.remarks:
        click.echo(f"note: {printable(remark)}", err=True)
    for number, line in records(_lines()):
        try:
            packet = packet_of(desk.inventory, desk.lock, parse_line(line))
        except LineError as error:
            failed += 1
            click.echo(f"line {number}: {error.message}", err=True)
            continue
        told += 1
        desk.show_briefly(explain(desk.inventory, desk.lock, packet, down))
    if failed or not told:
        click.echo(f"{told} lines explained, {failed} not", err=True)
    return EXIT_ERROR if failed or not told else 0


def _lines() -> Iterator[str]:
    """Lines of standard input, the rest of very long ones left out."""
    stream = io.TextIOWrapper(sys.stdin.buffer, errors="replace")
    while line := stream.readline(MAX_LINE):
        yield line
        while line and not line.endswith("\n"):
            line = stream.readline(MAX_LINE)


def explanation_as_json(desk: _Desk, explanation: Explanation) -> dict[str, object]:
    """One packet as a document."""
    packet = explanation.packet
    return {
        "cluster": desk.inventory.cluster,
        "inventory": str(desk.path),
        "source": str(packet.source),
        "destination": str(packet.destination),
        "hash_input": explanation.hash_input,
        "seed_in": desk.seed,
        "bucket": explanation.bucket,
        "buckets": explanation.buckets,
        "order": [
            {"node": p.node, "weight": p.weight, "down": p.node in explanation.down}
            for p in explanation.places
        ],
        "owner": explanation.owner,
        "next": list(explanation.successors),
        "down": list(explanation.down),
        "before_switch": list(explanation.before),
        "notes": [*explanation.notes, *desk.remarks],
    }
