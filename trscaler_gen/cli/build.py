"""``trscaler-gen build``."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import click

from trscaler_gen.cli.inventories import files_of, load_together
from trscaler_gen.errors import InputError, OperationError, Problem
from trscaler_gen.files import made_folder, staged_bundles
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.inventory.text import printable
from trscaler_gen.lockfile import write_lock
from trscaler_gen.pipeline import compile_inventory

_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True)
class _Outcome:
    """What became of one of several clusters: what was written, or why nothing was."""

    lines: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@click.command(name="build")
@click.argument("inventories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the bundles.",
)
def command(inventories: tuple[Path, ...], output: Path) -> None:
    """Write every node's files to a folder, one folder a node.

    Takes inventories, or folders of them. Of several, and of a folder's, each cluster has a folder of its
    own, and all processors work; a cluster that cannot be built keeps no other from it.

    The folders of nodes that have left the inventory are removed; nobody else's files are touched.

    Example: trscaler-gen build inventory/lab.yaml -o build/
    """
    gc.disable()  # half a million objects and no garbage: collecting takes 15 % of the time
    files = files_of(inventories)
    if len(files) == 1 and not inventories[0].is_dir():
        _tell(_build(files[0], output))
        return
    loaded = load_together(files)
    _refuse_namesakes(loaded)
    with made_folder(output):
        problems = list(_build_all(loaded, output))
        if problems:
            raise InputError(problems)


def _build(path: Path, output: Path) -> tuple[str, ...]:
    """Compile and write one cluster, and say so; raises InputError, OperationError."""
    compiled = compile_inventory(path)
    with staged_bundles(output, compiled.bundles) as staged:
        write_lock(compiled.lock_path, compiled.lock)
        removed = staged.take_place()
    built = f"{len(compiled.bundles)} bundles in {output}, lock in {compiled.lock_path}"
    if not removed:
        return (built,)
    return (built, f"removed the bundles of {', '.join(removed)}: no nodes of {path} any more")


def _tell(lines: tuple[str, ...]) -> None:
    for line in lines:
        click.echo(printable(line))


# Several clusters


def _refuse_namesakes(inventories: Mapping[Path, Inventory]) -> None:
    first: dict[str, Path] = {}
    for path, inventory in inventories.items():
        other = first.setdefault(inventory.cluster, path)
        if other != path:
            names = f"{printable(str(other))} and {printable(str(path))}"
            message = f'{names} are both of cluster "{inventory.cluster}", and would be in one folder'
            raise OperationError(message, "build them one by one, each to a folder of its own")


def _build_all(inventories: Mapping[Path, Inventory], output: Path) -> Iterator[Problem]:
    """Build side by side, tell in turn; those that follow another cluster need its lock, and so come after.

    After a Ctrl-C the clusters that are being built are finished, and no other one is begun.
    """
    leaders = [path for path, inventory in inventories.items() if inventory.hash.like is None]
    followers = [path for path, inventory in inventories.items() if inventory.hash.like is not None]
    workers = min(len(os.sched_getaffinity(0)), len(inventories))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=_begin_work)
    try:
        for wave in (leaders, followers):
            places = [output / inventories[path].cluster for path in wave]
            for outcome in pool.map(_build_one, wave, places):
                _tell(outcome.lines)
                yield from outcome.problems
    except BrokenProcessPool:
        message = "a process that built clusters was killed; each cluster is as before, or whole"
        raise OperationError(message, "make sure that there is memory enough, and build again") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_work() -> None:
    """A Ctrl-C is the parent's to answer, and nobody works on for a parent that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    gc.freeze()


def _build_one(path: Path, output: Path) -> _Outcome:
    """As an outcome errors reach the parent whole: exceptions are not always the same after pickling."""
    try:
        return _Outcome(lines=_build(path, output))
    except InputError as error:
        return _Outcome(problems=error.problems)
    except OperationError as error:
        problem = Problem(str(path), 0, 0, "not-built", error.message, error.hint)
        return _Outcome(problems=(problem,))
    finally:
        gc.collect()  # what one cluster leaves behind; nothing else is collected
