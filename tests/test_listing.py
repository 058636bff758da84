"""What a node compares its kernel's rules with: of the same files, but few elements of each order."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from nodescript import functions
from verify.world import cluster, switching

from trscaler_gen.pipeline import Compiled

NODE = "n2"
HARDWARE = "02:00:00:00:00:01"
FUNCTIONS = ("keep_listing", "expected_listing", "with_short_maps", "without_seed")
MAP = re.compile(r"^    map (\w+) \{(.*?)^    \}", re.MULTILINE | re.DOTALL)
#: without a last newline that lines could be counted by
BROKEN = "chain decide {\n        meta mark set jhash ip saddr mod 64 seed 12648430 gibberish"


def files(compiled: Compiled, folder: Path) -> Path:
    """The node's files, where nft and sh find them."""
    folder.mkdir()
    for name, content in compiled.bundles[NODE].files.items():
        (folder / name).write_bytes(content)
    return folder


def sh(text: str) -> subprocess.CompletedProcess[str]:
    argv = ["unshare", "--net", "sh", "-c", text]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def in_script(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    """Run words with the functions of the node's script."""
    return sh(f"""
        HERE={folder} RUN={folder}/run LINK=eth0
        hardware_address() {{ echo {HARDWARE}; }}
        {functions(folder / "node.sh", FUNCTIONS)}
        {words}""")


def expected(folder: Path) -> str:
    done = in_script(folder, f"keep_listing {folder}/listing && cat {folder}/listing")
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(folder: Path) -> str:
    """What the kernel has when all of it was loaded."""
    done = sh(f"""
        ip link set dev lo name eth0 &&
            nft -I {folder} -D hwaddr={HARDWARE} -f {folder}/boot.nft && nft -s -t list ruleset""")
    assert done.returncode == 0, done.stderr
    return done.stdout


CLUSTERS: dict[str, Callable[[Path], Compiled]] = {
    "two": lambda folder: cluster(folder, (1, 1)),
    "thirty-two": lambda folder: cluster(folder, [1] * 32, buckets=1024),
    "two placements": switching,
    "hash-only": lambda folder: cluster(folder, connections="hash-only"),
    "short heartbeats": lambda folder: cluster(folder, heartbeat={"interval_ms": 10, "missed": 2}),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_it_is_the_listing_of_the_whole(tmp_path: Path, name: str) -> None:
    folder = files(CLUSTERS[name](tmp_path), tmp_path / "files")
    listing = expected(folder)
    assert listing == loaded(folder)
    assert "map rank1_" in listing and "chain egress" in listing


def test_another_rule_makes_another_listing(tmp_path: Path) -> None:
    folder = files(cluster(tmp_path), tmp_path / "files")
    before = expected(folder)
    ruleset = folder / "ruleset.nft"
    ruleset.write_text(
        ruleset.read_text().replace("counter name dropped drop", "counter name dropped accept", 1)
    )
    assert expected(folder) == loaded(folder) != before


@pytest.mark.parametrize("name", ["thirty-two", "two placements"])
def test_few_elements_are_loaded(tmp_path: Path, name: str) -> None:
    folder = files(CLUSTERS[name](tmp_path), tmp_path / "files")
    whole = (folder / "ruleset.nft").read_text()
    short = in_script(folder, f"with_short_maps {folder}/ruleset.nft").stdout
    orders = [elements for name, elements in MAP.findall(short) if not name.startswith("peers")]
    assert len(orders) == len(MAP.findall(whole)) - 1
    assert max(len(re.findall(r" : \d", elements)) for elements in orders) <= 8
    assert short.count("\n") == whole.count("\n"), "nft counts lines"


def test_what_does_not_load_is_told_with_its_line_and_without_the_seed(tmp_path: Path) -> None:
    folder = files(cluster(tmp_path), tmp_path / "files")
    ruleset = folder / "ruleset.nft"
    text = ruleset.read_text()
    assert "chain decide {" in text
    ruleset.write_text(text.replace("chain decide {", BROKEN, 1))
    done = in_script(folder, f"keep_listing {folder}/listing")
    line = text[: text.index("chain decide {")].count("\n") + 2
    assert done.returncode != 0
    assert f"{ruleset}:{line}:" in done.stderr
    assert "seed ..." in done.stderr and "12648430" not in done.stderr
    assert not (folder / "listing").exists()


@pytest.mark.parametrize("name", ["ruleset.nft", "peers.nft"])
def test_a_file_that_cannot_be_read_is_no_listing(tmp_path: Path, name: str) -> None:
    folder = files(cluster(tmp_path), tmp_path / "files")
    (folder / name).unlink()
    assert in_script(folder, f"keep_listing {folder}/listing").returncode != 0
    assert not (folder / "listing").exists()
