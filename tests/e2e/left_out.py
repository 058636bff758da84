"""Nodes that run their own ruleset with rules left out or altered, to see what those rules are for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .by_hand import HOME
from .cluster import Cluster

TWIN = f"{HOME}/generations/twin"
RULES = "ruleset.nft"


@contextmanager
def without(cluster: Cluster, rule: str) -> Iterator[None]:
    """All nodes run their rules without the lines in which ``rule``, a regular expression, is found."""
    with altered(cluster, rf"^.*(?:{rule}).*\n", ""):
        yield


@contextmanager
def altered(cluster: Cluster, words: str, instead: str) -> Iterator[None]:
    """All nodes run their rules with other words for those that a regular expression finds.

    They come and go by an ordinary swap: nothing else happens to the cluster, and no watcher mends it.
    """
    before = {node: generation(cluster, node) for node in cluster.lab.nodes}
    for node in cluster.lab.nodes:
        stage_twin(cluster, node, before[node], words, instead)
        swap(cluster, node, TWIN)
    try:
        yield
    finally:
        for node in cluster.lab.nodes:
            swap(cluster, node, before[node])
            cluster.lab.exec(node, ["rm", "-r", TWIN])
        cluster.settle()


def generation(cluster: Cluster, node: str) -> str:
    return cluster.lab.exec(node, ["readlink", "-f", f"{HOME}/current"]).stdout.strip()


def swap(cluster: Cluster, node: str, folder: str) -> None:
    assert "swapped" in cluster.lab.exec(node, ["sh", f"{folder}/node.sh", "swap"]).stdout


def stage_twin(cluster: Cluster, node: str, folder: str, words: str, instead: str) -> None:
    """Maps are named after the ruleset that they come from: another ruleset needs other names."""
    text = cluster.lab.exec(node, ["cat", f"{folder}/{RULES}"]).stdout
    changed, times = re.subn(words, instead, text, flags=re.MULTILINE)
    assert times, f"no rule has {words}"
    (tag,) = set(re.findall(r"^    map \w+_([0-9a-f]{8}) \{$", changed, re.MULTILINE))
    other = hashlib.sha256((words + instead).encode()).hexdigest()[: len(tag)]
    cluster.lab.exec(node, ["cp", "-a", folder, TWIN])
    cluster.lab.exec(node, ["sh", "-c", 'cat >"$0"', f"{TWIN}/{RULES}"], input=changed.replace(tag, other))
