"""The seed is a secret: who knows it can aim traffic at one node. Pure."""

from __future__ import annotations

import re

#: as nft (``seed 123``, in JSON ``"seed": 123``), the lock (``seed: 0x7b``) and messages write it
_SEED = re.compile(r"""(seed["']?[ \t]*[:=]?[ \t]*["']?)(?:0x[0-9a-f]+|[0-9]+)""", re.IGNORECASE)

HIDDEN = "..."


def redact(text: str) -> str:
    """Hide every seed in any text: a file, a diff, or what a tool said."""
    return _SEED.sub(rf"\1{HIDDEN}", text)
