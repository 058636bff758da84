"""``trscaler-gen status``."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from time import sleep as pause
from typing import TYPE_CHECKING

import click

from trscaler_gen.bundle import LOCK, Bundle
from trscaler_gen.cli.clusters import accept_new_option, parallel_option, print_json, tell_new_key
from trscaler_gen.cli.inventories import expand
from trscaler_gen.console.progress import Watch
from trscaler_gen.console.status_view import ClusterStatus, show_status
from trscaler_gen.deploy import Event
from trscaler_gen.deploy.deployment import connector, departed_nodes
from trscaler_gen.deploy.survey import Aim, Survey, surveying
from trscaler_gen.errors import InputError, NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, RetiredNode, carried
from trscaler_gen.pipeline import compile_inventory
from trscaler_gen.secret import redact
from trscaler_gen.verdict import Member, Sight, judge

if TYPE_CHECKING:
    from trscaler_gen.transport import Connection

#: nodes are asked one after the other, so a takeover under way can look like two owners or none
_SECOND_LOOK_S = 1.0

Answers = Mapping[str, Facts | NodeError]


@click.command(name="status")
@click.argument("inventories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line per cluster.")
@accept_new_option
@parallel_option
def command(inventories: tuple[Path, ...], as_json: bool, accept_new: bool, parallel: int) -> None:
    """Say how clusters are, and whether every bucket has exactly one owner; changes nothing.

    Takes inventories, or folders of them. The exit status is 0 if all clusters are healthy, 2 if one is
    degraded, and 1 if none is but something could not be told.

    Example: trscaler-gen status inventory/lab.yaml
    """
    clusters = read_clusters(expand(inventories))
    statuses = survey_clusters(clusters, parallel=parallel, on_new_key=tell_new_key if accept_new else None)
    for number, status in enumerate(statuses):
        if as_json:
            print_json(status_as_json(clusters[number], status))
            continue
        if number:
            click.echo()
        show_status(status)
    sys.exit(max(status.verdict.state for status in statuses))


@dataclass(frozen=True)
class Cluster:
    """What is known of a cluster without asking its nodes.

    ``lock`` is the one beside the inventory with what the inventory changes in it, None if there is none that
    can be used; ``bundles`` and ``departed`` are empty then. ``remarks`` say why.
    """

    label: str
    path: Path
    inventory: Inventory
    lock: Lock | None
    bundles: Mapping[str, Bundle]
    departed: Mapping[str, RetiredNode]
    remarks: tuple[str, ...] = ()

    @property
    def addresses(self) -> dict[str, IPv4Address]:
        """Every node to ask: those of the inventory, then those that have left it."""
        mine = {name: node.address for name, node in self.inventory.nodes.items()}
        return mine | {name: node.address for name, node in self.departed.items()}


def read_clusters(paths: Sequence[Path]) -> tuple[Cluster, ...]:
    """Read inventories and their locks; raises InputError if one is not valid."""
    inventories = [load_inventory(path) for path in paths]
    names = [inventory.cluster for inventory in inventories]
    return tuple(
        _cluster(path, inventory, f"{name} ({path})" if names.count(name) > 1 else name)
        for path, inventory, name in zip(paths, inventories, names, strict=True)
    )


def read_cluster(path: Path) -> Cluster:
    """Read one inventory and its lock; raises InputError if the inventory is not valid."""
    (cluster,) = read_clusters([path])
    return cluster


def _cluster(path: Path, inventory: Inventory, label: str) -> Cluster:
    """A lock that is gone or spoilt is no reason to be silent about the nodes."""
    try:
        compiled = compile_inventory(path)
    except InputError as error:
        remark = f"what is wanted cannot be built: {error.problems[0].message}"
        return Cluster(label, path, inventory, None, {}, {}, (remark,))
    if compiled.lock_before is None:
        remark = (
            f"there is no lock beside {path}, so what is wanted is not known; "
            f"if the cluster runs: trscaler-gen lock recover {path}"
        )
        return Cluster(label, path, inventory, None, {}, {}, (remark,))
    departed = departed_nodes(inventory, compiled.lock)
    return Cluster(label, path, inventory, compiled.lock, compiled.bundles, departed)


def survey_clusters(
    clusters: Sequence[Cluster],
    *,
    parallel: int,
    on_new_key: Callable[[str], None] | None = None,
    is_quiet: bool = False,
) -> tuple[ClusterStatus, ...]:
    """Ask all nodes of all clusters at once; those of a cluster that looks unwell are asked once more.

    ``is_quiet``: nothing is shown meanwhile.
    """
    keys = {
        (f"{cluster.label}: {name}" if len(clusters) > 1 else name): (cluster, name)
        for cluster in clusters
        for name in cluster.addresses
    }
    aims = {key: aim_of(cluster, name) for key, (cluster, name) in keys.items()}
    reach = {
        cluster.label: connector(cluster.inventory, cluster.departed, on_new_key) for cluster in clusters
    }

    def connect(key: str) -> Connection:
        cluster, name = keys[key]
        return reach[cluster.label](name)

    known = {digest: lock for cluster in clusters for digest, lock in known_lock(cluster).items()}
    with (
        Watch() as watch,
        surveying(
            aims, connect, parallel=parallel, on_event=_quietly(watch, is_quiet), locks=known
        ) as survey,
    ):
        answers = survey.observe()
        statuses = _judge_all(clusters, keys, survey, answers)
        again = _to_ask_again(keys, statuses, answers)
        if again:
            pause(_SECOND_LOOK_S)
            answers |= survey.observe(again)
            statuses = _judge_all(clusters, keys, survey, answers)
    return statuses


def _quietly(watch: Watch, is_quiet: bool) -> Callable[[Event], None]:
    """Progress is for a person who waits: a pipe gets the answer alone."""
    return watch.on_event if sys.stderr.isatty() and not is_quiet else lambda event: None


def aim_of(cluster: Cluster, name: str) -> Aim:
    """How a node is to be asked."""
    bundle = cluster.bundles.get(name)
    link = cluster.inventory.link_of(name) if name in cluster.inventory.nodes else "lo"
    return Aim(cluster.inventory.cluster, name, link, bundle.generation if bundle else "")


def known_lock(cluster: Cluster) -> dict[str, Lock]:
    """The lock that up-to-date nodes run, which then need not be fetched."""
    if cluster.lock is None:
        return {}
    texts = {bundle.files[LOCK] for bundle in cluster.bundles.values() if LOCK in bundle.files}
    return {hashlib.sha256(text).hexdigest(): carried(cluster.lock) for text in texts}


def _judge_all(
    clusters: Sequence[Cluster], keys: Mapping[str, tuple[Cluster, str]], survey: Survey, answers: Answers
) -> tuple[ClusterStatus, ...]:
    return tuple(
        _judge(
            cluster, survey, {name: answers[key] for key, (owner, name) in keys.items() if owner is cluster}
        )
        for cluster in clusters
    )


def _judge(cluster: Cluster, survey: Survey, answers: Answers) -> ClusterStatus:
    members = [
        _member(cluster, name, address, answers[name], survey) for name, address in cluster.addresses.items()
    ]
    errors = {name: answer for name, answer in answers.items() if isinstance(answer, NodeError)}
    remarks = (*cluster.remarks, *_compared(cluster, members))
    return ClusterStatus(cluster.label, members, errors, judge(members), remarks)


def _member(
    cluster: Cluster, name: str, address: IPv4Address, answer: Facts | NodeError, survey: Survey
) -> Member:
    facts = None if isinstance(answer, NodeError) else answer
    bundle = cluster.bundles.get(name)
    return Member(
        name=name,
        address=address,
        facts=facts,
        lock=survey.lock_of(facts) if facts else None,
        wanted=bundle.generation if bundle else "",
        has_left=name in cluster.departed,
    )


def _compared(cluster: Cluster, members: Sequence[Member]) -> tuple[str, ...]:
    """Say where to go when the nodes do not run what is wanted."""
    others = [m for m in members if m.facts and m.facts.runs and m.wanted not in ("", m.facts.generation)]
    if cluster.lock is None or not others:
        return ()
    newest = max(member.facts.serial for member in others if member.facts)
    if newest > cluster.lock.serial:
        serials = f"serial {newest}, while the lock here is of serial {cluster.lock.serial}"
        return (f"the nodes run {serials}: get inventory and lock from version control",)
    return (f"the inventory is ahead: trscaler-gen plan {cluster.path} shows what it would change",)


def _to_ask_again(
    keys: Mapping[str, tuple[Cluster, str]], statuses: Sequence[ClusterStatus], answers: Answers
) -> tuple[str, ...]:
    """The nodes that answered, of clusters of which not every bucket has exactly one owner.

    Also where nodes do not agree: the heartbeat that tells them may have been on its way.
    """
    verdicts = {s.label: s.verdict for s in statuses if s.verdict.buckets}
    unwell = {label for label, each in verdicts.items() if not each.all_owned_once or each.disagreements}
    return tuple(
        key
        for key, (cluster, _) in keys.items()
        if cluster.label in unwell and not isinstance(answers[key], NodeError)
    )


def status_as_json(cluster: Cluster, status: ClusterStatus) -> dict[str, object]:
    """One cluster as a document; ``exit`` is what the exit status would be for it alone."""
    verdict = status.verdict
    return {
        "cluster": cluster.inventory.cluster,
        "inventory": str(cluster.path),
        "state": verdict.state.name.lower(),
        "exit": verdict.state.value,
        "buckets": {
            "total": verdict.buckets,
            "one_owner": verdict.one,
            "no_owner": verdict.none,
            "unknown": verdict.unknown,
            "several_owners": [
                {"owners": owners, "buckets": buckets} for owners, buckets in verdict.several.items()
            ],
        },
        "faults": verdict.faults,
        "doubts": verdict.doubts,
        "notes": [*verdict.notes, *status.remarks],
        "nodes": [_node_as_json(status, member) for member in status.members],
    }


def _node_as_json(status: ClusterStatus, member: Member) -> dict[str, object]:
    error = status.errors.get(member.name)
    words: dict[str, object] = {
        "node": member.name,
        "address": str(member.address),
        "reachable": error is None or error.status is not None,
        "error": redact(error.message) if error else None,
        "hint": error.hint or None if error else None,
        "has_left": member.has_left,
        "wanted": member.wanted or None,
        "owned_buckets": status.verdict.owned[member.name],
    }
    return words | _facts_as_json(member.facts, status.verdict.sights.get(member.name))


def _facts_as_json(facts: Facts | None, sight: Sight | None) -> dict[str, object]:
    if facts is None:
        return {}
    return {
        "running": facts.runs,
        "generation": facts.generation or None,
        "loaded": facts.loaded or None,
        "epoch": facts.epoch,
        "serial": facts.serial,
        "heartbeat": facts.heartbeat or None,
        "keepalived": facts.keepalived,
        "serving": facts.serving,
        "fenced": facts.fenced,
        "draining": facts.draining,
        "held": facts.held if facts.held >= 0 else None,
        "joining": facts.joining,
        "hosting": sight.hosting if sight else None,
        "placement": facts.placement,
        "attached": facts.attached,
        "ruleset": facts.ruleset,
        "units": facts.units,
        "edited_files": facts.edited_files,
        "sees": sight.alive if sight else None,
        "sees_draining": sight.draining if sight else None,
        "does_not_see": sight.missing if sight else None,
        "accepted": facts.accepted,
        "dropped": facts.dropped,
        "tracked": facts.tracked if facts.tracked >= 0 else None,
        "most_tracked": facts.most_tracked or None,
        "change": facts.change or None,
        "unconfirmed": bool(facts.unconfirmed),
        "deployer": facts.deployer or None,
        "since": facts.since or None,
    }
