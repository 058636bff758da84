"""Two texts of a file made comparable: what differs for reasons told elsewhere is written alike in both.

A ruleset's tag follows from its content and stands in hundreds of its lines; who owns which bucket is half a
million numbers; the seed is a secret. None of them belongs into a diff, but that they differ does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from trscaler_gen.secret import redact

_SEED = re.compile(r"(seed[\"']?[ \t]*[:=]?[ \t]*[\"']?)(0x[0-9a-f]+|[0-9]+)", re.IGNORECASE)
_RULESET_TAG = re.compile(r"^    map \w+?(_[0-9a-f]{8}) \{$", re.MULTILINE)
_SCRIPT_TAG = re.compile(r"^TAG=[0-9a-f]{8}$", re.MULTILINE)
_RANKS = re.compile(r"(?:    map rank[0-9]+_TAG \{\n[^}]*\}\n    \}\n\n?)+")
_RANK = re.compile(r"^    map rank", re.MULTILINE)
_ORDERS = re.compile(r"(?:^[0-9]{4,5}: [0-9 ]+\n)+", re.MULTILINE)
#: digests of texts that hold the seed: by trying all seeds it could be found
_DIGEST = re.compile(r"^(digest|ancestors): .*$", re.MULTILINE)
_NO_NEWLINE = "(no newline at the end)"


def comparable(before: bytes, after: bytes, *, full: bool) -> tuple[list[str], list[str]]:
    """Answer the lines of both texts; ``full`` hides nothing but secrets."""
    if b"\0" in before or b"\0" in after:
        return _opaque(before), _opaque(after)
    old, new = _decoded(before), _decoded(after)
    if not full:
        old, new = _untagged(old), _untagged(new)
        old, new = _collapsed(_RANKS, _ranks_in_words, old, new)
        old, new = _collapsed(_ORDERS, _orders_in_words, old, new)
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
    text = text.replace(match[1], "_TAG") if match else text
    return _SCRIPT_TAG.sub("TAG=(of the ruleset)", text)


def _collapsed(
    pattern: re.Pattern[str], in_words: Callable[[str, str], str], old: str, new: str
) -> tuple[str, str]:
    """Write each stretch that matches as one line; the lines differ if what they stand for does."""
    known = frozenset(match[0] for match in pattern.finditer(old))

    def word(match: re.Match[str]) -> str:
        return in_words(match[0], "the" if match[0] in known else "other")

    return pattern.sub(word, old), pattern.sub(word, new)


def _ranks_in_words(maps: str, article: str) -> str:
    deepest = len(_RANK.findall(maps)) - 1
    return f"    # maps rank0 to rank{deepest}: {article} preference orders, as this node needs them\n\n"


def _orders_in_words(lines: str, article: str) -> str:
    count = lines.count("\n")
    return f"({article} orders of {count} buckets)\n"


def _without_secrets(old: str, new: str) -> tuple[str, str]:
    """Hide the seed; the one that the first text has most often is "the" secret."""
    old, new = (_DIGEST.sub(r"\1: (not shown)", text) for text in (old, new))
    values = Counter(_value(match[2]) for match in _SEED.finditer(old or new))
    known = max(values, key=lambda value: values[value], default=None)

    def word(match: re.Match[str]) -> str:
        return match[1] + ("(secret)" if _value(match[2]) == known else "(another secret)")

    return redact(_SEED.sub(word, old)), redact(_SEED.sub(word, new))


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
