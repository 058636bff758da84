"""The model is one of the rendered rules: what it relies on is what stands there, in that order."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

from trscaler_gen.bundle import make_bundles
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.nodeplan import plan_nodes

from .bounds import US, timers_of
from .cluster import plans

INVENTORY = Path(__file__).parents[2] / "inventory" / "lab.yaml"


@pytest.fixture(scope="module")
def chains() -> dict[str, list[str]]:
    """The rules of n1 by chain, without their comments."""
    inventory = parse_inventory(INVENTORY.read_bytes(), "lab.yaml")
    lock = reconcile(inventory, None, seed=1)
    bundle = make_bundles(plan_nodes(inventory, lock), lock)["n1"]
    found: dict[str, list[str]] = {}
    rules: list[str] = []
    for line in map(str.strip, bundle.files["ruleset.nft"].decode().splitlines()):
        if begins := re.fullmatch(r"chain (\w+) \{", line):
            rules = found.setdefault(begins[1], [])
        elif line == "}":
            rules = []
        elif line and not line.startswith("#"):
            rules.append(re.sub(r' comment ".*?"', "", line))
    return found


def renewals(chains: dict[str, list[str]], name: str) -> dict[str, list[str]]:
    """Which chains renew an element of a set, and for how long."""
    pattern = re.compile(rf"update @{name} \{{ meta mark timeout (\d+)ms \}}")
    found = {
        chain: [time for rule in rules for time in pattern.findall(rule)] for chain, rules in chains.items()
    }
    return {chain: times for chain, times in found.items() if times}


def callers(chains: dict[str, list[str]], name: str) -> set[str]:
    return {
        chain for chain, rules in chains.items() if any(re.search(rf"(goto|jump) {name}\b", r) for r in rules)
    }


def test_own_leases_are_renewed_as_a_heartbeat_leaves_and_nowhere_else(chains: dict[str, list[str]]) -> None:
    own, peer = (str(getattr(plans(3, 100)[0].leases, name)) for name in ("own_ms", "peer_ms"))
    assert renewals(chains, "alive") == {"lives": [peer], "heartbeat_out": [own]}
    assert renewals(chains, "draining") == {"drains": [peer], "say_drain": [own]}
    assert callers(chains, "heartbeat_out") == {"egress"}
    assert "hook egress" in chains["egress"][0]
    assert callers(chains, "lives") == {"heard"}
    assert callers(chains, "heard") == {"heartbeat_in"}
    assert callers(chains, "heartbeat_in") == {"ingress"}


def test_what_is_renewed_by_peers_lasts_a_peers_lease(chains: dict[str, list[str]]) -> None:
    peer = str(plans(3, 100)[0].leases.peer_ms)
    assert set(chain.from_iterable(renewals(chains, "fenced").values())) == {peer}
    assert set(chain.from_iterable(renewals(chains, "company").values())) == {peer}


def test_a_heartbeat_is_judged_in_the_models_order(chains: dict[str, list[str]]) -> None:
    """Fenced, goodbye, drained, announcing; and only then is the lease renewed, settled before alive."""
    words = (
        "@fenced @th,16,8 set 0",
        "goto say_goodbye",
        "@drained",
        "@announcing",
        "@settled",
        "update @alive",
    )
    rules = chains["heartbeat_out"]
    places = [next(at for at, rule in enumerate(rules) if word in rule) for word in words]
    assert places == sorted(places) and places[-1] == len(rules) - 1


def test_heartbeats_in_are_sorted_by_epoch_and_priority(chains: dict[str, list[str]]) -> None:
    assert [rule.split()[-1] for rule in chains["heard"]] == ["goodbye", "drains", "lives", "drop"]
    ends = chains["heartbeat_in"]
    assert [rule.split()[-1] for rule in ends[-3:]] == ["heard", "outdated", "drop"]
    assert [rule for rule in chains["goodbye"] if "delete @alive" in rule]
    assert [rule for rule in chains["outdated"] if "delete @alive" in rule]


def test_the_own_lease_ends_first_at_any_interval() -> None:
    """With nothing lost, between kernels of 250 Hz, of 1000 Hz, and (not at 10 ms) of both."""
    for interval_ms in range(10, 1010, 10):
        for missed in (2, 3, 20):
            fine, coarse = (timers_of(interval_ms, missed, tick_us) for tick_us in (US, 4 * US))
            assert fine.own[1] <= fine.peer[0] and coarse.own[1] <= coarse.peer[0]
            assert interval_ms == 10 or fine.own[1] <= coarse.peer[0]


def test_at_10_ms_kernels_of_different_ticks_overlap() -> None:
    fine, coarse = (timers_of(10, 3, tick_us) for tick_us in (US, 4 * US))
    assert fine.own[1] - coarse.peer[0] == 2 * US - 1
