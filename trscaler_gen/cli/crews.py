"""What the verbs that drain nodes share: which nodes there are, how they are reached, and what is told."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path

import click

from trscaler_gen.cli.clusters import tell_new_key
from trscaler_gen.cli.status import Cluster
from trscaler_gen.deploy.deployment import connector
from trscaler_gen.deploy.drain import Answers, Crew
from trscaler_gen.deploy.lines import Lines
from trscaler_gen.errors import NodeError, OperationError

inventory_option = click.option(
    "--inventory",
    "-i",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The cluster's inventory.",
)


def new_token() -> str:
    """A name for one run, which the deployment locks are held under."""
    return secrets.token_hex(6)


@contextlib.contextmanager
def crew_of(cluster: Cluster, *, parallel: int, accept_new: bool) -> Iterator[Crew]:
    """All nodes of a cluster, also those that left it and still run; connections close at the end."""
    connect = connector(cluster.inventory, cluster.departed, tell_new_key if accept_new else None)
    with (
        ThreadPoolExecutor(parallel, thread_name_prefix="crew") as executor,
        Lines(connect, executor=executor) as lines,
    ):
        yield Crew(
            cluster=cluster.inventory.cluster,
            names=tuple(cluster.addresses),
            lines=lines,
            settle_s=5 + 4 * cluster.inventory.heartbeat.interval_ms / 1000,
            inventory=str(cluster.path),
        )


def known(names: Iterable[str], cluster: Cluster) -> tuple[str, ...]:
    """The names, each once; raises OperationError for one that is no node's."""
    nodes = tuple(cluster.addresses)
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in nodes:
            near = get_close_matches(name, nodes, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"its nodes are: {', '.join(nodes)}"
            raise OperationError(f'{cluster.path} has no node "{name}"', hint)
    return wanted


def silent(answers: Answers, needed: Sequence[str]) -> tuple[str, ...]:
    """Who did not answer, and need not be asked again."""
    return tuple(
        name for name, answer in answers.items() if isinstance(answer, NodeError) and name not in needed
    )


def undrain_line(nodes: Iterable[str], path: Path | str) -> str:
    """The command that brings drained nodes back."""
    return shlex.join(["trscaler-gen", "undrain", *nodes, "--inventory", str(path)])


def connections(count: int) -> str:
    """How many are left, for a sentence."""
    if count < 0:
        return "an unknown number of connections"
    return "no connection" if count == 0 else f"{count} connection{'s' if count != 1 else ''}"
