"""The lock on disk: beside its inventory, readable by its owner alone, replaced whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

from trscaler_gen.errors import InputError, OperationError, Problem
from trscaler_gen.files import replace_file
from trscaler_gen.lock import Lock, parse_lock, render_lock

_SUFFIX = ".lock"
#: four times what 32 nodes need that have two placements of 16384 buckets
MAX_BYTES = 16 << 20


def lock_path(inventory_path: Path) -> Path:
    """Name the lock of an inventory: ``lab.yaml`` has ``lab.lock`` beside it."""
    if inventory_path.suffix == _SUFFIX:
        message = f"an inventory cannot be called {inventory_path.name}: its lock would replace it"
        hint = f"call it {inventory_path.with_suffix('.yaml').name}"
        raise InputError([Problem(str(inventory_path), 0, 0, "inventory-name", message, hint)])
    return inventory_path.with_suffix(_SUFFIX)


def draw_seed() -> int:
    """Draw a hash seed (32 bits) that no one can guess."""
    return secrets.randbits(32)


def read_lock(path: Path) -> Lock | None:
    """Read a lock; None only when there is no such file. Raises InputError on any other trouble."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _unreadable(path, f"it is larger than {MAX_BYTES} bytes")
        return parse_lock(content.decode(), str(path))
    except FileNotFoundError:
        if path.is_symlink():
            raise _unreadable(path, "it is a link to nowhere") from None
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"byte {error.start} is not UTF-8") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replace the lock by this one, mode 0600; a file that holds the same bytes is left alone."""
    content = render_lock(lock).encode()
    try:
        if path.exists() and path.read_bytes() == content:
            return
        replace_file(path, content)
    except OSError as error:
        hint = "nothing was changed; mend it and build again before anything is deployed"
        raise OperationError(f"cannot write {path}: {error.strerror}", hint) from error


def set_aside(path: Path) -> Path | None:
    """Keep a copy of a lock that will be replaced, whatever it holds; answers where, None if there is none.

    Raises OperationError, and then nothing has changed; a copy that was kept before is never replaced.
    """
    kept = path.with_name(f"{path.name}.bak")
    try:
        content = path.read_bytes()
        if kept.exists() and kept.read_bytes() != content:
            raise OperationError(f"{kept} holds another lock; nothing was written", "move it away first")
        replace_file(kept, content)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "nothing was changed; free the space or the path, and say it again"
        raise OperationError(f"cannot keep {path} as {kept}: {error.strerror}", hint) from error
    return kept


def _unreadable(path: Path, why: str) -> InputError:
    hint = "restore it from version control; it is never made anew while it exists"
    return InputError([Problem(str(path), 0, 0, "lock-unreadable", f"the lock cannot be read: {why}", hint)])
