"""Files on the operator's disk, written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.bundle import MANIFEST, Bundle, manifest_heading
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.text import printable


@dataclass(frozen=True)
class StagedBundles:
    """Bundles that are on the disk already, beside the folders that they are to replace."""

    output: Path
    staging: Path
    bundles: Mapping[str, Bundle]

    def take_place(self) -> tuple[str, ...]:
        """Rename the bundles into place; returns the nodes that left the cluster: their folders went."""
        with _told(self.output), _undisturbed():
            leavers = self._leavers()
            for name in self.bundles:
                self._replace(name)
            for name in leavers:
                self._set_aside(name)
        return leavers

    def refuse_strangers(self) -> None:
        """Raise OperationError where a node's folder is there and is not its bundle of this cluster."""
        for name, bundle in self.bundles.items():
            folder = self.output / name
            taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
            if taken and not _is_bundle(folder, bundle.cluster):
                raise OperationError(
                    f"{folder} is no bundle of cluster {bundle.cluster}; nothing was written",
                    "give another folder to -o, or move this one away",
                )

    def _replace(self, name: str) -> None:
        """Exchange a folder: a rename cannot replace one that holds files."""
        old = self._set_aside(name)
        try:
            (self.staging / name).rename(self.output / name)
        except OSError:
            if old:
                old.rename(self.output / name)
            raise

    def _set_aside(self, name: str) -> Path | None:
        folder = self.output / name
        return folder.rename(self.staging / f"old-{name}") if folder.exists() else None

    def _leavers(self) -> tuple[str, ...]:
        cluster = next(iter(self.bundles.values())).cluster
        there = sorted(folder.name for folder in self.output.iterdir() if _is_bundle(folder, cluster))
        return tuple(name for name in there if name not in self.bundles)


@contextmanager
def staged_bundles(output: Path, bundles: Mapping[str, Bundle]) -> Iterator[StagedBundles]:
    """Write bundles beside the folders of ``output``; what has not taken its place at the end is gone.

    Raises OperationError, and then nothing in ``output`` has changed. Folders are 0700: they hold a secret.
    """
    with made_folder(output), _told(output):
        staging = Path(tempfile.mkdtemp(prefix=".trscaler-gen-", dir=output))
        try:
            staged = StagedBundles(output, staging, bundles)
            staged.refuse_strangers()
            for name, bundle in bundles.items():
                write_bundle(staging / name, bundle)
            yield staged
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle's files to a folder that does not exist yet."""
    folder.mkdir(mode=0o700)
    for name, content in bundle.files.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, bundle.mode(name))
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file, or what a link leads to, by one of this mode; raises OSError.

    A power cut leaves the old file or the new one.
    """
    place = path.resolve()
    with _written_beside(place, content, mode) as written:
        written.replace(place)
        _sync_directory(place.parent)


def make_file(path: Path, content: bytes, mode: int) -> None:
    """Make a file that did not exist, whole or not at all; raises FileExistsError, OSError."""
    with _written_beside(path, content, mode) as written:
        os.link(written, path)  # unlike rename, link refuses a name that is taken (link(2))
        _sync_directory(path.parent)


@contextmanager
def _written_beside(path: Path, content: bytes, mode: int = 0o600) -> Iterator[Path]:
    """A file on the disk, in the same directory; it is gone at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_secret(path: Path, text: str) -> None:
    """Replace a file by one that its owner alone can read, whole or not at all; raises OperationError."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        hint = "free the space or the path, and say it again"
        raise OperationError(f"cannot write {path}: {error.strerror}", hint) from error


def write_open(path: Path, content: bytes) -> None:
    """Write a file that others may read, as far as the umask lets them; raises OperationError.

    A device or a pipe is written to; whatever else is there is replaced, whole or not at all.
    """
    with _refusal_told(path):
        if _is_special(path):
            path.write_bytes(content)
        else:
            replace_file(path, content, 0o666 & ~_umask())


def require_place(path: Path) -> None:
    """Raise OperationError where a file cannot be written in any case, before there is anything to write."""
    with _refusal_told(path):
        folder = path.resolve().parent
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder")
        needed = [
            place for place in (path, folder) if place.exists() and (place == path or not _is_special(path))
        ]
        if not all(os.access(place, os.W_OK) for place in needed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _is_special(path: Path) -> bool:
    """Whether it is there and no file: a device, a pipe."""
    return path.exists() and not path.is_file()


@contextmanager
def _refusal_told(path: Path) -> Iterator[None]:
    hint = "name a file in a folder that is there, with room and leave to write"
    try:
        yield
    except OSError as error:
        raise OperationError(f"cannot write {printable(str(path))}: {error.strerror}", hint) from error
    except RuntimeError as error:  # of Path.resolve(), up to Python 3.12
        raise OperationError(
            f"cannot write {printable(str(path))}: its links lead in a circle", hint
        ) from error


def _umask() -> int:
    """Reading it takes setting it (umask(2))."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _is_bundle(folder: Path, cluster: str) -> bool:
    """Whether the folder holds this cluster's bundle of the node that the folder is named after."""
    manifest = folder / MANIFEST
    if folder.is_symlink() or not manifest.is_file():
        return False
    return manifest.read_bytes().startswith(manifest_heading(folder.name, cluster).encode())


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block; if the block fails, the folders that were made for it are gone again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in missing:
            if not any(path.iterdir()):
                path.rmdir()
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep a Ctrl-C waiting until the block is over, so that no folder is missing after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say in the user's words what the operating system refused."""
    try:
        yield
    except OSError as error:
        hint = "nothing was replaced; free the space or the path, and build again"
        raise OperationError(f"cannot write {folder}: {error.strerror}", hint) from error
