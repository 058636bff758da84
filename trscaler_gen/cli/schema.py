"""`trscaler-gen schema`: the inventory's JSON Schema."""

from __future__ import annotations

import json

import click


@click.command()
def command() -> None:
    """Print the JSON Schema of inventories, for editors.

    Example: trscaler-gen schema > inventory.schema.json
    """
    from trscaler_gen.inventory.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
