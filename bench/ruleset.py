"""Loading a ruleset, and replacing it by another one: `nft -f` as node.sh calls it, in a namespace.

As a module it measures; as a program (in a network namespace of its own) it is what is measured.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.inventories import write_inventory
from trscaler_gen.bundle import Bundle
from trscaler_gen.files import write_bundle
from trscaler_gen.lockfile import lock_path, write_lock
from trscaler_gen.pipeline import compile_inventory

NODE = "n1"


@dataclass(frozen=True)
class Ruleset:
    """Medians, with the start of nft as a process."""

    nodes: int
    load_ms: float
    swap_ms: float


def measure(sizes: Sequence[int], runs: int, folder: Path) -> list[Ruleset]:
    """The first node's ruleset, loaded from nothing and swapped back and forth."""
    return [_measure(nodes, runs, folder / f"ruleset-{nodes}") for nodes in sizes]


def _measure(nodes: int, runs: int, folder: Path) -> Ruleset:
    for name, bundle in zip("ab", _two_bundles(nodes, folder), strict=True):
        write_bundle(folder / name, bundle)
    argv = ["unshare", "--net", sys.executable, "-m", "bench.ruleset", str(folder), str(runs)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300)
    loads, swaps = json.loads(done.stdout)
    return Ruleset(nodes, statistics.median(loads) * 1000, statistics.median(swaps) * 1000)


def _two_bundles(nodes: int, folder: Path) -> tuple[Bundle, Bundle]:
    """The same node twice, from files of two names: a ruleset names its file, so these are two rulesets."""
    first = write_inventory(folder / "first.yaml", nodes)
    compiled = compile_inventory(first)
    second = Path(shutil.copy(first, folder / "second.yaml"))
    write_lock(lock_path(second), compiled.lock)
    return compiled.bundles[NODE], compile_inventory(second).bundles[NODE]


def _inside(folder: Path, runs: int) -> None:
    subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x"], check=True)
    loads = [_nft(folder / "a", "boot.nft") for _ in range(runs)]
    swaps = [_swap(folder / old, folder / new) for _ in range(runs) for old, new in ("ab", "ba")]
    json.dump((loads, swaps), sys.stdout)


def _nft(folder: Path, file: str) -> float:
    """Seconds for one `nft -f`."""
    start = time.perf_counter()
    argv = ["nft", "-I", str(folder), "-D", "hwaddr=02:00:00:00:00:01", "-f", str(folder / file)]
    subprocess.run(argv, check=True)
    return time.perf_counter() - start


def _swap(old: Path, new: Path) -> float:
    """Seconds for the new ruleset to be in force; the maps of the old one go afterwards, as in node.sh."""
    seconds = _nft(new, "ruleset.nft")
    ruleset = (old / "ruleset.nft").read_text()
    table = re.findall(r"^table (netdev \w+)", ruleset, re.M)[0]
    objects = re.findall(r"^    (map|set) (\w+_[0-9a-f]{8}) \{", ruleset, re.M)
    (new / "old.nft").write_text("".join(f"delete {kind} {table} {name}\n" for kind, name in objects))
    _nft(new, "old.nft")
    return seconds


if __name__ == "__main__":
    _inside(Path(sys.argv[1]), int(sys.argv[2]))
