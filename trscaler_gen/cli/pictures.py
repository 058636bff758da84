"""``--html`` and ``--svg``: what a verb has found, as files with charts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from trscaler_gen.cli import forget_output
from trscaler_gen.errors import OperationError
from trscaler_gen.files import require_place, write_open
from trscaler_gen.inventory.text import printable
from trscaler_gen.render import render_figure, render_page
from trscaler_gen.simulate.picture import figure_of, page_of
from trscaler_gen.simulate.result import Simulation

STDOUT = Path("-")

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)

html_option = click.option(
    "--html", metavar="FILE", type=_FILE, help="Write a page with charts; - is standard output."
)
svg_option = click.option(
    "--svg", metavar="FILE", type=_FILE, help="Write the main chart; - is standard output."
)


def check_pictures(html: Path | None, svg: Path | None, inputs: Iterable[Path]) -> None:
    """Refuse before the work what cannot be written after it, or would replace what it reads.

    Raises OperationError, UsageError.
    """
    if html is not None and svg is not None and _are_same(html, svg):
        raise click.UsageError("--html and --svg name the same file")
    for path in (html, svg):
        if path is None or path == STDOUT:
            continue
        if any(_are_same(path, read) for read in inputs):
            raise click.UsageError(f"{printable(str(path))} is read: give the picture another name")
        require_place(path)


def _are_same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def write_pictures(simulation: Simulation, html: Path | None, svg: Path | None) -> bool:
    """Write what was asked for; returns whether it went to standard output, which then holds nothing else."""
    if html is not None:
        _write(html, render_page(page_of(simulation)))
    if svg is not None:
        _write(svg, render_figure(figure_of(simulation)))
    return STDOUT in (html, svg)


def _write(path: Path, content: bytes) -> None:
    if path == STDOUT:
        _print(content)
        return
    verb = "replaced" if path.is_file() else "written"
    write_open(path, content)
    click.echo(f"{printable(str(path))}: {verb}", err=True)


def _print(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        forget_output()
        raise OperationError(f"cannot write to standard output: {error.strerror}") from None
