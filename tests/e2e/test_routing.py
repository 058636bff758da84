"""Nodes that forward: both directions of a flow pass the same one, through a stateful firewall on each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from trscaler_gen.bundle import Bundle, make_bundles
from trscaler_gen.lockfile import write_lock
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.pipeline import Compiled, compile_inventory

from .routers import ROUTERS, SOURCES, Routers, await_that, routers

SAMPLES = Path(__file__).parent.parent.parent / "inventory"
KINDS = ("tcp4", "tcp6", "udp4", "udp6", "icmp4", "icmp6")
ALL = dict.fromkeys(KINDS, SOURCES)


def compiled(folder: Path, *, by_client: bool = False) -> dict[str, Compiled]:
    """The samples, without their health command, which is no program here.

    ``by_client``: the client's address alone is hashed, as behind destination NAT.
    """
    both = {}
    for cluster in ("inside", "outside"):
        path = folder / f"router-{cluster}.yaml"
        text = re.sub(r"^health:.*\n", "", (SAMPLES / path.name).read_text(), flags=re.MULTILINE)
        if by_client:
            text = text.replace("input: destination-source", "input: destination")
            text += "hash: {input: source}\n" if cluster == "inside" else ""
        path.write_text(text)
        both[cluster] = compile_inventory(path)
        write_lock(both[cluster].lock_path, both[cluster].lock)
    return both


def bundles_of(both: dict[str, Compiled]) -> dict[str, dict[str, Bundle]]:
    return {cluster: dict(one.bundles) for cluster, one in both.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routers]:
    folder = tmp_path_factory.mktemp("routers")
    with routers() as arrangement:
        arrangement.start(bundles_of(compiled(folder)), folder)
        yield arrangement


def test_both_directions_pass_the_same_node(running: Routers) -> None:
    assert running.ask() == ALL


def test_every_router_has_its_part(running: Routers) -> None:
    with running.connections() as connections:
        assert connections.ask() == (2 * SOURCES,)
        held = [int(running[name].state("inside")["held"]) for name in ROUTERS]
        assert min(held) > 0
        assert sum(held) >= 2 * SOURCES  # others may be ending still


def test_a_connection_that_was_silent_for_long_is_not_held(running: Routers) -> None:
    with running.connections() as connections:
        assert connections.ask() == (2 * SOURCES,)
        assert running.held() > 0
        # As if that were so long ago that it is more than keep_connections_s.
        running.let_connections_last(432_000 + 4_000)
        assert running.held() == 0
        assert connections.ask() == (2 * SOURCES,)
        assert running.held() >= 2 * SOURCES


def test_a_drained_router_keeps_its_connections(running: Routers) -> None:
    with running.connections() as connections:
        running["fw1"].node_sh("inside", "drain")
        assert running["fw1"].state("outside")["draining"] == "yes"
        assert connections.ask() == (2 * SOURCES,)
        before = int(running["fw1"].state("inside")["accepted"])
        assert running.ask() == ALL
        assert connections.ask() == (2 * SOURCES,)
        assert int(running["fw1"].state("inside")["accepted"]) == before
        running["fw1"].node_sh("outside", "undrain")
        assert running["fw1"].state("inside")["draining"] == "no"
        assert connections.ask() == (2 * SOURCES,)
    await_that(lambda: running.serving()["fw1"] == (True, True))
    assert running.ask() == ALL


@pytest.mark.parametrize("link", ["eth0", "eth1"])
def test_a_router_whose_one_link_is_cut_stands_aside_on_both(running: Routers, link: str) -> None:
    running["switch"].run("ip", "link", "set", f"fw2-{link}", "down")
    await_that(lambda: running.serving() == {"fw1": (True, True), "fw2": (False, False), "fw3": (True, True)})
    assert running.ask() == ALL
    running["switch"].run("ip", "link", "set", f"fw2-{link}", "up")
    await_that(lambda: running.serving()["fw2"] == (True, True))
    assert running.ask() == ALL


def test_destination_nat_needs_the_clients_address_alone(running: Routers, tmp_path: Path) -> None:
    kinds = ["nat-tcp", "nat-udp"]
    with routers() as arrangement:
        arrangement.start(bundles_of(compiled(tmp_path, by_client=True)), tmp_path)
        assert set(arrangement.ask(kinds=kinds).values()) == {SOURCES}
        assert arrangement.ask() == ALL
    # Not of TCP: for a time after a router's return, connections stay with who has them.
    assert max(running.ask(kinds=["nat-udp"], wait_s=1.0).values()) < 0.7 * SOURCES


def test_a_keeper_of_tcp_leaves_pings_to_the_owner(running: Routers) -> None:
    assert pings_while_draining(running) == (SOURCES, SOURCES)


def pings_while_draining(arrangement: Routers) -> tuple[int, ...]:
    """Who is answered, and how often, while fw1 keeps what it knows."""
    with arrangement.pings() as pings:
        assert pings.ask() == (SOURCES, SOURCES)
        arrangement["fw1"].node_sh("inside", "drain")
        found = pings.ask()
        arrangement["fw1"].node_sh("inside", "undrain")
    await_that(lambda: arrangement.serving()["fw1"] == (True, True))
    return found


def test_a_switch_on_one_link_after_the_other_keeps_connections(tmp_path: Path) -> None:
    both = compiled(tmp_path)
    with routers() as arrangement:
        arrangement.start(bundles_of(both), tmp_path)
        with arrangement.connections() as connections:
            inventory = both["inside"].lock_path.with_suffix(".yaml")
            inventory.write_text(inventory.read_text().replace("98.51.100.11,", "98.51.100.11, weight: 3,"))
            for cluster in both:
                arrangement.swap(
                    bundles_of({cluster: compile_inventory(both[cluster].lock_path.with_suffix(".yaml"))}),
                    tmp_path,
                )
            for cluster in both:
                arrangement["fw2"].node_sh(cluster, "switch")
                assert connections.ask() == (2 * SOURCES,)
        assert {arrangement[name].state(cluster)["placement"] for name in ROUTERS for cluster in both} == {
            "after"
        }
        assert arrangement.ask() == ALL


# What is broken on purpose is seen


def test_without_its_rules_a_keeper_doubles_pings(tmp_path: Path) -> None:
    bundles = bundles_of(compiled(tmp_path))
    for of_cluster in bundles.values():
        of_cluster["fw1"] = without_rules(of_cluster["fw1"], 'comment "the owner\'s"')
    with routers() as arrangement:
        arrangement.start(bundles, tmp_path)
        found = pings_while_draining(arrangement)
        assert found[1] > found[0]


def without_rules(bundle: Bundle, words: str) -> Bundle:
    """The bundle with a ruleset that lacks the rules of keepers in which these words stand."""
    text = bundle.files["ruleset.nft"]
    head, chain = text.split(b"    chain keeper {\n")
    lines = [line for line in chain.split(b"\n") if words.encode() not in line]
    assert len(lines) == chain.count(b"\n") - 2
    fewer = head + b"    chain keeper {\n" + b"\n".join(lines)
    manifest = bundle.files["MANIFEST"].replace(
        sha256(text).hexdigest().encode(), sha256(fewer).hexdigest().encode()
    )
    return replace(bundle, files={**bundle.files, "ruleset.nft": fewer, "MANIFEST": manifest})


def test_nodes_that_serve_track_no_datagrams(tmp_path: Path) -> None:
    both = compiled(tmp_path)
    bundles = {}
    for cluster, one in both.items():
        serving = one.inventory.model_copy(update={"forwards_to": None})
        bundles[cluster] = make_bundles(plan_nodes(serving, one.lock), one.lock)
    with routers() as arrangement:
        arrangement.start(bundles, tmp_path)
        found = arrangement.ask(kinds=["tcp", "udp"], wait_s=1.0)
        assert found == {"tcp4": SOURCES, "tcp6": SOURCES, "udp4": 0, "udp6": 0}


def test_the_same_input_on_both_links_fails(tmp_path: Path) -> None:
    both = compiled(tmp_path)
    outside = both["outside"]
    wrong = replace(outside.lock, hash_input="source-destination")
    bundles = bundles_of(both)
    bundles["outside"] = make_bundles(plan_nodes(outside.inventory, wrong), wrong)
    with routers() as arrangement:
        arrangement.start(bundles, tmp_path)
        found = arrangement.ask(wait_s=1.0)
        assert all(count < 0.7 * SOURCES for kind, count in found.items() if not kind.startswith("icmp")), (
            found
        )
