"""``trscaler-gen explain``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeVar

import click

from trscaler_gen.claims import Claim, Ownership, ask_for
from trscaler_gen.cli import EXIT_ERROR
from trscaler_gen.cli.clusters import accept_new_option, parallel_option, print_json, tell_new_key
from trscaler_gen.cli.status import read_cluster, survey_clusters
from trscaler_gen.console.explain_view import (
    does,
    ownership_line,
    packet_line,
    show_explanation,
    show_ownership,
)
from trscaler_gen.console.status_view import ClusterStatus
from trscaler_gen.errors import OperationError
from trscaler_gen.explain import (
    Explanation,
    Packet,
    explain,
    hardware_of,
    notes_on,
    packet_between,
    packet_of,
)
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.inventory.text import printable, quoted
from trscaler_gen.lock import Lock, carried
from trscaler_gen.lockfile import lock_path
from trscaler_gen.packetlines import MAX_LINE, LineError, parse_line, records
from trscaler_gen.pipeline import compile_inventory
from trscaler_gen.plan.words import counted
from trscaler_gen.secret import redact

_STREAM = "-"


@click.command(name="explain")
@click.argument("path", metavar="INVENTORY", type=click.Path(path_type=Path))
@click.argument("what", nargs=-1, required=True, metavar="SOURCE DESTINATION|LINE|-")
@click.option(
    "--down", multiple=True, metavar="NODE,...", help="Nodes that are taken to be dead; may be given again."
)
@click.option("--live", is_flag=True, help="Ask the nodes who answers now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line per packet.")
@accept_new_option
@parallel_option
def command(
    path: Path,
    what: tuple[str, ...],
    down: tuple[str, ...],
    live: bool,
    as_json: bool,
    accept_new: bool,
    parallel: int,
) -> None:
    """Say which node a packet belongs to, and why: its bucket, and the nodes in the order of preference.

    Instead of two addresses takes one line, in quotes, as `tcpdump -n`, `conntrack -L` or `conntrack -E`
    print it, or - for such lines on standard input. Answers belong to the flow that they answer, ICMP errors
    to the flow that they quote. Changes nothing. The exit status is 1 if a line could not be explained; with
    --live it is 2 if not exactly one node answers, and 1 if that could not be told.

    Example: trscaler-gen explain inventory/lab.yaml 203.0.113.9 192.0.2.100 --down n1,n2
    """
    if len(what) > 2:
        raise click.UsageError("two addresses, or one line: put the line in quotes")
    if live and down:
        raise click.UsageError("--down asks what would be, --live what is")
    inventory = load_inventory(path)
    asked = _asked(inventory, what)
    desk: _Desk
    if live:
        desk = _live_desk(path, as_json, accept_new=accept_new, parallel=parallel)
    else:
        desk = _desk(path, inventory, _known(inventory, path, down), as_json)
    if asked is None:
        sys.exit(_explain_stream(desk))
    sys.exit(desk.tell(_or_refuse(lambda: asked(desk.hardware)), False))


# --- which packets -----------------------------------------------------------------------------------------

#: finds the packet, given the hardware addresses of frames for the nodes; raises LineError
Finder = Callable[[Collection[str]], Packet]


def _asked(inventory: Inventory, what: Sequence[str]) -> Finder | None:
    """The packet that is asked about, None: those on standard input; raises UsageError, OperationError."""
    if tuple(what) == (_STREAM,):
        return None
    if len(what) == 2:
        addresses = _address(what[0]), _address(what[1])
        packet = _or_refuse(lambda: packet_between(inventory, *addresses))
        return lambda hardware: packet
    seen = _or_refuse(lambda: parse_line(what[0]))
    _or_refuse(lambda: packet_of(inventory, seen, ()))
    return lambda hardware: packet_of(inventory, seen, hardware)


T = TypeVar("T")


def _or_refuse(find: Callable[[], T]) -> T:
    """What is found; raises OperationError where a LineError says why nothing is."""
    try:
        return find()
    except LineError as error:
        raise OperationError(error.message, error.hint) from None


def _address(word: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(word)
    except ValueError:
        hint = "a host name has to be looked up first; a line goes in quotes"
        raise click.UsageError(f"{quoted(word)} is not an IP address: {hint}") from None


def _known(inventory: Inventory, path: Path, down: Sequence[str]) -> frozenset[str]:
    """The names in ``--down``; raises UsageError for one that is no node's."""
    names = [name for word in down for name in word.split(",") if name]
    for name in names:
        if name not in inventory.nodes:
            nodes = ", ".join(inventory.nodes)
            raise click.UsageError(f"--down: {path} has no node {quoted(name)}; its nodes are {nodes}")
    return frozenset(names)


def _explain_stream(desk: _Desk) -> int:
    """Explain every line of standard input as it comes; answers the exit status."""
    told = failed = status = 0
    for remark in desk.remarks:
        click.echo(f"note: {printable(remark)}", err=True)
    for number, line in records(_lines()):
        try:
            packet = packet_of(desk.inventory, parse_line(line), desk.hardware)
        except LineError as error:
            failed += 1
            click.echo(f"line {number}: {error.message}", err=True)
            continue
        told += 1
        status = max(status, desk.tell(packet, True))
    if failed or not told:
        click.echo(f"{counted(told, 'line')} explained, {failed} not", err=True)
    return max(status, EXIT_ERROR if failed or not told else 0)


def _lines() -> Iterator[str]:
    """Lines of standard input, the rest of very long ones left out; raises OperationError."""
    if sys.stdin is None:  # closed by who started this
        return
    stream = io.TextIOWrapper(sys.stdin.buffer, errors="replace")
    try:
        while line := stream.readline(MAX_LINE):
            yield line
            while line and not line.endswith("\n"):
                line = stream.readline(MAX_LINE)
    except OSError as error:
        raise OperationError(f"cannot read standard input: {error.strerror}") from None


# --- what is said of them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Desk:
    """What questions are answered from: the inventory with its lock, or with what the nodes said."""

    path: Path
    inventory: Inventory
    hardware: Collection[str]
    remarks: Sequence[str]
    as_json: bool

    def tell(self, packet: Packet, briefly: bool) -> int:
        """Print whose a packet is; answers the exit status."""
        raise NotImplementedError


@dataclass(frozen=True)
class _LockDesk(_Desk):
    """Answers what the lock says."""

    lock: Lock
    down: Collection[str]

    def tell(self, packet: Packet, briefly: bool) -> int:
        """Always answers 0."""
        explanation = explain(self.inventory, self.lock, packet, self.down)
        seed = str(lock_path(self.path))
        if self.as_json:
            print_json(
                {"cluster": self.inventory.cluster, "inventory": str(self.path)}
                | explanation_as_json(explanation, seed)
                | {"notes": [*explanation.notes, *self.remarks]}
            )
        elif briefly:
            click.echo(packet_line(explanation))
        else:
            show_explanation(explanation, seed, self.remarks)
        return 0


@dataclass(frozen=True)
class _LiveDesk(_Desk):
    """Answers what the nodes said when they were asked."""

    status: ClusterStatus

    def tell(self, packet: Packet, briefly: bool) -> int:
        """Answers 0 if exactly one node answers the packet, 2 if not, 1 if that cannot be told."""
        ownership = ask_for(self.inventory, packet, self.status.members, self.status.verdict.sights)
        notes = (*notes_on(self.inventory, packet), *self.remarks)
        if self.as_json:
            print_json(
                {"cluster": self.inventory.cluster, "inventory": str(self.path)}
                | ownership_as_json(ownership)
                | {"notes": notes, "errors": self._errors()}
            )
        elif briefly:
            click.echo(ownership_line(ownership))
        else:
            show_ownership(ownership, notes, self.status.errors)
        return ownership.state.value

    def _errors(self) -> dict[str, str]:
        return {name: redact(error.message) for name, error in self.status.errors.items()}


def _desk(path: Path, inventory: Inventory, down: Collection[str], as_json: bool) -> _LockDesk:
    """With the lock that the next `build` or `apply` would write; raises OperationError if there is none."""
    compiled = compile_inventory(path)
    if compiled.lock_before is None:
        raise OperationError(
            f"there is no lock beside {path} yet, and it decides which node is whose; nothing was written",
            f"trscaler-gen build {path} -o DIR; or, if the cluster runs: trscaler-gen lock recover {path}",
        )
    is_ahead = carried(compiled.lock) != carried(compiled.lock_before)
    remark = f"the inventory has changed since {compiled.lock_path} was written: so it will be after `apply`"
    remarks = (remark,) if is_ahead else ()
    return _LockDesk(path, inventory, hardware_of(compiled.lock), remarks, as_json, compiled.lock, down)


def _live_desk(path: Path, as_json: bool, *, accept_new: bool, parallel: int) -> _LiveDesk:
    cluster = read_cluster(path)
    (status,) = survey_clusters([cluster], parallel=parallel, on_new_key=tell_new_key if accept_new else None)
    locks = [lock for lock in (cluster.lock, *(member.lock for member in status.members)) if lock]
    hardware = frozenset[str]().union(*map(hardware_of, locks))
    return _LiveDesk(path, cluster.inventory, hardware, status.remarks, as_json, status)


def explanation_as_json(explanation: Explanation, seed: str) -> dict[str, object]:
    """One packet as a document."""
    return {
        "source": str(explanation.packet.source),
        "destination": str(explanation.packet.destination),
        "hash_input": explanation.hash_input,
        "seed_in": seed,
        "bucket": explanation.bucket,
        "buckets": explanation.buckets,
        "order": [
            {"node": p.node, "weight": p.weight, "down": p.node in explanation.down}
            for p in explanation.places
        ],
        "owner": explanation.owner,
        "next": explanation.successors,
        "down": explanation.down,
        "before_switch": explanation.before,
    }


def ownership_as_json(ownership: Ownership) -> dict[str, object]:
    """Who answers one packet, as a document; ``exit`` is what the exit status would be for it alone."""
    return {
        "source": str(ownership.packet.source),
        "destination": str(ownership.packet.destination),
        "state": ownership.state.name.lower(),
        "exit": ownership.state.value,
        "answering": ownership.answering,
        "presumed": ownership.presumed,
        "said": [ownership.headline, *ownership.sentences],
        "order": ownership.order,
        "nodes": [_claim_as_json(claim) for claim in ownership.claims],
    }


def _claim_as_json(claim: Claim) -> dict[str, object]:
    facts, sight = claim.facts, claim.sight
    return {
        "node": claim.node,
        "condition": claim.condition,
        "bucket": claim.bucket,
        "buckets": claim.buckets or None,
        "hash_input": claim.hash_input or None,
        "order": claim.order,
        "owner": claim.owner,
        "packet": does(claim),
        "placement": facts.placement if facts else None,
        "draining": facts.draining if facts else None,
        "joining": facts.joining if facts else None,
        "fenced": facts.fenced if facts else None,
        "hosting": sight.hosting if sight else None,
        "sees": sight.alive if sight else None,
        "sees_draining": sight.draining if sight else None,
        "does_not_see": sight.missing if sight else None,
    }
