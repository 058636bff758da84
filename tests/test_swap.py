"""Another ruleset is loaded over one that runs: nothing of the one before is left.

Not what heartbeats write meanwhile, for the rules before run until the transaction's end: sets that are
judged anew with other rules hold nothing of it afterwards. Each such test has a twin that merely empties
them, as `flush set` does: that leaves something. And no chain, map or set that the new files do not have.

As a program, in a network namespace of its own, it loads two rulesets in turn under a flood of heartbeats.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from trscaler_gen.mac import HardwareAddress
from trscaler_gen.pipeline import Compiled

sys.path.append(str(Path(__file__).parent))
from e2e.wire import VRRP, VRRP_GROUP_MAC, Packet, ethernet, with_checksum
from nodescript import functions
from verify.world import cluster, switching

SWAPS = 20
DEADLINE_S = 30
OWN, PEER = "n1", "n2"
TABLE = "trscaler_proof"
HARDWARE = "hwaddr=02:00:00:00:00:01"
GROUP = IPv4Address("224.0.0.18")
PEER_MAC = HardwareAddress.parse("02:00:00:00:00:02")
TWIN = pytest.mark.parametrize("flushed", [False, True], ids=["made anew", "twin: emptied"])


def heartbeat(compiled: Compiled, sender: str, *, has_switched: bool = False) -> bytes:
    """A frame with a node's heartbeat, as its rules stamp it."""
    lock = compiled.lock
    number = int(sender.removeprefix("n"))
    message = struct.pack(
        "!BBBBHHI", 0x31, lock.first_vrid + number - 1, 100, 1, 10, 0, 0x54530000 + lock.serial
    )
    source = IPv4Address(f"192.0.2.{number}")
    stamp = 2 * lock.epoch + has_switched
    packet = Packet(source, GROUP, VRRP, with_checksum(message, 6), ttl=255, identification=stamp, ecn=3)
    return ethernet(VRRP_GROUP_MAC, PEER_MAC, packet)


def files(compiled: Compiled, folder: Path) -> Path:
    """The node's files, where nft and sh find them."""
    folder.mkdir()
    for name, content in compiled.bundles[OWN].files.items():
        (folder / name).write_bytes(content)
    return folder


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def merely_emptied(text: str) -> str:
    """The same with sets that stay. They are declared a second time with the others."""
    return re.sub(r"^delete set", "flush set", text, flags=re.MULTILINE)


FUNCTIONS = (
    *("read_word", "kernel_listing", "forget_sets", "is_drained", "lasting_elements", "announcement"),
    *("swap_transaction", "old_objects", "delete_old_objects"),
)


def script(new: Path, state: Path, epoch: int = 1, switch: int = 0) -> str:
    """What a node's script has to swap with: these rules for those of epoch 1, which have seen no switch."""
    state.mkdir()
    (state / "epoch").write_text("1\n")
    (state / "switch").write_text("0\n")
    text = functions(new / "node.sh", FUNCTIONS)
    variables = f"""
        HERE={new} RUN={state} ROOT={state} TABLE={TABLE} LINK=eth0 NODE_ID=1 EPOCH={epoch} PRESERVES=no
        SWITCH={switch} TWO_PLACEMENTS={"yes" if switch else "no"}"""
    return f"{variables}\n{text}\n"


def left(**job: Any) -> int:
    """After how many of the swaps the set held what the rules before had written."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, __file__],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@TWIN
def test_who_was_behind_is_judged_anew(tmp_path: Path, flushed: bool) -> None:
    """A peer with a higher serial is heard all the time; the node gets the rules of that serial."""
    old = files(cluster(tmp_path, (1, 1)), tmp_path / "old")
    compiled = cluster(tmp_path, (1, 1, 1))
    assert (compiled.lock.epoch, compiled.lock.serial) == (1, 2)
    new = files(compiled, tmp_path / "new")
    if flushed:
        ruleset = new / "ruleset.nft"
        ruleset.write_text(merely_emptied(ruleset.read_text()))
    found = left(
        old=str(old),
        script=f"echo 'include \"{new}/ruleset.nft\"'",
        set="behind",
        sender="peer",
        frame=heartbeat(compiled, PEER).hex(),
    )
    assert found > 0 if flushed else found == 0


@TWIN
def test_leases_of_an_epoch_that_is_over_are_forgotten(tmp_path: Path, flushed: bool) -> None:
    """The node sends heartbeats all the time, which the rules of the next epoch do not take for its own."""
    before = cluster(tmp_path, (1, 1), connections="hash-only")
    old = files(before, tmp_path / "old")
    compiled = cluster(tmp_path, (1, 1), connections="hash-only", hash_input="source")
    assert compiled.lock.epoch == 2
    new = files(compiled, tmp_path / "new")
    replace(new / "ruleset.nft", "@th,8,8 1 goto heartbeat_out", "@th,8,8 255 goto heartbeat_out")
    swap = script(new, tmp_path / "state", epoch=2)
    if flushed:
        assert '"delete set netdev"' in swap
        swap = swap.replace('"delete set netdev"', '"flush set netdev"')
    found = left(
        old=str(old),
        script=f"{swap}swap_transaction",
        set="alive",
        sender="eth0",
        frame=heartbeat(before, OWN).hex(),
    )
    assert found > 0 if flushed else found == 0


@TWIN
def test_another_switch_has_not_been_made(tmp_path: Path, flushed: bool) -> None:
    """A peer says all the time that it has made one; the rules are for the next, of which it says nothing."""
    before = switching(tmp_path, connections="hash-only")
    old = files(before, tmp_path / "old")
    compiled = cluster(tmp_path, (1, 2, 1), connections="hash-only")
    assert compiled.lock.switch > before.lock.switch
    new = files(compiled, tmp_path / "new")
    swap = script(new, tmp_path / "state", switch=compiled.lock.switch)
    if flushed:
        assert '"delete set netdev"' in swap
        swap = swap.replace('"delete set netdev"', '"flush set netdev"')
    found = left(
        old=str(old),
        script=f"{swap}swap_transaction",
        set="switched",
        sender="peer",
        frame=heartbeat(before, PEER, has_switched=True).hex(),
    )
    assert found > 0 if flushed else found == 0


CLUSTERS: dict[str, dict[str, Any]] = {
    "preserves": {},
    "hash-only": {"connections": "hash-only"},
    "alone": {"weights": (1,)},
    "without a short way": {"heartbeat": {"interval_ms": 10, "missed": 2}},
}
OBJECT = re.compile(r"^\t((?:chain|map|set) \S+) \{", re.MULTILINE)


@pytest.mark.parametrize("wanted", CLUSTERS)
def test_no_chain_map_or_set_of_the_rules_before_is_left(tmp_path: Path, wanted: str) -> None:
    old = files(switching(tmp_path), tmp_path / "old")
    other = tmp_path / "other"
    other.mkdir()
    new = files(cluster(other, **{"weights": (2, 1, 1), **CLUSTERS[wanted]}), tmp_path / "new")
    load = f"nft -D {HARDWARE} -I"
    text = (
        script(new, tmp_path / "state")
        + f"""
        ip link add eth0 type veth peer name peer
        {load} {old} -f {old}/boot.nft
        swap_transaction | {load} {new} -f -
        delete_old_objects
        nft -t list table netdev {TABLE}
        echo ---
        {load} {new} -f {new}/boot.nft
        nft -t list table netdev {TABLE}"""
    )
    swapped, booted = run("unshare", "--net", "sh", "-euc", text).split("---")
    assert sorted(OBJECT.findall(swapped)) == sorted(OBJECT.findall(booted))
    assert "chain egress" in OBJECT.findall(booted)


# Inside the namespace


def run(*argv: str, text: str = "") -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(text: str) -> None:
    run("nft", "-D", HARDWARE, "-f", "-", text=text)


def holds_own(name: str) -> bool:
    """Whether a set holds the node's id, or its link."""
    listing = json.loads(run("nft", "-j", "list", "set", "netdev", TABLE, name))["nftables"]
    elements = next(item["set"] for item in listing if "set" in item).get("elem", [])
    return any((one["elem"]["val"] if isinstance(one, dict) else one) in (1, "eth0") for one in elements)


def flood(frame: bytes, link: str, ended: threading.Event) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((link, 0))
        while not ended.is_set():
            wire.send(frame)


def inside() -> None:
    job = json.load(sys.stdin)
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer")
    for link in ("eth0", "peer"):
        run("ip", "link", "set", link, "up")
    ended = threading.Event()
    sender = threading.Thread(target=flood, args=(bytes.fromhex(job["frame"]), job["sender"], ended))
    sender.start()
    try:
        print(sum(one_swap(job) for _ in range(SWAPS)))
    finally:
        ended.set()
        sender.join()


def one_swap(job: dict[str, Any]) -> bool:
    run("nft", "-I", job["old"], "-D", HARDWARE, "-f", f"{job['old']}/boot.nft")
    deadline = time.monotonic() + DEADLINE_S
    while not holds_own(job["set"]):
        assert time.monotonic() < deadline, "the rules before write nothing"
    load(run("sh", text=job["script"]))
    return holds_own(job["set"])


if __name__ == "__main__":
    inside()
