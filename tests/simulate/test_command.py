"""``simulate`` as a user runs it: what-ifs against real changes of the inventory, and what it says."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from trscaler_gen.cli import main

from .captures import CLIENT_MAC, VIP4, ethernet, pcap, source4, udp

HEAVY = IPv4Address("203.0.113.9")


@dataclass(frozen=True)
class Done:
    """What a command said."""

    stdout: str
    stderr: str


def run(*argv: object, expect: int = 0) -> Done:
    """Run the command line in this process, which is much quicker."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["trscaler-gen", *map(str, argv)]),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
    assert status == expect, output.getvalue() + errors.getvalue()
    return Done(output.getvalue(), errors.getvalue())


def simulated(inventory: Path, traffic: object, *argv: str, expect: int = 0) -> Any:
    """The simulation, as JSON."""
    return json.loads(run("simulate", inventory, "--traffic", traffic, "--json", *argv, expect=expect).stdout)


def piped(inventory: Path, traffic: bytes) -> Any:
    """The simulation of what comes through a pipe."""
    words = [sys.executable, "-m", "trscaler_gen", "simulate", str(inventory), "--traffic", "-", "--json"]
    return json.loads(
        subprocess.run(words, input=traffic, capture_output=True, timeout=120, check=True).stdout
    )


def counts(scenario: Any) -> dict[str, Any]:
    return {share["name"]: share["counts"] for share in scenario["shares"]}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Four nodes, with a lock."""
    path = tmp_path / "cluster.yaml"
    path.write_text(text({"n1": 1, "n2": 1, "n3": 2, "n4": 1}))
    run("build", path, "-o", tmp_path / "out")
    return path


def text(weights: dict[str, int]) -> str:
    nodes = {
        name: {"address": f"192.0.2.{number}", "weight": weight}
        for number, (name, weight) in enumerate(weights.items(), 1)
    }
    keys = {"cluster": "test", "link": "eth0", "virtual_addresses": [str(VIP4), "2001:db8::100"]}
    return yaml.safe_dump({**keys, "nodes": nodes}, sort_keys=False)


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    """A client that has most of the bytes, and some hundred others."""
    draw = random.Random(1)
    packets = [udp(source4(draw), VIP4, bytes(draw.randrange(500))) for _ in range(3000)]
    packets += [udp(HEAVY, VIP4, bytes(1400))] * 900
    path = tmp_path / "traffic.pcap"
    path.write_bytes(pcap(map(ethernet, packets)))
    return path


def test_shares_add_up_and_the_first_scenario_is_the_cluster(inventory: Path, traffic: Path) -> None:
    found = simulated(inventory, traffic)
    (scenario,) = found["scenarios"]
    assert scenario["name"] == "as it is"
    assert sum(node["packets"] for node in counts(scenario).values()) == found["total"]["packets"] == 3900
    assert [share["expected"] for share in scenario["shares"]] == [0.2, 0.2, 0.4, 0.2]
    assert scenario["moved"] == {"flows": 0, "packets": 0, "bytes": 0}
    assert found["problems"] == []


@pytest.mark.parametrize(
    ("option", "name", "after"),
    [
        ("--add=n5", "with n5", {"n1": 1, "n2": 1, "n3": 2, "n4": 1, "n5": 1}),
        ("--add=n5=3", "with n5 at weight 3", {"n1": 1, "n2": 1, "n3": 2, "n4": 1, "n5": 3}),
        ("--weight=n1=4", "n1 at weight 4", {"n1": 4, "n2": 1, "n3": 2, "n4": 1}),
        ("--weight=n1=4,n3=1", "n1 at weight 4, n3 at weight 1", {"n1": 4, "n2": 1, "n3": 1, "n4": 1}),
    ],
)
def test_a_what_if_is_what_the_same_change_of_the_inventory_gives(
    inventory: Path, traffic: Path, option: str, name: str, after: dict[str, int]
) -> None:
    foretold = simulated(inventory, traffic, option)["scenarios"][1]
    assert foretold["name"] == name
    inventory.write_text(text(after))
    run("build", inventory, "-o", inventory.parent / "out")
    assert counts(simulated(inventory, traffic)["scenarios"][0]) == counts(foretold)


def test_a_node_that_is_down_loses_what_it_had_and_nobody_else_does(inventory: Path, traffic: Path) -> None:
    before, after = simulated(inventory, traffic, "--down", "n2")["scenarios"]
    assert after["name"] == "n2 down"
    assert after["moved"] == counts(before)["n2"]
    assert counts(after)["n2"]["packets"] == 0
    assert all(
        counts(after)[name]["packets"] >= counts(before)[name]["packets"] for name in ("n1", "n3", "n4")
    )


def test_each_option_is_a_scenario_and_together_makes_one_of_all(inventory: Path, traffic: Path) -> None:
    options = ("--down", "n1,n2", "--down", "n3", "--add", "n5,n6=2", "--weight", "n4=3")
    names = [scenario["name"] for scenario in simulated(inventory, traffic, *options)["scenarios"]]
    assert names == [
        "as it is",
        "n1 down, n2 down",
        "n3 down",
        "with n5, with n6 at weight 2",
        "n4 at weight 3",
    ]
    _, one = simulated(inventory, traffic, "--down", "n5", "--add", "n5", "--together")["scenarios"]
    assert one["name"] == "n5 down, with n5"


def test_a_client_that_no_hash_can_split_is_named(inventory: Path, traffic: Path) -> None:
    found = simulated(inventory, traffic)
    heavy = found["heavy"][0]
    assert heavy["address"] == str(HEAVY)
    assert heavy["shares"]["bytes"] > 0.5
    (node,) = heavy["nodes"]
    assert counts(found["scenarios"][0])[node]["bytes"] >= heavy["counts"]["bytes"]
    # Wherever another hash puts it: the node with the largest part to expect has it at the least.
    most = max(node["expected"] for node in found["scenarios"][0]["shares"])
    least = heavy["shares"]["bytes"] / most
    assert all(alternative["worst"]["bytes"] >= least for alternative in found["alternatives"])


def test_a_pipe_and_a_packed_file_say_the_same(inventory: Path, traffic: Path) -> None:
    whole = simulated(inventory, traffic)
    packed = traffic.with_suffix(".gz")
    packed.write_bytes(gzip.compress(traffic.read_bytes()))
    for found in (
        simulated(inventory, packed),
        piped(inventory, traffic.read_bytes()),
    ):
        assert found | {"traffic": ""} == whole | {"traffic": ""}


def test_traffic_for_others_is_said_to_be(inventory: Path, tmp_path: Path) -> None:
    path = tmp_path / "before.pcap"
    frame = ethernet(udp(IPv4Address("198.51.100.1"), IPv4Address("203.0.113.80")), to=CLIENT_MAC)
    path.write_bytes(pcap([frame] * 5))
    found = simulated(inventory, path, expect=1)
    assert found["skipped"] == {"for other destinations": 5}
    assert any("--any-destination" in note for note in found["notes"])
    assert simulated(inventory, path, "--any-destination")["total"]["packets"] == 5


def test_a_broken_file_counts_what_is_good_and_ends_with_1(inventory: Path, traffic: Path) -> None:
    traffic.write_bytes(traffic.read_bytes()[:-7])
    found = simulated(inventory, traffic, expect=1)
    assert found["total"]["packets"] == 3899
    assert found["problems"][0]["position"].startswith("record 3900, byte ")


def test_without_a_lock_the_answer_is_an_example_and_says_so(inventory: Path, traffic: Path) -> None:
    inventory.with_suffix(".lock").unlink()
    found = simulated(inventory, traffic)
    assert found == simulated(inventory, traffic)
    assert any("no lock" in note for note in found["notes"])
    assert not inventory.with_suffix(".lock").exists()


def test_a_cluster_like_another_one_has_that_one_s_seed_without_a_lock_of_its_own(
    inventory: Path, traffic: Path
) -> None:
    follower = inventory.with_name("follower.yaml")
    document = yaml.safe_load(inventory.read_text())
    for node in document["nodes"].values():
        del node["weight"]
    like = {"cluster": "other", "hash": {"like": inventory.name}, "heartbeat": {"first_vrid": 65}}
    follower.write_text(yaml.safe_dump(document | like))
    found = simulated(follower, traffic)
    assert found["notes"] == []
    assert counts(found["scenarios"][0]) == counts(simulated(inventory, traffic)["scenarios"][0])


def test_of_two_placements_it_says_which_one_is_counted(inventory: Path, traffic: Path) -> None:
    assert simulated(inventory, traffic)["notes"] == []
    inventory.write_text(text({"n1": 4, "n2": 1, "n3": 2, "n4": 1}))
    (ahead,) = simulated(inventory, traffic)["notes"]
    run("build", inventory, "-o", inventory.parent / "out")
    (built,) = simulated(inventory, traffic)["notes"]
    assert "not in its lock yet" in ahead and "the newer one is counted" in built


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("--down", "n9"), '"n9" is not a node (there are: n1, n2, n3, n4)'),
        (("--down", "n1,n2,n3,n4"), "no node is left"),
        (("--add", "n1"), "n1 is a node already"),
        (("--add", "n_5"), "cannot be a node name"),
        (("--add", "n5=0"), "greater than or equal to 1"),
        (("--weight", "n1"), "a node's name and its weight, like n1=2"),
        (("--weight", "n1=2,n1=3"), "a node's name and its weight, like n1=2"),
        (("--down", ""), "names with commas between them"),
        (("--add", ",".join(f"m{number}" for number in range(40))), "a cluster has 32 at most"),
    ],
)
def test_what_makes_no_sense_is_refused(
    inventory: Path, traffic: Path, argv: tuple[str, ...], text: str
) -> None:
    done = run("simulate", inventory, "--traffic", traffic, *argv, expect=2)
    assert text in done.stderr


def test_files_that_cannot_be_opened(inventory: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        assert why in run("simulate", inventory, "--traffic", path, expect=1).stderr


PEAK = """
import resource, sys
from trscaler_gen.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["pcap", "csv"])
def test_ten_times_the_traffic_takes_no_more_memory(inventory: Path, tmp_path: Path, kind: str) -> None:
    frame = ethernet(udp(HEAVY, VIP4, bytes(1400)))
    piece = b"198.51.100.1,192.0.2.100,1,1\n" * 10_000 if kind == "csv" else pcap([frame] * 700)[24:]
    peaks = []
    for megabytes in (8, 80):
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.write(pcap([]) if kind == "pcap" else b"")
            for _ in range(megabytes * 1_000_000 // len(piece) // (4 if kind == "csv" else 1)):
                file.write(piece)
        words = [sys.executable, "-c", PEAK, "simulate", str(inventory), "--traffic", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] < peaks[0] + 12_000  # kB: a seventh of what was added
