"""The compiler, as one sentence: inventory and lock become node plans, node plans become bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.bundle import Bundle, make_bundle
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, reconcile
from trscaler_gen.lockfile import draw_seed, lock_path, read_lock
from trscaler_gen.nodeplan import plan_nodes


@dataclass(frozen=True)
class Compiled:
    """An inventory with all that follows from it; nothing of it has been written anywhere."""

    inventory: Inventory
    lock_path: Path
    lock: Lock
    bundles: Mapping[str, Bundle]


def compile_inventory(path: Path) -> Compiled:
    """Compile the inventory at ``path`` against the lock beside it; raises InputError."""
    inventory = load_inventory(path)
    lock = reconcile(inventory, read_lock(lock_path(path)), seed=draw_seed())
    bundles = {plan.node: make_bundle(plan) for plan in plan_nodes(inventory, lock)}
    return Compiled(inventory, lock_path(path), lock, bundles)
