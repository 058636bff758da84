"""A plan as text, to be carried out later: what was read, and what every node was like.

The texts of inventory and lock are in it, so that it is carried out as it was planned, whatever has become of
the files. It holds the seed: whoever writes it keeps others from reading it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trscaler_gen import __version__
from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.text import printable
from trscaler_gen.lock import parse_lock
from trscaler_gen.plan.model import Condition

VERSION = 1
_MAGIC = "trscaler_gen_plan"
_BEGINNING = re.compile(rf'\s*\{{\s*"{_MAGIC}"')
_PLAN_AGAIN = "plan again: trscaler-gen plan INVENTORY -o FILE"
_MOST_REPORTED = 10

_Text = Annotated[str, Field(min_length=1)]
_Generation = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


@dataclass(frozen=True)
class SavedPlan:
    """What a saved plan holds.

    ``inventory_path`` is where the inventory was read from; ``lock_before`` is empty if there was no lock.
    ``generations`` are the wanted ones, by node; ``conditions`` are of the nodes that could be observed.
    """

    inventory_path: str
    inventory_text: str = field(repr=False)
    lock_before: str = field(repr=False)
    lock_after: str = field(repr=False)
    generations: Mapping[str, str]
    conditions: Mapping[str, Condition] = field(repr=False)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Condition(_Strict):
    """The same fields as ``condition_of`` gives."""

    generation: str
    loaded: str
    epoch: int
    serial: int
    ruleset: str
    keepalived: str
    attached: bool
    units: str
    runs: bool
    unconfirmed: str
    placement: str
    digests: dict[str, str]


class _Document(_Strict):
    trscaler_gen_plan: Literal[1]
    tool: str
    digest: str
    inventory_path: _Text
    inventory_text: _Text
    lock_before: str
    lock_after: _Text
    generations: dict[_Text, _Generation]
    conditions: dict[_Text, _Condition]


def is_saved_plan(text: str) -> bool:
    """Tell a saved plan, whole or not, from an inventory."""
    return _BEGINNING.match(text) is not None


def save(plan: SavedPlan) -> str:
    """Write a plan as JSON text; equal plans give equal text."""
    content = {"tool": __version__, **asdict(plan)}
    return json.dumps({_MAGIC: VERSION, "digest": _digest(content), **content}, indent=1) + "\n"


def load(text: str, source: str) -> SavedPlan:
    """Read a saved plan; raises InputError with the place of whatever is wrong."""
    content = _Reader(text, source).read()
    return SavedPlan(
        inventory_path=content.inventory_path,
        inventory_text=content.inventory_text,
        lock_before=content.lock_before,
        lock_after=content.lock_after,
        generations=content.generations,
        conditions={node: condition.model_dump() for node, condition in content.conditions.items()},
    )


@dataclass(frozen=True)
class _Reader:
    text: str
    source: str

    def read(self) -> _Document:
        values = self._parsed()
        if not isinstance(values, dict) or _MAGIC not in values:
            self._refuse(1, 1, "plan-foreign", "this is no saved plan")
        if values[_MAGIC] != VERSION or isinstance(values[_MAGIC], bool):
            message = f"the plan is of another format; this release reads version {VERSION}"
            self._refuse(*self._place((_MAGIC,)), "plan-version", message)
        document = self._validated(values)
        content = {key: value for key, value in values.items() if key not in (_MAGIC, "digest")}
        if document.digest != _digest(content):
            message = "the plan was changed since it was written: its digest is of another text"
            self._refuse(*self._place(("digest",)), "plan-digest", message)
        for key in ("lock_before", "lock_after"):
            self._check_lock(key, values[key])
        return document

    def _parsed(self) -> object:
        try:
            return json.loads(self.text, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            self._refuse(error.lineno, error.colno, "plan-json", f"this is not JSON: {error.msg}")
        except RecursionError:
            self._refuse(1, 1, "plan-json", "this is not JSON of a plan: it is nested too deeply")
        except ValueError as error:
            self._refuse(1, 1, "plan-json", f"this is not JSON of a plan: {error}")

    def _validated(self, values: Mapping[str, object]) -> _Document:
        try:
            return _Document.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False, include_context=False)
            raise InputError(
                [self._problem(each["loc"], each["msg"]) for each in details[:_MOST_REPORTED]]
            ) from None

    def _check_lock(self, key: str, text: str) -> None:
        if not text:
            return
        try:
            parse_lock(text, self.source)
        except InputError as error:
            first = error.problems[0]
            where = f"{key}, line {first.line}" if first.line else key
            self._refuse(*self._place((key,)), "plan-lock", f"{where}: {first.message}")

    def _problem(self, path: tuple[int | str, ...], message: str) -> Problem:
        where = ".".join(printable(str(part)) for part in path)
        return Problem(self.source, *self._place(path), "plan-value", f"{where}: {message}", _PLAN_AGAIN)

    def _place(self, path: tuple[int | str, ...]) -> tuple[int, int]:
        """Line and column of the last key of a path that stands in the text; keys follow one another."""
        at = 0
        for part in path:
            found = self.text.find(json.dumps(str(part)), at)
            at = max(at, found)
        return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)

    def _refuse(self, line: int, column: int, code: str, message: str) -> NoReturn:
        # No excerpt: the line may hold the seed.
        raise InputError(
            [Problem(self.source, line, column, code, printable(message), _PLAN_AGAIN)]
        ) from None


def _digest(content: Mapping[str, object]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands in it twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value")
