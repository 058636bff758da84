"""The lab's processes, told apart from everybody else's without ever trusting a pid alone.

Three signs, any of which is enough: a recorded pid whose start time is the recorded one; the lab's directory
in the process's environment; a network namespace that such a process lives in, and neither this program nor
an ancestor of it (so never the host's own).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.errors import OperationError

#: In the environment of everything that the lab starts; its value is the lab's directory.
MARKER_VARIABLE = "TRSCALER_LAB"
_KILL_DEADLINE_S = 10.0
_POLL_S = 0.005


@dataclass(frozen=True)
class Process:
    """A pid and when it started, in clock ticks since boot (proc_pid_stat(5)): together they are unique."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now; raises ProcessLookupError if there is none."""
        return cls(pid, int(_stat_fields(pid)[19]))

    @property
    def alive(self) -> bool:
        """Running, and still the same one; a zombie is not alive."""
        try:
            fields = _stat_fields(self.pid)
        except ProcessLookupError:
            return False
        return fields[0] not in "ZX" and int(fields[19]) == self.start_ticks


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the second may hold blanks and parentheses."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(pid) from error
    return text.rpartition(")")[2].split()


def lab_processes(directory: Path, recorded: Iterable[Process] = ()) -> set[Process]:
    """Every living process of the lab in ``directory``; this one and its ancestors are never among them."""
    marker = f"{MARKER_VARIABLE}={directory}".encode()
    spared = set(_ancestry(os.getpid()))
    everybody = [pid for pid in _all_pids() if pid not in spared]
    known = {process.pid for process in recorded if process.alive}
    found = {pid for pid in everybody if pid in known or marker in _environment(pid)}
    # Just started, one may still be in its parent's namespace, which must never count as the lab's.
    namespaces = (
        {_network_namespace(pid) for pid in found} - {_network_namespace(pid) for pid in spared} - {None}
    )
    found |= {pid for pid in everybody if _network_namespace(pid) in namespaces}
    return set(_living(found))


def kill_all(directory: Path, recorded: Iterable[Process] = ()) -> int:
    """Kill every process of the lab and wait until none is left; returns how many there were."""
    recorded = tuple(recorded)
    killed: set[Process] = set()
    deadline = time.monotonic() + _KILL_DEADLINE_S
    while living := lab_processes(directory, recorded):
        if time.monotonic() > deadline:
            pids = " ".join(str(process.pid) for process in living)
            raise OperationError(f"these processes of the lab do not die: {pids}", "look at them with ps(1)")
        for process in living - killed:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        killed |= living
        _wait_for_end(living, deadline)
    return len(killed)


def _wait_for_end(processes: set[Process], deadline: float) -> None:
    while any(process.alive for process in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _living(pids: Iterable[int]) -> Iterator[Process]:
    for pid in pids:
        with suppress(ProcessLookupError):
            process = Process.of(pid)
            if process.alive:
                yield process


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _ancestry(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        try:
            pid = int(_stat_fields(pid)[1])
        except ProcessLookupError:
            return


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # gone, or not ours to read: then it is not the lab's


def _network_namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None  # gone, or a zombie
