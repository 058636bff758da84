"""From a file to an Inventory, or to everything that is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.cross import cross_problems
from trscaler_gen.inventory.document import MAX_BYTES, Document, read_document
from trscaler_gen.inventory.model import Inventory

_SOURCE_LIMIT = 48  # with a node's name it fits into an nft comment, 128 bytes


def load_inventory(path: Path) -> Inventory:
    """Read an inventory file; raises InputError."""
    return parse_inventory(read_inventory(path), str(path))


def read_inventory(path: Path) -> bytes:
    """Read the file alone, one byte beyond what an inventory may have at most; raises InputError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        problem = Problem(str(path), 0, 0, "unreadable", f"cannot read the inventory: {error.strerror}")
        raise InputError([problem]) from None


def parse_inventory(data: bytes, source: str) -> Inventory:
    """Read an inventory; raises InputError with every problem, in the order of the file.

    ``source`` is the name that problems show. The inventory keeps its last part alone, so that the same file
    gives the same bundles from any directory.
    """
    document = read_document(data, source)
    inventory, errors = _validate(document)
    problems = _problems(document, errors)
    if problems or inventory is None:
        raise InputError(problems)
    return inventory


def _validate(document: Document) -> tuple[Inventory | None, list[ErrorDetails]]:
    assert isinstance(document.value, dict)
    try:
        return Inventory.model_validate({**document.value, "source": provenance(document.source)}), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _problems(document: Document, errors: list[ErrorDetails]) -> list[Problem]:
    problems = [*document.problems, *cross_problems(document), *_explained(document, errors)]
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _explained(document: Document, errors: list[ErrorDetails]) -> list[Problem]:
    """Explain what is wrong with single values; its module is not imported for a file that is right."""
    own_name_used = ("source",) in document.keys
    if not errors and not own_name_used:
        return []
    from trscaler_gen.inventory.explain import NOT_A_KEY, schema_problems, unknown_key

    unknown = [unknown_key((NOT_A_KEY,), document)] if own_name_used else []
    return [*unknown, *schema_problems(errors, document)]


def provenance(source: str) -> str:
    """The name that generated files give the inventory: its last part, free of what needs quoting."""
    return re.sub(r"[^A-Za-z0-9_.,+@-]", "_", PurePath(source).name)[:_SOURCE_LIMIT]
