"""Text from strangers, made harmless before a person's terminal shows it."""

from __future__ import annotations

QUOTE_LIMIT = 60


def printable(text: str) -> str:
    r"""Write what a terminal would obey (controls, escapes, direction marks) in the form ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def quoted(text: str) -> str:
    """Put quotes around a value from the input, cut to ``QUOTE_LIMIT`` characters."""
    clipped = text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 3] + "..."
    return f'"{printable(clipped)}"'


def kind_of(value: object) -> str:
    """Name a value from the file in a message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return quoted(value)
    if value is None:
        return "empty"
    return str(value).lower()
