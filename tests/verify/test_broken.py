"""A template that is broken on purpose is caught: which node, which bucket, which nodes are dead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trscaler_gen.cli.verify import verify
from trscaler_gen.errors import OperationError
from trscaler_gen.pipeline import Compiled
from trscaler_gen.proof.judge import Fault

from .world import broken, cluster, rulesets, switching


@pytest.fixture
def compiled(tmp_path: Path) -> Compiled:
    return cluster(tmp_path)


def faults(compiled: Compiled, changed: dict[str, bytes]) -> tuple[Fault, ...]:
    proof = verify(compiled, changed)
    assert not proof.is_proven
    assert proof.faulty >= len(proof.faults) > 0
    return proof.faults


def test_swapped_rank(compiled: Compiled, tmp_path: Path) -> None:
    swap = {
        "@{{ name }}{{ rank.place }}_{{ tag }}\n        meta mark @alive goto substitute": (
            "@{{ name }}{{ ranks[-loop.index0].place }}_{{ tag }}\n        meta mark @alive goto substitute"
        )
    }
    found = faults(compiled, broken(compiled, tmp_path, swap, ["n3"]))
    assert {fault.node for fault in found} <= {"n3", "the cluster"}
    fault = next(fault for fault in found if fault.packets == "UDP over IPv4" and fault.state == "settled")
    order = compiled.lock.orders[fault.bucket]
    assert fault.dead and order[0] in fault.dead  # the first choice is right
    assert fault.what.startswith(("answers; its owner is n", "does not answer; its owner is itself"))


@pytest.mark.parametrize("nodes", [["n2"], []], ids=["one node", "all nodes"])
def test_wrong_seed(nodes: list[str], compiled: Compiled, tmp_path: Path) -> None:
    found = faults(compiled, broken(compiled, tmp_path, {"seed {{ plan.seed }}": "seed 7"}, nodes))
    assert {"n2"} <= {fault.node for fault in found}
    assert any(fault.dead == () and fault.bucket >= 0 for fault in found)


def test_another_modulus(compiled: Compiled, tmp_path: Path) -> None:
    change = {"mod {{ plan.buckets }} seed": "mod {{ plan.buckets - 1 }} seed"}
    found = faults(compiled, broken(compiled, tmp_path, change, ["n1"]))
    assert {fault.node for fault in found} <= {"n1", "the cluster"}


def test_missing_bucket(compiled: Compiled) -> None:
    bucket = next(bucket for bucket, order in enumerate(compiled.lock.orders) if order[0] == 1)
    changed = rulesets(compiled)
    text = changed["n1"].decode()
    element = f" {bucket:>4} : 1 " if bucket else "   0 : 1 "
    assert element in text
    for ending in (",", "\n"):
        text = text.replace(f"{element.rstrip()} {ending}", ending if ending == "\n" else "")
    changed["n1"] = text.encode()
    found = faults(compiled, changed)
    assert {fault.bucket for fault in found if fault.node == "n1"} == {bucket}
    assert any(fault.what == "does not answer; its owner is itself" for fault in found)
    assert any("nobody" in fault.what for fault in found if fault.node == "the cluster")


def test_inverted_verdict(compiled: Compiled, tmp_path: Path) -> None:
    change = {
        "meta mark {{ plan.node_id }} counter name accepted goto every_node": (
            "meta mark != {{ plan.node_id }} counter name accepted goto every_node"
        )
    }
    found = faults(compiled, broken(compiled, tmp_path, change))
    assert {fault.node for fault in found} >= {"n1", "n2", "n3"}
    assert any(fault.what.startswith("answers; its owner is n") and not fault.dead for fault in found)


def test_missing_family(compiled: Compiled, tmp_path: Path) -> None:
    change = {"ip6 : goto ipv6, ": ""}
    found = faults(compiled, broken(compiled, tmp_path, change, ["n2"]))
    assert {fault.node for fault in found} == {"n2"}
    assert all("IPv6" in fault.packets or "neighbour" in fault.packets for fault in found)
    assert any(fault.what == "does not answer; its owner is itself" for fault in found)


def test_source_and_destination_swapped_in_one_family(compiled: Compiled) -> None:
    changed = rulesets(compiled)
    for name, text in changed.items():
        changed[name] = text.replace(b"jhash ip6 saddr . ip6 daddr", b"jhash ip6 daddr . ip6 saddr")
    found = faults(compiled, changed)
    assert all("IPv6" in fault.packets for fault in found)


def test_an_error_is_decided_by_its_own_addresses(compiled: Compiled) -> None:
    changed = rulesets(compiled)
    text = changed["n1"].replace(b"jhash @th,192,32 . @th,160,32", b"jhash @th,160,32 . @th,192,32")
    found = faults(compiled, changed | {"n1": text})
    assert all("ICMP error" in fault.packets and "IPv4" in fault.packets for fault in found)


def test_wrong_own_id(compiled: Compiled, tmp_path: Path) -> None:
    change = {
        "meta mark {{ plan.node_id }} counter name accepted goto": "meta mark 1 counter name accepted goto"
    }
    found = faults(compiled, broken(compiled, tmp_path, change, ["n2"]))
    assert {fault.node for fault in found if fault.node != "the cluster"} == {"n2"}
    assert any(fault.what == "answers; its owner is n1" for fault in found)
    assert any(fault.what == "is answered by n1, n2" for fault in found)


def test_fast_path_for_who_is_not_settled(compiled: Compiled, tmp_path: Path) -> None:
    change = {'"settled" if plan.preserves else "alive"': '"alive"'}
    found = faults(compiled, broken(compiled, tmp_path, change, ["n1"]))
    assert {fault.state for fault in found} == {"all back lately"}
    assert {"TCP data of an unknown connection over IPv4"} <= {fault.packets for fault in found}


def test_short_way_that_gives_a_bucket_away(compiled: Compiled) -> None:
    changed = rulesets(compiled)
    changed["n2"], count = re.subn(rb"(set own_\w+ \{[^}]*elements = \{\n +)\d+,", rb"\1", changed["n2"])
    assert count == 1
    found = faults(compiled, changed)
    assert {(fault.node, fault.state, fault.dead) for fault in found} == {("n2", "calm", ())}
    assert len({fault.bucket for fault in found}) == 1


@pytest.mark.parametrize("no_error", ["ip protocol != 1", "@nh,72,8 != 1", "meta l4proto != 58"])
def test_short_way_for_errors(no_error: str, compiled: Compiled, tmp_path: Path) -> None:
    """Of what another node answers, of what this one does, and of IPv6."""
    found = faults(compiled, broken(compiled, tmp_path, {f'"{no_error}"': '""'}, ["n1"]))
    assert {fault.state for fault in found} == {"calm"}
    assert not [fault for fault in found if not re.search("ICMP|echo|neighbour", fault.packets)], found


def test_switched_map_of_the_wrong_placement(tmp_path: Path) -> None:
    compiled = switching(tmp_path)
    change = {'decide(input, "first", "walk") -': 'decide(input, "first_before", "walk_before") -'}
    found = faults(compiled, broken(compiled, tmp_path, change, ["n1"]))
    assert all("switched" in fault.state and "before" not in fault.state for fault in found)


def test_peer_with_another_nodes_id(compiled: Compiled) -> None:
    changed = rulesets(compiled)
    text = changed["n1"].replace(b"192.0.2.2 . 2 : 2", b"192.0.2.2 . 2 : 3")
    (found, *_) = faults(compiled, changed | {"n1": text})
    assert (found.node, found.packets) == ("n1", "a heartbeat of n2 that it serves")
    assert found.what == "puts id 3 into @alive, and id 2 is right"


def test_heartbeat_without_its_stamp(compiled: Compiled, tmp_path: Path) -> None:
    change = {"ip id set {{ plan.stamp }} ip ecn set ce": "ip ecn set ce"}
    found = faults(compiled, broken(compiled, tmp_path, change, ["n3"]))
    assert {fault.packets for fault in found} >= {"a heartbeat of n3 that it serves"}


def test_what_is_not_understood_proves_nothing(compiled: Compiled, tmp_path: Path) -> None:
    change = {
        "        # {{ plan.source }} hash and nodes; seed": "        limit rate 1/second accept\n        # "
    }
    with pytest.raises(
        OperationError, match=r'n1: table netdev trscaler_proof, chain ipv4, rule 2: .*"limit"'
    ):
        verify(compiled, broken(compiled, tmp_path, change))


def test_a_set_that_nobody_knows_proves_nothing(compiled: Compiled) -> None:
    changed = rulesets(compiled)
    text = changed["n2"].replace(b"settled", b"resting")
    with pytest.raises(OperationError, match="the set resting: it is not known here what it holds when"):
        verify(compiled, changed | {"n2": text})


LOOK = "meta mark set {{ peer.node_id }} meta mark != @fresh goto looked_around"
OWN_LEASE = "update @alive { meta mark timeout {{ plan.leases.own_ms }}ms }"
PEERS_LEASE = "update @alive { meta mark timeout {{ plan.leases.peer_ms }}ms }"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({LOOK: LOOK.replace("!=", "==")}, "does not open the short way"),
        ({"meta mark != @fresh": "meta mark 0"}, "n2 is not fresh: opens the short way"),
        ({"jump look_around": "accept"}, "does not open the short way"),
        ({"chain no_calm {": "chain no_calm {\n return"}, "leaves @calm as it was"),
        ({OWN_LEASE: "add @alive { meta mark }"}, "writes @alive for good"),
        ({PEERS_LEASE: "update @alive { meta mark timeout 1h }"}, "writes @alive for 3600 s"),
    ],
    ids=["turned round", "no look", "never", "after a farewell", "own lease", "peers' leases"],
)
def test_what_heartbeats_keep_up(
    compiled: Compiled, tmp_path: Path, change: dict[str, str], what: str
) -> None:
    found = faults(compiled, broken(compiled, tmp_path, change, ["n1"]))
    assert {(fault.node, fault.state) for fault in found} == {("n1", "heartbeats")}
    assert any(what in f"{fault.packets}: {fault.what}" for fault in found), found
