"""YAML bytes to plain values, with the place of every key and value.

The parser's events are read directly, because YAML 1.1's own idea of scalars is a trap for
inventories: it reads ``02:00:10:20:30:40`` as a number to the base 60, ``0100`` as 64 and ``on`` as true.
Here a plain scalar is a whole number when it is written in decimal without a leading zero, ``true``,
``false``, ``null``, or else its own text; a key is always its own text. Files are data from strangers:
size, depth and the number of values (aliases counted each time that they are used) have limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

import yaml

from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.text import kind_of, quoted

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_VALUES = 10_000

KeyPath = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LINE_BREAK = re.compile("\r\n|\r|\n")
# What YAML forbids, and the line breaks of YAML 1.1 that no editor counts as such.
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,99}")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "true": True, "false": False}


class _Marked(Protocol):
    """A place as the parser says it, counted from 0."""

    line: int
    column: int


@dataclass(frozen=True)
class Mark:
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass
class Document:
    """What a file says, and where; ``spoiled`` values already have their problem."""

    source: str
    lines: list[str]
    value: object = None
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    spoiled: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def key_mark(self, path: KeyPath) -> Mark:
        """Where the key stands; for what has none (a list item, an alias), the nearest thing around it."""
        while path and path not in self.keys and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.value_mark(path)

    def value_mark(self, path: KeyPath) -> Mark:
        """Where the value begins, or the nearest value around it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Mark(1, 1))

    def problem(self, mark: Mark, code: str, message: str, hint: str = "") -> Problem:
        """Make a problem at a place, with the line that it is about."""
        excerpt = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
        return Problem(self.source, mark.line, mark.column, code, message, hint, excerpt)

    def is_spoiled(self, path: KeyPath) -> bool:
        """Tell whether this value, or one around it, already has its problem."""
        return any(path[:length] in self.spoiled for length in range(len(path) + 1))


def read_document(data: bytes, source: str) -> Document:
    """Read one YAML document, a mapping; raises InputError when nothing more can be said about it."""
    text = _decode(data, source)
    document = Document(source, _LINE_BREAK.split(text))
    _refuse_controls(text, document)
    try:
        _Reader(text, document).read()
    except yaml.YAMLError as error:
        raise InputError([*document.problems, _syntax_problem(error, document)]) from None
    except UnicodeError:  # libyaml hands out tags that are not UTF-8
        problem = Problem(source, 0, 0, "yaml-syntax", "not readable as YAML")
        raise InputError([*document.problems, problem]) from None
    return document


def node_names(path: Path) -> tuple[str, ...]:
    """The nodes that a file names, whatever else may be wrong with it; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            document = read_document(file.read(MAX_BYTES + 1), str(path))
    except (OSError, InputError):
        return ()
    nodes = document.value.get("nodes") if isinstance(document.value, dict) else None
    return tuple(name for name in nodes if isinstance(name, str)) if isinstance(nodes, dict) else ()


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        message = f"larger than {MAX_BYTES} bytes: this is no inventory"
        raise InputError([Problem(source, 0, 0, "too-large", message)])
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError([_encoding_problem(data, error, source)]) from None


def _encoding_problem(data: bytes, error: UnicodeDecodeError, source: str) -> Problem:
    """Say which byte is wrong; the column counts the characters before it."""
    before = _LINE_BREAK.split(data[: error.start].decode("utf-8"))
    message = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} of the file"
    hint = "save the file as UTF-8, for example: iconv -f latin1 -t utf-8"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        hint = "the file looks like UTF-16; save it as UTF-8"
    lines = _LINE_BREAK.split(data.decode("utf-8", "replace"))
    return Document(source, lines).problem(Mark(len(before), len(before[-1]) + 1), "encoding", message, hint)


def _refuse_controls(text: str, document: Document) -> None:
    found = _FORBIDDEN.search(text)
    if found:
        before = _LINE_BREAK.split(text[: found.start()])
        mark = Mark(len(before), len(before[-1]) + 1)
        message = f"control character U+{ord(found.group()):04X}"
        raise InputError([document.problem(mark, "control-character", message, "delete it")])


_SYNTAX_HINTS = {
    "cannot start any token": "indent with spaces, not tabs; quote a value that begins with @, ` or %",
    "mapping values are not allowed": 'put quotes around a value that holds ": "',
    "expected ',' or '": "a bracket is not closed, or a comma is missing",
    "unexpected end of stream": "a quote is not closed",
    "did not find expected key": "check the indentation of this line and of the lines above it",
    "could not find expected ':'": 'a key needs a ":" after it',
}


def _syntax_problem(error: yaml.YAMLError, document: Document) -> Problem:
    """Say what the parser said; of an error at the end of the file, show where its cause began."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(document.source, 0, 0, "yaml-syntax", str(error))
    marks = [mark for mark in (error.problem_mark, error.context_mark) if mark is not None]
    shown = [mark for mark in marks if _has_text(mark, document)] or marks
    reason = error.problem or error.context or "not YAML"
    message = f"{reason} ({error.context})" if error.problem and error.context else reason
    hint = next((hint for words, hint in _SYNTAX_HINTS.items() if words in reason), "")
    if not shown:
        return Problem(document.source, 0, 0, "yaml-syntax", message, hint)
    return document.problem(_mark(shown[0]), "yaml-syntax", message, hint)


def _has_text(mark: _Marked, document: Document) -> bool:
    return mark.line < len(document.lines) and bool(document.lines[mark.line].strip())


def _mark(mark: _Marked | None) -> Mark:
    assert mark is not None  # the parser always says where it is
    return Mark(mark.line + 1, mark.column + 1)


@dataclass(frozen=True)
class _Anchored:
    """A value that has a name, and how many values it is made of."""

    value: object
    size: int


class _Reader:
    """Builds one document's value from the parser's events."""

    def __init__(self, text: str, document: Document) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._document = document
        self._anchors: dict[str, _Anchored | None] = {}
        self._count = 0

    def read(self) -> None:
        """Read the only document of the stream."""
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._fail_empty(Mark(1, 1))
        top = next(self._events)
        self._document.value = self._value(top, ())
        self._require_mapping(_mark(top.start_mark))
        next(self._events)  # the document's end
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            message = "a second document begins here; an inventory is one document"
            self._report(_mark(following.start_mark), "several-documents", message, 'delete the "---"')

    def _require_mapping(self, mark: Mark) -> None:
        value = self._document.value
        if value is None:
            self._fail_empty(mark)
        if not isinstance(value, dict):
            message = f"an inventory is a mapping of keys to values, not {kind_of(value)}"
            self._fail(mark, "not-a-mapping", message, 'begin with "cluster: NAME"')

    def _fail_empty(self, mark: Mark) -> NoReturn:
        self._fail(mark, "empty", "the file says nothing", "trscaler-gen init FILE writes a sample")

    def _value(self, event: yaml.Event, path: KeyPath) -> object:
        """Build the value that begins with this event."""
        mark = _mark(event.start_mark)
        self._document.values[path] = mark
        if len(path) > MAX_DEPTH:
            self._fail(mark, "yaml-limit", f"nested more than {MAX_DEPTH} deep")
        self._grow(1, mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), path, mark)
        self._refuse_tag(event, path, mark)
        before = self._count
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if anchor is not None:
            self._anchors[anchor] = None
        value = self._plain_value(event, path)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value, self._count - before + 1)
        return value

    def _plain_value(self, event: yaml.Event, path: KeyPath) -> object:
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        assert isinstance(event, yaml.ScalarEvent)
        return resolve(event.value) if not event.style and event.tag is None else event.value

    def _mapping(self, path: KeyPath) -> dict[str, object]:
        mapping: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            mark = _mark(event.start_mark)
            key = self._key(event, path)
            inside = (*path, key)
            if key in mapping:
                self._duplicate(inside, mark)
                self._value(next(self._events), (*path, key, "(again)"))
                continue
            self._document.keys[inside] = mark
            mapping[key] = self._value(next(self._events), inside)
        return mapping

    def _key(self, event: yaml.Event, path: KeyPath) -> str:
        mark = _mark(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event, path, mark)
            return str(event.value)
        if not isinstance(event, yaml.AliasEvent):
            self._value(event, (*path, "(key)"))
        return self._fail(mark, "yaml-key", "a key must be a word")

    def _duplicate(self, path: KeyPath, mark: Mark) -> None:
        first = self._document.keys[path].line
        what = (
            f"node {quoted(str(path[1]))}" if path[0] == "nodes" and len(path) == 2 else quoted(str(path[-1]))
        )
        self._report(
            mark, "duplicate-key", f"{what} is here a second time (first on line {first})", "keep one"
        )

    def _sequence(self, path: KeyPath) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _alias(self, name: str, path: KeyPath, mark: Mark) -> object:
        anchored = self._anchors.get(name)
        if anchored is not None:
            self._grow(anchored.size, mark)
            return anchored.value
        self._document.spoiled.add(path)
        reason = "refers to itself" if name in self._anchors else "refers to nothing above it"
        self._report(mark, "yaml-alias", f"{quoted('*' + name)} {reason}", "write the value out")
        return None

    def _refuse_tag(self, event: yaml.Event, path: KeyPath, mark: Mark) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = str(tag).replace("tag:yaml.org,2002:", "!!")
            self._document.spoiled.add(path)
            self._report(
                mark, "yaml-tag", f"an inventory has no tags, this is {quoted(shown)}", "delete the tag"
            )

    def _grow(self, count: int, mark: Mark) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            self._fail(mark, "yaml-limit", f"more than {MAX_VALUES} values, aliases counted each time")

    def _report(self, mark: Mark, code: str, message: str, hint: str = "") -> None:
        self._document.problems.append(self._document.problem(mark, code, message, hint))

    def _fail(self, mark: Mark, code: str, message: str, hint: str = "") -> NoReturn:
        self._report(mark, code, message, hint)
        raise InputError(self._document.problems)


def resolve(text: str) -> object:
    """Read a plain scalar: whole number, true, false, nothing or its own text (see the theory above)."""
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text
