"""A lab: nodes, a client and a switch in namespaces that live through their processes only.

Nothing is mounted or named in the host, no device, address or route is added to its network. So what a killed
lab can leave behind is processes and one directory, and both can be told from everybody else's.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Address, Inventory
from trscaler_gen.lab import members, ssh
from trscaler_gen.lab.build import build, require_tools, services_ready
from trscaler_gen.lab.connections import Connections, Load
from trscaler_gen.lab.network import CLIENT, SWITCH, lab_network
from trscaler_gen.lab.probe import Probe
from trscaler_gen.lab.processes import MARKER_VARIABLE, Process, kill_all, lab_processes
from trscaler_gen.lab.state import DEFAULT_DIRECTORY, Member, State, lab_directory, read_state

DOWN_HINT = "take it down with `trscaler-gen lab down`"
_CARRIER_DEADLINE_S = 5.0
_POLL_S = 0.01


@dataclass(frozen=True)
class MemberStatus:
    """What is seen of one member now. ``port`` is "up", "cut", "silent" or, for the switch itself, ""."""

    name: str
    kind: str
    pid: int
    running: bool
    services: bool
    port: str
    address4: str
    address6: str


@dataclass(frozen=True)
class LeftOver:
    """What `down` removed: processes, and whether there was a directory."""

    processes: int
    directory: bool

    @property
    def nothing(self) -> bool:
        """True if no lab was up and none had left anything."""
        return not self.processes and not self.directory


class Lab:
    """A running lab. As a context manager it goes down at the end."""

    def __init__(self, directory: Path, state: State) -> None:
        self.directory = directory
        self.state = state

    @classmethod
    def up(cls, inventory: Inventory, directory: Path | None = None) -> Lab:
        """Build the lab that the inventory describes; raises OperationError, and then nothing is left."""
        directory = lab_directory(directory)
        _require_root()
        require_tools()
        plan = lab_network(inventory)
        _refuse_second_lab(directory)
        with _undone_on_failure(directory):
            state = build(directory, plan, inventory.source)
        return cls(directory, state)

    @classmethod
    def load(cls, directory: Path | None = None) -> Lab:
        """The lab that is up; raises OperationError if none is."""
        directory = lab_directory(directory)
        _require_root()
        state = read_state(directory)
        if state is None:
            raise OperationError("no lab is up", "start one with `trscaler-gen lab up INVENTORY`")
        if state.phase != "up":
            raise OperationError("the lab did not come up whole", DOWN_HINT)
        return cls(directory, state)

    @staticmethod
    def clear(directory: Path | None = None) -> LeftOver:
        """Remove everything of a lab, whole, half built or killed; nothing there is no error."""
        _require_root()
        return _clear(lab_directory(directory))

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def down(self) -> None:
        """Kill the members and remove the lab's directory."""
        _clear(self.directory)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names, in the inventory's order."""
        return tuple(member.name for member in self.state.members.values() if member.kind == "node")

    @property
    def ssh_config(self) -> Path:
        """The file for `ssh -F`."""
        return self.directory / ssh.SSH_CONFIG

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The host's command that runs ``argv`` inside all namespaces of the member ``name``.

        setpriv ties the two together: nsenter only waits, and whoever ends it means the command.
        """
        member = self._member(name)
        where = ["--wdns=/" if member.kind == "node" else f"--wdns={Path.cwd()}"]
        enter = members.nsenter(self._pid(member), "--mount", "--net", "--pid", "--uts", *where)
        return [*enter, "setpriv", "--pdeathsig", "TERM", "--", *argv]

    def environment(self, name: str) -> dict[str, str]:
        """What a command on the member sees: a login's environment on a node, the caller's elsewhere."""
        if self._member(name).kind != "node":
            return {**os.environ, MARKER_VARIABLE: str(self.directory)}
        kept = {key: os.environ[key] for key in ("TERM", "COLORTERM") if key in os.environ}
        login = {"USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"}
        return {**members.member_environment(self.directory), **login, **kept}

    def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout_s: float = 30.0,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a member and collect its output.

        Raises OperationError if it fails and ``check`` is set, and if it takes longer than ``timeout_s``.
        """
        try:
            result = subprocess.run(
                self.command(name, argv),
                env=self.environment(name),
                input="" if input is None else input,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OperationError(f"{name}: `{' '.join(argv)}` did not end within {timeout_s:g} s") from error
        if check and result.returncode:
            said = result.stderr.strip() or result.stdout.strip() or "no message"
            raise OperationError(f"{name}: `{' '.join(argv)}` failed with status {result.returncode}: {said}")
        return result

    def popen(self, name: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command on a member with pipes to it; terminating the process ends the command."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(name, argv),
            env=self.environment(name),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def cut(self, node: str, *, silent: bool = False) -> None:
        """Pull the node's cable: both ends lose carrier; ``silent``: frames vanish, the carrier stays."""
        port = self._wired(node).port
        if silent:
            self._switch(["bridge", "link", "set", "dev", port, "state", "0"])
        else:
            self._switch(["ip", "link", "set", port, "down"])

    def mend(self, node: str) -> None:
        """Undo either cut, and wait until the switch forwards the node's frames again."""
        port = self._wired(node).port
        self._switch(["ip", "link", "set", port, "up"])
        deadline = time.monotonic() + _CARRIER_DEADLINE_S
        while (state := self._ports()[port]) != "up":
            if time.monotonic() > deadline:
                raise OperationError(f"the switch's port of {node} does not come up", "see `lab exec switch`")
            if state == "silent":
                # Refused for a moment after a cut: the switch has not noticed the carrier yet.
                with suppress(OperationError):
                    self._switch(["bridge", "link", "set", "dev", port, "state", "3"])
            time.sleep(_POLL_S)

    def probing(
        self,
        *,
        sources: int = 100,
        interval_ms: float = 100,
        seconds: float | None = None,
        family: int = 4,
        destination: Address | None = None,
    ) -> Probe:
        """Start probing from the client, in the background; without ``seconds`` it goes on until stopped."""
        return Probe.start(
            client_pid=self._pid(self._member(CLIENT)),
            environment=members.member_environment(self.directory),
            destination=destination or self._first_virtual_address(family),
            sources=sources,
            interval_ms=interval_ms,
            seconds=seconds,
        )

    def connecting(self, load: Load | None = None, *, destinations: Sequence[Address] = ()) -> Connections:
        """Open TCP connections from the client, and keep them in use in the background.

        To all virtual addresses, if no destination is named; without ``seconds`` it goes on until stopped.
        """
        return Connections.start(
            load or Load(),
            destinations or self.state.virtual_addresses,
            client_pid=self._pid(self._member(CLIENT)),
            environment=members.member_environment(self.directory),
        )

    def status(self) -> tuple[MemberStatus, ...]:
        """What is seen of every member now."""
        switch = self.state.members[SWITCH].process
        ports = self._ports() if switch and switch.alive else {}
        return tuple(_member_status(member, ports) for member in self.state.members.values())

    def _member(self, name: str) -> Member:
        if name in self.state.members:
            return self.state.members[name]
        near = difflib.get_close_matches(name, self.state.members, n=1)
        known = ", ".join(self.state.members)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {known}"
        raise OperationError(f'the lab has no member "{name}"', hint)

    def _wired(self, name: str) -> Member:
        member = self._member(name)
        if member.kind == SWITCH:
            raise OperationError("the switch itself has no cable to cut", "name a node or the client")
        return member

    def _pid(self, member: Member) -> int:
        if member.process is None or not member.process.alive:
            raise OperationError(f"the lab's {member.name} is dead", DOWN_HINT)
        return member.process.pid

    def _switch(self, argv: Sequence[str]) -> str:
        return members.run_in_network(self._pid(self.state.members[SWITCH]), argv)

    def _ports(self) -> dict[str, str]:
        """The switch's ports and whether each is "up", "cut" or "silent"."""
        links = json.loads(self._switch(["bridge", "-json", "link", "show"]))
        return {link["ifname"]: _port_state(link["flags"], link["state"]) for link in links}

    def _first_virtual_address(self, family: int) -> Address:
        for address in self.state.virtual_addresses:
            if address.version == family:
                return address
        raise OperationError(
            f"the cluster has no IPv{family} virtual address", "say which with --destination"
        )


def _port_state(flags: Sequence[str], state: str) -> str:
    if "LOWER_UP" not in flags:
        return "cut"
    return "up" if state == "forwarding" else "silent"


def _member_status(member: Member, ports: Mapping[str, str]) -> MemberStatus:
    process = member.process
    return MemberStatus(
        name=member.name,
        kind=member.kind,
        pid=process.pid if process else 0,
        running=bool(process and process.alive),
        services=services_ready(member),
        port=ports.get(member.port, "") if member.port else "",
        address4=member.address4,
        address6=member.address6,
    )


def _require_root() -> None:
    if os.geteuid() != 0:
        raise OperationError("the lab needs root (it makes namespaces)", "run it with sudo, or as root")


def _refuse_second_lab(directory: Path) -> None:
    try:
        state = read_state(directory)
    except OperationError:
        state = None
    living = lab_processes(directory, _recorded(state))
    if state and state.phase == "up" and living:
        raise OperationError(f'a lab is already up: cluster "{state.cluster}"', DOWN_HINT)
    if living or directory.exists():
        raise OperationError("a lab is coming up, or was killed and has left things behind", DOWN_HINT)


def _recorded(state: State | None) -> list[Process]:
    return [member.process for member in state.members.values() if member.process] if state else []


def _clear(directory: Path) -> LeftOver:
    try:
        state = read_state(directory)
    except OperationError:
        state = None  # half written: the processes' own marks will do
    killed = kill_all(directory, _recorded(state))
    existed = directory.exists()
    if existed:
        shutil.rmtree(directory)
    if directory.parent == DEFAULT_DIRECTORY.parent:
        with suppress(OSError):  # not empty: another lab's files; or it never was there
            directory.parent.rmdir()
    return LeftOver(killed, existed)


@contextmanager
def _undone_on_failure(directory: Path) -> Iterator[None]:
    """Take everything away again if the block is left by an error or a Ctrl-C."""
    try:
        yield
    except BaseException:
        _clear(directory)
        raise
