"""A cluster that follows another one: the same placement, on a lock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.cli import lock, rebalance
from trscaler_gen.cli.inventories import expand
from trscaler_gen.errors import InputError, OperationError, Problem
from trscaler_gen.inventory import Inventory, parse_inventory
from trscaler_gen.lock import Lock, begin_with, reconcile, reseed
from trscaler_gen.lockfile import read_lock, write_lock
from trscaler_gen.pipeline import compile_inventory, compile_text

INSIDE = """\
cluster: inside
link: eth0
forwards_to: eth1
virtual_addresses: [198.51.100.1]
hash: {buckets: 256}
"""
OUTSIDE = """\
cluster: outside
link: eth1
forwards_to: eth0
virtual_addresses: [203.0.113.1]
hash: {input: destination-source, like: inside.yaml}
heartbeat: {first_vrid: 65}
"""


def with_nodes(head: str, nodes: Mapping[str, str]) -> str:
    """An inventory's text; ``nodes`` are what stands between the braces, by name."""
    return head + "nodes:\n" + "".join(f"  {name}: {{{facts}}}\n" for name, facts in nodes.items())


def inside_nodes(weights: Mapping[int, int]) -> dict[str, str]:
    return {f"n{n}": f"address: 198.51.100.{10 + n}, weight: {weight}" for n, weight in weights.items()}


def outside_nodes(numbers: Mapping[int, int]) -> dict[str, str]:
    return {f"n{n}": f"address: 203.0.113.{10 + n}" for n in numbers}


def inside(weights: Mapping[int, int]) -> Inventory:
    return parse_inventory(with_nodes(INSIDE, inside_nodes(weights)).encode(), "inside.yaml")


def outside(numbers: Mapping[int, int]) -> Inventory:
    return parse_inventory(with_nodes(OUTSIDE, outside_nodes(numbers)).encode(), "outside.yaml")


def same_placement(one: Lock, other: Lock) -> bool:
    return (one.seed, one.orders, one.removals) == (other.seed, other.orders, other.removals) and {
        (node.name, node.node_id, node.weight) for node in one.nodes
    } == {(node.name, node.node_id, node.weight) for node in other.nodes}


WEIGHTS = st.dictionaries(st.integers(1, 6), st.integers(1, 3), min_size=2, max_size=5)


@given(st.lists(WEIGHTS, min_size=1, max_size=4), st.data())
def test_it_ends_where_the_other_is_and_begins_where_it_was(
    changes: list[dict[int, int]], data: st.DataObject
) -> None:
    first = changes[0]
    there = reconcile(inside(first), None, seed=7)
    here = reconcile(outside(first), None, seed=1, like=there)
    assert same_placement(here, there)
    for weights in changes[1:]:
        there = reconcile(inside(weights), there, seed=1)
        if data.draw(st.booleans()):  # else it misses this one
            try:
                after = reconcile(outside(weights), here, seed=1, like=there)
            except InputError as error:  # an id went to another node meanwhile
                assert {problem.code for problem in error.problems} == {"like-ids"}
                return
            follows(here, after, there)
            here = after


def follows(before: Lock, after: Lock, there: Lock) -> None:
    """What holds whenever a lock has followed."""
    assert same_placement(after, there)
    assert after.serial == before.serial + (after != before)
    assert after.epoch == before.epoch
    stay = {node.node_id for node in before.nodes} & {node.node_id for node in after.nodes}
    begins = after.before if after.switch > before.serial else after.orders
    for old, new in zip(before.orders, begins, strict=True):
        assert [node for node in old if node in stay] == [node for node in new if node in stay]


def test_nothing_to_follow_changes_nothing() -> None:
    there = reconcile(inside({1: 1, 2: 2}), None, seed=7)
    here = reconcile(outside({1: 1, 2: 1}), None, seed=1, like=there)
    assert reconcile(outside({1: 1, 2: 1}), here, seed=1, like=there) == here


def test_another_seed_there_is_another_epoch_here() -> None:
    there = reconcile(inside({1: 1, 2: 2}), None, seed=7)
    here = reconcile(outside({1: 1, 2: 1}), None, seed=1, like=there)
    after = reconcile(outside({1: 1, 2: 1}), here, seed=1, like=reseed(there, 8, "inside.yaml"))
    assert (after.seed, after.epoch, after.serial, after.switch) == (8, 2, 2, 0)


def test_fitted_to_what_runs_it_still_ends_where_the_other_is() -> None:
    there = reconcile(inside({1: 1, 2: 1, 3: 1}), None, seed=7)
    here = reconcile(outside({1: 1, 2: 1, 3: 1}), None, seed=1, like=there)
    heavy = reconcile(inside({1: 1, 2: 1, 3: 3}), there, seed=1)
    back = reconcile(inside({1: 1, 2: 3, 3: 1}), heavy, seed=1)
    wanted = reconcile(outside({1: 1, 2: 1, 3: 1}), here, seed=1, like=back)
    live = reconcile(outside({1: 1, 2: 1, 3: 1}), here, seed=1, like=heavy)
    fitted = begin_with(live, wanted, here, "outside.yaml", follows=True)
    assert (fitted.before, fitted.orders) == (live.orders, back.orders)


# On disk


class Pair:
    """Two inventories in a folder."""

    def __init__(self, folder: Path) -> None:
        self.inside, self.outside = folder / "inside.yaml", folder / "outside.yaml"
        self.inside.write_text(with_nodes(INSIDE, inside_nodes({1: 1, 2: 2})))
        self.outside.write_text(with_nodes(OUTSIDE, outside_nodes({1: 1, 2: 1})))

    def built(self) -> Pair:
        """Both with their locks."""
        for path in (self.inside, self.outside):
            compiled = compile_inventory(path)
            write_lock(compiled.lock_path, compiled.lock)
        return self

    def change(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def refused(self) -> Problem:
        """The one problem of the follower."""
        with pytest.raises(InputError) as caught:
            compile_inventory(self.outside)
        [problem] = caught.value.problems
        return problem


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_what_is_changed_in_both_needs_no_order(pair: Pair) -> None:
    pair.built()
    pair.change(pair.inside, "weight: 2", "weight: 3")
    here, there = compile_inventory(pair.outside), compile_inventory(pair.inside)
    assert same_placement(here.lock, there.lock)
    assert here.lock.switch == there.lock.switch == 2
    again = compile_text(pair.outside, here.text, lock=here.lock, lock_before=here.lock_before)
    assert (again.lock, again.bundles) == (here.lock, here.bundles)
    assert expand([pair.outside, pair.inside]) == (pair.inside, pair.outside)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("  n2: {address: 203.0.113.12}\n", "", "like-nodes", "has a node n2, and this inventory has none"),
        ("n2:", "m2: {address: 203.0.113.13}\n  n2:", "like-nodes", "inside.yaml has no node m2"),
        ("like:", "buckets: 512, like:", "like-buckets", "512 here, and 256 in inside.yaml"),
        (".12}", ".12, weight: 1}", "like-weight", "n2 has weight 1 here, and 2 in inside.yaml"),
        ("destination-source", "source", "like-input", "inside.yaml hashes source-destination"),
        ("first_vrid: 65", "first_vrid: 64", "like-vrid", "64 VRRP ids from 64 on"),
        ("cluster: outside", "cluster: inside", "like-cluster", 'is of cluster "inside" too'),
        ("like: inside.yaml", "like: none.yaml", "unreadable", "cannot read the inventory"),
        ("like: inside.yaml", "like: outside.yaml", "like-chain", "names itself"),
    ],
)
def test_what_does_not_fit_is_refused(pair: Pair, old: str, new: str, code: str, words: str) -> None:
    write_lock(pair.inside.with_suffix(".lock"), compile_inventory(pair.inside).lock)
    pair.change(pair.outside, old, new)
    problem = pair.refused()
    assert problem.code == code
    assert words in problem.message


def test_what_agrees_may_be_written_out(pair: Pair) -> None:
    pair.change(pair.outside, ".12}", ".12, weight: 2}")
    pair.change(pair.outside, "like:", "buckets: 256, like:")
    pair.built()


def test_clusters_that_serve_may_hash_the_same(pair: Pair) -> None:
    for path, other in ((pair.inside, "eth1"), (pair.outside, "eth0")):
        pair.change(path, f"forwards_to: {other}\n", "")
    pair.change(pair.outside, "destination-source", "source-destination")
    pair.built()


def test_the_other_needs_a_lock(pair: Pair) -> None:
    problem = pair.refused()
    assert problem.code == "like-lock"
    assert f"trscaler-gen build {pair.inside} -o DIR" in problem.hint


def test_there_are_no_chains(pair: Pair) -> None:
    pair.built()
    pair.change(pair.inside, "buckets: 256", "buckets: 256, like: outside.yaml")
    problem = pair.refused()
    assert (problem.code, problem.message) == ("like-chain", "hash.like names a follower, of outside.yaml")


def test_a_node_that_was_replaced_on_one_side_alone_is_refused(pair: Pair) -> None:
    pair.built()
    pair.change(pair.inside, "198.51.100.12", "198.51.100.99")
    problem = pair.refused()
    assert problem.code == "like-ids"
    assert "n2 has id 3 in inside.yaml; here n2 at 203.0.113.12 has id 2" in problem.message


@pytest.mark.parametrize(("verb", "words"), [(rebalance.command, []), (lock.command, ["reseed", "--yes"])])
def test_its_seed_and_orders_are_not_changed_by_themselves(
    pair: Pair, verb: click.Command, words: list[str]
) -> None:
    pair.built()
    before = read_lock(pair.outside.with_suffix(".lock"))
    done = CliRunner().invoke(verb, [*words, str(pair.outside)])
    assert isinstance(done.exception, OperationError)
    assert "takes seed and orders from inside.yaml" in done.exception.message
    assert read_lock(pair.outside.with_suffix(".lock")) == before
