"""``trscaler-gen undrain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR
from trscaler_gen.cli.clusters import (
    accept_new_option,
    deployer,
    ends_like_ctrl_c,
    parallel_option,
    print_json,
)
from trscaler_gen.cli.crews import crew_of, inventory_option, known, new_token
from trscaler_gen.cli.status import read_cluster
from trscaler_gen.deploy.drain import Crew, undrain
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.facts import Facts


@click.command(name="undrain")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@inventory_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, a line per node.")
@accept_new_option
@parallel_option
def command(nodes: tuple[str, ...], path: Path, as_json: bool, accept_new: bool, parallel: int) -> None:
    """Let drained nodes take new connections again, and wait until they serve.

    Connections that other nodes have taken meanwhile stay with them. The exit status is 1 if a node does not
    serve then.

    Example: trscaler-gen undrain n2 --inventory inventory/lab.yaml
    """
    cluster = read_cluster(path)
    names = known(nodes, cluster)
    all_serve = True
    with ends_like_ctrl_c(), crew_of(cluster, parallel=parallel, accept_new=accept_new) as every:
        crew = every.without(set(every.names) - set(names))
        seen = {name: _answer(crew, name) for name in names}
        with crew.locked(new_token(), deployer(), names):
            for name, before in seen.items():
                after = undrain(crew, name, before) if before.draining else before
                all_serve &= after.serving
                _tell(crew, name, before, after, as_json)
    sys.exit(0 if all_serve else EXIT_ERROR)


def _answer(crew: Crew, name: str) -> Facts:
    facts = crew.facts_of(name)
    if not facts.generation:
        hint = f"see trscaler-gen status {crew.inventory}"
        raise NodeError(
            name, f"it has nothing of cluster {crew.cluster}: there is nothing to undrain", hint=hint
        )
    if facts.draining and not facts.runs:
        hint = f"start it, drained as it is, and say this again: trscaler-gen apply {crew.inventory}"
        raise NodeError(name, "it runs nothing now", hint=hint)
    if facts.runs and not facts.can_drain:
        hint = f"bring it up to date: trscaler-gen apply {crew.inventory}"
        raise OperationError(f"{name} runs files of an earlier release, which do not know of draining", hint)
    return facts


def _tell(crew: Crew, name: str, before: Facts, after: Facts, as_json: bool) -> None:
    if as_json:
        document = {"event": "undrained", "cluster": crew.cluster, "node": name}
        print_json({**document, "already": not before.draining, "serving": after.serving})
        return
    begin = "" if before.draining else "was not drained; "
    if after.serving:
        end = "serves"
    elif not after.runs:
        end = f"runs nothing: start it with trscaler-gen apply {crew.inventory}"
    else:
        end = (
            f"does not serve yet: keepalived says {after.heartbeat or 'nothing'}; it will as soon as its "
            "health check succeeds"
        )
    click.echo(f"{name}: {begin}{end}")
