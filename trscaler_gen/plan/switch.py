"""Nodes that stay change places: all of them at one moment, when everyone holds the tables for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trscaler_gen.errors import NodeError
from trscaler_gen.lineage import begun
from trscaler_gen.plan.deployed import Deployed
from trscaler_gen.plan.fit import movers, serving
from trscaler_gen.plan.model import Refusal, Seen, Switch, Wanted
from trscaler_gen.plan.words import listed


def switch_of(wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed) -> Switch | None:
    """The switch that is left to be made; None if there is none.

    One that serves and has switched draws those that are to start with it: then nothing changes hands.
    """
    lock = wanted.lock
    if not lock.switch:
        return None
    nodes = tuple(serving(wanted, seen, deployed))
    done = [node for node in nodes if _is_done(node, wanted, deployed)]
    if done and len(done) == len(nodes):
        return None
    pairs = zip(lock.before, lock.orders, strict=True)
    return Switch(
        nodes=tuple(node for node in (nodes if done else wanted.bundles) if node not in done),
        moved=sum(old[0] != new[0] for old, new in pairs),
        keeps_connections=wanted.inventory.connections == "preserve",
    )


def _is_done(node: str, wanted: Wanted, deployed: Deployed) -> bool:
    has_switched = node in deployed.switched
    begins = begun(deployed.locks[node], wanted.lock, has_switched=has_switched)
    return has_switched and begins.orders == wanted.lock.orders


def breakage(switch: Switch | None, buckets: int) -> Iterator[str]:
    """Which connections a switch breaks."""
    if switch and switch.moved and not switch.keeps_connections:
        yield (
            f"the switch breaks the connections of {switch.moved} of {buckets} buckets, which change hands "
            "between nodes that stay: connections: hash-only"
        )


def unswitchable(
    wanted: Wanted, seen: Mapping[str, Seen | NodeError], deployed: Deployed
) -> Iterator[Refusal]:
    """Why a swap of tables would move buckets between nodes that stay."""
    moving = movers(wanted, seen, deployed)
    if not moving:
        return
    if wanted.is_rollback:
        yield _no_way_back(wanted, deployed, moving)
        return
    nodes = tuple(serving(wanted, seen, deployed))
    after = [node for node in nodes if node in deployed.switched]
    before = [node for node in nodes if node not in deployed.switched]
    if not after or not before:
        yield Refusal(
            f"{listed(moving)} would answer for other buckets than the rest once its tables are swapped",
            "plan again; if it stays so, look at trscaler-gen status",
        )
        return
    use = "uses" if len(after) == 1 else "use"
    yield Refusal(
        f"the nodes do not use one placement: {listed(after)} {use} that after the last switch, "
        f"{listed(before)} still that before it",
        "a switch is under way, or they do not hear each other: see trscaler-gen status, mend the link "
        "between them, and plan again",
    )


def _no_way_back(wanted: Wanted, deployed: Deployed, moving: tuple[str, ...]) -> Refusal:
    now = {node.address: node.weight for node in deployed.base.nodes} if deployed.base else {}
    weights = [
        f"{node.name} {node.weight}"
        for node in wanted.lock.nodes
        if now.get(node.address, node.weight) != node.weight
    ]
    way = f"trscaler-gen apply {wanted.inventory.source}"
    return Refusal(
        f"going back would move buckets between nodes that stay ({listed(moving)}), and a rollback changes "
        "them one after the other: packets would have two owners or none meanwhile",
        f"put the weights back in the inventory ({', '.join(weights)}), and switch back: {way}"
        if weights
        else "a rebalance is not gone back from: its shares are exact, and the weights the same",
    )
