"""Inventories for the lab's own tests, and a look at the host from outside, with none of the lab's code."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from e2e.wire import socket_of

from trscaler_gen.inventory.model import Inventory, Node
from trscaler_gen.lab import Lab

VIP4 = ip_address("192.0.2.100")
VIP6 = ip_address("2001:db8::100")
VIPS = {4: VIP4, 6: VIP6}
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, Linux 5.14; Python's socket module does not name it


def inventory(count: int = 1, **keys: Any) -> Inventory:
    """Nodes n1..nN at 192.0.2.1.. and both virtual addresses, unless ``keys`` say otherwise."""
    members = {f"n{number}": Node(address=IPv4Address(f"192.0.2.{number}")) for number in range(1, count + 1)}
    defaults: dict[str, Any] = {"virtual_addresses": (VIP4, VIP6), "link": "eth0", "nodes": members}
    return Inventory(source="test.yaml", cluster="test", **{**defaults, **keys})


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait until the condition holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def host_network() -> str:
    """The host's links, addresses, routes, named namespaces and mounts, without their running timers."""
    listings = []
    for words in ("-o link", "-o address", "route show table all", "-6 route show table all", "netns list"):
        command = ["ip", *words.split()]
        listings.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    listings.append(Path("/proc/self/mounts").read_text())
    return re.sub(r"(valid_lft|preferred_lft|expires|age) \S+", "", "\n".join(listings))


def traces(directory: Path) -> list[str]:
    """Every living process that names the directory in its arguments, environment or working directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and str(directory) in _told(process):
            found.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
    return found


def _told(process: Path) -> str:
    with suppress(OSError):
        if "\nState:\tZ" in (process / "status").read_text():
            return ""
        said = b"\n".join((process / name).read_bytes() for name in ("cmdline", "environ"))
        return said.decode(errors="replace") + str((process / "cwd").readlink())
    return ""


def network_namespace(pid: int) -> int:
    """The cookie of a process's network namespace; other than an inode's number it is never given again."""
    with socket_of(pid, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        cookie: bytes = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(cookie, sys.byteorder)


def network_namespaces() -> set[int]:
    """The network namespaces that any process lives in."""
    pids = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                pids[(process / "ns/net").stat().st_ino] = int(process.name)
    found = set()
    for pid in pids.values():
        with suppress(OSError):
            found.add(network_namespace(pid))
    return found


@contextmanager
def virtual_addresses_on(lab: Lab, *nodes: str) -> Iterator[None]:
    """The virtual addresses as plain addresses of these nodes, with no product on them.

    Whoever asked for them before keeps asking once a second only, and queues meanwhile: hence the flush.
    """
    forget_neighbours(lab, "client")
    for node in nodes:
        for address in (VIP4, VIP6):
            lab.exec(
                node, ["ip", "address", "add", str(address), "dev", "eth0", *_no_detection(address.version)]
            )
    try:
        yield
    finally:
        for node in nodes:
            for address in (VIP4, VIP6):
                lab.exec(node, ["ip", "address", "del", str(address), "dev", "eth0"])
        forget_neighbours(lab, "client")


def forget_neighbours(lab: Lab, name: str) -> None:
    """Let the member resolve its neighbours' addresses afresh."""
    for family in ("-4", "-6"):
        lab.exec(name, ["ip", family, "neigh", "flush", "dev", "eth0", "nud", "all"])


def _no_detection(family: int) -> list[str]:
    return ["nodad"] if family == 6 else []
