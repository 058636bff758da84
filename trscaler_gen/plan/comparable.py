"""Two texts of a file made comparable: what differs for reasons told elsewhere is written alike in both.

A ruleset's tag follows from its content and stands in hundreds of its lines; who owns which bucket is half a
million numbers; the seed is a secret. None of them belongs into a diff, but that they differ does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

_SEED = re.compile(r"(seed[\"']?[ \t]*[:=]?[ \t]*[\"']?)(0x[0-9a-f]+|[0-9]+)", re.IGNORECASE)
_RULESET_TAG = re.compile(r"^    map \w+?(_[0-9a-f]{8}) \{$", re.MULTILINE)
#: patterns that begin with plain text are found many times as fast
_RANK = r"    map (?:first|first_before|rank[0-9]+|before[0-9]+)_TAG \{\n[^}]*\}\n    \}\n\n?"
_RANKS = re.compile(rf"{_RANK}(?:{_RANK})*")
_OWN = re.compile(r"(    set own_TAG \{\n[^}]*        elements = \{\n)[^}]*\}")
#: what is done with one rank after the other
_RULES = re.compile(
    r"(        meta mark set meta priority map @(?:rank|before))[0-9]+_TAG\n"
    r"((?:        meta mark (?!set meta priority).*\n)+)"
    r"(?:\1[0-9]+_TAG\n\2)+"
)
_PLACE = re.compile(r"@(?:rank|before)([0-9]+)_TAG$", re.MULTILINE)
#: how a file begins: with the name of its node
_HEADING = re.compile(r"\A(# Cluster \S+, )node ([^\s,:.]+)(?: \(id ([0-9]+)\))?")
#: sets have no order, and a node writes itself first
_NUMBERS = re.compile(r"\{ ([0-9]+(?:, [0-9]+)+) \}")
#: the last element of a set has no comma, and is another one on every node
_ELEMENT_COMMA = re.compile(r",(?=  # .*$)", re.MULTILINE)
_ORDERS = re.compile(r"\n00000?: [0-9 ]+(?:\n[0-9]{4,5}: [0-9 ]+)*")
_BEFORE = re.compile(r"\nbefore [0-9]{4,5}: [0-9 ]+(?:\nbefore [0-9]{4,5}: [0-9 ]+)*")
#: which these are follows from the orders
_KEPT_BUCKETS = re.compile(r"^( +)[0-9]+( timeout [0-9]+s)(?:,\s+[0-9]+\2)*$", re.MULTILINE)
_NAMED_BUCKETS = re.compile(r"^define \w+ = \{\n[^}]*\}$", re.MULTILINE)
#: digests of texts that hold the seed: by trying all seeds it could be found
_DIGEST = re.compile(r"^(digest|ancestors): .*$", re.MULTILINE)
_DIGEST_LINES = re.compile(r"^(?:digest: .*|# the locks before .*|ancestors: .*)\n", re.MULTILINE)
_NO_NEWLINE = "(no newline at the end)"


def comparable(before: bytes, after: bytes, *, full: bool) -> tuple[list[str], list[str]]:
    """Answer the lines of both texts; ``full`` hides nothing but secrets."""
    if b"\0" in before or b"\0" in after:
        return _opaque(before), _opaque(after)
    old, new = _decoded(before), _decoded(after)
    if not full:
        # What is long goes first: the other patterns then look at what is left.
        old, new = _collapsed(_RANKS, _ranks_in_words, _untagged(old), _untagged(new))
        old, new = _collapsed(_OWN, _own_in_words, old, new, _elements)
        old, new = _collapsed(_ORDERS, _orders_in_words, old, new)
        old, new = _collapsed(_BEFORE, _orders_in_words, old, new)
        old, new = _collapsed(_NAMED_BUCKETS, _named_buckets_in_words, old, new)
        old, new = _collapsed(_KEPT_BUCKETS, _buckets_in_words, old, new)
        old, new = _with_rules_collapsed(_levelled(old), _levelled(new))
    old, new = _without_secrets(old, new)
    return _lines(old), _lines(new)


def count_lines(content: bytes) -> int:
    """Count the lines of a file; the last one need not end."""
    return content.count(b"\n") + (content != b"" and not content.endswith(b"\n"))


def _opaque(content: bytes) -> list[str]:
    return [f"(binary, {len(content)} bytes)"] if content else []


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", errors="backslashreplace")


def _untagged(text: str) -> str:
    match = _RULESET_TAG.search(text)
    return text.replace(match[1], "_TAG") if match else text


def _levelled(text: str) -> str:
    """Write alike what has no meaning: tags, the order of a set of numbers, digests of the lock."""
    text = _without_itself(text)
    text = _NUMBERS.sub(_sorted, text)
    text = _ELEMENT_COMMA.sub("", text)
    return _DIGEST_LINES.sub("", text)


def _without_itself(text: str) -> str:
    """Write a node's own name and id alike on all nodes, where its ruleset compares and sets marks."""
    heading = _HEADING.match(text)
    if heading is None:
        return text
    text = _HEADING.sub(r"\1this node", text)
    if heading[3]:
        text = re.sub(rf"\bmeta mark (set )?{heading[3]}(?![0-9])", r"meta mark \1(own id)", text)
        text = text.replace(f' nodes.{heading[2]}"', ' nodes.(this node)"')
    return text


def _sorted(numbers: re.Match[str]) -> str:
    return f"{{ {', '.join(sorted(numbers[1].split(', '), key=int))} }}"


def _collapsed(
    pattern: re.Pattern[str],
    in_words: Callable[[str, str], str],
    old: str,
    new: str,
    essence: Callable[[str], str] = str,
) -> tuple[str, str]:
    """Write each stretch that matches as one line; the lines differ if the essence of what they are does."""
    known = frozenset(essence(match[0]) for match in pattern.finditer(old))

    def word(match: re.Match[str]) -> str:
        return in_words(match[0], "the" if essence(match[0]) in known else "other")

    return pattern.sub(word, old), pattern.sub(word, new)


def _with_rules_collapsed(old: str, new: str) -> tuple[str, str]:
    """Write the rules that look all ranks up as one line, if nothing else looks at a rank in either text."""
    short = _RULES.sub(_rules_in_words, old), _RULES.sub(_rules_in_words, new)
    return (old, new) if any(_PLACE.search(text) for text in short) else short


def _rules_in_words(match: re.Match[str]) -> str:
    places = [int(place) for place in _PLACE.findall(match[0])]
    if places != list(range(places[0], places[-1] + 1)):
        return match[0]
    kind = match[1].rpartition("@")[2]
    return f"{match[1]}{places[0]} to @{kind}{places[-1]}\n{match[2]}"


def _ranks_in_words(maps: str, article: str) -> str:
    kind = "before" if "    map before" in maps else "rank"
    deepest = maps.count(f"    map {kind}") - 1
    return f"    # maps {kind}0 to {kind}{deepest}: {article} preference orders, as this node needs them\n\n"


def _elements(declaration: str) -> str:
    """Of a set; what is declared besides stays in the text."""
    return declaration.partition("elements = {\n")[2]


def _own_in_words(elements: str, article: str) -> str:
    head = elements.partition("elements = {\n")[0]
    return f"{head}elements = {{\n            ({article} buckets of this node)\n        }}"


def _buckets_in_words(lines: str, article: str) -> str:
    indent, _, timeout = lines.rpartition(" timeout ")
    return f"{' ' * (len(indent) - len(indent.lstrip()))}({article} buckets) timeout {timeout}"


def _named_buckets_in_words(definition: str, article: str) -> str:
    return f"{definition.partition('{')[0]}{{ ({article} buckets) }}"


def _orders_in_words(lines: str, article: str) -> str:
    return f"\n({article} orders of {lines.count(':')} buckets)"


def _without_secrets(old: str, new: str) -> tuple[str, str]:
    """Hide the seed; the one that the first text has most often is "the" secret."""
    old, new = (_DIGEST.sub(r"\1: (not shown)", text) for text in (old, new))
    values = Counter(_value(match[2]) for match in _SEED.finditer(old or new))
    known = max(values, key=lambda value: values[value], default=None)

    def word(match: re.Match[str]) -> str:
        return match[1] + ("(secret)" if _value(match[2]) == known else "(another secret)")

    return _SEED.sub(word, old), _SEED.sub(word, new)


def _value(digits: str) -> int | str:
    """Read a number in either notation; one of more than 20 digits is no seed and stays text."""
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16)
    return int(digits) if len(digits) <= 20 else digits


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[-1]:
        return [*lines, _NO_NEWLINE]
    return lines[:-1]
