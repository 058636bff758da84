"""Problems as text for a person."""

from __future__ import annotations

from unicodedata import east_asian_width

from trscaler_gen.errors import Problem
from trscaler_gen.inventory.text import printable

EXCERPT_WIDTH = 110
_LEAD = 40


def format_problem(problem: Problem) -> str:
    """Lay a problem out as a compiler does: place, message, line, caret, hint; no control characters."""
    lines = [f"{_place(problem)}: error[{problem.code}]: {printable(problem.message)}"]
    if problem.line and problem.excerpt:
        lines += _excerpt(problem.excerpt, max(problem.column, 1) - 1)
    if problem.hint:
        lines.append(f"  hint: {printable(problem.hint)}")
    return "\n".join(lines)


def _place(problem: Problem) -> str:
    source = printable(problem.source)
    return f"{source}:{problem.line}:{problem.column}" if problem.line else source


def _excerpt(line: str, offset: int) -> list[str]:
    """Show the line, or of a long one the stretch around ``offset``, with a caret below."""
    start = 0 if len(line) <= EXCERPT_WIDTH else max(0, offset - _LEAD)
    before = ("..." if start else "") + _visible(line[start:offset])
    end = start + EXCERPT_WIDTH
    after = _visible(line[offset:end]) + ("..." if len(line) > end else "")
    return [before + after, " " * _columns(before) + "^"]


def _visible(text: str) -> str:
    return printable(text.replace("\t", " ")).rstrip("\r\n")


def _columns(text: str) -> int:
    """Count terminal columns: East Asian wide characters take two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)
