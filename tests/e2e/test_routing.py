"""Nodes that forward: both directions of a flow pass the same one, through a stateful firewall on each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
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
        assert connections.whole() == 2 * SOURCES
        held = [int(running[name].state("inside")["held"]) for name in ROUTERS]
        assert min(held) > 0
        assert sum(held) >= 2 * SOURCES


def test_a_drained_router_keeps_its_connections(running: Routers) -> None:
    with running.connections() as connections:
        running["fw1"].node_sh("inside", "drain")
        assert running["fw1"].state("outside")["draining"] == "yes"
        assert connections.whole() == 2 * SOURCES
        before = int(running["fw1"].state("inside")["accepted"])
        assert running.ask() == ALL
        assert connections.whole() == 2 * SOURCES
        assert int(running["fw1"].state("inside")["accepted"]) == before
        running["fw1"].node_sh("outside", "undrain")
        assert running["fw1"].state("inside")["draining"] == "no"
        assert connections.whole() == 2 * SOURCES
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
    assert max(running.ask(kinds=kinds, wait_s=1.0).values()) < 0.7 * SOURCES


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
