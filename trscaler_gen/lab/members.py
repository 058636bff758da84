"""Starting the lab's members: one process each, whose end is the end of everything it holds.

The controller talks to each over a pipe (see member.sh): the member says its pid, the controller lays the
wires and says "go", the member says "up". A controller that dies closes the pipes, and the members follow it.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.errors import OperationError
from trscaler_gen.lab.processes import MARKER_VARIABLE, Process

LOG_FILE = "log"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT = Path(__file__).with_name("member.sh")
_STEP_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Starting:
    """A member on its way up; ``process`` is unshare(1), the parent of the namespaces' first process."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def expect(self, deadline: float) -> str:
        """The next line that the member says; raises OperationError with the end of its log if it dies."""
        assert self.process.stdout is not None
        wait_s = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([self.process.stdout], [], [], wait_s)
        line = self.process.stdout.readline().strip() if ready else ""
        if not line:
            told = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
            raise OperationError(f"the lab's {self.name} did not start: {told[0]}", f"its log: {self.log}")
        return line

    def go(self) -> None:
        """Let the member configure itself."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # dead: the next ``expect`` says why
            self.process.stdin.write("go\n")
            self.process.stdin.close()

    def release(self) -> None:
        """End unshare(1), which only waits; the member lives on alone."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def member_environment(directory: Path) -> dict[str, str]:
    """What members start with: the lab's marker, and nothing of the user's."""
    return {MARKER_VARIABLE: str(directory), "PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def start_member(directory: Path, name: str, kind: str) -> Starting:
    """Start a ``node`` or a ``bystander`` with its files in ``directory``/members/``name``."""
    home = directory / "members" / name
    log = home / LOG_FILE
    command = [
        "unshare",
        "--net",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "sh",
        str(_SCRIPT),
        kind,
        name,
    ]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=member_environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is the controller's to handle
        )
    return Starting(name, process, log)


def first_processes(starting: Mapping[str, Starting]) -> dict[str, Process]:
    """The first process of each member's namespaces, as soon as all have said their pids."""
    deadline = time.monotonic() + _STEP_DEADLINE_S
    return {name: Process.of(int(member.expect(deadline))) for name, member in starting.items()}


def configure(starting: Mapping[str, Starting]) -> None:
    """Let all members configure themselves, and wait until all have."""
    deadline = time.monotonic() + _STEP_DEADLINE_S
    for member in starting.values():
        member.go()
    for member in starting.values():
        member.expect(deadline)


def listening(pid: int, ssh_port: int, echo_port: int) -> bool:
    """True once the sshd and the responder in the network namespace of ``pid`` have bound their sockets.

    Read from /proc/PID/net (proc(5)): ports are hexadecimal there, 0A is the listening state.
    """
    network = Path(f"/proc/{pid}/net")
    return (
        _bound(network / "tcp", ssh_port, "0A")
        and _bound(network / "tcp6", echo_port, "0A")
        and _bound(network / "udp6", echo_port, "07")
    )


def _bound(table: Path, port: int, state: str) -> bool:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[1].endswith(f":{port:04X}") and row[3] == state for row in rows)


def nsenter(pid: int, *options: str) -> list[str]:
    """The command prefix that enters namespaces of ``pid``."""
    return ["nsenter", f"--target={pid}", *options, "--"]


def run_in_network(pid: int, argv: Sequence[str], input: str = "") -> str:
    """Run a tool of the host in the network namespace of ``pid``; raises OperationError if it fails."""
    result = subprocess.run(
        [*nsenter(pid, "--net"), *argv],
        input=input,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": PATH},
        check=False,
    )
    if result.returncode:
        complaint = result.stderr.strip().splitlines() or ["no message"]
        raise OperationError(f"the lab's switch refused `{' '.join(argv)}`: {complaint[0]}")
    return result.stdout
