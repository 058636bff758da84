"""Inventories to measure with: n1 to nN, as the samples have them."""

from __future__ import annotations

from pathlib import Path

import yaml


def write_inventory(
    path: Path, nodes: int, buckets: int = 1024, *, cluster: str = "bench", heavy: int = 0
) -> Path:
    """Write an inventory; it has no lock yet. The node with number ``heavy`` weighs more than the others."""
    document = {
        "cluster": cluster,
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100", "2001:db8::100"],
        "hash": {"buckets": buckets},
        "nodes": {
            f"n{number}": {"address": f"192.0.2.{number}", "weight": 11 if number == heavy else 10}
            for number in range(1, nodes + 1)
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
