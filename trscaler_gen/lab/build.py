"""Bringing a lab up: from the plan of its network to running members with their services."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trscaler_gen.errors import OperationError
from trscaler_gen.lab import members, network, ssh
from trscaler_gen.lab.network import CLIENT, SWITCH, LabNetwork, Seat
from trscaler_gen.lab.processes import Process
from trscaler_gen.lab.responder import PORT as ECHO_PORT
from trscaler_gen.lab.state import Member, State, write_state

#: tool -> the Debian package that has it
TOOLS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "bridge": "iproute2",
    "tini": "tini",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "nc.openbsd": "netcat-openbsd",
    "nft": "nftables",
    "keepalived": "keepalived",
    "/usr/bin/python3": "python3-minimal",
}
_READY_DEADLINE_S = 30.0
_POLL_S = 0.01


def require_tools() -> None:
    """Raises OperationError that names every missing tool and the Debian packages that have them."""
    missing = {tool: package for tool, package in TOOLS.items() if not shutil.which(tool, path=members.PATH)}
    if missing:
        names = " ".join(sorted(set(missing.values())))
        raise OperationError(
            f"the lab needs {', '.join(missing)}, which this machine does not have",
            f"apt-get install {names}",
        )


def services_ready(member: Member) -> bool:
    """True if the member lives and, on a node, its sshd and responder listen."""
    if member.process is None or not member.process.alive:
        return False
    return member.kind != "node" or members.listening(member.process.pid, member.ssh_port, ECHO_PORT)


def build(directory: Path, plan: LabNetwork, inventory: str) -> State:
    """Make the directory, start and wire the members; returns when every node's services answer.

    Whatever fails on the way is raised and left lying: the caller clears it away.
    """
    directory.mkdir(mode=0o700, parents=True)
    state = _first_state(plan, inventory)
    write_state(directory, state)
    for name in state.members:
        (directory / "members" / name).mkdir(parents=True)
    starting = {
        member.name: members.start_member(directory, member.name, _script_kind(member))
        for member in state.members.values()
    }
    try:
        _make_keys(directory, plan)
        state = _with_processes(state, members.first_processes(starting))
        write_state(directory, state)
        _wire(directory, plan, state)
        members.configure(starting)
    finally:
        for member in starting.values():
            member.release()
    _await_services(state)
    state = replace(state, phase="up")
    write_state(directory, state)
    return state


def _script_kind(member: Member) -> str:
    return "node" if member.kind == "node" else "bystander"


def _first_state(plan: LabNetwork, inventory: str) -> State:
    seats = [_seated(seat, "node") for seat in plan.nodes]
    switch = Member(SWITCH, SWITCH, "", "", "", "", 0)
    everybody = [*seats, _seated(plan.client, CLIENT), switch]
    return State(
        "starting", plan.cluster, inventory, plan.virtual_addresses, {one.name: one for one in everybody}
    )


def _seated(seat: Seat, kind: str) -> Member:
    return Member(
        seat.name, kind, seat.port, seat.link, str(seat.address4), str(seat.address6), seat.ssh_port
    )


def _with_processes(state: State, processes: Mapping[str, Process]) -> State:
    found = {name: replace(member, process=processes[name]) for name, member in state.members.items()}
    return replace(state, members=found)


def _make_keys(directory: Path, plan: LabNetwork) -> None:
    host_keys = [directory / "members" / seat.name / ssh.HOST_KEY for seat in plan.nodes]
    ssh.generate_keys([directory / ssh.CLIENT_KEY, *host_keys])


def _wire(directory: Path, plan: LabNetwork, state: State) -> None:
    """Write every member's files, lay the wires, and say how to reach the nodes."""
    pids = {name: member.process.pid for name, member in state.members.items() if member.process}
    _write_files(directory, plan)
    members.run_in_network(pids[SWITCH], ["ip", "-batch", "-"], network.wires_batch(plan, pids))
    keys = [
        (seat, (directory / "members" / seat.name / f"{ssh.HOST_KEY}.pub").read_text()) for seat in plan.nodes
    ]
    (directory / ssh.KNOWN_HOSTS).write_text(ssh.known_hosts(keys))
    (directory / ssh.SSH_CONFIG).write_text(ssh.ssh_config(plan, directory, pids[CLIENT]))


def _write_files(directory: Path, plan: LabNetwork) -> None:
    home = directory / "members"
    _write(home / SWITCH, {"sysctl": "", "ip.batch": ""})
    client = {"sysctl": network.client_sysctls(plan.client), "ip.batch": network.client_batch(plan.client)}
    _write(home / CLIENT, client)
    authorized = (directory / f"{ssh.CLIENT_KEY}.pub").read_text()
    responder = Path(__file__).with_name("responder.py").read_text()
    for seat in plan.nodes:
        files = {
            "sysctl": network.seat_sysctls(seat),
            "ip.batch": network.node_batch(seat, plan.client),
            "hosts": network.hosts_file(plan, seat.name),
            "sshd_config": ssh.sshd_config(seat),
            "authorized_keys": authorized,
            "responder.py": responder,
        }
        _write(home / seat.name, files)


def _write(home: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (home / name).write_text(text)


def _await_services(state: State) -> None:
    deadline = time.monotonic() + _READY_DEADLINE_S
    for member in state.members.values():
        while not services_ready(member):
            if time.monotonic() > deadline or not (member.process and member.process.alive):
                raise OperationError(f"the lab's {member.name} has no running sshd or responder")
            time.sleep(_POLL_S)
