"""Files on the operator's disk, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trscaler_gen.errors import OperationError


def write_folder(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Replace ``folder`` by one that holds just ``files`` (name -> content, mode); 0700: they are secret."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, (content, mode) in files.items():
                _write(staging / name, content, mode)
            _take_place(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise OperationError(
            f"cannot write {folder}: {error.strerror}", "nothing was replaced; free the space or the path"
        ) from error


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _take_place(staging: Path, folder: Path) -> None:
    """Rename over a folder that is ours: a rename cannot replace a folder that holds files."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "MANIFEST").exists():
            raise OperationError(
                f"{folder} holds files that are no bundle", "give another folder to -o, or empty this one"
            )
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        folder.rename(old / folder.name)
        staging.rename(folder)
        shutil.rmtree(old)
    else:
        staging.rename(folder)
