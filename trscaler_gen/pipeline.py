"""The compiler, as one sentence: inventory and lock become node plans, node plans become bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.bundle import Bundle, make_bundles
from trscaler_gen.inventory.load import parse_inventory, read_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, reconcile
from trscaler_gen.lockfile import draw_seed, lock_path, read_lock
from trscaler_gen.nodeplan import plan_nodes


@dataclass(frozen=True)
class Compiled:
    """An inventory with all that follows from it; nothing of it has been written anywhere.

    ``text`` is the inventory's, ``lock_before`` the lock as it was read, None if there is none yet.
    """

    text: str
    inventory: Inventory
    lock_path: Path
    lock: Lock
    bundles: Mapping[str, Bundle]
    lock_before: Lock | None = None


def compile_inventory(path: Path) -> Compiled:
    """Compile the inventory at ``path`` against the lock beside it; raises InputError."""
    text = read_inventory(path)
    inventory = parse_inventory(text, str(path))
    before = read_lock(lock_path(path))
    lock = reconcile(inventory, before, seed=draw_seed())
    return _compiled(text.decode(), inventory, lock_path(path), lock, before)


def compile_text(path: Path, text: str, *, lock: Lock, lock_before: Lock | None) -> Compiled:
    """Compile again what was compiled before, from the inventory's text and the lock that came of it.

    ``path`` only names the inventory: nothing is read. Raises InputError.
    """
    inventory = parse_inventory(text.encode(), str(path))
    again = reconcile(inventory, lock, seed=lock.seed)
    return _compiled(text, inventory, lock_path(path), again, lock_before)


def _compiled(text: str, inventory: Inventory, path: Path, lock: Lock, before: Lock | None) -> Compiled:
    bundles = make_bundles(plan_nodes(inventory, lock), lock)
    return Compiled(text, inventory, path, lock, bundles, before)
