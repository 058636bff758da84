"""Keys, and the files that let the host's ssh(1), and `apply`, reach nodes over the lab's own wire."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from trscaler_gen.errors import OperationError
from trscaler_gen.lab.members import PATH
from trscaler_gen.lab.network import DEFAULT_SSH_PORT, LabNetwork, Seat

SSH_CONFIG = "ssh_config"
KNOWN_HOSTS = "known_hosts"
CLIENT_KEY = "id_ed25519"
HOST_KEY = "ssh_host_ed25519_key"
NODE_FILES = "/run/trscaler-lab"


def generate_keys(paths: Iterable[Path]) -> None:
    """Make an ed25519 key pair at each path, all at once; raises OperationError if one fails."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trscaler-gen lab", "-f"]
    running = [
        subprocess.Popen(
            [*command, str(path)],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for path in paths
    ]
    complaints = [process.communicate()[1] for process in running]
    for process, complaint in zip(running, complaints, strict=True):
        if process.returncode:
            raise OperationError(f"ssh-keygen failed: {complaint.strip() or process.returncode}")


def sshd_config(seat: Seat) -> str:
    """A server for the root account by key alone; nothing in it waits for names, PAM or other logins."""
    return f"""\
Port {seat.ssh_port}
ListenAddress {seat.address4}
HostKey {NODE_FILES}/{HOST_KEY}
AuthorizedKeysFile {NODE_FILES}/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 1000
MaxSessions 1000
PidFile none
PrintMotd no
Subsystem sftp internal-sftp
"""


def known_hosts(keys: Sequence[tuple[Seat, str]]) -> str:
    """One line per node, under every name and port that it may be asked for; ``keys`` are public keys."""
    lines = []
    for seat, key in keys:
        algorithm, encoded = key.split()[:2]
        lines.append(f"{','.join(_known_names(seat))} {algorithm} {encoded}\n")
    return "".join(lines)


def _known_names(seat: Seat) -> list[str]:
    names = [seat.name, *seat.aliases]
    with_port = [f"[{name}]:{seat.ssh_port}" for name in names]
    return names if seat.ssh_port == DEFAULT_SSH_PORT else with_port


def ssh_config(network: LabNetwork, directory: Path, client_pid: int) -> str:
    """What `ssh -F` needs to reach nodes, by name and by address, over the client's port at the switch.

    The connection is made inside the client's network namespace: a node that is cut off is out of reach.
    """
    return "# Written by `trscaler-gen lab up`.\n" + "".join(
        _host_entry(network, seat, directory, client_pid) for seat in network.nodes
    )


def _host_entry(network: LabNetwork, seat: Seat, directory: Path, client_pid: int) -> str:
    return f"""\
Host {" ".join((seat.name, *seat.aliases))}
    HostName {seat.address4}
    Port {seat.ssh_port}
    User root
    IdentityFile {directory / CLIENT_KEY}
    IdentitiesOnly yes
    UserKnownHostsFile {directory / KNOWN_HOSTS}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    ConnectTimeout {network.connect_timeout_s}
    ProxyCommand nsenter --net=/proc/{client_pid}/ns/net nc.openbsd -N %h %p
"""
