"""``trscaler-gen drain``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_TIMEOUT, report
from trscaler_gen.cli.clusters import (
    accept_new_option,
    deployer,
    ends_like_ctrl_c,
    parallel_option,
    print_json,
)
from trscaler_gen.cli.crews import (
    connections,
    crew_of,
    inventory_option,
    known,
    new_token,
    silent,
    undrain_line,
)
from trscaler_gen.cli.status import Cluster, read_cluster
from trscaler_gen.console.drain_view import Countdown
from trscaler_gen.deploy.drain import Crew, Draining, await_no_connections, refuse
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.facts import Facts


@click.command(name="drain")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@inventory_option
@click.option("--wait", "waits", is_flag=True, help="Return when no connection is left; shows how many are.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    metavar="S",
    help="With --wait: wait no longer than S seconds; connections that are left then stay.  "
    "[default: as long as it takes]",
)
@click.option("--force", is_flag=True, help="Drain even if no other node serves.")
@click.option("--json", "as_json", is_flag=True, help="Print events and outcome as JSON, a line each.")
@accept_new_option
@parallel_option
def command(
    nodes: tuple[str, ...],
    path: Path,
    waits: bool,
    timeout_s: float | None,
    force: bool,
    as_json: bool,
    accept_new: bool,
    parallel: int,
) -> None:
    """Send new connections elsewhere; those that a node has stay with it until they end.

    The node stays drained, also over a reboot, until `undrain`. The exit status is 124 if connections are
    left when the time is over.

    Example: trscaler-gen drain n2 --inventory inventory/lab.yaml --wait
    """
    if timeout_s is not None and not waits:
        raise click.UsageError("--timeout goes with --wait")
    cluster = read_cluster(path)
    names = known(nodes, cluster)
    with ends_like_ctrl_c(), crew_of(cluster, parallel=parallel, accept_new=accept_new) as crew:
        sys.exit(_Drain(cluster, crew, names, as_json).run(waits=waits, timeout_s=timeout_s, force=force))


@dataclass
class _Drain:
    """One call of the verb."""

    cluster: Cluster
    crew: Crew
    names: tuple[str, ...]
    as_json: bool
    told: list[str] = field(default_factory=list)

    def run(self, *, waits: bool, timeout_s: float | None, force: bool) -> int:
        """Answers the exit status."""
        try:
            self._drain(force=force)
            held = self._look()
            if waits and self._keeps:
                held = self._wait(timeout_s)
        except KeyboardInterrupt:
            self._say_where_it_stands("interrupted")
            return EXIT_INTERRUPTED
        except OperationError as error:
            report(error)
            self._say_where_it_stands("failed")
            return EXIT_ERROR
        return self._end(held, waits=waits, timeout_s=timeout_s)

    @property
    def _keeps(self) -> bool:
        """Whether a drained node keeps its connections at all."""
        return self.cluster.inventory.connections == "preserve"

    def _drain(self, *, force: bool) -> None:
        seen = self.crew.observe(self.crew.names)
        self.crew = self.crew.without(silent(seen, self.names))
        # What keeps a node from it whatever is forced, before any lock is taken.
        refuse(self.names, seen, self.crew, force=True)
        already = tuple(name for name in self.names if _drains(seen[name]))
        if already != self.names:
            draining = Draining(self.crew, self.told)
            with self.crew.locked(new_token(), deployer(), self.names):
                draining.drain(self.names, force=force)
        for name in already:
            self._say({"event": "drained", "node": name, "already": True}, f"{name}: is drained already")
        for name in self.told:
            words = f"{name}: drained: new connections go to the other nodes"
            self._say({"event": "drained", "node": name, "already": False}, words)
        self.told[:] = self.names

    def _look(self) -> dict[str, int]:
        return await_no_connections(self.crew, self.names, lambda held: None, timeout_s=0)

    def _wait(self, timeout_s: float | None) -> dict[str, int]:
        if self.as_json:
            return await_no_connections(
                self.crew, self.names, _HeldLines(self._say).tell, timeout_s=timeout_s
            )
        with Countdown() as countdown:
            return await_no_connections(self.crew, self.names, countdown.show, timeout_s=timeout_s)

    def _end(self, held: Mapping[str, int], *, waits: bool, timeout_s: float | None) -> int:
        left = {name: count for name, count in held.items() if count}
        is_late = waits and self._keeps and bool(left)
        for name, count in held.items():
            self._say(None, f"{name}: {self._rest(count)}")
        document = {"event": "outcome", "cluster": self.crew.cluster, "complete": not is_late}
        self._say({**document, "nodes": [{"node": name, "held": _number(held[name])} for name in held]}, None)
        if not is_late:
            return 0
        total = connections(sum(left.values()) if min(left.values()) > 0 else -1)
        message = f"{', '.join(left)}: {total} left after {timeout_s:g} s; they stay, and so does the drain"
        again = shlex.join(["trscaler-gen", "drain", *left, "--inventory", str(self.cluster.path), "--wait"])
        back = undrain_line(self.names, self.cluster.path)
        report(OperationError(message, f"wait on: {again}; bring back: {back}"))
        return EXIT_TIMEOUT

    def _rest(self, count: int) -> str:
        if not self._keeps:
            return "its connections break, for the inventory says connections: hash-only"
        ready = ": it can be stopped or rebooted" if count == 0 else ", which stay with it until they end"
        return f"holds {connections(count)}{ready}"

    def _say_where_it_stands(self, what: str) -> None:
        if self.told:
            back = undrain_line(self.told, self.cluster.path)
            verb = "stays" if len(self.told) == 1 else "stay"
            self._say({"event": what, "drained": self.told, "undo": back}, None)
            click.echo(f"{', '.join(self.told)} {verb} drained; bring back: {back}", err=True)
        elif what == "interrupted":
            click.echo("interrupted; no node was told to drain", err=True)

    def _say(self, document: Mapping[str, object] | None, line: str | None) -> None:
        if self.as_json and document is not None:
            print_json({"cluster": self.crew.cluster, **document})
        elif not self.as_json and line is not None:
            click.echo(line)


@dataclass
class _HeldLines:
    """A line for every number that has changed."""

    say: Callable[[Mapping[str, object] | None, str | None], None]
    told: dict[str, int] = field(default_factory=dict)

    def tell(self, held: Mapping[str, int]) -> None:
        for node, count in held.items():
            if count >= 0 and self.told.get(node) != count:
                self.told[node] = count
                self.say({"event": "held", "node": node, "held": count}, None)


def _drains(answer: Facts | NodeError) -> bool:
    return isinstance(answer, Facts) and answer.draining


def _number(held: int) -> int | None:
    return held if held >= 0 else None
