"""Archives that nodes send, read in memory; a node may send anything. Pure."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator


def opened(archived: bytes) -> tarfile.TarFile:
    """The archive, as it is: what is packed is not unpacked. Raises tarfile.TarError."""
    return tarfile.open(fileobj=io.BytesIO(archived), mode="r:")


def contents(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Name and content of every regular file; a sparse one could be larger than any memory, and is left out.

    Raises tarfile.TarError.
    """
    for member in tar:
        file = tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if file is not None:
            yield member.name, file.read()
