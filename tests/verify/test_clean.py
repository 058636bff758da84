"""Clusters as they are generated are proven, whatever their inventory says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trscaler_gen.cli.verify import verify

from .world import cluster, switching

CASES: dict[str, dict[str, Any]] = {
    "one": {"weights": [1]},
    "two": {"weights": [1, 3]},
    "three": {},
    "five": {"weights": [1, 2, 3, 4, 5]},
    "twelve": {"weights": [3, *[2] * 5, *[1] * 6], "buckets": 256},
    "hash-only": {"connections": "hash-only"},
    "stealth": {"mac": {"mode": "stealth"}},
    "unicast": {"mac": {"mode": "unicast"}},
    "source": {"hash_input": "source"},
    "mirrored": {"hash_input": "destination-source"},
    "destination": {"hash_input": "destination", "forwards_to": "eth1"},
    "routes": {"forwards_to": "eth1"},
    "ipv4 alone": {"virtual_addresses": ["192.0.2.100"]},
    "ipv6 alone": {"virtual_addresses": ["2001:db8::100"]},
}


@pytest.mark.parametrize("case", CASES)
def test_cluster_is_proven(case: str, tmp_path: Path) -> None:
    proof = verify(cluster(tmp_path, **CASES[case]))
    assert proof.faults == ()
    assert proof.is_proven
    assert all(load.moved == load.least for load in proof.count.loads)


@pytest.mark.parametrize("connections", ["preserve", "hash-only"])
def test_both_placements_of_a_switch_are_proven(connections: str, tmp_path: Path) -> None:
    proof = verify(switching(tmp_path, connections=connections))
    assert proof.faults == ()
    (movement,) = proof.movements
    assert movement.moved == movement.least > 0


def test_thirty_two_nodes_are_proven(tmp_path: Path) -> None:
    proof = verify(cluster(tmp_path, [1] * 32, buckets=64))
    assert proof.faults == ()
    assert proof.count.sets == 1 + 32 + 496 + 4960 + 32
