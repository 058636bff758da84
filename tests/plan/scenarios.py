"""Plans of every kind, made from what the compiler really makes of tests/golden/cluster.yaml.

Run this file to write the golden views anew: python -m tests.plan.scenarios
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from trscaler_gen.bundle import MANIFEST, Bundle, make_bundles
from trscaler_gen.console.plan_view import show_plan
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, reconcile
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.plan import Plan, Seen, UnfitNode, Wanted, make_plan

GOLDEN = Path(__file__).parent.parent / "golden-plan"
SEED = 0x5EED1234
SEED_FORMS = (f"{SEED}", f"{SEED:08x}", f"{SEED:08X}")

#: file name's end -> width, whether it is a terminal
VIEWS = {"80.ansi": (80, True), "120.ansi": (120, True), "txt": (80, False)}

_CLUSTER = yaml.safe_load((Path(__file__).parent.parent / "golden" / "cluster.yaml").read_text())


@dataclass(frozen=True)
class State:
    """A cluster at one time: its inventory and the lock that came of it."""

    inventory: Inventory
    lock: Lock

    @property
    def bundles(self) -> dict[str, Bundle]:
        return _bundles(self.inventory.model_dump_json(), self.lock, self.inventory)

    def wanted(self, before: State | None) -> Wanted:
        return Wanted(
            inventory=self.inventory,
            lock=self.lock,
            bundles=self.bundles,
            departed={node.name: node for node in self.lock.retired},
            lock_before=before.lock if before else None,
        )


_made: dict[tuple[str, Lock], dict[str, Bundle]] = {}


def _bundles(words: str, lock: Lock, inventory: Inventory) -> dict[str, Bundle]:
    if (words, lock) not in _made:
        _made[words, lock] = make_bundles(plan_nodes(inventory, lock), lock)
    return _made[words, lock]


def cluster(before: State | None = None, **changes: Any) -> State:
    """The golden cluster with some of its keys changed, after ``before``."""
    text = yaml.safe_dump({**_CLUSTER, **changes}, sort_keys=False)
    inventory = parse_inventory(text.encode(), "cluster.yaml")
    lock = reconcile(inventory, before.lock if before else None, seed=SEED)
    return State(inventory, lock)


def nodes(*names: str) -> dict[str, dict[str, Any]]:
    """The golden cluster's nodes by name, and delta, epsilon, ... after them."""
    known = _CLUSTER["nodes"]
    more = ("delta", "epsilon", "zeta")
    return {name: known.get(name) or {"address": f"192.0.2.{14 + more.index(name)}"} for name in names}


def running(bundle: Bundle, node_id: int, alive: tuple[int, ...], lock: Lock) -> Facts:
    """What a node says that runs a bundle, and all is well."""
    digests = {name: sha256(text).hexdigest() for name, text in bundle.files.items() if name != MANIFEST}
    return Facts(
        uid=0,
        kernel="6.1.0",
        nft="nftables v1.0.6",
        keepalived_version="Keepalived v2.2.7",
        has_link=True,
        free_kib=10**6,
        generation=bundle.generation,
        loaded=bundle.generation,
        epoch=lock.epoch,
        serial=lock.serial,
        ruleset="intact",
        keepalived="running",
        heartbeat="MASTER",
        serving=True,
        attached=True,
        units="intact",
        runs=True,
        node_id=node_id,
        alive=frozenset(alive),
        digests=digests,
        listed=digests,
    )


def seen_of(state: State, wanted: Mapping[str, Bundle]) -> dict[str, Seen | NodeError]:
    """Every node of a state runs it; files are fetched as the shell does it."""
    ids = {node.name: node.node_id for node in state.lock.nodes}
    facts = {
        name: running(bundle, ids[name], tuple(ids.values()), state.lock)
        for name, bundle in state.bundles.items()
    }
    return {
        name: fetched(facts[name], bundle.files, wanted.get(name)) for name, bundle in state.bundles.items()
    }


def fetched(facts: Facts, there: Mapping[str, bytes], wanted: Bundle | None) -> Seen:
    """Take along the files that are not as wanted."""
    goal = wanted.files if wanted else {}
    return Seen(facts, {name: there[name] for name in facts.digests if goal.get(name) != there[name]})


def edited(seen: Seen | NodeError, bundle: Bundle, name: str, content: bytes) -> Seen:
    """Somebody has edited a file of the generation that runs."""
    assert isinstance(seen, Seen)
    digests = {**seen.facts.digests, name: sha256(content).hexdigest()}
    facts = replace(seen.facts, digests=digests)
    return fetched(facts, {**bundle.files, name: content}, bundle)


def plan_between(before: State, after: State) -> Plan:
    """The plan for a cluster that runs ``before`` wholly."""
    wanted = after.wanted(before)
    return make_plan(wanted, seen_of(before, wanted.bundles))


# The scenarios

SCENARIOS: dict[str, Callable[[], Plan]] = {}


def scenario(make: Callable[[], Plan]) -> Callable[[], Plan]:
    SCENARIOS[make.__name__.replace("_", "-")] = cache(make)
    return SCENARIOS[make.__name__.replace("_", "-")]


@cache
def base() -> State:
    return cluster()


@scenario
def first_deployment() -> Plan:
    wanted = base().wanted(None)
    return make_plan(wanted, {name: Seen(Facts(), {}) for name in wanted.bundles})


@scenario
def nothing_to_do() -> Plan:
    return plan_between(base(), base())


@scenario
def node_added() -> Plan:
    after = cluster(base(), nodes=nodes("alpha", "beta", "gamma", "delta"))
    wanted = after.wanted(base())
    return make_plan(wanted, {**seen_of(base(), wanted.bundles), "delta": Seen(Facts(), {})})


@scenario
def node_removed() -> Plan:
    return plan_between(base(), cluster(base(), nodes=nodes("alpha", "beta")))


@scenario
def removed_node_is_gone() -> Plan:
    wanted = cluster(base(), nodes=nodes("alpha", "beta")).wanted(base())
    seen = _without(seen_of(base(), wanted.bundles), 3)
    return make_plan(wanted, {**seen, "gamma": _no_answer("gamma")})


@scenario
def removed_node_still_serves() -> Plan:
    wanted = cluster(base(), nodes=nodes("alpha", "beta")).wanted(base())
    return make_plan(wanted, {**seen_of(base(), wanted.bundles), "gamma": _no_answer("gamma")})


@scenario
def disruptive() -> Plan:
    changed = {
        "hash": {"input": "source", "buckets": 128},
        "heartbeat": {"interval_ms": 100, "missed": 3, "first_vrid": 70},
        "mac": {"mode": "multicast", "address": "auto"},
    }
    return plan_between(base(), cluster(base(), **changed))


@scenario
def link_changed() -> Plan:
    listed = {**nodes("alpha", "beta", "gamma"), "gamma": {"address": "192.0.2.13", "link": "bond0"}}
    return plan_between(base(), cluster(base(), nodes=listed))


@scenario
def drift() -> Plan:
    wanted = base().wanted(base())
    seen = seen_of(base(), wanted.bundles)
    files = wanted.bundles["alpha"].files
    rules = files["ruleset.nft"].replace(
        b'drop comment "came through a router: forged"', b"accept # \x1b[31m\xff"
    )
    alpha = edited(
        seen["alpha"], wanted.bundles["alpha"], "ruleset.nft", rules.replace(b"1592594996", b"17", 1)
    )
    beta, gamma = seen["beta"], seen["gamma"]
    assert isinstance(beta, Seen) and isinstance(gamma, Seen)
    seen |= {
        "alpha": replace(alpha, facts=replace(alpha.facts, ruleset="altered")),
        "beta": replace(
            beta, facts=replace(beta.facts, keepalived="stopped", serving=False, heartbeat="FAULT")
        ),
        "gamma": replace(
            gamma, facts=replace(gamma.facts, ruleset="unfinished", attached=False, units="altered")
        ),
    }
    return make_plan(wanted, seen)


@scenario
def unreachable() -> Plan:
    after = cluster(base(), nodes=nodes("alpha", "beta", "gamma", "delta"))
    wanted = after.wanted(base())
    old = UnfitNode("delta", "kernel 5.10.0: at least 5.16 is needed", hint="nothing was changed on any node")
    return make_plan(wanted, {**seen_of(base(), wanted.bundles), "beta": _no_answer("beta"), "delta": old})


def weighed(before: State, gamma: int, *more: str, **changes: Any) -> State:
    """The next state, in which gamma has another weight; ``more`` nodes come in the same edit."""
    listed = {**nodes("alpha", "beta", "gamma", *more), "gamma": {"address": "192.0.2.13", "weight": gamma}}
    return cluster(before, nodes=listed, **changes)


def placed(seen: Seen | NodeError, placement: str) -> Seen:
    """A node that says which of two placements it uses."""
    assert isinstance(seen, Seen)
    return replace(seen, facts=replace(seen.facts, placement=placement))


def all_placed(seen: Mapping[str, Seen | NodeError], placement: str) -> dict[str, Seen | NodeError]:
    return {name: placed(each, placement) for name, each in seen.items()}


@scenario
def weight_changed() -> Plan:
    return plan_between(base(), weighed(base(), 3))


@scenario
def weight_changed_hash_only() -> Plan:
    before = cluster(connections="hash-only")
    return plan_between(before, weighed(before, 3, connections="hash-only"))


@scenario
def switch_interrupted() -> Plan:
    after = weighed(base(), 3)
    return make_plan(after.wanted(after), all_placed(seen_of(after, after.bundles), "before"))


@scenario
def refused() -> Plan:
    after = cluster(base(), nodes=nodes("alpha", "beta", "gamma", "delta"))
    wanted = after.wanted(base())
    seen = seen_of(base(), wanted.bundles)
    alpha = seen["alpha"]
    assert isinstance(alpha, Seen)
    armed = replace(alpha, facts=replace(alpha.facts, unconfirmed="0123456789ab"))
    return make_plan(wanted, {**seen, "alpha": armed, "delta": Seen(Facts(), {})})


@scenario
def lock_lost() -> Plan:
    anew = State(base().inventory, reconcile(base().inventory, None, seed=SEED + 1))
    return make_plan(replace(anew.wanted(None), lock_before=None), seen_of(base(), anew.bundles))


@scenario
def thirty_two_nodes() -> Plan:
    few = cluster(nodes=_many(31), virtual_addresses=["192.0.2.100"], hash={"buckets": 1024})
    many = cluster(few, nodes=_many(32), virtual_addresses=["192.0.2.100"], hash={"buckets": 1024})
    wanted = many.wanted(few)
    return make_plan(wanted, {**seen_of(few, wanted.bundles), "n32": Seen(Facts(), {})})


def _many(count: int) -> dict[str, dict[str, Any]]:
    return {f"n{number}": {"address": f"192.0.2.{number}"} for number in range(1, count + 1)}


def _no_answer(node: str) -> NodeError:
    return NodeError(node, "no SSH connection to 192.0.2.13 port 22: timed out", hint="is it up?")


def _without(seen: Mapping[str, Seen | NodeError], node_id: int) -> dict[str, Seen | NodeError]:
    """Nobody hears this node any more."""
    return {
        name: replace(each, facts=replace(each.facts, alive=each.facts.alive - {node_id}))
        if isinstance(each, Seen)
        else each
        for name, each in seen.items()
    }


# Golden views

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])")
_COUNT = re.compile(r"(?:\d+ to )?\d+ lines")


def view(plan: Plan, end: str, *, full: bool = False) -> str:
    width, is_terminal = VIEWS[end]
    file = StringIO()
    colours = "standard" if is_terminal else None
    console = Console(file=file, width=width, force_terminal=is_terminal, color_system=colours)  # type: ignore[arg-type]
    show_plan(plan, console, full=full)
    return file.getvalue()


def golden(plan: Plan, end: str) -> str:
    """A view without what changes with every edit of a template: identifiers and numbers of lines."""
    names: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        return names.setdefault(match[0], f"{len(names) + 1:0>12}")

    return _COUNT.sub(lambda match: "N" * len(match[0]), _ID.sub(named, view(plan, end)))


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, make in SCENARIOS.items():
        for end in VIEWS:
            (GOLDEN / f"{name}.{end}").write_text(golden(make(), end))
    sys.stdout.write(f"{len(SCENARIOS)} scenarios\n")


if __name__ == "__main__":
    main()
