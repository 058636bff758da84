"""``trscaler-gen simulate``."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from trscaler_gen.cli.pictures import STDOUT, check_pictures, html_option, svg_option, write_pictures
from trscaler_gen.console.reading_view import ReadingView
from trscaler_gen.console.simulate_view import show_simulation
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.inventory.text import printable
from trscaler_gen.lock import Lock
from trscaler_gen.mac import inner_address
from trscaler_gen.pipeline import lock_of
from trscaler_gen.simulate.result import Simulation
from trscaler_gen.simulate.whatif import Change, State, state_after, together

if TYPE_CHECKING:  # numpy is imported by those who count
    from trscaler_gen.simulate.blocks import ReadLog
    from trscaler_gen.simulate.decode import Wanted
    from trscaler_gen.simulate.tally import Tallied

#: of a cluster without a lock: always the same, so that the same traffic gives the same answer
_EXAMPLE_SEED = 0x5EED0001


@click.command(name="simulate")
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option(
    "--traffic",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="pcap, pcapng or CSV (source,destination[,packets][,bytes]), also packed by gzip; - reads a pipe.",
)
@click.option("--down", multiple=True, metavar="NODE[,...]", help="What if these nodes fail?")
@click.option("--add", multiple=True, metavar="NAME[=WEIGHT][,...]", help="What if these nodes are added?")
@click.option("--weight", multiple=True, metavar="NODE=WEIGHT[,...]", help="What if nodes weigh that?")
@click.option("--together", "is_together", is_flag=True, help="All what-ifs at once, not one by one.")
@click.option(
    "--any-destination",
    is_flag=True,
    help="Count all packets as if sent to the cluster, not only those to its addresses or its MAC.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, on one line.")
@html_option
@svg_option
def command(
    inventory: Path,
    traffic: Path,
    down: tuple[str, ...],
    add: tuple[str, ...],
    weight: tuple[str, ...],
    is_together: bool,
    any_destination: bool,
    as_json: bool,
    html: Path | None,
    svg: Path | None,
) -> None:
    """Say what recorded traffic would be for each node; no node is asked, nothing is changed.

    Each --down, --add and --weight may be given again and is a scenario of its own; what stands in one of
    them, with commas, happens at once. The exit status is 0, 1 if part of the file could not be read or
    nothing in it is for the cluster.

    Example: trscaler-gen simulate inventory/lab.yaml --traffic web.pcap --down n2
    """
    from trscaler_gen.simulate.blocks import ReadLog
    from trscaler_gen.simulate.judge import judge

    if as_json and STDOUT in (html, svg):
        raise click.UsageError("--json and a picture cannot both go to standard output")
    check_pictures(html, svg, (inventory, traffic))
    wanted, before, lock = lock_of(inventory, seed=_EXAMPLE_SEED)
    states = _states(wanted, lock, _changes(down, add, weight, is_together))
    log = ReadLog()
    tallied = _count(traffic, lock, _wanted(wanted, lock, any_destination), log)
    notes = _notes(inventory, wanted, before, lock, tallied, any_destination)
    found = judge(wanted, states, tallied, log, printable(str(traffic)), notes)
    is_taken = write_pictures(found, html, svg)
    if as_json:
        click.echo(json.dumps(simulation_as_json(found)))
    elif not is_taken:
        show_simulation(found)
    sys.exit(1 if found.problem_count or not found.total.flows else 0)


# --- what if -----------------------------------------------------------------------------------------


def _changes(
    down: Iterable[str], add: Iterable[str], weight: Iterable[str], is_together: bool
) -> list[Change]:
    """In the order failures, additions, weights; raises UsageError."""
    changes = [Change(down=tuple(_words(words, "--down"))) for words in down]
    changes += [Change(add=_weights(words, "--add", 1)) for words in add]
    changes += [Change(weights=_weights(words, "--weight", None)) for words in weight]
    return [together(changes)] if is_together and changes else changes


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words) or len(set(words)) < len(words):
        raise click.UsageError(f"{option} {printable(text)}: names with commas between them, each once")
    return words


def _weights(text: str, option: str, usual: int | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in _words(text, option):
        name, equals, number = word.partition("=")
        if not equals and usual is not None:
            found[name] = usual
        elif number.isascii() and number.isdecimal() and len(number) <= 3 and name not in found:
            found[name] = int(number)
        else:
            raise click.UsageError(f"{option} {printable(word)}: a node's name and its weight, like n1=2")
    return found


def _states(inventory: Inventory, lock: Lock, changes: Iterable[Change]) -> list[State]:
    try:
        return [state_after(inventory, lock, change) for change in (Change(), *changes)]
    except ValueError as error:
        raise click.UsageError(str(error)) from None


# --- the traffic -------------------------------------------------------------------------------------


def _wanted(inventory: Inventory, lock: Lock, everything: bool) -> Wanted:
    from trscaler_gen.simulate.decode import Wanted

    macs = (lock.cluster_mac, inner_address(lock.cluster_mac))
    return Wanted(inventory.virtual_addresses, macs, everything)


def _count(path: Path, lock: Lock, wanted: Wanted, log: ReadLog) -> Tallied:
    from trscaler_gen.simulate.judge import hashings_of
    from trscaler_gen.simulate.reading import read_traffic
    from trscaler_gen.simulate.tally import Tally

    tally = Tally(hashings_of(lock))
    try:
        with _open(path) as file, ReadingView(_size(file)) as view:
            for block in read_traffic(_telling(file, view.advance), wanted, log):
                tally.add(block)
    except OSError as error:
        raise OperationError(f"cannot read {printable(str(path))}: {error.strerror or error}") from None
    return tally.result()


def _open(path: Path) -> BinaryIO:
    """Unbuffered: what reads it asks for large pieces."""
    if str(path) == "-":
        return os.fdopen(os.dup(0), "rb", buffering=0)
    return path.open("rb", buffering=0)


def _size(file: BinaryIO) -> int | None:
    """Octets of a file; None for what has no size, as a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _telling(file: BinaryIO, tell: Callable[[int], None]) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        piece = file.read(size) or b""
        tell(len(piece))
        return piece

    return read


# --- what to say besides -----------------------------------------------------------------------------


def _notes(
    path: Path, inventory: Inventory, before: Lock | None, lock: Lock, tallied: Tallied, everything: bool
) -> list[str]:
    notes = []
    if before is None and inventory.hash.like is None:
        notes.append(f"there is no lock beside {path}: another seed will be drawn, so shares will differ")
    elif before and (before.orders != lock.orders or before.hashing != lock.hashing):
        notes.append(f"{path} has changes that are not in its lock yet: counted as they would be")
    elif lock.before and lock.before != lock.orders:
        notes.append(
            "of two placements the newer one is counted, which nodes use once they have switched to it"
        )
    if not tallied.loads[0].total.flows and not everything:
        addresses = ", ".join(map(str, inventory.virtual_addresses))
        notes.append(
            f"nothing was sent to {addresses} or to {lock.cluster_mac}; for traffic of before the cluster: "
            "--any-destination"
        )
    return [printable(note) for note in notes]


def simulation_as_json(simulation: Simulation) -> Mapping[str, object]:
    """All of it as a document."""
    return {**asdict(simulation), "has": sorted(simulation.has)}
