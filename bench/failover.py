"""How long clients wait for another node when one goes, next to plain keepalived that moves one address.

Both run on the same machine at the same time, in labs of their own with the same switch, prober and
responder, and take turns; from heartbeats of 100 ms on, when neither is much work, both at once. Plain
keepalived is set up as its manual page does it: one vrrp_instance of version 3 whose address moves, the same
interval and health check, and the node with the highest priority takes the address back when it returns.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Protocol

from e2e.cluster import UNHEALTHY, VIPS, Cluster, eventually, inventory_text, running_cluster
from e2e.events import VICTIM, start
from e2e.witness import Span, witness

from bench.takeover import Observation, compile_prober, observed, watching
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.network import CLIENT, SWITCH
from trscaler_gen.lab.responder import PORT

EVENTS = ("cut", "frozen", "killed", "stopped", "unhealthy")
#: a switch that floods each probe to so many nodes is much work for one machine: fewer sources, more slowly
_MANY_NODES = 8
#: what is probed before each event
_BEFORE_S = 0.15
_CALM_DEADLINE_S = 2.0
_TOGETHER_MS = 100
_VICTIM_NUMBER = int(VICTIM[1:])
_RULES = "trscaler-gen"
_PLAIN = "keepalived"


@dataclass(frozen=True)
class Run:
    """One event, or the return after it, as clients saw it. ``who``: "trscaler-gen" or "keepalived"."""

    who: str
    event: str
    is_return: bool
    seen: Observation


@dataclass(frozen=True)
class Part:
    """All runs at one interval with so many nodes; ``gave_up`` says why there are not as many as wanted."""

    interval_ms: int
    nodes: int
    probe_ms: float
    margin_ms: float
    seconds: float
    load: float
    runs: list[Run] = field(default_factory=list)
    gave_up: str = ""


class Contender(Protocol):
    """Something that lets another node take over."""

    @property
    def who(self) -> str: ...

    @property
    def lab(self) -> Lab: ...

    def start(self) -> None:
        """Start the victim's daemons again."""

    def settle(self) -> None:
        """Wait until all is as before any event."""


# --- the contenders ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ours:
    """A cluster of this product."""

    cluster: Cluster
    who: str = _RULES

    @property
    def lab(self) -> Lab:
        return self.cluster.lab

    def start(self) -> None:
        start(self.cluster)

    def settle(self) -> None:
        """All know all; and, if the machine allows it, every packet takes the short way again."""
        self.cluster.settle()
        deadline = time.monotonic() + _CALM_DEADLINE_S
        while not self.cluster.is_calm() and time.monotonic() < deadline:
            time.sleep(0.02)


@dataclass(frozen=True)
class Plain:
    """keepalived on the same number of hosts, with one address."""

    lab: Lab
    who: str = _PLAIN

    def start(self) -> None:
        self.lab.exec(VICTIM, ["keepalived", "-f", "/run/keepalived.conf"])

    def settle(self) -> None:
        """The victim has the address, and nobody else."""
        eventually(lambda: self._holders() == [VICTIM], "the address is where it was")

    def _holders(self) -> list[str]:
        argv = ["ip", "-oneline", "address", "show", "to", VIPS[0]]
        return [node for node in self.lab.nodes if self.lab.exec(node, argv).stdout]


@contextmanager
def _ours(folder: Path, interval_ms: int, nodes: int) -> Iterator[Contender]:
    name = f"failover-{interval_ms}-{nodes}"
    keys = {"nodes": nodes, "interval_ms": interval_ms, "connections": "hash-only"}
    with running_cluster(folder, name, **keys) as cluster:
        yield Ours(cluster)


@contextmanager
def _plain(folder: Path, interval_ms: int, nodes: int) -> Iterator[Contender]:
    directory = Path("/run/trscaler-gen") / f"test-failover-plain-{interval_ms}-{nodes}-{os.getpid()}"
    path = folder / "plain.yaml"
    path.write_text(inventory_text(directory, nodes=nodes))
    with Lab.up(load_inventory(path), directory) as lab:
        for place, node in enumerate(lab.nodes):
            priority = 250 if node == VICTIM else 200 - place
            configuration = plain_configuration(node, interval_ms, priority)
            lab.exec(node, ["tee", "/run/keepalived.conf"], input=configuration)
            lab.exec(node, ["keepalived", "-f", "/run/keepalived.conf"])
        yield Plain(lab)


def plain_configuration(node: str, interval_ms: int, priority: int) -> str:
    """One address that moves (keepalived.conf(5)); intervals below a second need version 3 (RFC 9568)."""
    return f"""global_defs {{
    router_id {node}
    vrrp_version 3
    enable_script_security
    script_user root
}}
vrrp_script health {{
    script "/usr/bin/test ! -e {UNHEALTHY}"
    interval 1
    timeout 1
}}
vrrp_instance shared {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {interval_ms / 1000:g}
    virtual_ipaddress {{
        {VIPS[0]}/24 dev eth0
    }}
    track_script {{
        health
    }}
}}
"""


# --- what happens -----------------------------------------------------------------------------------


def _daemons(lab: Lab) -> list[int]:
    """The victim's keepalived processes as the host counts them, the parent first."""
    first = lab.state.members[VICTIM].process
    assert first
    network = Path(f"/proc/{first.pid}/ns/net").readlink()
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted(pid for pid in found if _is_daemon(pid, network))


def _is_daemon(pid: int, network: Path) -> bool:
    try:
        is_keepalived = Path(f"/proc/{pid}/comm").read_text() == "keepalived\n"
        return is_keepalived and Path(f"/proc/{pid}/ns/net").readlink() == network
    except OSError:
        return False  # it has ended


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # one of those that it starts for a health check has ended
            os.kill(pid, number)


def _unhealthy(lab: Lab) -> Path:
    """The file that the health checks ask for, as seen from here."""
    first = lab.state.members[VICTIM].process
    assert first
    return Path(f"/proc/{first.pid}/root{UNHEALTHY}")


@contextmanager
def _ready(lab: Lab, event: str) -> Iterator[Callable[[], object]]:
    """What makes the event happen at once: everything that takes time has been done before."""
    if event == "cut":
        port = lab.state.members[VICTIM].port
        with lab.popen(SWITCH, ["ip", "-batch", "-"]) as ip:
            yield partial(_tell, ip, f"link set dev {port} down\n")
            ip.communicate(timeout=10)
        return
    if event == "unhealthy":
        yield _unhealthy(lab).touch
        return
    pids = _daemons(lab)
    if not pids:
        raise OperationError(f"{VICTIM} runs no keepalived to be {event}")
    if event == "frozen":
        yield partial(_signal, pids, signal.SIGSTOP)
    elif event == "killed":
        yield partial(_signal, pids, signal.SIGKILL)
    else:
        yield partial(_signal, pids[:1], signal.SIGTERM)  # as systemd does: its child follows


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin
    process.stdin.write(line)
    process.stdin.flush()


def _undo(contender: Contender, event: str) -> None:
    if event == "cut":
        contender.lab.mend(VICTIM)
    elif event == "frozen":
        _signal(_daemons(contender.lab), signal.SIGCONT)
    elif event == "unhealthy":
        _unhealthy(contender.lab).unlink()
    else:
        eventually(lambda: not _daemons(contender.lab), "the victim's keepalived has ended")
        contender.start()


# --- measuring --------------------------------------------------------------------------------------


def measure(interval_ms: int, nodes: int, runs: int, folder: Path, say: Callable[[str], None]) -> Part:
    """Every event and the return after it, ``runs`` times, both contenders in turn."""
    here = folder / f"failover-{interval_ms}-{nodes}"
    here.mkdir()
    margin_s = max(0.005, interval_ms / 2000)
    probe_ms = max(1.0, interval_ms / 100) * (2 if nodes > _MANY_NODES else 1)
    done: list[Run] = []
    gave_up, load, began_s = "", os.getloadavg()[0], time.monotonic()
    with ExitStack() as stack:
        try:
            contenders = [stack.enter_context(up(here, interval_ms, nodes)) for up in (_ours, _plain)]
            benches = [Bench.of(each, here, interval_ms, probe_ms, margin_s) for each in contenders]
            up_s = time.monotonic()
            for turn in range(runs):
                done += _turn(benches if turn % 2 else benches[::-1], interval_ms)
                left_s = (runs - turn - 1) * (time.monotonic() - up_s) / (turn + 1)
                say(f"failover, {nodes} nodes, {interval_ms} ms: {turn + 1} of {runs}, {left_s:.0f} s to go")
        except (AssertionError, OperationError, OSError, subprocess.SubprocessError) as error:
            gave_up = " ".join(str(error).split())
            say(f"failover, {nodes} nodes, {interval_ms} ms: {gave_up}")
    seconds = round(time.monotonic() - began_s, 1)
    return Part(interval_ms, nodes, probe_ms, 1000 * margin_s, seconds, load, done, gave_up)


def _turn(benches: Sequence[Bench], interval_ms: int) -> list[Run]:
    """Every event once for each."""
    if interval_ms < _TOGETHER_MS:
        return [run for event in EVENTS for bench in benches for run in bench.there_and_back(event)]
    with ThreadPoolExecutor(len(benches)) as pool:
        return [run for runs in pool.map(Bench.round, benches) for run in runs]


_ASKING = Lock()


def _stalls(since_s: float) -> tuple[Span, ...]:
    with _ASKING:
        return witness().stalls(since_s)


@dataclass(frozen=True)
class Bench:
    """A contender, and how it is probed."""

    contender: Contender
    prober: list[str]
    file: Path
    plan: list[str]
    interval_ms: int
    margin_s: float
    watched: int

    @classmethod
    def of(
        cls, contender: Contender, folder: Path, interval_ms: int, probe_ms: float, margin_s: float
    ) -> Bench:
        """Wait until it serves, and find sources that the victim answers."""
        contender.settle()
        program = compile_prober(folder)
        watched = 2 if len(contender.lab.nodes) > _MANY_NODES else 4
        plan = [
            VIPS[0],
            str(PORT),
            str(round(probe_ms * 1e6)),
            *_sources(contender.lab, watched, watched // 2),
        ]
        prober = contender.lab.command(CLIENT, [str(program)])
        return cls(contender, prober, folder / f"{contender.who}.bin", plan, interval_ms, margin_s, watched)

    def round(self) -> list[Run]:
        """Every event in turn."""
        return [run for event in EVENTS for run in self.there_and_back(event)]

    def there_and_back(self, event: str) -> Iterator[Run]:
        """The event, and the return after it."""
        self.contender.settle()
        with _ready(self.contender.lab, event) as happen:
            seen = self._watched(happen, lambda node: node != _VICTIM_NUMBER)
        yield Run(self.contender.who, event, False, seen)
        back = partial(_undo, self.contender, event)
        yield Run(self.contender.who, event, True, self._watched(back, lambda node: node == _VICTIM_NUMBER))

    def _watched(self, happen: Callable[[], object], taken_by: Callable[[int], bool]) -> Observation:
        """Probe while it happens, until every source is taken over, and a while longer."""
        watched = range(self.watched)
        began_s = time.monotonic()
        with watching(self.prober, self.file, self.plan) as watch:
            watch.go_on(_BEFORE_S)
            event_ns = time.monotonic_ns()
            happen()
            watch.until(lambda by: all(taken_by(by.get(one, 0)) for one in watched), self._patience_s)
            watch.go_on(max(0.2, self.interval_ms / 1000))
            probes = watch.result()
        return observed(
            probes,
            event_ns=event_ns,
            watched=watched,
            taken_by=lambda node: node > 0 and taken_by(node),
            stalls=_stalls(began_s),
            margin_s=self.margin_s,
        )

    @property
    def _patience_s(self) -> float:
        return 10 + 10 * self.interval_ms / 1000


def _sources(lab: Lab, watched: int, beside: int) -> list[str]:
    """Some that the victim answers and then some that others answer, or any that are left."""
    with lab.probing(sources=250, interval_ms=1000, seconds=1) as probe:
        seen = probe.wait().per_source
    mine = [each.source for each in seen if list(each.by_node) == [VICTIM]]
    others = [each.source for each in seen if each.source not in mine]
    if len(mine) < watched:
        raise OperationError(f"the client has only {len(mine)} sources that {VICTIM} answers")
    return [*mine[:watched], *(others or mine[watched:])[:beside]]
