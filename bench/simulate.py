"""How quickly recorded traffic is hashed and read, and how much memory a large capture takes."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np

from bench.inventories import write_inventory
from trscaler_gen.simulate.hashing import PAIR_WORDS, Words
from trscaler_gen.simulate.tally import Hashing

ROWS = 2_000_000
BUCKETS = 1024
CLIENTS = 200_000
#: frames of the proportions that are known as "simple IMIX"; 352 bytes in the mean
SIZES = (64, 570, 1500)
PROPORTIONS = (7, 4, 1)
_WRITTEN = 20_000
_SUMMARY = """
import resource, sys, time
from trscaler_gen.cli import main
began = time.monotonic()
try:
    main()
finally:
    print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@dataclass(frozen=True)
class SimulateRow:
    """Hashed flows: from a pair of addresses to its node, on one core. The capture is pcap, IPv4."""

    flows_per_s_ipv4: float
    flows_per_s_ipv6: float
    capture_bytes: int
    capture_records: int
    capture_s: float
    records_per_s: float
    peak_bytes: int


def measure(runs: int, folder: Path, capture_bytes: int = 1_000_000_000) -> SimulateRow:
    """The quickest of ``runs`` for each figure; the capture is written into ``folder`` and removed."""
    capture = folder / "capture.pcap"
    try:
        records = write_capture(capture, capture_bytes)
        inventory = write_inventory(folder / "simulate.yaml", 32)
        seconds, peaks = zip(*(read(inventory, capture) for _ in range(min(runs, 3))), strict=True)
        size = capture.stat().st_size
    finally:
        capture.unlink(missing_ok=True)
    return SimulateRow(
        flows_per_s_ipv4=flows_per_s(4, runs),
        flows_per_s_ipv6=flows_per_s(6, runs),
        capture_bytes=size,
        capture_records=records,
        capture_s=min(seconds),
        records_per_s=records / min(seconds),
        peak_bytes=max(peaks),
    )


def flows_per_s(family: int, runs: int) -> float:
    """Pairs of addresses of one family that are given their node in a second."""
    pairs = np.random.default_rng(1).integers(0, 2**32, (ROWS, PAIR_WORDS[family]), np.uint32)
    owners = np.random.default_rng(2).integers(1, 33, BUCKETS, np.uint8)
    hashing = Hashing("source-destination", 0x5EED, BUCKETS)
    return ROWS / min(_seconds(lambda: place(pairs, hashing, owners)) for _ in range(runs))


def place(pairs: Words, hashing: Hashing, owners: np.ndarray) -> np.ndarray:
    """The node of each pair."""
    return owners[hashing.of(pairs)]


def _seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def write_capture(path: Path, size: int) -> int:
    """Write a capture of UDP from random clients to one address; how many records it has."""
    draw = np.random.default_rng(3)
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    written, records = len(header), 0
    chances = np.array(PROPORTIONS) / sum(PROPORTIONS)
    with path.open("wb") as file:
        file.write(header)
        while written < size:
            frames = [_record(*drawn) for drawn in _drawn(draw, chances)]
            records += len(frames)
            written += file.write(b"".join(frames))
    return records


def _drawn(draw: np.random.Generator, chances: np.ndarray) -> zip[tuple[int, int]]:
    clients = int(IPv4Address("198.18.0.0")) + draw.integers(0, CLIENTS, _WRITTEN)
    return zip(clients.tolist(), draw.choice(SIZES, _WRITTEN, p=chances).tolist(), strict=True)


def _record(client: int, size: int) -> bytes:
    ends = (client, int(IPv4Address("192.0.2.100")))
    packet = struct.pack("!BBHHHBBHII", 0x45, 0, size - 14, 0, 0, 64, 17, 0, *ends)
    frame = bytes(12) + b"\x08\x00" + packet + bytes(size - 34)
    return struct.pack("<IIII", 0, 0, size, size) + frame


def read(inventory: Path, capture: Path) -> tuple[float, int]:
    """Seconds and octets of memory of the whole command, with the hashes of all alternatives."""
    argv = ["simulate", str(inventory), "--traffic", str(capture), "--json"]
    done = subprocess.run([sys.executable, "-c", _SUMMARY, *argv], capture_output=True, text=True, check=True)
    seconds, peak = done.stderr.split()[-2:]
    return float(seconds), int(peak) * 1024
