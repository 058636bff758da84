"""The generated files: same input, same bytes; and the tools that will read them are asked, not imitated.

tests/golden holds the bundles of a small cluster, to be read by people. When a template changes, make them
anew and read the difference:

    trscaler-gen build tests/golden/cluster.yaml -o tests/golden
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from trscaler_gen.bundle import Bundle
from trscaler_gen.check import check_bundles
from trscaler_gen.errors import InputError
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.nodeplan import leases, plan_nodes
from trscaler_gen.pipeline import Compiled, compile_inventory
from trscaler_gen.render import render_node

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
INVENTORY = GOLDEN / "cluster.yaml"
NODES = ("alpha", "beta", "gamma")
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.I)


@pytest.fixture(scope="module")
def golden() -> Compiled:
    return compile_inventory(INVENTORY)


def build(inventory: Path, output: Path, **environment: str) -> dict[str, bytes]:
    """Build in a process of its own, and read what it wrote."""
    subprocess.run(
        [sys.executable, "-m", "trscaler_gen", "build", str(inventory), "-o", str(output)],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=output.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
    )
    return read_folder(output)


def read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_of_golden(folder: Path) -> Path:
    for name in ("cluster.yaml", "cluster.lock"):
        shutil.copy(GOLDEN / name, folder / name)
    return folder / "cluster.yaml"


def files_of(compiled: Compiled) -> dict[str, bytes]:
    return {
        f"{node}/{file}": content
        for node, bundle in compiled.bundles.items()
        for file, content in bundle.files.items()
    }


def texts_of(compiled: Compiled) -> dict[str, str]:
    return {name: content.decode() for name, content in files_of(compiled).items()}


# Same input, same bytes


def test_golden_bundles_are_what_comes_out(golden: Compiled) -> None:
    on_disk = {name: content for name, content in read_folder(GOLDEN).items() if "/" in name}
    hint = "if the change is meant: trscaler-gen build tests/golden/cluster.yaml -o tests/golden"
    assert {name.split("/")[0] for name in on_disk} == set(NODES)
    assert on_disk == files_of(golden), hint


def test_golden_bundles_are_accepted_by_the_real_tools(golden: Compiled) -> None:
    """The files on the disk, not those just made; their twin in test_check sees every tool refuse."""
    bundles = {node: stored_bundle(node, golden) for node in NODES}
    assert check_bundles(bundles, {node: golden.inventory.link_of(node) for node in NODES}) == ()


def stored_bundle(node: str, golden: Compiled) -> Bundle:
    files = {path.name: path.read_bytes() for path in (GOLDEN / node).iterdir()}
    return Bundle("golden", node, golden.bundles[node].generation, files)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_same_bytes_from_anywhere(tmp_path: Path, golden: Compiled, hash_seed: str) -> None:
    inventory = copy_of_golden(tmp_path)
    environment = {"PYTHONHASHSEED": hash_seed, "TZ": "Asia/Kolkata", "USER": "x", "LC_ALL": "C", "HOME": "/"}
    assert build(inventory, tmp_path / "out", **environment) == files_of(golden)


def test_first_build_and_second_build_agree(tmp_path: Path) -> None:
    inventory = tmp_path / "new.yaml"
    shutil.copy(INVENTORY, inventory)
    first = build(inventory, tmp_path / "first", PYTHONHASHSEED="1")
    lock = (tmp_path / "new.lock").read_bytes()
    assert build(inventory, tmp_path / "second", PYTHONHASHSEED="2") == first
    assert (tmp_path / "new.lock").read_bytes() == lock


def test_another_seed_gives_other_bytes(tmp_path: Path, golden: Compiled) -> None:
    """What would be left of the tests above if the compiler ignored the lock."""
    inventory = tmp_path / "cluster.yaml"
    shutil.copy(INVENTORY, inventory)
    assert build(inventory, tmp_path / "out") != files_of(golden)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Three nodes", "# 3 nodes"),
        ("cluster: golden\n", "\n\n# which one\ncluster:   golden   # this one\n\n"),
        ("nodes:\n", "# the hosts\n\nnodes:\n"),
        ("link: eth0\nvirtual_addresses", "'link': \"eth0\"\nvirtual_addresses"),
    ],
    ids=["comment edited", "comments and blanks added", "lines shifted", "quoted otherwise"],
)
def test_no_byte_depends_on_how_the_inventory_is_laid_out(
    tmp_path: Path, golden: Compiled, old: str, new: str
) -> None:
    inventory = copy_of_golden(tmp_path)
    text = inventory.read_text()
    assert old in text
    inventory.write_text(text.replace(old, new, 1))
    assert files_of(compile_inventory(inventory)) == files_of(golden)


# What must not be in the files


def test_no_hardware_address_of_any_node(golden: Compiled) -> None:
    plan_macs = {"02:53:c0:00:02:64", "06:53:bc:00:02:64", "01:00:5e:00:00:12"}
    for name, text in texts_of(golden).items():
        assert set(MAC.findall(text.lower())) <= plan_macs, name
    for node in NODES:
        assert "$hwaddr" in golden.bundles[node].files["ruleset.nft"].decode()


def test_no_timestamp(golden: Compiled) -> None:
    stamp = re.compile(r"\b20[2-9][0-9]-|\b[0-2][0-9]:[0-5][0-9](:[0-5][0-9])?\b|\b1[6-9][0-9]{8}\b")
    for name, text in texts_of(golden).items():
        assert not stamp.search(MAC.sub("", text)), name


def test_nothing_is_readable_by_others(tmp_path: Path) -> None:
    build(copy_of_golden(tmp_path), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        wanted = 0o700 if path.is_dir() or path.name == "node.sh" else 0o600
        assert path.stat().st_mode & 0o777 == wanted, path


def test_every_file_says_what_made_it_and_from_what(golden: Compiled) -> None:
    for name, text in texts_of(golden).items():
        if not name.endswith(("MANIFEST", "/lock")):  # these say it in words of their own
            head = "\n".join(text.splitlines()[:4])
            assert "Made by trscaler-gen" in head and "from cluster.yaml" in head, name


# Where a rule comes from

CHANGES: dict[str, dict[str, Any]] = {
    "link": {"link": "eth7"},
    "mac.mode": {"mac": {"mode": "unicast", "address": "02:53:c0:00:02:64"}},
    "mac.address": {"mac": {"mode": "stealth", "address": "02:00:5e:00:01:01"}},
    "heartbeat.interval_ms": {"heartbeat": {"interval_ms": 200, "missed": 4, "first_vrid": 70}},
    "heartbeat.missed": {"heartbeat": {"interval_ms": 50, "missed": 7, "first_vrid": 70}},
    "heartbeat.first_vrid": {"heartbeat": {"interval_ms": 50, "missed": 4, "first_vrid": 90}},
    "hash.buckets": {"hash": {"input": "source-destination", "buckets": 128}},
    "hash.input": {"hash": {"input": "source", "buckets": 64}},
}


def compiled_ruleset(changes: Mapping[str, Any], folder: Path) -> str:
    document = {**yaml.safe_load(INVENTORY.read_text()), **changes}
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    text = compile_inventory(path).bundles["alpha"].files["ruleset.nft"].decode()
    text = re.sub(r"seed \d+", "seed SEED", text)  # drawn anew: this build has no lock
    return re.sub(r"_[0-9a-f]{8}\b", "_TAG", text)


def chain_rules(ruleset: str) -> list[tuple[str, str]]:
    """Every line of every chain, with the comments above it in the same chain."""
    found = []
    for chain in re.findall(r"^    chain \w+ \{\n(.*?)^    \}", ruleset, re.S | re.M):
        above = ""
        for line in map(str.strip, chain.splitlines()):
            above += line if line.startswith("#") else ""
            found.append((line, above))
    return found


@pytest.mark.parametrize("key", CHANGES)
def test_rules_that_a_key_changes_name_its_section(tmp_path: Path, key: str) -> None:
    before = {line for line, _ in chain_rules(compiled_ruleset({}, tmp_path))}
    changed = [
        pair for pair in chain_rules(compiled_ruleset(CHANGES[key], tmp_path)) if pair[0] not in before
    ]
    assert changed, f"{key} changes no rule"
    section = key.partition(".")[0]
    for line, above in changed:
        assert f"cluster.yaml {section}" in line + above, line


# Decisions, as they stand in the files


def elements(ruleset: str, name: str) -> dict[int, int]:
    """A map of numbers to numbers, as the ruleset writes it."""
    body = re.search(rf"map {name}_[0-9a-f]{{8}} \{{.*?elements = \{{(.*?)\}}", ruleset, re.S)
    assert body
    return {int(key): int(value) for key, value in re.findall(r"(\d+) +: (\d+)", body[1])}


def test_orders_are_cut_after_a_nodes_own_place(golden: Compiled) -> None:
    for node in golden.lock.nodes:
        ruleset = golden.bundles[node.name].files["ruleset.nft"].decode()
        places = len(set(re.findall(r"map rank(\d+)_", ruleset)))
        ranks = [elements(ruleset, f"rank{place}") for place in range(places)]
        assert places == max(order.index(node.node_id) for order in golden.lock.orders) + 1
        for bucket, order in enumerate(golden.lock.orders):
            known = [rank[bucket] for rank in ranks if bucket in rank]
            assert known == list(order[: order.index(node.node_id) + 1])


def test_peers_are_known_by_address_stamp_and_id(golden: Compiled) -> None:
    """By both stamps of the epoch: the second one is sent after a switch."""
    stamp = 2 * golden.lock.epoch
    for node in golden.lock.nodes:
        ruleset = golden.bundles[node.name].files["ruleset.nft"].decode()
        found = set(re.findall(r"([\d.]+ \. \d+ : \d+), ([\d.]+ \. \d+ : \d+),?  # (\w+)", ruleset))
        assert found == {
            (
                f"{other.address} . {stamp} : {other.node_id}",
                f"{other.address} . {stamp + 1} : {other.node_id}",
                other.name,
            )
            for other in golden.lock.nodes
            if other != node
        }


def test_boot_ruleset_gives_every_peer_one_lease_in_the_kernel(tmp_path: Path) -> None:
    """Loaded for real: the node itself is not among the living, and every peer has its lease."""
    slow = {"heartbeat": {"interval_ms": 5000, "missed": 4}}
    document = {**yaml.safe_load(INVENTORY.read_text()), **slow}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    build(tmp_path / "cluster.yaml", tmp_path / "out")
    script = (
        "ip link add eth0 type veth peer name x &&"
        "nft -I . -D hwaddr=02:00:00:00:00:01 -f boot.nft && nft list set netdev trscaler_golden alive"
    )
    listing = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        cwd=tmp_path / "out" / "alpha",
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    assert re.findall(r"(0x[0-9a-f]+|\d+) timeout (\S+)", listing) == [
        ("0x00000002", "22s500ms"),
        ("0x00000003", "22s500ms"),
    ]


def test_own_lease_ends_first_for_every_heartbeat() -> None:
    """Exhaustive: 10 ms to 10 s in steps of 10 ms, 2 to 20 misses."""
    for interval_ms in range(10, 10_001, 10):
        for missed in range(2, 21):
            lease = leases(interval_ms, missed)
            assert lease.own_ms <= lease.peer_ms - 5
            assert lease.own_ms >= missed * interval_ms


# The tools that will read the files


def test_manifest_is_verified_by_sha256sum(tmp_path: Path, golden: Compiled) -> None:
    for node in NODES:
        folder = tmp_path / node
        shutil.copytree(GOLDEN / node, folder)
        assert sha256sum(folder).returncode == 0
        listed = {
            line.split()[1] for line in (folder / "MANIFEST").read_text().splitlines() if line[0] != "#"
        }
        assert listed == set(golden.bundles[node].files) - {"MANIFEST"}
        with (folder / "boot.nft").open("a") as file:
            file.write(" ")
        assert sha256sum(folder).returncode != 0


def sha256sum(folder: Path) -> subprocess.CompletedProcess[bytes]:
    argv = ["sha256sum", "--check", "--strict", "--quiet", "MANIFEST"]
    return subprocess.run(argv, cwd=folder, check=False, capture_output=True, timeout=30)


SCRIPTS = [
    *(GOLDEN / node / "node.sh" for node in NODES),
    *sorted((ROOT / "trscaler_gen").rglob("*.sh")),
    *sorted((ROOT / "tests" / "systemd").glob("*.sh")),
    *sorted(path for path in (ROOT / "tools").iterdir() if path.read_bytes().startswith(b"#!/bin/sh")),
    ROOT / ".ci" / "run",
]


def complaints(*argv: str | Path) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_clean(script: Path) -> None:
    assert complaints("shellcheck", "--shell=sh", script) == ""
    assert complaints("dash", "-n", script) == ""
    assert complaints("busybox", "sh", "-n", script) == ""


def test_unclean_scripts_are_seen(tmp_path: Path) -> None:
    script = tmp_path / "node.sh"
    script.write_bytes((GOLDEN / "alpha" / "node.sh").read_bytes() + b"cat $1\n")
    assert "SC2086" in complaints("shellcheck", "--shell=sh", script)
    script.write_bytes((GOLDEN / "alpha" / "node.sh").read_bytes() + b"if true; then\n")
    assert complaints("dash", "-n", script)
    assert complaints("busybox", "sh", "-n", script)


def verify_units(folder: Path) -> str:
    """What systemd says of the units, where they will stand; exit status 0 even for keys it does not know."""
    script = (
        "mount -t tmpfs none /etc/systemd/system && cp ./*.service /etc/systemd/system/ &&"
        "systemd-analyze verify --man=no /etc/systemd/system/*.service"
    )
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit status {done.returncode}")


@pytest.mark.parametrize("node", NODES)
def test_systemd_accepts_the_units(node: str) -> None:
    assert len(list((GOLDEN / node).glob("*.service"))) == 3
    assert verify_units(GOLDEN / node) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [("Restart=", "Restrat="), ("/bin/sh ", "/bin/no-such-shell "), ("[Service]", "[Srevice]")],
)
def test_faulty_units_are_seen(tmp_path: Path, old: str, new: str) -> None:
    name = "trscaler-gen-golden-watch.service"
    text = (GOLDEN / "alpha" / name).read_text()
    assert old in text
    shutil.copy(GOLDEN / "alpha" / "trscaler-gen-golden.service", tmp_path)
    (tmp_path / name).write_text(text.replace(old, new))
    assert name in verify_units(tmp_path)


# Quoting

ODD_ARGUMENTS = [
    "two words",
    "  ",
    "",
    "it's",
    '"quoted"',
    "$(touch /tmp/never)",
    "`id`",
    "${HOME}",
    "$1",
    "a;b&c|d>e<f",
    "back\\slash",
    "\\n",
    "%s %d",
    "*",
    "~root",
    "-n",
    "#no-comment",
    "!",
    "größe",
    "{{ plan.seed }}",
    "x' ; echo 'y",
]


def health_function(argv: list[str]) -> str:
    """The function that node.sh asks the service with."""
    document = {**yaml.safe_load(INVENTORY.read_text()), "health": {"command": argv}}
    inventory = parse_inventory(yaml.safe_dump(document, allow_unicode=True).encode(), "cluster.yaml")
    plan = plan_nodes(inventory, reconcile(inventory, None, seed=1))[0]
    script = render_node(plan)["node.sh"].decode()
    found = re.search(r"^service_is_well\(\) \{\n.*?^\}", script, re.S | re.M)
    assert found
    return found[0]


@pytest.mark.parametrize(
    "shell", [["dash"], ["busybox", "sh"], ["bash", "--posix"]], ids=lambda argv: argv[0]
)
def test_odd_arguments_reach_the_health_command_unharmed(shell: list[str]) -> None:
    function = health_function(["/usr/bin/printf", "%s\\0", *ODD_ARGUMENTS])
    done = subprocess.run(
        [*shell, "-c", f"{function}\nservice_is_well"], check=True, capture_output=True, timeout=10, cwd="/"
    )
    assert done.stderr == b""
    assert done.stdout.decode().split("\0")[:-1] == ODD_ARGUMENTS


@pytest.mark.parametrize("argument", ["two\nlines", "bell\a", "return\r", "null\0"])
def test_arguments_that_a_line_cannot_hold_are_refused(argument: str) -> None:
    with pytest.raises(InputError):
        health_function(["/usr/bin/printf", argument])
