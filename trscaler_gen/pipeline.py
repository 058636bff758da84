"""The compiler, as one sentence: inventory and lock become node plans, node plans become bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.bundle import Bundle, make_bundles
from trscaler_gen.errors import InputError, Problem
from trscaler_gen.inventory.load import load_inventory, parse_inventory, read_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, check_likeness, reconcile
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
    before, lock = _locks(path, inventory, draw_seed())
    return _compiled(text.decode(), inventory, lock_path(path), lock, before)


def lock_of(path: Path, *, seed: int) -> tuple[Inventory, Lock | None, Lock]:
    """The inventory, its lock as it was read, and the lock as a build would write it; raises InputError.

    ``seed`` is used only where there is no lock yet.
    """
    inventory = load_inventory(path)
    return inventory, *_locks(path, inventory, seed)


def _locks(path: Path, inventory: Inventory, seed: int) -> tuple[Lock | None, Lock]:
    before = read_lock(lock_path(path))
    return before, reconcile(inventory, before, seed=seed, like=_lock_like(path, inventory))


def compile_text(path: Path, text: str, *, lock: Lock, lock_before: Lock | None) -> Compiled:
    """Compile again what was compiled before, from the inventory's text and the lock that came of it.

    ``path`` only names the inventory: nothing is read. Raises InputError.
    """
    inventory = parse_inventory(text.encode(), str(path))
    again = reconcile(inventory, lock, seed=lock.seed, like=lock if inventory.hash.like else None)
    return _compiled(text, inventory, lock_path(path), again, lock_before)


def _lock_like(path: Path, inventory: Inventory) -> Lock | None:
    """The lock of the cluster that this one is to be like, brought up to its own inventory first.

    So both follow their inventories in one command, and it does not matter which of them is written first.
    """
    name = inventory.hash.like
    if name is None:
        return None
    other_path = path.parent / name
    other = load_inventory(other_path)
    if other.hash.like is not None:
        chain = "itself" if other_path.resolve() == path.resolve() else f"a follower, of {other.hash.like}"
        raise _refusal(path, "like-chain", f"hash.like names {chain}", "name one that has no hash.like")
    lock = read_lock(lock_path(other_path))
    if lock is None:
        message = f"{name} has no lock yet, and hash.like takes seed and orders from it"
        raise _refusal(path, "like-lock", message, f"first: trscaler-gen build {other_path} -o DIR")
    like = reconcile(other, lock, seed=lock.seed)
    check_likeness(inventory, like)
    return like


def _refusal(path: Path, code: str, message: str, hint: str) -> InputError:
    return InputError([Problem(str(path), 0, 0, code, message, hint)])


def _compiled(text: str, inventory: Inventory, path: Path, lock: Lock, before: Lock | None) -> Compiled:
    bundles = make_bundles(plan_nodes(inventory, lock), lock)
    return Compiled(text, inventory, path, lock, bundles, before)
