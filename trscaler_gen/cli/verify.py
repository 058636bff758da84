"""``trscaler-gen verify``."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trscaler_gen.check.forks import in_processes
from trscaler_gen.check.listing import list_rulesets
from trscaler_gen.cli.clusters import print_json
from trscaler_gen.cli.inventories import expand
from trscaler_gen.console.verify_view import Progress, as_document, show_proof
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.text import printable
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.pipeline import Compiled, compile_inventory

if TYPE_CHECKING:  # numpy is imported by those who prove
    from trscaler_gen.proof.prove import Proof

_RULESET = "ruleset.nft"
#: nothing that was built has so many bytes
_MOST_BYTES = 1 << 26


@click.command(name="verify")
@click.argument("inventories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Judge the bundles in this folder, as `build -o` wrote them, instead of new ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line per cluster.")
def command(inventories: tuple[Path, ...], folder: Path | None, as_json: bool) -> None:
    """Prove that every packet has exactly one owner, whichever nodes are dead.

    Loads every node's ruleset into a throw-away namespace, reads back what the kernel has, and evaluates
    these rules: for packets of every kind and bucket, and every set of dead nodes. The exit status is 1 if
    a fault is found.

    Example: trscaler-gen verify inventory/lab.yaml
    """
    gc.disable()  # many objects and no garbage
    paths = expand(inventories)
    if folder is not None and len(paths) > 1:
        raise click.UsageError("--from is for one inventory: each cluster has a folder of its own")
    is_proven = True
    for number, path in enumerate(paths):
        if number and not as_json:
            click.echo()
        is_proven &= _verify(path, folder, as_json)
    sys.exit(0 if is_proven else 1)


def _verify(path: Path, folder: Path | None, as_json: bool) -> bool:
    start = time.monotonic()
    compiled = compile_inventory(path)
    with Progress(compiled.inventory.cluster) as progress:
        progress.tell("loads rulesets")
        proof = verify(compiled, _built(compiled, folder) if folder else None, progress.tell)
    seconds = time.monotonic() - start
    if as_json:
        print_json(as_document(proof, seconds))
    else:
        show_proof(proof, seconds)
    return proof.is_proven


def verify(
    compiled: Compiled,
    rulesets: Mapping[str, bytes] | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Proof:
    """Load and judge rulesets, the compiled bundles' if none are given; raises OperationError."""
    from trscaler_gen.proof.prove import prove
    from trscaler_gen.proof.rules import UnknownRule

    plans = plan_nodes(compiled.inventory, compiled.lock)
    if rulesets is None:
        rulesets = {name: bundle.files[_RULESET] for name, bundle in compiled.bundles.items()}
    listings = list_rulesets(rulesets, {plan.node: plan.link for plan in plans})
    try:
        return prove(
            plans, compiled.lock, listings, lock_before=compiled.lock_before, each=in_processes, tell=tell
        )
    except UnknownRule as error:
        raise OperationError(
            f"the rules cannot be judged: {printable(str(error))}",
            "nothing is proven as long as a rule is not understood: the template and the evaluator must fit",
        ) from None


def _built(compiled: Compiled, folder: Path) -> dict[str, bytes]:
    """Read the rulesets of a build; raises OperationError."""
    return {name: _read(folder / name / _RULESET) for name in compiled.bundles}


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise OperationError(f"{printable(str(file))} is no ruleset: it is too large")
        text = file.read_bytes()
        text.decode()
    except OSError as error:
        raise OperationError(
            f"cannot read {printable(str(file))}: {error.strerror}",
            "build the inventory into this folder first",
        ) from None
    except UnicodeDecodeError:
        raise OperationError(f"{printable(str(file))} is no ruleset: it is not UTF-8") from None
    return text
