"""Which inventories a verb is about: files, and folders of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import click

from trscaler_gen.errors import InputError, OperationError, Problem
from trscaler_gen.inventory.document import MAX_BYTES
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.inventory.text import printable

_SUFFIXES = (".yaml", ".yml")
_CLUSTER_LINE = re.compile(rb"""^["']?cluster["']?[ \t]*:""", re.MULTILINE)


def expand(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Name every inventory once, as ``files_of`` does; several are loaded, as ``load_together`` does.

    A single one is not looked into.
    """
    found = files_of(paths)
    return found if len(found) == 1 else tuple(load_together(found))


def files_of(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Name every inventory once: files as given, a folder's in alphabetical order.

    Of a folder these are the files ``*.yaml`` and ``*.yml`` with a line ``cluster:``; other files of these
    names are told on standard error. Raises OperationError for a folder without any.
    """
    return _without_repeats(
        file for path in paths for file in (_inventories_in(path) if path.is_dir() else (path,))
    )


def load_together(files: Iterable[Path]) -> dict[Path, Inventory]:
    """Load inventories; those that follow another one (hash.like) come last.

    Raises OperationError where two are of the same cluster; InputError with the problems of all that are not
    valid.
    """
    files = tuple(files)
    inventories = dict(zip(files, _load_all(files), strict=True))
    _refuse_doubles(inventories)
    return dict(sorted(inventories.items(), key=lambda item: item[1].hash.like is not None))


def refuse_follower(inventory: Inventory, path: Path) -> None:
    """Seed and orders of a cluster that follows another one are changed there; raises OperationError here."""
    if inventory.hash.like is not None:
        message = f"{path} takes seed and orders from {inventory.hash.like} (hash.like); nothing was written"
        raise OperationError(message, f"do it with {path.parent / inventory.hash.like}, then apply both")


def _without_repeats(files: Iterable[Path]) -> tuple[Path, ...]:
    first: dict[Path, Path] = {}
    for file in files:
        first.setdefault(file.resolve(), file)
    return tuple(first.values())


def _inventories_in(folder: Path) -> tuple[Path, ...]:
    shown = printable(str(folder))
    try:
        files = sorted(file for file in folder.iterdir() if _is_named_so(file))
        is_one = {file: _CLUSTER_LINE.search(_beginning(file)) is not None for file in files}
    except OSError as error:
        message = f"cannot read {printable(error.filename or shown)}: {error.strerror}"
        raise OperationError(message, "make it readable, or name the inventories one by one") from None
    for file in files:
        if not is_one[file]:
            click.echo(f"{printable(str(file))}: no inventory, for it has no line `cluster:`", err=True)
    found = tuple(file for file in files if is_one[file])
    if not found:
        hint = (
            "inventories are its files *.yaml and *.yml with a line `cluster:`; subfolders are not searched"
        )
        raise OperationError(f"no inventory in the folder {shown}", hint)
    return found


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES)


def _is_named_so(file: Path) -> bool:
    return file.suffix in _SUFFIXES and not file.name.startswith(".") and file.is_file()


def _load_all(files: Iterable[Path]) -> tuple[Inventory, ...]:
    inventories: list[Inventory] = []
    problems: list[Problem] = []
    for file in files:
        try:
            inventories.append(load_inventory(file))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return tuple(inventories)


def _refuse_doubles(inventories: dict[Path, Inventory]) -> None:
    """Two inventories of one cluster would each take its nodes from the other."""
    by_name: dict[str, list[Path]] = {}
    for file, inventory in inventories.items():
        by_name.setdefault(inventory.cluster, []).append(file)
    for cluster, files in by_name.items():
        for one, other in combinations(files, 2):
            shared = next(_shared(inventories[one], inventories[other]), None)
            if shared is not None:
                message = f'{_both(one, other)} are both of cluster "{cluster}" with a node at {shared}'
                raise OperationError(message, "name one of them alone, or give the clusters different names")


def _shared(one: Inventory, other: Inventory) -> Iterator[str]:
    addresses = {node.address for node in other.nodes.values()}
    return (str(node.address) for node in one.nodes.values() if node.address in addresses)


def _both(*files: Path) -> str:
    return " and ".join(printable(str(file)) for file in files)
