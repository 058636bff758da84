"""``trscaler-gen watch``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from trscaler_gen.cli.clusters import (
    accept_new_option,
    ends_like_ctrl_c,
    parallel_option,
    print_json,
    tell_new_key,
)
from trscaler_gen.cli.inventories import expand
from trscaler_gen.cli.status import Cluster, aim_of, known_lock, read_clusters
from trscaler_gen.console.terminal import END, Bell, Terminal, has_screen, is_ascii
from trscaler_gen.console.watch_view import (
    Scene,
    View,
    event_line,
    frame,
    look_line,
    show_once,
    timestamp,
)
from trscaler_gen.deploy.deployment import connector
from trscaler_gen.deploy.lookout import Lookout
from trscaler_gen.errors import InputError
from trscaler_gen.inventory.text import printable
from trscaler_gen.lockfile import lock_path
from trscaler_gen.secret import redact
from trscaler_gen.verdict import Member
from trscaler_gen.watching import Chronicle, Event, NodePicture, Picture, picture_of

if TYPE_CHECKING:
    from trscaler_gen.transport import Connection

#: a node that takes longer is not waited for before the others are shown
_PATIENCE_S = 2.0


@click.command(name="watch")
@click.argument("inventories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--interval",
    "-n",
    "interval_s",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often every node is asked.",
)
@click.option("--once", is_flag=True, help="Show one look, over one interval, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line per look and one per event.")
@accept_new_option
@parallel_option
def command(
    inventories: tuple[Path, ...],
    interval_s: float,
    once: bool,
    as_json: bool,
    accept_new: bool,
    parallel: int,
) -> None:
    """Show clusters while they live: nodes, heartbeats, shares of the traffic, events; changes nothing.

    Takes inventories, or folders of them. On a terminal it fills the screen: ? shows the keys, q quits.
    Through a pipe it prints a line per look and one per event. With --once the exit status is that of
    `status`.

    Example: trscaler-gen watch inventory/lab.yaml
    """
    if isinstance(
        sys.stdout, TextIOWrapper
    ):  # what a node says must not end it in a terminal without Unicode
        sys.stdout.reconfigure(errors="backslashreplace")
    with (
        ends_like_ctrl_c(),
        Bell() as bell,
        _rounds(expand(inventories), interval_s, parallel, accept_new, bell) as rounds,
    ):
        if once:
            sys.exit(_once(rounds, bell, as_json=as_json))
        if as_json or not has_screen():
            _as_lines(rounds, bell, as_json=as_json)
        _on_screen(rounds, bell)


class Rounds:
    """Looks at all clusters again and again; ``step`` is to be called when ``due_in_s`` has passed."""

    def __init__(
        self, paths: Sequence[Path], lookout: Lookout, where: Whereabouts, interval_s: float
    ) -> None:
        self.interval_s = interval_s
        self._paths, self._lookout, self._where = paths, lookout, where
        self._chronicles: dict[str, Chronicle] = {}
        self._pictures: dict[str, Picture] = {}
        self._log: list[Event] = []
        self._remark = ""
        self._stamps = _stamps(paths)
        self._next_s = time.monotonic()
        self._began_s: float | None = None
        lookout.keep(where.aims)

    @property
    def due_in_s(self) -> float:
        """When there is something to do, unless a node answers before."""
        due = self._next_s if self._began_s is None else self._began_s + min(self.interval_s, _PATIENCE_S)
        return max(0.0, due - time.monotonic())

    def step(self) -> tuple[Event, ...] | None:
        """Begin a round if it is time, or end it if it is over; answers what has happened then, else None."""
        if self._began_s is None:
            if self.due_in_s > 0:
                return None
            self._reread()
            self._lookout.ask()
            self._began_s = time.monotonic()
            self._next_s = self._began_s + self.interval_s
        if self.due_in_s > 0 and not self._lookout.is_answered:
            return None
        self._began_s = None
        return self._look()

    @property
    def scene(self) -> Scene:
        """What there is to show."""
        labels = [cluster.label for cluster in self._where.clusters if cluster.label in self._pictures]
        pictures = tuple(self._pictures[label] for label in labels)
        rates = tuple(tuple(self._chronicles[label].rates) for label in labels)
        return Scene(pictures, rates, tuple(self._log), (self._remark,) if self._remark else ())

    def _look(self) -> tuple[Event, ...]:
        sightings = self._lookout.sightings()
        events: list[Event] = []
        for cluster in self._where.clusters:
            seen = {name: sightings[key] for name, key in self._where.keys_of(cluster).items()}
            picture = picture_of(
                time.time(), printable(cluster.label), _members(cluster), seen, cluster.remarks
            )
            self._pictures[cluster.label] = picture
            events += self._chronicles.setdefault(cluster.label, Chronicle()).advance(picture)
        self._log = [*self._log, *events][-1000:]
        return tuple(events)

    def _reread(self) -> None:
        """Somebody may have added a node, and applied that; what cannot be read any more stays as it was."""
        stamps = _stamps(self._paths)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            clusters = read_clusters(self._paths)
        except (InputError, OSError) as error:
            self._remark = f"the inventory cannot be read any more; watching what it was: {error}"
            return
        self._remark = ""
        after = Whereabouts(clusters, self._where.accept_new)
        self._lookout.keep(after.aims)
        self._where.become(after)


class Whereabouts:
    """Which node is meant by a key, and how it is reached."""

    def __init__(self, clusters: Sequence[Cluster], accept_new: bool) -> None:
        self.accept_new = accept_new
        self.clusters = tuple(clusters)
        self._reach = [self._connector(cluster) for cluster in clusters]
        self._nodes = {
            key: (number, name)
            for number, cluster in enumerate(clusters)
            for name, key in self.keys_of(cluster).items()
        }
        self.aims = {key: aim_of(clusters[number], name) for key, (number, name) in self._nodes.items()}

    def become(self, other: Whereabouts) -> None:
        """Mean what another one means, from now on."""
        self.clusters, self._reach = other.clusters, other._reach
        self._nodes, self.aims = other._nodes, other.aims

    def keys_of(self, cluster: Cluster) -> dict[str, str]:
        """Every node's key, by name: a node that moves to another address is another one."""
        return {name: f"{cluster.label}/{name}@{address}" for name, address in cluster.addresses.items()}

    def connect(self, key: str) -> Connection:
        """Open a connection; raises NodeError."""
        number, name = self._nodes[key]
        return self._reach[number](name)

    def _connector(self, cluster: Cluster) -> Callable[[str], Connection]:
        return connector(cluster.inventory, cluster.departed, tell_new_key if self.accept_new else None)


@contextmanager
def _rounds(
    paths: Sequence[Path], interval_s: float, parallel: int, accept_new: bool, bell: Bell
) -> Iterator[Rounds]:
    clusters = read_clusters(paths)
    where = Whereabouts(clusters, accept_new)
    known = {digest: lock for cluster in clusters for digest, lock in known_lock(cluster).items()}
    with Lookout(where.connect, known, parallel=parallel, on_answer=bell.ring) as lookout:
        yield Rounds(paths, lookout, where, interval_s)


def _members(cluster: Cluster) -> list[Member]:
    """The nodes without what they say."""
    wanted = {name: bundle.generation for name, bundle in cluster.bundles.items()}
    return [
        Member(name, address, None, wanted=wanted.get(name, ""), has_left=name in cluster.departed)
        for name, address in cluster.addresses.items()
    ]


def _stamps(paths: Sequence[Path]) -> tuple[int, ...]:
    """When inventories and locks were last written."""
    files = [file for path in paths for file in (path, lock_path(path))]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


# --- ways to show it ---------------------------------------------------------------------------------------


def _once(rounds: Rounds, bell: Bell, *, as_json: bool) -> int:
    """The second complete look: rates need two. Answers the exit status."""
    looks = 0
    while looks < 2:
        if rounds.step() is not None:
            looks += all(picture.is_complete for picture in rounds.scene.pictures)
        else:
            bell.wait(rounds.due_in_s)
    scene = rounds.scene
    if as_json:
        for picture in scene.pictures:
            print_json(look_as_json(picture))
    else:
        show_once(scene, View(rounds.interval_s, is_ascii=is_ascii()))
    return max(picture.verdict.state for picture in scene.pictures)


def _as_lines(rounds: Rounds, bell: Bell, *, as_json: bool) -> NoReturn:
    """Forever: who reads has to end it."""
    remarks: tuple[str, ...] = ()
    while True:
        events = rounds.step()
        if events is None:
            bell.wait(rounds.due_in_s)
            continue
        if remarks != rounds.scene.remarks:
            remarks = rounds.scene.remarks
            click.echo("\n".join(map(printable, remarks)) or "the inventory can be read again", err=True)
        for event in events:
            print_json(event_as_json(event)) if as_json else click.echo(event_line(event))
        for picture in rounds.scene.pictures:
            print_json(look_as_json(picture)) if as_json else click.echo(look_line(picture))


def _on_screen(rounds: Rounds, bell: Bell) -> None:
    """Until somebody quits."""
    view = View(rounds.interval_s, is_ascii=is_ascii())
    scene, is_new = rounds.scene, True
    with Terminal(bell) as terminal:
        while True:
            is_new |= rounds.step() is not None
            if is_new:
                scene = scene if view.is_paused else rounds.scene
                shown = frame(scene, view, *terminal.size)
                view = replace(view, scroll=min(view.scroll, shown.last_scroll))
                terminal.draw(shown.text)
            keys = terminal.wait(rounds.due_in_s)
            is_new = keys is None or bool(keys)
            for key in keys or ():
                if key in ("q", "Q", END):
                    return
                view = view.pressed(key, max(1, terminal.size[1] // 2))


def event_as_json(event: Event) -> dict[str, object]:
    """One event as a document."""
    return {
        "event": event.what.value,
        "time": timestamp(event.at_s),
        "cluster": event.cluster,
        "node": event.node or None,
        "text": redact(event.text),
        "buckets": dict(event.buckets),
        "bad": event.is_bad,
    }


def look_as_json(picture: Picture) -> dict[str, object]:
    """One look as a document."""
    verdict = picture.verdict
    return {
        "event": "look",
        "time": timestamp(picture.at_s),
        "cluster": picture.cluster,
        "complete": picture.is_complete,
        "state": verdict.state.name.lower(),
        "buckets": verdict.buckets,
        "one_owner": verdict.one,
        "lease_ms": picture.lease_ms,
        "accepted_pps": round(picture.accepted_pps, 1),
        "dropped_pps": round(picture.dropped_pps, 1),
        "faults": verdict.faults,
        "doubts": verdict.doubts,
        "nodes": [_node_as_json(picture, node) for node in picture.nodes],
    }


def _node_as_json(picture: Picture, node: NodePicture) -> Mapping[str, object]:
    share, facts = picture.share_of(node), node.facts
    return {
        "node": node.name,
        "state": node.state.value,
        "heard_ms": node.age_ms,
        "owned_buckets": node.owned,
        "accepted_pps": None if node.accepted_pps is None else round(node.accepted_pps, 1),
        "dropped_pps": None if node.dropped_pps is None else round(node.dropped_pps, 1),
        "share": None if share is None else round(share, 4),
        "hosting": node.hosting,
        "held": facts.held if facts and facts.held >= 0 else None,
        "generation": facts.generation or None if facts else None,
        "serial": facts.serial if facts else None,
        "error": redact(node.error.message) if node.error else None,
    }
