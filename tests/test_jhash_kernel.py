"""The twin against the kernel: random packets are hashed by nft, and what it found is read back.

Each packet passes one netdev ingress chain in a network namespace of its own. For every case (hash input,
seed, bucket count) the chain hashes the packet and collects addresses and bucket in a dynamic set.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from trscaler_gen.jhash import HashInput, bucket_of
from trscaler_gen.render import _HASHED

Pair = tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]

PAIRS = 10_000
TRAFFIC_SEED = 20240229
DEADLINE_S = 10
SENDER, RECEIVER = "sender", "receiver"
SENDER_MAC = "02:00:00:00:00:01"
PREFIX = {4: "ip", 6: "ip6"}
ETHER_TYPE = {4: 0x0800, 6: 0x86DD}


@dataclass(frozen=True)
class Case:
    """One rule: what is hashed, with which seed, into how many buckets."""

    hash_input: HashInput
    seed: int
    buckets: int

    def set_name(self, family: int) -> str:
        """Name the set that collects this case."""
        return f"{self.hash_input.replace('-', '_')}_{self.seed}_{self.buckets}_v{family}"

    def twin(self, source: Any, destination: Any) -> int:
        """Ask the Python twin."""
        return bucket_of(
            source, destination, hash_input=self.hash_input, seed=self.seed, buckets=self.buckets
        )


CASES = (
    Case("source-destination", 1, 1024),
    Case("source-destination", 0xDEADBEEF, 64),
    Case("source-destination", 0xFFFFFFFF, 16384),
    Case("source-destination", 0x7F4A7C15, 1000),
    Case("source", 1, 1024),
    Case("source", 0x80000000, 4096),
    Case("source", 0x7F4A7C15, 251),
    Case("destination-source", 0x7F4A7C15, 1024),
    Case("destination", 0x7F4A7C15, 1024),
)


def random_pairs(family: int) -> list[Pair]:
    """Draw distinct pairs from the whole address space: always the same ones."""
    draw = random.Random(TRAFFIC_SEED + family)
    if family == 4:
        return [(IPv4Address(draw.getrandbits(32)), IPv4Address(draw.getrandbits(32))) for _ in range(PAIRS)]
    return [(IPv6Address(draw.getrandbits(128)), IPv6Address(draw.getrandbits(128))) for _ in range(PAIRS)]


# Inside the namespace


def rules(family: int) -> Iterable[str]:
    """Write one set and one rule per case."""
    ip = PREFIX[family]
    for case in CASES:
        name = case.set_name(family)
        key = f"{ip} saddr . {ip} daddr"
        hashed = _HASHED[case.hash_input][f"ipv{family}"]
        yield f"add set netdev twin {name} {{ typeof {key} . meta mark ; size 65535 ; flags dynamic ; }}"
        yield (
            f"add rule netdev twin arrivals meta mark set jhash {hashed} mod {case.buckets} seed {case.seed} "
            f"add @{name} {{ {key} . meta mark }}"
        )


def ruleset() -> str:
    """Write the whole ruleset; what passed all rules is sent back, and nothing goes on to the stack."""
    chain = f"type filter hook ingress device {RECEIVER} priority 0 ; policy drop ;"
    head = ["add table netdev twin", f"add chain netdev twin arrivals {{ {chain} }}"]
    tail = [f"add rule netdev twin arrivals ether saddr {SENDER_MAC} fwd to {RECEIVER}"]
    return "\n".join([*head, *rules(4), *rules(6), *tail]) + "\n"


def frame(source: Any, destination: Any) -> bytes:
    """Make an Ethernet frame with a UDP packet of no content."""
    macs = bytes.fromhex("020000000002" + SENDER_MAC.replace(":", ""))
    addresses: bytes = source.packed + destination.packed
    if source.version == 4:
        return macs + struct.pack("!HBBHIBBH", ETHER_TYPE[4], 0x45, 0, 20, 0, 64, 17, 0) + addresses
    return macs + struct.pack("!HIHBB", ETHER_TYPE[6], 0x60000000, 0, 17, 64) + addresses


def send_all(family: int) -> None:
    """Send every pair and wait for each to come back, so that a busy machine drops nothing unseen."""
    ether_type = ETHER_TYPE[family]
    # A socket for one protocol hears what arrives and not what it sends itself (packet(7)).
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ether_type)) as wire:
        wire.bind((SENDER, ether_type))
        wire.settimeout(DEADLINE_S)
        for pair in random_pairs(family):
            sent = frame(*pair)
            wire.send(sent)
            while wire.recv(len(sent)) != sent:
                continue


def hash_in_kernel() -> None:
    """Send every pair through the rules and print what the kernel collected, as nft's JSON."""
    subprocess.run(["ip", "link", "add", SENDER, "type", "veth", "peer", "name", RECEIVER], check=True)
    for link in (SENDER, RECEIVER):
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
    subprocess.run(["nft", "-f", "-"], input=ruleset().encode(), check=True)
    send_all(4)
    send_all(6)
    subprocess.run(["nft", "-j", "list", "ruleset"], check=True)


# Outside of it


@pytest.fixture(scope="module")
def kernel() -> dict[str, dict[tuple[Any, Any], int]]:
    """Per set: which bucket the kernel found for each pair."""
    done = subprocess.run(["unshare", "--net", sys.executable, __file__], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    sets = (item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item)
    return {found["name"]: read_elements(found.get("elem", [])) for found in sets}


def read_elements(elements: list[Any]) -> dict[tuple[Any, Any], int]:
    """Read the concatenations of nft's JSON; a pair in two buckets would be a fault of the trial.

    The same element may come twice: the kernel lists a set whose table it is still making larger.
    """
    found: dict[tuple[Any, Any], int] = {}
    for element in elements:
        source, destination, mark = element["concat"]
        pair = (ip_address(source), ip_address(destination))
        assert found.setdefault(pair, int(mark)) == int(mark)
    return found


def differences(case: Case, found: dict[tuple[Any, Any], int], pairs: list[Pair]) -> int:
    """Count the pairs for which the twin says another bucket; a pair that is missing is a difference."""
    return sum(found.get(pair) != case.twin(*pair) for pair in pairs)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_twin_agrees_with_the_kernel(
    kernel: dict[str, dict[tuple[Any, Any], int]], case: Case, family: int
) -> None:
    pairs = random_pairs(family)
    assert len(set(pairs)) == PAIRS
    assert differences(case, kernel[case.set_name(family)], pairs) == 0


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_seed_is_seen(kernel: dict[str, dict[tuple[Any, Any], int]], case: Case, family: int) -> None:
    wrong = Case(case.hash_input, case.seed ^ 1, case.buckets)
    assert differences(wrong, kernel[case.set_name(family)], random_pairs(family)) > PAIRS * 0.95


if __name__ == "__main__":
    hash_in_kernel()
