"""The question before anything is changed."""

from __future__ import annotations

import sys

import click

from trscaler_gen.errors import OperationError


def ask(question: str, yes: bool) -> None:
    """Return if the user agrees, or did beforehand; raises Abort, or OperationError without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        message = "nobody can be asked here; nothing was changed"
        raise OperationError(message, "say it on the command line: --yes")
    click.confirm(question, abort=True, err=True)
