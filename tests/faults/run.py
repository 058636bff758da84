"""Run a schedule against a cluster under probes, and gather the evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from e2e.cluster import Cluster, eventually, inventory_text
from e2e.connections import order_of
from e2e.witness import witness

from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Address
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.network import CLIENT, SWITCH, source_addresses

from .evidence import Evidence, Happened, Seen, read_tap
from .hands import HERE, Hands, install_clock, make_clock
from .schedule import Fault, Schedule, moments

SOURCES = 60
PROBES_MS = 60.0
#: for a node to return once nothing is wrong any more: a change that was not confirmed takes a minute
RETURN_S = 100.0
_CALM_LEASES = 2

Say = Callable[[str], None]


class Doers:
    """What is done to a node is done in its order; what is done to different nodes, at the same time."""

    def __init__(self) -> None:
        self._of: dict[str, ThreadPoolExecutor] = {}

    def __enter__(self) -> Doers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for doer in self._of.values():
            doer.shutdown(wait=error is None, cancel_futures=error is not None)

    def submit(self, fault: Fault, task: Callable[[], Happened]) -> Future[Happened]:
        """Do it as soon as what was to be done there before is done."""
        whom = f"{fault.nodes[0]}" if len(fault.nodes) == 1 else fault.kind
        if fault.kind in ("loss", "delay", "one-way", "split"):
            whom = "switch"
        return self._of.setdefault(whom, ThreadPoolExecutor(1)).submit(task)


@dataclass
class Run:
    """One schedule at work on one cluster."""

    cluster: Cluster
    schedule: Schedule
    hands: Hands
    say: Say
    return_s: float = RETURN_S
    started_s: float = 0.0

    def play(self) -> list[Happened]:
        """Let everything happen at its time, and wait until it is done."""
        self.started_s = time.monotonic()
        futures = []
        with Doers() as doers:
            for at_s, fault, begins in moments(self.schedule):
                time.sleep(max(0.0, self.started_s + at_s - time.monotonic()))
                futures.append(doers.submit(fault, self._task(fault, begins)))
        return [future.result() for future in futures]

    def _task(self, fault: Fault, begins: bool) -> Callable[[], Happened]:
        return lambda: self._do(fault, begins)

    def _do(self, fault: Fault, begins: bool) -> Happened:
        word = str(fault) if begins else fault.end
        at_s, failed = time.monotonic(), ""
        try:
            (self.hands.begin if begins else self.hands.end)(fault)
        except (OperationError, AssertionError, OSError, subprocess.SubprocessError) as error:
            failed = " ".join(str(error).split())[:300] or type(error).__name__
        happened = Happened(fault, word, at_s, time.monotonic(), failed)
        took = f"  (took {happened.done_s - at_s:.1f} s)" if happened.done_s - at_s > 0.5 else ""
        self.say(f"{at_s - self.started_s:7.2f} s  {word}{took}" + (f"  FAILED: {failed}" if failed else ""))
        return happened

    def come_to_rest(self, applies: bool) -> list[str]:
        """Wait until all is as it was; what is not, for good. ``applies``: also to the controller."""
        try:
            eventually(self._agrees, "all nodes serve and agree", self.return_s)
        except AssertionError:
            seen = ", ".join(
                f"{node} sees {sorted(self.cluster.alive(node))}" for node in self.cluster.lab.nodes
            )
            return [f"the nodes do not agree on who is alive: {seen}"]
        return [*self._deployable(), *self._healthy()] if applies else []

    def _agrees(self) -> bool:
        self.hands.start_all()
        return self.cluster.sees_all()

    def _deployable(self) -> list[str]:
        try:
            self.hands.apply(False, expect=(0,))
        except AssertionError as error:
            return [f"apply fails: {' '.join(str(error).split())[-300:]}"]
        return []

    def _healthy(self) -> list[str]:
        deadline_s = time.monotonic() + self.return_s
        while (verdict := self.hands.ask()).status != 0 and time.monotonic() < deadline_s:
            time.sleep(0.5)
        said = verdict.wrong or f"exit status {verdict.status}"
        return [] if verdict.status == 0 else [f"status does not say healthy again: {said}"]


def perform(
    cluster: Cluster,
    schedule: Schedule,
    folder: Path,
    say: Say = print,
    *,
    applies: bool = True,
    return_s: float = RETURN_S,
) -> Evidence:
    """Run a schedule on a cluster that is at rest, under probes, and come to rest again."""
    watching, began_s = witness(), time.monotonic()
    with ExitStack() as stack:
        hands = Hands(cluster, schedule.seed)
        stack.callback(hands.close)
        path = folder / "tap"
        with tapped(cluster, hands, path):
            probing = cluster.lab.probing(sources=SOURCES, interval_ms=PROBES_MS, family=schedule.family)
            with probing as probe:
                run = Run(cluster, schedule, hands, say, return_s)
                time.sleep(cluster.heartbeat.lease_s)
                happened = run.play()
                unreturned = run.come_to_rest(applies)
                calm_s = time.monotonic() + cluster.heartbeat.lease_s
                time.sleep((1 + _CALM_LEASES) * cluster.heartbeat.lease_s)
                probe.stop()
    seen = _read(path)
    return Evidence(
        pace=cluster.heartbeat,
        started_s=run.started_s,
        calm_s=calm_s,
        sources=seen.sources,
        heard=seen.heard,
        left=seen.left,
        orders=_orders(cluster, probe.destination, seen.sources),
        happened=tuple(happened),
        verdicts=tuple(hands.verdicts),
        unreturned=tuple(unreturned),
        stalls=watching.stalls(began_s),
    )


def _orders(cluster: Cluster, destination: Address, sources: Iterable[int]) -> dict[int, tuple[str, ...]]:
    addresses = source_addresses(destination.version, SOURCES)
    return {source: order_of(cluster, str(addresses[source]), str(destination)) for source in sources}


def _read(path: Path) -> Seen:
    with path.open() as lines:
        seen = read_tap(lines, PROBES_MS / 1000)
    if seen.missed:
        raise OperationError(f"the tap missed {seen.missed} frames", "run it on a machine with less to do")
    return seen


@contextmanager
def tapped(cluster: Cluster, hands: Hands, path: Path) -> Iterator[None]:
    """Write down what passes the switch while the block runs."""
    ports = {name: port.port for name, port in hands.ports.items()}
    addresses = {name: port.address for name, port in hands.ports.items() if name != CLIENT}
    arguments = json.dumps({"ports": ports, "addresses": addresses, "client": CLIENT})
    tap = cluster.lab.popen(SWITCH, [sys.executable, str(HERE / "tap.py"), arguments, str(path)])
    try:
        assert tap.stdout and tap.stderr
        said = tap.stdout.readline()
        assert said == "ready\n", tap.stderr.read()
        yield
    finally:
        _out, errors = tap.communicate(timeout=30)
    assert not errors, errors


@contextmanager
def cluster_for(
    nodes: int, folder: Path, connections: str = "preserve", name: str = "faults-random"
) -> Iterator[Cluster]:
    """A cluster whose nodes' clocks can be set; it is gone at the end, whatever happens."""
    library = make_clock(folder)
    directory = Path("/run/trscaler-gen") / f"test-{name}-{os.getpid()}"
    path = folder / "cluster.yaml"
    path.write_text(inventory_text(directory, nodes=nodes, connections=connections))
    with Lab.up(load_inventory(path), directory) as lab:
        install_clock(lab, library)
        cluster = Cluster(lab, path)
        cluster.apply()
        yield cluster
