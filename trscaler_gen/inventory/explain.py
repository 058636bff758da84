"""What pydantic found, as problems with places and words of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trscaler_gen.errors import Problem
from trscaler_gen.inventory.document import Document, KeyPath
from trscaler_gen.inventory.model import (
    MAX_NODES,
    Hash,
    Health,
    Heartbeat,
    Inventory,
    Mac,
    Metrics,
    Node,
    Ssh,
)
from trscaler_gen.inventory.text import kind_of, quoted

_MODELS: dict[str | int, type[BaseModel]] = {
    "mac": Mac,
    "hash": Hash,
    "heartbeat": Heartbeat,
    "health": Health,
    "metrics": Metrics,
    "ssh": Ssh,
}
_NAMES = {Inventory: "an inventory", Node: "a node"}
#: Inventory's own field that is not the user's to write
NOT_A_KEY = "source"


def model_at(path: KeyPath) -> type[BaseModel]:
    """The model that describes the mapping at a path."""
    if len(path) == 2 and path[0] == "nodes":
        return Node
    return _MODELS[path[-1]] if path else Inventory


def schema_problems(errors: list[ErrorDetails], document: Document) -> Iterator[Problem]:
    """Explain each error at its place; what the document already explained is left out."""
    for error in errors:
        path = tuple(error["loc"])
        if not (document.is_spoiled(path) or _said_elsewhere(error)):
            yield _explain(error, path, document)


def _said_elsewhere(error: ErrorDetails) -> bool:
    """Tell whether a better place has the problem: a cross check, or items that did not count."""
    return error["type"] == "mac-mode" or (error["type"] == "too_short" and bool(error["input"]))


def unknown_key(path: KeyPath, document: Document) -> Problem:
    """Say that a mapping has no such key, and which one may have been meant."""
    key, model = str(path[-1]), model_at(path[:-1])
    known = [name for name in model.model_fields if name != NOT_A_KEY]
    owner = _NAMES.get(model, quoted(str(path[-2]) if len(path) > 1 else ""))
    return document.problem(
        document.key_mark(path),
        "unknown-key",
        f"{quoted(key)} is not a key of {owner}",
        _key_hint(key, known),
    )


def _key_hint(key: str, known: list[str]) -> str:
    if key == "<<":
        return "merge keys are not part of YAML 1.2; write the keys out"
    return _did_you_mean(key, known) or f"its keys are: {', '.join(known)}"


def _did_you_mean(word: str, known: list[str]) -> str:
    spellings = (word, word.lower().replace("-", "_"))
    near = [match for spelling in spellings for match in get_close_matches(spelling, known, n=1, cutoff=0.7)]
    return f"did you mean {quoted(near[0])}?" if near else ""


def _explain(error: ErrorDetails, path: KeyPath, document: Document) -> Problem:
    kind = error["type"]
    if kind == "extra_forbidden":
        return unknown_key(path, document)
    if kind == "missing":
        return _missing(path, document)
    if path[-1] == "[key]":
        return _custom(error, document.key_mark(path[:-1]), document)
    mark = document.value_mark(path)
    if "message" in error.get("ctx", {}):
        return _custom(error, mark, document)
    code, message, hint = _EXPLAINERS.get(kind, _plain)(error, path)
    return document.problem(mark, code, message, hint)


def _custom(error: ErrorDetails, mark: Any, document: Document) -> Problem:
    context = error["ctx"]
    return document.problem(mark, error["type"], str(context["message"]), str(context["hint"]))


def _missing(path: KeyPath, document: Document) -> Problem:
    """Point at the key whose mapping lacks something; of the whole file, at its beginning."""
    parent, key = path[:-1], str(path[-1])
    owner = _NAMES.get(model_at(parent), quoted(str(parent[-1]) if parent else ""))
    mark = document.key_mark(parent) if parent else document.value_mark(())
    return document.problem(
        mark, "missing-key", f"{owner} needs the key {quoted(key)}", _EXAMPLES.get(key, "")
    )


_EXAMPLES = {
    "cluster": "for example: cluster: web",
    "link": "for example: link: eth0",
    "virtual_addresses": 'for example: virtual_addresses: [192.0.2.100, "2001:db8::100"]',
    "nodes": "for example: nodes: {n1: {address: 192.0.2.1}}",
    "address": "for example: address: 192.0.2.1",
    "textfile_directory": "for example: textfile_directory: /var/lib/prometheus/node-exporter",
    "command": "for example: command: [/usr/local/bin/app-ok]",
}

Explanation = tuple[str, str, str]


def _name(path: KeyPath) -> str:
    """Name a value in a message: its key, with the index of a list's item."""
    if isinstance(path[-1], int):
        return f"{path[-2]}[{path[-1]}]"
    return f"node {quoted(path[-1])}" if path[0] == "nodes" and len(path) == 2 else path[-1]


def _field(path: KeyPath) -> FieldInfo:
    return model_at(path[:-1]).model_fields[str(path[-1])]


def _limits(path: KeyPath) -> str:
    """Say a number's range and step, from the model."""
    limits = {name: value for part in _field(path).metadata for name, value in _bounds(part)}
    step = f", a multiple of {limits['multiple_of']}" if "multiple_of" in limits else ""
    return f"{limits['ge']} to {limits['le']}{step}"


def _bounds(part: object) -> Iterator[tuple[str, int]]:
    for name in ("ge", "le", "multiple_of"):
        if isinstance(value := getattr(part, name, None), int):
            yield name, value


def _out_of_range(error: ErrorDetails, path: KeyPath) -> Explanation:
    return "out-of-range", f"{_name(path)} must be {_limits(path)}, not {error['input']}", ""


def _not_a_number(error: ErrorDetails, path: KeyPath) -> Explanation:
    value = error["input"]
    looks_like_one = isinstance(value, str) and any(char.isdigit() for char in value)
    hint = "write decimal digits only: no quotes, unit, fraction or leading zero" if looks_like_one else ""
    return "wrong-type", f"{_name(path)} must be a whole number, {_limits(path)}, not {kind_of(value)}", hint


def _not_a_choice(error: ErrorDetails, path: KeyPath) -> Explanation:
    expected = str(error["ctx"]["expected"])
    hint = _did_you_mean(str(error["input"]), expected.replace("'", "").replace(" or ", ", ").split(", "))
    words = expected.replace("'", '"')
    return "bad-value", f"{_name(path)} must be {words}, not {kind_of(error['input'])}", hint


def _wrong(what: str, hint: str = "") -> Callable[[ErrorDetails, KeyPath], Explanation]:
    def explain(error: ErrorDetails, path: KeyPath) -> Explanation:
        return "wrong-type", f"{_name(path)} must be {what}, not {kind_of(error['input'])}", hint

    return explain


def _not_text(error: ErrorDetails, path: KeyPath) -> Explanation:
    hint = "put quotes around it to make it text" if isinstance(error["input"], int) else ""
    return _wrong("text", hint)(error, path)


def _not_a_mapping(error: ErrorDetails, path: KeyPath) -> Explanation:
    if path == ("nodes",) and error["input"] is None:
        return "no-nodes", "the cluster has no nodes", f"list 1 to {MAX_NODES} of them"
    return _wrong("a mapping of keys to values")(error, path)


def _too_short(error: ErrorDetails, path: KeyPath) -> Explanation:
    return "too-few", f"{_name(path)} is empty", ""


def _too_long(error: ErrorDetails, path: KeyPath) -> Explanation:
    return "too-many", f"{_name(path)} may have {error['ctx']['max_length']} items, not more", ""


def _plain(error: ErrorDetails, path: KeyPath) -> Explanation:
    return "bad-value", f"{_name(path)}: {error['msg']}", ""


_EXPLAINERS: dict[str, Callable[[ErrorDetails, KeyPath], Explanation]] = {
    "int_type": _not_a_number,
    "bool_type": _wrong("true or false"),
    "greater_than_equal": _out_of_range,
    "less_than_equal": _out_of_range,
    "multiple_of": _out_of_range,
    "literal_error": _not_a_choice,
    "string_type": _not_text,
    "tuple_type": _wrong("a list", "write [one, two], or one per line after a dash"),
    "dict_type": _not_a_mapping,
    "model_type": _not_a_mapping,
    "too_short": _too_short,
    "too_long": _too_long,
}
