"""A node's files, with the manifest by which the node itself can tell whether they are whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trscaler_gen.lock import Lock, carried, render_lock
from trscaler_gen.nodeplan import NodePlan
from trscaler_gen.render import render_node

MANIFEST = "MANIFEST"
SCRIPT = "node.sh"
#: what a lost lock is recovered from, and a lock at hand is judged by
LOCK = "lock"


@dataclass(frozen=True)
class Bundle:
    """The files of one generation of one node, by name; ``generation`` names their content."""

    cluster: str
    node: str
    generation: str
    files: Mapping[str, bytes]

    def mode(self, name: str) -> int:
        """Permission bits: rulesets and the lock hold the seed, so nothing is readable by others."""
        return 0o700 if name == SCRIPT else 0o600


def make_bundles(plans: Iterable[NodePlan], lock: Lock) -> dict[str, Bundle]:
    """Make the bundles of a cluster; all hold the same lock, which is written out once."""
    text = render_lock(carried(lock)).encode()
    return {plan.node: make_bundle(plan, text) for plan in plans}


def make_bundle(plan: NodePlan, lock: bytes) -> Bundle:
    """Render a node's files and seal them with a manifest that `sha256sum -c` reads."""
    files = {**render_node(plan), LOCK: lock}
    manifest = _manifest(plan, files)
    generation = hashlib.sha256(manifest).hexdigest()[:12]
    return Bundle(plan.cluster, plan.node, generation, {**files, MANIFEST: manifest})


def change_id(bundles: Mapping[str, Bundle]) -> str:
    """Name a cluster's wanted state (12 hex digits): which generation each of its nodes is to run."""
    lines = sorted(f"{node} {bundle.generation}\n" for node, bundle in bundles.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def manifest_heading(node: str, cluster: str) -> str:
    """How every manifest of this node begins: by this a folder is known to be ours."""
    return f"# trscaler-gen: the files of node {node} of cluster {cluster}, "


def _manifest(plan: NodePlan, files: Mapping[str, bytes]) -> bytes:
    lines = [
        f"{manifest_heading(plan.node, plan.cluster)}epoch {plan.epoch}",
        "# check them with: sha256sum -c MANIFEST",
        *(f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in sorted(files.items())),
    ]
    return ("\n".join(lines) + "\n").encode()
