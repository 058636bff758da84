"""A node's files, with the manifest by which the node itself can tell whether they are whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from trscaler_gen.nodeplan import NodePlan
from trscaler_gen.render import render_node

MANIFEST = "MANIFEST"
SCRIPT = "node.sh"


@dataclass(frozen=True)
class Bundle:
    """The files of one generation of one node, by name; ``generation`` names their content."""

    cluster: str
    node: str
    generation: str
    files: Mapping[str, bytes]

    def mode(self, name: str) -> int:
        """Permission bits: rulesets hold the seed, so nothing is readable by others."""
        return 0o700 if name == SCRIPT else 0o600


def make_bundle(plan: NodePlan) -> Bundle:
    """Render a node's files and seal them with a manifest that `sha256sum -c` reads."""
    files = render_node(plan)
    manifest = _manifest(plan, files)
    generation = hashlib.sha256(manifest).hexdigest()[:12]
    return Bundle(plan.cluster, plan.node, generation, {**files, MANIFEST: manifest})


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
