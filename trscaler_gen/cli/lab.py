"""The verbs of the lab."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import asdict
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import click

from trscaler_gen.lab import ConnectionCount, ConnectionsResult, Lab, Load, MemberStatus, ProbeResult
from trscaler_gen.lab.state import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE


class AddressParameter(click.ParamType[IPv4Address | IPv6Address]):
    """An IPv4 or IPv6 address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it, or say what it is not."""
        try:
            return ip_address(str(value))
        except ValueError:
            self.fail(f"{value!r} is not an IP address", param, ctx)


@click.group(
    epilog=f"The lab's files are in {DEFAULT_DIRECTORY}, or where ${DIRECTORY_VARIABLE} says: "
    "labs in different directories do not see each other.",
)
def command() -> None:
    """Run a cluster's hosts, its switch and a client on this machine, to deploy to and to break.

    Example: trscaler-gen lab up inventory/lab.yaml
    """


@command.command()
@click.argument("inventory", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def up(inventory: Path) -> None:
    """Start the lab that INVENTORY describes: bare nodes, ready for `apply`.

    Example: trscaler-gen lab up inventory/lab.yaml
    """
    from trscaler_gen.inventory.load import load_inventory

    lab = Lab.up(load_inventory(inventory))
    click.echo(f'lab "{lab.state.cluster}" is up: {len(lab.nodes)} nodes, a client, a switch')
    click.echo(f"  ssh -F {lab.ssh_config} {lab.nodes[0]}")
    click.echo(f"  trscaler-gen apply {inventory}")


@command.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def exec_(name: str, argv: tuple[str, ...]) -> None:
    """Run COMMAND inside NAME: a node, `client` or `switch`. The exit status is the command's.

    Example: trscaler-gen lab exec n1 -- nft list ruleset
    """
    lab = Lab.load()
    argv = argv[1:] if argv[0] == "--" else argv
    words = lab.command(name, ["env", "--default-signal=INT,QUIT", "--", *argv])
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(
            number, signal.SIG_IGN
        )  # a Ctrl-C is for the command, not for the nsenter that waits for it
    sys.stdout.flush()
    os.execvpe(words[0], words, lab.environment(name))


@command.command()
@click.argument("node")
@click.option("--silent", is_flag=True, help="Lose every frame, but keep the carrier on.")
def cut(node: str, silent: bool) -> None:
    """Pull the cable between NODE (or `client`) and the switch.

    Example: trscaler-gen lab cut n2 --silent
    """
    Lab.load().cut(node, silent=silent)


@command.command()
@click.argument("node")
def mend(node: str) -> None:
    """Put the cable of NODE back.

    Example: trscaler-gen lab mend n2
    """
    Lab.load().mend(node)


@command.command()
@click.option(
    "--sources", default=100, show_default=True, type=click.IntRange(1, 250), help="Source addresses."
)
@click.option("--interval-ms", default=100.0, show_default=True, help="Of each source.")
@click.option("--seconds", default=5.0, show_default=True, help="How long to send.")
@click.option("--family", default="4", show_default=True, type=click.Choice(["4", "6"]), help="IPv4 or IPv6.")
@click.option("--destination", type=AddressParameter(), help="Default: the family's first virtual address.")
@click.option("--per-source", is_flag=True, help="A line per source, too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Everything, with the times of lost and doubled probes."
)
def probe(
    sources: int,
    interval_ms: float,
    seconds: float,
    family: str,
    destination: IPv4Address | IPv6Address | None,
    per_source: bool,
    as_json: bool,
) -> None:
    """Ask a virtual address from many sources, and count who answers. Ctrl-C ends it early.

    Example: trscaler-gen lab probe --sources 100 --seconds 3
    """
    lab = Lab.load()
    version = int(family)
    result = lab.probing(
        sources=sources, interval_ms=interval_ms, seconds=seconds, family=version, destination=destination
    ).wait()
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=1))
        return
    click.echo(_summary(result, interval_ms))
    if per_source:
        click.echo("\n" + _per_source(result))


@command.command()
@click.option(
    "--long",
    default=200,
    show_default=True,
    type=click.IntRange(0),
    help="Connections that ask all the time.",
)
@click.option(
    "--idle", default=0, show_default=True, type=click.IntRange(0), help="Connections that seldom ask."
)
@click.option(
    "--sources",
    default=100,
    show_default=True,
    type=click.IntRange(1, 250),
    help="Source addresses of each family.",
)
@click.option("--interval-ms", default=100.0, show_default=True, help="Between requests of a long one.")
@click.option("--idle-interval-s", default=10.0, show_default=True, help="Between requests of an idle one.")
@click.option(
    "--short-interval-ms", default=5.0, show_default=True, help="Between openings of short ones; 0: none."
)
@click.option("--life-s", type=float, help="Close long and idle ones after so long, and open them anew.")
@click.option("--seconds", default=5.0, show_default=True, help="How long to ask.")
@click.option(
    "--destination",
    "destinations",
    multiple=True,
    type=AddressParameter(),
    help="Default: all virtual addresses.",
)
@click.option("--json", "as_json", is_flag=True, help="Everything, with each broken connection.")
def connections(
    *,
    interval_ms: float,
    short_interval_ms: float,
    destinations: tuple[IPv4Address | IPv6Address, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Keep TCP connections in use, and count which break. Ctrl-C ends it early.

    Example: trscaler-gen lab connections --long 100 --seconds 30
    """
    load = Load(request_interval_ms=interval_ms, short_interval_ms=short_interval_ms or None, **options)
    result = Lab.load().connecting(load, destinations=destinations).wait()
    click.echo(json.dumps(result.as_json(), indent=1) if as_json else _connections(result))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Say what runs, and which cables are cut.

    Example: trscaler-gen lab status
    """
    lab = Lab.load()
    seen = lab.status()
    if as_json:
        members = [asdict(member) for member in seen]
        click.echo(
            json.dumps({"cluster": lab.state.cluster, "inventory": lab.state.inventory, "members": members})
        )
        return
    click.echo(f'lab "{lab.state.cluster}" of {lab.state.inventory}')
    click.echo(
        table(["name", "state", "cable", "address", "", "pid"], [_status_row(member) for member in seen])
    )


@command.command()
def down() -> None:
    """End the lab, or what a killed one left behind.

    Example: trscaler-gen lab down
    """
    left = Lab.clear()
    click.echo("no lab is up" if left.nothing else f"the lab is down ({left.processes} processes ended)")


def _status_row(member: MemberStatus) -> list[str]:
    state = "dead" if not member.running else "running" if member.services else "no sshd or responder"
    return [
        member.name,
        state,
        member.port or "-",
        member.address4 or "-",
        member.address6 or "-",
        str(member.pid),
    ]


def _summary(result: ProbeResult, interval_ms: float) -> str:
    sources = len(result.per_source)
    counts = (
        f"sent {result.sent}  lost {result.lost}  answered twice {result.doubled}  "
        f"longest gap {result.longest_gap_ms:.1f} ms  slowest answer {result.slowest_answer_ms:.1f} ms"
    )
    lines = [f"{result.destination} asked by {sources} sources, each every {interval_ms:g} ms", counts]
    if result.late:
        lines.append(
            f"{result.late} probes left late, by up to {result.worst_late_ms:.0f} ms: the machine is too busy"
        )
    answers = max(1, sum(result.by_node.values()))
    rows = [
        [node, str(count), f"{100 * count / answers:.1f} %", str(_asking(result, node))]
        for node, count in result.by_node.items()
    ]
    return "\n".join(lines) + "\n\n" + table(["node", "answers", "share", "sources"], rows)


def _asking(result: ProbeResult, node: str) -> int:
    return sum(1 for source in result.per_source if node in source.by_node)


def _per_source(result: ProbeResult) -> str:
    rows = [
        [
            source.source,
            *map(str, (source.sent, source.lost, source.doubled)),
            f"{source.longest_gap_ms:.1f}",
            " ".join(f"{node}:{count}" for node, count in source.by_node.items()) or "-",
        ]
        for source in result.per_source
    ]
    return table(["source", "sent", "lost", "twice", "gap ms", "nodes"], rows)


def _connections(result: ConnectionsResult) -> str:
    heading = ["kind", "family", "opened", "closed", "broken", "answers", "slow", "slowest ms", "nodes"]
    rows = [_count_row(count) for count in result.counts if count.opened]
    lines = [table(heading, rows)]
    why = Counter((broken.reason, broken.doing, broken.node or "nobody") for broken in result.broken)
    if why:
        broken_rows = [[str(count), *words] for words, count in sorted(why.items())]
        lines.append(table(["broken", "how", "waiting for", "held by"], broken_rows))
    if result.late:
        lines.append(
            f"late {result.late} times, by up to {result.worst_late_ms:.0f} ms: the machine is too busy"
        )
    return "\n\n".join(lines)


def _count_row(count: ConnectionCount) -> list[str]:
    figures = (count.opened, count.closed, count.broken, count.answered, count.slow)
    nodes = " ".join(f"{node}:{answers}" for node, answers in count.by_node.items()) or "-"
    return [count.kind, f"IPv{count.family}", *map(str, figures), f"{count.slowest_ms:.1f}", nodes]


def table(heading: list[str], rows: list[list[str]]) -> str:
    """Plain columns, each as wide as its widest cell."""
    everything = [heading, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(heading))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    )
