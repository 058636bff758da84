"""``trscaler-gen check``."""

from __future__ import annotations

from pathlib import Path

import click

from trscaler_gen.check import Finding, check_bundles
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.text import printable
from trscaler_gen.pipeline import compile_inventory


@click.command(name="check")
@click.argument("inventory", type=click.Path(path_type=Path))
def command(inventory: Path) -> None:
    """Validate an inventory and give every generated file to the real nft and keepalived.

    Writes nothing, and touches neither the nodes nor this host's network.

    Example: trscaler-gen check inventory/lab.yaml
    """
    compiled = compile_inventory(inventory)
    links = {name: compiled.inventory.link_of(name) for name in compiled.bundles}
    others = {name: compiled.inventory.forwards_to_of(name) or "" for name in compiled.bundles}
    findings = check_bundles(compiled.bundles, links, others)
    if findings:
        _show(findings)
        raise OperationError(
            f"{len(findings)} generated files are refused",
            "the inventory is valid, so this is a bug in trscaler-gen or an unsupported version of the tool",
        )
    click.echo(f"{inventory}: {len(compiled.bundles)} nodes, every file accepted by nft, keepalived and sh")


def _show(findings: tuple[Finding, ...]) -> None:
    """Show the first node's findings: the others' differ from them by little more than a number."""
    first = findings[0].node
    for finding in findings:
        if finding.node == first:
            click.echo(f"{finding.node}/{finding.file}: {finding.tool} refuses it", err=True)
            for line in finding.output.strip().splitlines()[:20]:
                click.echo(f"  | {printable(line)}", err=True)
    others = sorted({finding.node for finding in findings} - {first})
    if others:
        click.echo(f"and files of {len(others)} more nodes: {', '.join(others)}", err=True)
