"""The scenario where no other kernel is needed: a node whose wire is deleted and made again comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.cluster import eventually
from e2e.witness import Heartbeat, Seen, Watched

from trscaler_gen.lab.probe import Double

from .links import WIRE
from .scenario import HEARTBEAT_MS, NODES, PATIENCE_S, VICTIM, made_again, running_site, told

RUNTIME = "/run/trscaler-gen/e2e"


def test_device_that_is_deleted_and_made_again(tmp_path: Path) -> None:
    """Rules, addresses and heartbeats are on the new device."""
    with running_site(tmp_path, "again", WIRE) as site:
        made_again(site)
        look = ["sh", "-c", f"cat {RUNTIME}/link /sys/class/net/eth0/ifindex"]
        remembered, number = site.cluster.lab.exec(VICTIM, look).stdout.split()
        assert remembered == number
        address = site.cluster.lab.exec(VICTIM, ["cat", "/sys/class/net/eth0/address"]).stdout.strip()
        rules = site.cluster.lab.exec(
            VICTIM, ["nft", "list", "chain", "netdev", "trscaler_e2e", "neighbour_out"]
        )
        assert f"ether saddr set {address}" in rules.stdout

        site.cluster.lab.exec(VICTIM, ["sh", "-c", f"echo 1 >{RUNTIME}/link"])
        assert site.cluster.state(VICTIM)["ruleset"] == "altered", "made for another device"
        eventually(lambda: site.cluster.state(VICTIM)["ruleset"] == "intact", "it is mended", PATIENCE_S)


def seen(
    *, lost: tuple[float, ...] = (), doubled: tuple[float, ...] = (), nodes: tuple[str, ...] = NODES
) -> Watched:
    result = Seen(
        destination="192.0.2.100",
        sent=100,
        lost=len(lost),
        doubled=len(doubled),
        by_node=dict.fromkeys(nodes, 30),
        longest_gap_ms=0,
        late=0,
        worst_late_ms=0,
        slowest_answer_ms=1,
        started_s=0,
        lost_at_ms=lost,
        double_answers=tuple(Double(at_ms, "198.51.100.1", ("n1", "n2")) for at_ms in doubled),
        per_source=(),
        heartbeat=Heartbeat(HEARTBEAT_MS / 1000),
        stalls=(),
    )
    return Watched([], [result])


def test_what_went_well_is_told() -> None:
    assert told(seen()) == "100 probes, 0 lost, 0 answered twice"


@pytest.mark.parametrize(
    "watched",
    [seen(lost=(5.0,)), seen(doubled=(5.0,)), seen(nodes=NODES[:2])],
    ids=["lost", "twice", "a node"],
)
def test_twin_what_went_wrong_is_red(watched: Watched) -> None:
    with pytest.raises(AssertionError):
        told(watched)
