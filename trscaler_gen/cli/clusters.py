"""What the verbs that reach nodes share: their options, and several clusters at once."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType

import click

from trscaler_gen.console.progress import Watch
from trscaler_gen.deploy import Event, Interrupted, NodeDone, PhaseBegan
from trscaler_gen.deploy.deployment import Deployment, departed_nodes, wanted_of
from trscaler_gen.lock import Lock, forget_retired
from trscaler_gen.pipeline import Compiled
from trscaler_gen.plan import Plan

#: clusters that are looked at side by side
_MAX_CLUSTERS = 32

parallel_option = click.option(
    "--parallel",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="How many nodes are worked on at a time.",
)
accept_new_option = click.option(
    "--accept-new",
    is_flag=True,
    help="Accept and remember the host keys of unknown hosts; a changed key is always refused.",
)
forget_option = click.option(
    "--forget",
    multiple=True,
    metavar="NODE",
    help="A node that left the inventory and is powered off for good; may be given again.",
)


def deployer() -> str:
    """Who works here, as one word for the nodes' histories and locks."""
    word = f"{getpass.getuser()}@{socket.gethostname()}"
    return re.sub(r"[^A-Za-z0-9@._-]", "_", word)


@contextlib.contextmanager
def deployments(
    clusters: Sequence[Compiled],
    *,
    parallel: int,
    accept_new: bool,
    forget: Sequence[str] = (),
    teller: Callable[[str], Callable[[Event], None]],
) -> Iterator[tuple[Deployment, ...]]:
    """One deployment per cluster, all in the same ``parallel`` threads; connections close at the end.

    ``teller`` gives the function that a cluster's events go to.
    """
    on_new_key = tell_new_key if accept_new else None
    with (
        ThreadPoolExecutor(parallel, thread_name_prefix="deploy") as executor,
        contextlib.ExitStack() as stack,
    ):
        locks = forgetting(clusters, forget)
        yield tuple(
            stack.enter_context(
                Deployment(
                    wanted_of(compiled, lock),
                    compiled.lock_path,
                    executor=executor,
                    on_event=teller(compiled.inventory.cluster),
                    on_new_key=on_new_key,
                )
            )
            for compiled, lock in zip(clusters, locks, strict=True)
        )


def forgetting(clusters: Sequence[Compiled], names: Sequence[str]) -> tuple[Lock, ...]:
    """The clusters' locks without the retired nodes of these names; raises UsageError for others."""
    labels = [
        {label: node.node_id for label, node in departed_nodes(one.inventory, one.lock).items()}
        for one in clusters
    ]
    known = [label for ids in labels for label in ids]
    for name in names:
        if name not in known:
            waiting = ", ".join(known) or "none"
            raise click.UsageError(
                f"--forget {name}: not a node that waits to be stopped (these do: {waiting})"
            )
    return tuple(
        forget_retired(one.lock, [ids[name] for name in names if name in ids])
        for one, ids in zip(clusters, labels, strict=True)
    )


def plan_all(clusters: Sequence[Deployment]) -> tuple[Plan, ...]:
    """Look at all clusters side by side."""
    with ThreadPoolExecutor(min(len(clusters), _MAX_CLUSTERS), thread_name_prefix="plan") as executor:
        futures = [executor.submit(deployment.plan) for deployment in clusters]
        try:
            wait(futures)
        except KeyboardInterrupt:
            for deployment in clusters:
                deployment.hang_up()
            raise
        return tuple(future.result() for future in futures)


@contextlib.contextmanager
def ends_like_ctrl_c() -> Iterator[None]:
    """A SIGTERM or a lost terminal ends a deployment in the same orderly way as a Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watching(as_json: bool, several: bool) -> Iterator[Callable[[str], Callable[[Event], None]]]:
    """How events are shown: bars or lines on standard error, or JSON, a line each, on standard output."""
    if as_json:
        yield lambda cluster: lambda event: print_json({"cluster": cluster, **_event_as_json(event)})
        return
    with Watch() as watch:
        yield lambda cluster: watch.teller(cluster if several else "")


_json_lock = threading.Lock()


def print_json(document: dict[str, object]) -> None:
    """Print one document on one line."""
    with _json_lock:
        click.echo(json.dumps(document))


def _event_as_json(event: Event) -> dict[str, object]:
    match event:
        case PhaseBegan():
            return {"event": "phase", "phase": event.phase.value, "nodes": event.nodes}
        case NodeDone():
            error = event.error.message if event.error else None
            return {"event": "node", "phase": event.phase.value, "node": event.node, "error": error}
        case Interrupted():
            return {"event": "interrupted", "running": event.running}


def tell_new_key(said: str) -> None:
    """Say which host key was accepted."""
    click.echo(f"accepted: {said}", err=True)
