"""``trscaler-gen rolling``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from trscaler_gen.cli import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_TIMEOUT, forget_output, report
from trscaler_gen.cli.clusters import (
    accept_new_option,
    deployer,
    ends_like_ctrl_c,
    parallel_option,
    print_json,
    tell_new_key,
)
from trscaler_gen.cli.consent import ask
from trscaler_gen.cli.crews import crew_of, known, new_token, undrain_line
from trscaler_gen.cli.status import Cluster, read_cluster, survey_clusters
from trscaler_gen.console.rolling_view import RollingView
from trscaler_gen.deploy.deployment_lock import DeploymentLocks
from trscaler_gen.deploy.rolling import (
    ConnectionsLeftError,
    Held,
    NotYet,
    Outcome,
    Output,
    Patience,
    Rebooted,
    Rolling,
    RollingEvent,
    Step,
    StepBegan,
    Stop,
    Tour,
    TurnEnded,
)
from trscaler_gen.errors import NodeError, OperationError
from trscaler_gen.secret import redact
from trscaler_gen.verdict import State, Verdict

PATIENCE = Patience()


@click.command(name="rolling")
@click.argument("path", metavar="INVENTORY", type=click.Path(path_type=Path))
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True)
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="Only this one; may be given again.")
@click.option(
    "--from", "first", metavar="NODE", help="Go on with this node, where an earlier run has stopped."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    metavar="S",
    help="Stop if a node's connections have not ended after S seconds.  [default: as long as it takes]",
)
@click.option(
    "--return-within",
    "return_s",
    type=click.FloatRange(1),
    default=900,
    show_default=True,
    metavar="S",
    help="Stop if a node is not well again S seconds after the command.",
)
@click.option(
    "--pause", "pause_s", type=click.FloatRange(0), default=0, metavar="S", help="Wait between two nodes."
)
@click.option("--reboots", is_flag=True, help="The command reboots the node: it is not back before it has.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print events and outcome as JSON, a line each.")
@accept_new_option
@parallel_option
def command(
    path: Path,
    argv: tuple[str, ...],
    nodes: tuple[str, ...],
    first: str | None,
    timeout_s: float | None,
    return_s: float,
    pause_s: float,
    reboots: bool,
    yes: bool,
    as_json: bool,
    accept_new: bool,
    parallel: int,
) -> None:
    """Run a command on one node after the other, each drained meanwhile: upgrades and reboots lose nothing.

    Each node is drained, loses its last connection, runs the command as root, and serves again when it is
    well; a reboot is waited for. Stops at the first failure, and says how to go on. No shell reads the
    command: for one, say sh -c '...'.

    Example: trscaler-gen rolling inventory/lab.yaml -- apt-get --yes upgrade
    """
    cluster = read_cluster(path)
    order = _order(cluster, nodes, first)
    waits = cluster.inventory.connections == "preserve"
    tour = Tour(order, argv, timeout_s, return_s, pause_s, reboots, first or "", waits)
    survey = _Survey(cluster, parallel, accept_new)
    with ends_like_ctrl_c():
        survey.refuse_ill(tour.resumed)
        _Announcement(tour, survey.drained).show(cluster, as_json)
        ask("Carry this out?", yes)
        with crew_of(cluster, parallel=parallel, accept_new=accept_new) as every, _view(as_json) as tell:
            crew = every.without(cluster.departed)
            with DeploymentLocks(crew.cluster, new_token(), deployer()) as locks:
                outcome = Rolling(crew, locks, tour, survey.reasons, tell, PATIENCE).run()
    options = _options(timeout_s, return_s, pause_s, reboots)
    sys.exit(_Ending(cluster, tour, outcome, nodes, options).tell(as_json))


def _order(cluster: Cluster, nodes: Sequence[str], first: str | None) -> tuple[str, ...]:
    """The nodes in the order of the command line, or of the inventory; raises OperationError."""
    names = known(nodes, cluster) if nodes else tuple(cluster.inventory.nodes)
    if first is None:
        return names
    known([first], cluster)
    if first not in names:
        raise OperationError(f"--from {first}: it is not among those of --node", "leave one of the two out")
    return names[names.index(first) :]


def _options(timeout_s: float | None, return_s: float, pause_s: float, reboots: bool) -> tuple[str, ...]:
    """What was said, but for the nodes, to be said again."""
    said: list[str] = []
    for option, value, usual in (
        ("--timeout", timeout_s, None),
        ("--return-within", return_s, 900),
        ("--pause", pause_s, 0),
    ):
        said += [option, f"{value:g}"] if value is not None and value != usual else []
    return (*said, "--reboots") if reboots else tuple(said)


@contextlib.contextmanager
def _view(as_json: bool) -> Iterator[Callable[[RollingEvent], None]]:
    if as_json:
        yield lambda event: _show(lambda: print_json(_event_as_json(event)))
        return
    with RollingView() as view:
        yield lambda event: _show(lambda: view.show(event))


def _show(show: Callable[[], None]) -> None:
    """That nobody reads on is no reason to stop half-way; rich would end the program."""
    try:
        show()
    except (OSError, SystemExit):
        forget_output()


def _event_as_json(event: RollingEvent) -> dict[str, object]:
    match event:
        case StepBegan():
            return {"event": "step", "node": event.node, "step": event.step.value}
        case Held():
            return {"event": "held", "node": event.node, "held": event.count if event.count >= 0 else None}
        case Output():
            stream = "stderr" if event.is_error else "stdout"
            return {"event": "output", "node": event.node, "stream": stream, "line": redact(event.line)}
        case Rebooted():
            return {"event": "rebooted", "node": event.node}
        case NotYet():
            return {"event": "not-yet", "node": event.node, "why": redact(event.why)}
        case TurnEnded():
            return {"event": "done", "node": event.node, "stays_drained": event.stays_drained}


@dataclass
class _Survey:
    """Asks all nodes how they are; ``drained`` are those that were drained when it was asked last."""

    cluster: Cluster
    parallel: int
    accept_new: bool
    drained: tuple[str, ...] = ()

    def reasons(self, exempt: str) -> tuple[str, ...]:
        """Why no node should go out of service now; what ``exempt`` itself suffers from does not count."""
        (status,) = survey_clusters(
            [self.cluster],
            parallel=self.parallel,
            on_new_key=tell_new_key if self.accept_new else None,
            is_quiet=True,
        )
        self.drained = tuple(m.name for m in status.members if m.facts and m.facts.draining)
        return _reasons(status.verdict, exempt)

    def refuse_ill(self, exempt: str) -> None:
        """Raise OperationError unless all nodes are well."""
        reasons = self.reasons(exempt)
        if reasons:
            message = f"cluster {self.cluster.inventory.cluster} is not well: {'; '.join(reasons)}"
            hint = (
                f"another node would go out of service beside it; see trscaler-gen status {self.cluster.path}"
            )
            raise OperationError(f"{message}; nothing was begun", hint)


def _reasons(verdict: Verdict, exempt: str) -> tuple[str, ...]:
    if verdict.state is State.HEALTHY:
        return ()
    found = [f"{name}: {text}" for name, texts in verdict.ill.items() if name != exempt for text in texts]
    if not exempt:
        found += verdict.disagreements
    if verdict.none or verdict.several or (verdict.unknown and not verdict.ill):
        found.append(f"{verdict.one} of {verdict.buckets} buckets have exactly one owner")
    if not verdict.buckets:
        found.append("no node is known to run anything")
    return tuple(found)


@dataclass(frozen=True)
class _Announcement:
    """What is about to be done."""

    tour: Tour
    drained: tuple[str, ...]

    def show(self, cluster: Cluster, as_json: bool) -> None:
        stay = [node for node in self.tour.nodes if node in self.drained and node != self.tour.resumed]
        if as_json:
            words: dict[str, object] = {"cluster": cluster.inventory.cluster, "nodes": self.tour.nodes}
            print_json({"event": "tour", **words, "command": self.tour.command, "stay_drained": stay})
            return
        click.echo(f"Cluster {cluster.inventory.cluster} ({cluster.path}), one node after the other:")
        click.echo(f"  {', '.join(self.tour.nodes)}")
        click.echo(f"  each is drained, runs `{shlex.join(self.tour.command)}`, and serves again")
        if stay:
            verb = (
                "is drained already, and stays so" if len(stay) == 1 else "are drained already, and stay so"
            )
            click.echo(f"  {', '.join(stay)} {verb}")


@dataclass(frozen=True)
class _Ending:
    """How a tour ended, and how to go on."""

    cluster: Cluster
    tour: Tour
    outcome: Outcome
    nodes: tuple[str, ...]
    options: tuple[str, ...]

    def tell(self, as_json: bool) -> int:
        """Say it; answers the exit status."""
        _show(lambda: print_json(self._document()) if as_json else click.echo(self._summary()))
        stop = self.outcome.stop
        if stop is None:
            return 0
        if stop.error is not None:
            report(stop.error)
        if not as_json:
            for line in self._what_now(stop):
                click.echo(f"  {line}", err=True)
        if stop.error is None:
            return EXIT_INTERRUPTED
        return EXIT_TIMEOUT if isinstance(stop.error, ConnectionsLeftError) else EXIT_ERROR

    def _summary(self) -> str:
        stop, stay = self.outcome.stop, self.outcome.stay_drained
        done = f"done: {', '.join(self.outcome.done) or 'none'}"
        done += f" ({', '.join(stay)}: drained as before)" if stay else ""
        if stop is None:
            return done
        rest = f"; not begun: {', '.join(self.outcome.not_begun)}" if self.outcome.not_begun else ""
        why = "interrupted" if stop.error is None else "stopped"
        return f"{why} at {stop.node}, step {stop.step.value}; {done}{rest}"

    def _what_now(self, stop: Stop) -> Iterator[str]:
        yield f"{stop.node}: {self._state(stop)}"
        undo = self._undo(stop)
        if undo:
            yield f"bring it back: {undo}"
        go_on = self._go_on(stop)
        if go_on:
            yield f"go on: {go_on}"

    def _state(self, stop: Stop) -> str:
        drained = "it is drained, and stays so" if stop.is_drained else "it is not drained"
        drained = "it was drained before, and stays so" if stop.was_drained else drained
        if stop.is_done:
            return f"{drained}; the command has succeeded there"
        if stop.step is Step.COMMAND or stop.step is Step.RETURN:
            running = " and may be running still" if stop.error is None else ""
            return f"{drained}; the command was begun there{running}"
        return f"{drained}; the command was not begun there"

    def _undo(self, stop: Stop) -> str:
        """The command that brings the node back; empty if it is not drained, or was before."""
        is_ours = stop.is_drained and not stop.was_drained
        return undrain_line([stop.node], self.cluster.path) if is_ours else ""

    def _go_on(self, stop: Stop) -> str:
        """The command for what is left: where the command has succeeded, a node is not given it again."""
        rest = self.outcome.not_begun if stop.is_done else (stop.node, *self.outcome.not_begun)
        if not rest:
            return ""
        # A node that --from names is undrained in the end, as the earlier run would have done.
        is_resumed = stop.is_drained and not stop.was_drained and not stop.is_done
        named = () if is_resumed and not self.nodes else tuple(w for name in rest for w in ("--node", name))
        first = ("--from", stop.node) if is_resumed else ()
        words = ["trscaler-gen", "rolling", str(self.cluster.path), *self.options, *named, *first]
        return shlex.join([*words, "--", *self.tour.command])

    def _document(self) -> dict[str, object]:
        stop = self.outcome.stop
        words: dict[str, object] = {
            "event": "outcome",
            "cluster": self.cluster.inventory.cluster,
            "complete": stop is None,
            "done": self.outcome.done,
            "stay_drained": self.outcome.stay_drained,
            "not_begun": self.outcome.not_begun,
        }
        if stop is None:
            return words
        error = stop.error
        return words | {
            "interrupted": error is None,
            "stopped_at": stop.node,
            "step": stop.step.value,
            "drained": stop.is_drained,
            "command_succeeded": stop.is_done,
            "error": redact(error.message) if error else None,
            "status": error.status if isinstance(error, NodeError) else None,
            "undo": self._undo(stop) or None,
            "go_on": self._go_on(stop) or None,
        }
