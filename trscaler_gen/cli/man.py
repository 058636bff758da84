"""``trscaler-gen man``."""

from __future__ import annotations

import click

from trscaler_gen import __version__
from trscaler_gen.cli import group


@click.command(name="man")
def command() -> None:
    """Print the manual page, in roff: to be read with `man -l -`, or installed.

    Example: trscaler-gen man
    """
    from trscaler_gen.cli.manual import manual

    click.echo(manual(group, __version__), nl=False)
