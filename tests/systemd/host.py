"""A host whose PID 1 is the real systemd, in namespaces: it can be rebooted, and it can lose its power.

What it keeps is what a disk would keep: /etc, /var and the like, as copies in memory over the outer host's.
Network, /run, processes and kernel settings are new at each boot. Nothing is mounted in the outer host; two
processes of its are the host's parents, and a cgroup of a name of its own is removed at the end.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster import eventually

from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.members import PATH
from trscaler_gen.lab.processes import MARKER_VARIABLE

#: deadlines for a busy machine; nothing takes a tenth of it
PATIENCE_S = 60.0
LINK = "eth0"
MAC = "02:00:00:00:01:01"
_FOLDER = Path(__file__).parent
_UNSHARE = ("unshare", "--mount", "--propagation", "private")
#: the rest of a host's namespaces; its parent's end is its own
_EVERYTHING = ("--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
_JOIN = 'mkdir "/mnt/cgroup/$1" && echo 0 >"/mnt/cgroup/$1/cgroup.procs" && shift && exec "$@"'


def _our_mounts() -> str:
    return str(Path("/proc/self/ns/mnt").readlink())


def _said(process: subprocess.Popen[str]) -> str:
    """The next line that a process says; fails if there is none in time."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    return process.stdout.readline().strip() if ready else ""


def _start(argv: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a Ctrl-C is for the tests, which then end it
    )


def _close(process: subprocess.Popen[str]) -> None:
    """Hang up, and wait for the end."""
    try:
        process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def start_keeper(group: str, environment: dict[str, str], *prefix: str) -> subprocess.Popen[str]:
    """What a host keeps; a test where it cannot be had fails here, and says why."""
    keeper = _start([*prefix, *_UNSHARE, "sh", str(_FOLDER / "keep.sh"), _our_mounts(), group], environment)
    answer = _said(keeper)
    if answer != "kept":
        _close(keeper)
        raise AssertionError(f"no systemd can be booted here (it takes root and cgroup2): {answer}")
    return keeper


@dataclass
class Host:
    """A host at a lab's switch. ``pid`` is systemd's, as the outer host counts; 0 while it is off."""

    lab: Lab
    group: str
    keeper: subprocess.Popen[str]
    pid: int = 0
    boots: int = 0
    _parent: subprocess.Popen[str] | None = field(default=None)

    @property
    def _environment(self) -> dict[str, str]:
        return host_environment(self.lab)

    def _enter(self, pid: int, *which: str) -> list[str]:
        assert str(Path(f"/proc/{pid}/ns/mnt").readlink()) != _our_mounts(), "not in the host's namespaces"
        return ["nsenter", f"--target={pid}", *which, "--wd=/", "--"]

    # --- power ---

    def power_on(self, *, wired: bool = True) -> None:
        """Start systemd; returns before anything else has been started."""
        self.boots += 1
        group = f"{self.group}/boot-{self.boots}"
        boot = [*_UNSHARE, *_EVERYTHING, "sh", str(_FOLDER / "boot.sh"), _our_mounts()]
        enter = self._enter(self.keeper.pid, "--mount")
        self._parent = _start([*enter, "sh", "-c", _JOIN, "sh", group, *boot], self._environment)
        answer = _said(self._parent)
        assert answer.isdigit(), f"the host does not boot: {answer}"
        self.pid = int(answer)
        if wired:
            self.lay_wire()
        assert self._parent.stdin is not None
        self._parent.stdin.write("go\n")
        self._parent.stdin.flush()

    def lay_wire(self) -> None:
        """Connect the host's link with the switch; the link of the boot before is gone with its namespace."""
        port = f"p-host-{self.boots}"
        lines = [
            f"link add {port} type veth peer name {LINK} address {MAC} netns {self.pid}",
            f"link set {port} master br0 addrgenmode none up",
            f"link set {port} type bridge_slave learning on flood on mcast_flood on",
        ]
        process = self.lab.state.members["switch"].process
        assert process is not None
        argv = ["nsenter", f"--target={process.pid}", "--net", "--", "ip", "-batch", "-"]
        subprocess.run(argv, input="\n".join(lines) + "\n", text=True, check=True, timeout=PATIENCE_S)

    def power_off(self) -> None:
        """Pull the plug: everything ends where it is."""
        if self.pid:
            with suppress(ProcessLookupError):  # it has gone by itself
                os.kill(self.pid, signal.SIGKILL)
        self.await_end()

    def await_end(self) -> None:
        """Wait until a host that goes down is down: the last of its processes is its systemd."""
        if self._parent is not None:
            _close(self._parent)
        self._parent, self.pid = None, 0

    def await_boot(self) -> None:
        """Wait until everything that is to start has started."""
        eventually(self._is_up, "the host has booted", PATIENCE_S)

    def _is_up(self) -> bool:
        return self.sh("systemctl is-system-running", check=False).strip() in ("running", "degraded")

    def boot(self) -> None:
        """Start, and wait until everything has started."""
        self.power_on()
        self.await_boot()

    def shut_down(self) -> None:
        """Stop in order, as `systemctl reboot` does: every unit is stopped first."""
        self.sh("systemctl --no-block reboot")
        self.await_end()

    # --- what is on it ---

    def command(self, *argv: str) -> list[str]:
        """The outer host's command that runs ``argv`` on this one."""
        return [*self._enter(self.pid, "--all"), "env", "-i", f"PATH={PATH}", *argv]

    def run(
        self, *argv: str, check: bool = True, input: bytes = b"", timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command; a failure fails the test with what was said."""
        done = subprocess.run(
            self.command(*argv), input=input, capture_output=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} failed: {(done.stderr or done.stdout).decode()}\n{self.journal()}")
        return done

    def sh(self, command: str, *words: str, check: bool = True) -> str:
        """Run a shell command, and return its output."""
        return self.run("sh", "-c", command, "sh", *words, check=check).stdout.decode()

    def disk(self, path: str) -> Path:
        """Where the outer host finds a file of this one, also while it is off."""
        kept = path.removeprefix("/").replace("usr/local", "usr-local")
        return Path(f"/proc/{self.keeper.pid}/root/mnt/keep") / kept

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file below /etc, /usr/local or /home, and the folder that it is in."""
        file = self.disk(path)
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def journal(self) -> str:
        """The last that the units have said."""
        return self.sh("journalctl --no-pager --quiet --output=short-monotonic | tail -n 60", check=False)

    def property(self, unit: str, name: str) -> str:
        """What systemctl(1) shows of a unit."""
        return self.sh('systemctl show --value --property="$2" "$1"', unit, name).strip()

    def moment(self, unit: str, name: str) -> int:
        """When a unit has last entered or left a state: microseconds since the outer host's boot."""
        moment = int(self.property(unit, f"{name}TimestampMonotonic"))
        assert moment > 0, f"{unit}: {name} has never been"
        return moment

    def is_active(self, unit: str) -> bool:
        """Whether a unit runs."""
        return self.property(unit, "ActiveState") == "active"

    def main_pid(self, unit: str) -> int:
        """The pid of a service's main process, as the host counts; 0 if there is none."""
        return int(self.property(unit, "MainPID"))

    def exposure(self, unit: str) -> float:
        """What `systemd-analyze security` makes of a unit: 0 (all fenced in) to 10."""
        said = self.sh('systemd-analyze security --no-pager "$1" | tail -n 1', unit)
        found = re.search(r": ([0-9.]+) ", said)
        assert found, said
        return float(found[1])


def host_environment(lab: Lab) -> dict[str, str]:
    """So marked, what a killed test has left goes with its lab."""
    return {MARKER_VARIABLE: str(lab.directory), "PATH": PATH, "LC_ALL": "C"}


@contextmanager
def plugged_in(lab: Lab, group: str) -> Iterator[Host]:
    """A host that is off; at the end it is gone."""
    host = Host(lab, group, start_keeper(group, host_environment(lab)))
    try:
        yield host
    finally:
        try:
            host.power_off()
        finally:
            _close(host.keeper)
