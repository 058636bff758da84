"""The evaluator against the kernel: both say which random packets pass, for several sets of living nodes.

As a program, in a network namespace of its own, it sends the packets and prints which of them came through.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trscaler_gen.check.listing import list_rulesets
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.proof.evaluate import Machine, Members, Surroundings
from trscaler_gen.proof.lanes import start
from trscaler_gen.proof.packets import ETHER_BYTES, Bytes, Frames, Layout, frames
from trscaler_gen.proof.regions import mask
from trscaler_gen.proof.rules import read_tables
from trscaler_gen.proof.states import quiet
from trscaler_gen.proof.traffic import TCP, UDP

from .world import cluster, rulesets

PACKETS = 300
DEADLINE_S = 60
LIVING = ([1, 2, 3], [1, 3], [2, 3], [2], [3])
HEADER = {4: 20, 6: 40}
TYPE = {4: 0x0800, 6: 0x86DD}


def packet(draw: random.Random, family: int, protocol: int, daddr: bytes) -> bytes:
    """A packet with random addresses; its ports tell nothing."""
    size = 4 if family == 4 else 16
    addresses = [bytes([0x20 + draw.randrange(8)]) + draw.randbytes(size - 1) for _ in range(2)]
    body = bytes(12) + bytes([0x50, 0x02]) + bytes(6)
    if family == 4:
        head = bytes([0x45, 0, 0, 20 + len(body), 0, 7, 0, 0, 64, protocol, 0, 0])
    else:
        head = bytes([0x60, 0, 0, 0, 0, len(body), protocol, 64])
    ether = daddr + bytes.fromhex("0200000000fe") + TYPE[family].to_bytes(2, "big")
    return ether + head + b"".join(addresses) + body


def made_of(found: list[bytes], family: int, protocol: int) -> tuple[Layout, Bytes]:
    layout = Layout(ETHER_BYTES, ETHER_BYTES + HEADER[family], TYPE[family], protocol, 8)
    return layout, np.frombuffer(b"".join(found), np.uint8).reshape(len(found), -1)


def said_by_evaluator(made: Frames, table: Any, living: list[int], own: int, inner: int) -> set[int]:
    """The frames that go on with the inner MAC."""
    members = quiet(own, "eth0", has_peers=True)
    members |= {name: Members(frozenset(living)) for name in ("alive", "settled")}
    machine = Machine(table, made, Surroundings([members], mask([1, 2, 3]), "eth0"))
    accepted = machine.run("ingress", start(made, np.arange(made.count))).accepted
    values = [v for place, (v, _) in accepted.traces.items() if getattr(place, "base", "") == "ll"]
    assert all((one == inner).all() for one in values)
    return set(accepted.frame.tolist())


@pytest.mark.parametrize("own", [1, 2, 3])
def test_the_kernel_lets_the_same_packets_through(own: int, tmp_path: Path) -> None:
    compiled = cluster(tmp_path)
    plan = next(plan for plan in plan_nodes(compiled.inventory, compiled.lock) if plan.node_id == own)
    ruleset = rulesets(compiled)[plan.node]
    listing = list_rulesets({plan.node: ruleset}, {plan.node: "eth0"})[plan.node]
    (table,) = [table for table in read_tables(listing) if table.family == "netdev"]
    draw = random.Random(own)
    daddr = plan.cluster_mac.value.to_bytes(6, "big")
    kinds = [(family, protocol) for family in (4, 6) for protocol in (TCP, UDP)]
    groups = [[packet(draw, *kind, daddr) for _ in range(PACKETS)] for kind in kinds]
    made = frames([made_of(group, *kind) for group, kind in zip(groups, kinds, strict=True)])
    living_sets = [living for living in LIVING if own in living]
    job = {
        "ruleset": ruleset.decode(),
        "table": plan.table,
        "own": own,
        "living": living_sets,
        "frames": [frame.hex() for group in groups for frame in group],
        "inner": str(plan.inner_mac),
    }
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.verify.test_kernel"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    for living, passed in zip(living_sets, json.loads(done.stdout), strict=True):
        said = said_by_evaluator(made, table, living, own, plan.inner_mac.value)
        assert said == set(passed), f"with {living} alive"
        assert 0 < len(said) < made.count or len(living) == 1


# Inside the namespace


def run(*argv: str, text: str = "") -> str:
    done = subprocess.run(argv, input=text, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def inside() -> None:
    """Load the ruleset, send every frame for each set of living nodes, and say which came through."""
    job = json.load(sys.stdin)
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "sender")
    for link in ("eth0", "sender"):
        run("ip", "link", "set", link, "up")
    run("nft", "-D", "hwaddr=02:00:00:00:00:01", "-f", "-", text=job["ruleset"])
    keys = {4: "ip saddr . ip daddr", 6: "ip6 saddr . ip6 daddr"}
    rules = "".join(
        f"ether daddr {job['inner']} add @seen{family} {{ {keys[family]} }}\n" for family in (4, 6)
    )
    sets = "".join(f"set seen{f} {{ typeof {keys[f]}; size 65535; flags dynamic; }}\n" for f in (4, 6))
    chain = f'type filter hook ingress device "eth0" priority 0; policy drop;\n{rules}'
    run("nft", "-f", "-", text=f"table netdev seen {{\n{sets}chain c {{\n{chain}}}\n}}\n")
    found = [one_set(job, living) for living in job["living"]]
    json.dump(found, sys.stdout)


def one_set(job: dict[str, Any], living: list[int]) -> list[int]:
    ids = ", ".join(f"{node} timeout 1h" for node in living)
    table = f"netdev {job['table']}"
    lines = [f"flush set netdev seen seen{family}" for family in (4, 6)]
    for name in ("alive", "settled"):
        lines += [f"flush set {table} {name}", f"add element {table} {name} {{ {ids} }}"]
    for name in ("company", "lately"):
        lines += [f"flush set {table} {name}", f"add element {table} {name} {{ {job['own']} timeout 1h }}"]
    run("nft", "-f", "-", text="\n".join(lines) + "\n")
    run("nft", "reset", "counters", "table", "netdev", job["table"])
    send(job)
    seen = {pair for family in (4, 6) for pair in pairs_in(f"seen{family}")}
    return [number for number, frame in enumerate(job["frames"]) if pair_of(bytes.fromhex(frame)) in seen]


def send(job: dict[str, Any]) -> None:
    """Send every frame, and wait until the rules have counted them all."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind(("sender", 0))
        for frame in job["frames"]:
            wire.send(bytes.fromhex(frame))
    deadline = time.monotonic() + DEADLINE_S
    while counted(job["table"]) < len(job["frames"]):
        assert time.monotonic() < deadline, "not all frames were counted in time"
        time.sleep(0.01)


def counted(table: str) -> int:
    listing = json.loads(run("nft", "-j", "list", "counters", "table", "netdev", table))["nftables"]
    return sum(item["counter"]["packets"] for item in listing if "counter" in item)


def pairs_in(name: str) -> list[tuple[Any, Any]]:
    listing = json.loads(run("nft", "-j", "list", "set", "netdev", "seen", name))["nftables"]
    elements = next(item["set"] for item in listing if "set" in item).get("elem", [])
    return [(ip_address(one["concat"][0]), ip_address(one["concat"][1])) for one in elements]


def pair_of(frame: bytes) -> tuple[Any, Any]:
    first, size = (26, 4) if frame[14] >> 4 == 4 else (22, 16)
    return ip_address(frame[first : first + size]), ip_address(frame[first + size : first + 2 * size])


if __name__ == "__main__":
    inside()
