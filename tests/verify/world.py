"""Clusters to verify, and rulesets made from templates that were broken on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from trscaler_gen import render
from trscaler_gen.lockfile import lock_path, write_lock
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.pipeline import Compiled, compile_inventory

TEMPLATE = "ruleset.nft.j2"


def cluster(folder: Path, weights: Iterable[int] = (2, 1, 1), buckets: int = 64, **keys: Any) -> Compiled:
    """Compile a cluster of nodes n1, n2, ... with these weights, and write its lock."""
    nodes = {
        f"n{number}": {"address": f"192.0.2.{number}", "weight": weight}
        for number, weight in enumerate(weights, 1)
    }
    document = {
        "cluster": "proof",
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100", "192.0.2.101", "2001:db8::100"],
        "hash": {"buckets": buckets, "input": keys.pop("hash_input", "source-destination")},
        "nodes": nodes,
        **keys,
    }
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    compiled = compile_inventory(path)
    write_lock(lock_path(path), compiled.lock)
    return compiled


def switching(folder: Path, **keys: Any) -> Compiled:
    """A cluster whose nodes have two placements, because weights have changed."""
    cluster(folder, (1, 1, 1), **keys)
    compiled = cluster(folder, (2, 1, 1), **keys)
    assert compiled.lock.before
    return compiled


def rulesets(compiled: Compiled) -> dict[str, bytes]:
    """The rulesets of a cluster's nodes."""
    return {name: bundle.files["ruleset.nft"] for name, bundle in compiled.bundles.items()}


def broken(
    compiled: Compiled, folder: Path, replaced: Mapping[str, str], nodes: Iterable[str] = ()
) -> dict[str, bytes]:
    """The rulesets with other text in the template: of these nodes, or of all."""
    text = (render.template_folder() / TEMPLATE).read_text()
    for old, new in replaced.items():
        assert old in text, f"the template has no {old!r} any more"
        text = text.replace(old, new)
    chosen = set(nodes) or set(compiled.bundles)
    result = rulesets(compiled)
    with templates(folder, text):
        for plan in plan_nodes(compiled.inventory, compiled.lock):
            if plan.node in chosen:
                result[plan.node] = render.render_node(plan)["ruleset.nft"]
    return result


@contextmanager
def templates(folder: Path, text: str) -> Iterator[None]:
    """Render from a copy of the templates in which the ruleset's is another one."""
    copy = folder / "templates"
    copy.mkdir()
    for file in render.template_folder().iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / TEMPLATE).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "template_folder", lambda: copy)
        render._environment.cache_clear()
        try:
            yield
        finally:
            render._environment.cache_clear()
