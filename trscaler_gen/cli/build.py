"""``trscaler-gen build``."""

from __future__ import annotations

from pathlib import Path

import click

from trscaler_gen.files import write_folder
from trscaler_gen.lockfile import write_lock
from trscaler_gen.pipeline import compile_inventory


@click.command(name="build")
@click.argument("inventory", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the bundles.",
)
def command(inventory: Path, output: Path) -> None:
    """Write every node's files to a folder, one folder a node.

    Example: trscaler-gen build inventory/lab.yaml -o build/
    """
    compiled = compile_inventory(inventory)
    write_lock(compiled.lock_path, compiled.lock)
    for name, bundle in compiled.bundles.items():
        write_folder(
            output / name, {file: (content, bundle.mode(file)) for file, content in bundle.files.items()}
        )
    click.echo(f"{len(compiled.bundles)} bundles in {output}, lock in {compiled.lock_path}")
