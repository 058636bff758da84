"""What a page of charts consists of; ``templates/page.html.j2`` lays it out. Pure.

Each chart has its numbers in a table beside it. Text is given as it is: the template escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from trscaler_gen.chart import Chart, Key


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names them, ``words`` are the columns that are no numbers."""

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})

    @property
    def is_prose(self) -> bool:
        """Whether no column holds numbers."""
        return len(self.words) == len(self.heading)


@dataclass(frozen=True)
class Panel:
    """One chart with the words for whoever cannot see it."""

    name: str
    title: str
    description: str
    chart: Chart


@dataclass(frozen=True)
class Block:
    """A heading with what belongs under it; ``parts`` can be folded, and begin ``is_open`` or not."""

    name: str
    heading: str
    sentences: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    panels: tuple[Panel, ...] = ()
    table: Table | None = None
    parts: tuple[Block, ...] = ()
    is_open: bool = True


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    title: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    footer: str = ""
