"""How each fault is made, and how it is taken back."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from e2e.cluster import Cluster, eventually
from e2e.events import DAEMONS

from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.network import CLIENT, SWITCH
from trscaler_gen.lockfile import lock_path

from .evidence import Verdict
from .rules import Port, switch_rules
from .schedule import Fault

HERE = Path(__file__).parent
CLOCK = "/usr/local/lib/trscaler-clock.so"
CLOCK_OFFSET = "/run/clock-offset"
WATCHER = "$(cat /run/trscaler-gen/e2e/watch.pid)"
#: one table of the host's kernel, its size the host's; a namespace may have so many
TABLE_SIZE = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_ASK_TIMEOUT_S = 60
_PATIENCE_S = 30.0
#: it takes two seconds of a CPU
_FILL_TIMEOUT_S = 120.0

#: fill a namespace's connection table; the entries' time is set before, so that they end with the fault
_FILL = """
import socket, sys
count = int(sys.argv[1])
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("0.0.0.0", 9))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(count):
    try:
        sender.sendto(b"", (f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}", 9))
    except OSError:
        break  # it is full: the kernel says so
"""


class Hands:
    """What is in force now, and the cluster that it happens to."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.lab = cluster.lab
        self.ports = {name: self._port(name) for name in (*self.lab.nodes, CLIENT)}
        self.in_force: list[Fault] = []
        self.verdicts: list[Verdict] = []
        self.swaps = 0
        self._switch = threading.Lock()
        wires = {name: port.port for name, port in self.ports.items() if name != CLIENT}
        argv = [sys.executable, str(HERE / "late.py"), json.dumps(wires), str(seed)]
        self.late = self.lab.popen(SWITCH, argv)
        _expect(self.late, "ready")

    def _port(self, name: str) -> Port:
        member = self.lab.state.members[name]
        mac = self.lab.exec(name, ["cat", f"/sys/class/net/{member.link}/address"]).stdout.strip()
        return Port(name, member.port, mac, member.address4)

    def close(self) -> None:
        """End what delays heartbeats."""
        self.late.communicate(timeout=_PATIENCE_S)

    def begin(self, fault: Fault) -> None:
        """Make it happen; raises OperationError, AssertionError or OSError if it cannot be done."""
        self._doing(fault, "begin")()

    def end(self, fault: Fault) -> None:
        """Take it back."""
        self._doing(fault, "end")()

    def _doing(self, fault: Fault, what: str) -> Callable[[], None]:
        own = getattr(self, f"_{what}_{fault.kind.replace('-', '_')}", None)
        if own is None:
            return lambda: self._on_the_way(fault, what == "begin")
        return lambda: own(fault)

    def sh(self, node: str, command: str, *words: str, check: bool = True, input: str | None = None) -> str:
        """Run a shell command on a node."""
        argv = ["sh", "-c", command, "sh", *words]
        return self.lab.exec(node, argv, check=check, input=input, timeout_s=_PATIENCE_S).stdout

    # --- frames on their way --------------------------------------------------------------------

    def _on_the_way(self, fault: Fault, begins: bool) -> None:
        with self._switch:
            if begins:
                self.in_force.append(fault)
            else:
                self.in_force.remove(fault)
            late = {one.nodes[0]: one.amount for one in self.in_force if one.kind == "delay"}
            if begins:
                self._delay(late)
            rules = switch_rules(self.ports, CLIENT, self.in_force)
            self.lab.exec(SWITCH, ["nft", "-f", "-"], input=rules)
            if not begins:
                self._delay(late)

    def _delay(self, late: dict[str, float]) -> None:
        assert self.late.stdin
        self.late.stdin.write(json.dumps(late) + "\n")
        self.late.stdin.flush()
        _expect(self.late, "so be it")

    # --- a node's own ---------------------------------------------------------------------------

    def _begin_cut(self, fault: Fault) -> None:
        """Without a sign: by rules, for heartbeats that are late pass by the switch's own port states."""
        if fault.amount:
            self._on_the_way(fault, begins=True)
        else:
            self.lab.cut(fault.nodes[0])

    def _end_cut(self, fault: Fault) -> None:
        if fault.amount:
            self._on_the_way(fault, begins=False)
        else:
            self.lab.mend(fault.nodes[0])

    def _begin_freeze(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], f"kill -STOP {DAEMONS} || :")

    def _end_freeze(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], f"kill -CONT {DAEMONS} || :")

    def _begin_kill(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], f"kill -9 {DAEMONS} || :")

    def _end_kill(self, fault: Fault) -> None:
        self.start(fault.nodes[0])

    def _begin_stop(self, fault: Fault) -> None:
        node = fault.nodes[0]
        self.sh(node, f"kill {DAEMONS} || :")
        eventually(lambda: not self.is_running(node), f"keepalived of {node} has stopped", _PATIENCE_S)

    def _end_stop(self, fault: Fault) -> None:
        self.start(fault.nodes[0])

    def is_running(self, node: str) -> bool:
        """Whether its heartbeats have a sender."""
        return self.cluster.state(node)["keepalived"] == "running"

    def start(self, node: str) -> None:
        """Start what has died, as the node's init would; while a change is open there `up` is refused."""
        self.cluster.script(node, "up")

    def start_all(self) -> None:
        """Likewise on every node where nothing runs, and where it is not refused."""
        for node in self.lab.nodes:
            if not self.is_running(node):
                self.cluster.script(node, "up", check=False)

    def _begin_flush(self, fault: Fault) -> None:
        """The node mends itself meanwhile; whether it has is seen in the end."""
        self.sh(fault.nodes[0], "nft flush ruleset")

    def _begin_drain(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], "sh /etc/trscaler-gen/e2e/current/node.sh drain force")

    def _end_drain(self, fault: Fault) -> None:
        self.cluster.script(fault.nodes[0], "undrain")

    def _begin_memory(self, fault: Fault) -> None:
        self._limit_memory(fault.nodes[0], f"{fault.amount * 1024 * 1024:.0f}")

    def _end_memory(self, fault: Fault) -> None:
        """What has died of it is started again, as the node's init would."""
        self._limit_memory(fault.nodes[0], "unlimited")
        self.start(fault.nodes[0])

    def _limit_memory(self, node: str, bytes_: str) -> None:
        """Of keepalived, the watcher and all that they start: the next allocation over it fails."""
        command = 'for pid in $2; do prlimit --pid "$pid" --as="$1:unlimited" || :; done'
        pids = self.sh(node, f"echo {DAEMONS} {WATCHER}", check=False)
        self.sh(node, command, bytes_, pids.strip(), check=False)

    def _begin_clock(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], f"echo {fault.amount:.0f} >{CLOCK_OFFSET}")

    def _end_clock(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], f"rm {CLOCK_OFFSET}")

    def _begin_table(self, fault: Fault) -> None:
        """The limit is the host's and stays; the entries are the node's, and loopback's alone."""
        node, size = fault.nodes[0], TABLE_SIZE.read_text().strip()
        lasts_s = f"{fault.end_s - fault.start_s:.0f}"
        self.sh(node, f"echo {lasts_s} >/proc/sys/net/netfilter/nf_conntrack_udp_timeout")
        self.lab.exec(node, ["python3", "-c", _FILL, size], timeout_s=_FILL_TIMEOUT_S)

    def _end_table(self, fault: Fault) -> None:
        self.sh(fault.nodes[0], "echo 30 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout")

    # --- the controller's -----------------------------------------------------------------------

    def _begin_swap(self, fault: Fault) -> None:
        """All rules and maps on all nodes replaced; refused where a node is away, which is no fault."""
        self.swaps += 1
        self.apply(self.swaps % 2 == 1)

    def apply(self, renamed: bool, expect: tuple[int, ...] = (0, 1, 2)) -> int:
        """The same cluster from a file of another name is another ruleset that decides as before."""
        path = self.cluster.path
        if renamed:
            path = path.with_name("renamed.yaml")
            shutil.copy(self.cluster.path, path)
            shutil.copy(lock_path(self.cluster.path), lock_path(path))
        return self.cluster.cli("apply", "--yes", str(path), expect=expect).returncode

    def _begin_ask(self, fault: Fault) -> None:
        self.verdicts.append(self.ask())

    def ask(self) -> Verdict:
        """What `status` says now."""
        at_s = time.monotonic()
        argv = [sys.executable, "-m", "trscaler_gen", "status", "--json", str(self.cluster.path)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return Verdict(at_s, time.monotonic(), -1, f"status said nothing for {_ASK_TIMEOUT_S} s")
        return Verdict(at_s, time.monotonic(), done.returncode, wrong_with(done, self.lab.nodes))


def wrong_with(done: subprocess.CompletedProcess[str], nodes: tuple[str, ...]) -> str:
    """What is wrong with an answer of `status --json`; "" if it is a verdict about all nodes."""
    try:
        document = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        return f"status ended with {done.returncode} and said {said[:200]}"
    told = sorted(node["node"] for node in document["nodes"])
    if (document["exit"], told) != (done.returncode, sorted(nodes)):
        return f"status ended with {done.returncode}, said {document['exit']} and told of {' '.join(told)}"
    return ""


def make_clock(folder: Path) -> Path:
    """Compile clock.c."""
    library = folder / "clock.so"
    argv = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(HERE / "clock.c")]
    subprocess.run(argv, check=True, env={**os.environ, "LC_ALL": "C"})
    return library


def install_clock(lab: Lab, library: Path) -> None:
    """Make every program that a node starts from now on read its clock by way of an offset."""
    data = base64.b64encode(library.read_bytes()).decode()
    put = f"mkdir -p {Path(CLOCK).parent} && base64 -d >{CLOCK} && echo {CLOCK} >/etc/ld.so.preload"
    for node in lab.nodes:
        lab.exec(node, ["sh", "-c", put], input=data)


def _expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout and process.stderr
    said = process.stdout.readline()
    assert said == f"{line}\n", said or process.stderr.read()
