"""Whether a node is fit to take a bundle. Pure."""

from __future__ import annotations

import re

from trscaler_gen.bundle import Bundle
from trscaler_gen.facts import ROOT, Facts

MIN_KERNEL = (5, 16)  # the netdev egress hook
MIN_NFT = (1, 0, 6)
MIN_KEEPALIVED = (2, 2, 7)
TOOLS = (
    *("tar", "sha256sum", "sync", "mktemp", "find", "timeout", "stdbuf", "flock", "setsid", "unshare"),
    *("nft", "ip", "bridge", "keepalived"),
)

#: room that a node must have beside the generation itself
SPARE_KIB = 1024

_NOT_ROOT = "the SSH user is not root there"


def objections(facts: Facts, link: str, bundle: Bundle | None) -> tuple[str, ...]:
    """Everything that keeps a node from taking the bundle; None: from leaving its cluster."""
    if bundle is None:
        return (_NOT_ROOT,) if facts.uid != 0 else ()
    needed_kib = SPARE_KIB + sum(map(len, bundle.files.values())) // 1024
    is_full = not facts.is_staged and facts.free_kib < needed_kib
    checks = (
        (facts.uid != 0, _NOT_ROOT),
        (_version(facts.kernel) < MIN_KERNEL, _older(f"kernel {facts.kernel}", MIN_KERNEL)),
        (facts.missing_tools != (), f"not installed: {', '.join(facts.missing_tools)}"),
        (_is_old(facts, "nft", facts.nft, MIN_NFT), _older(facts.nft, MIN_NFT)),
        (
            _is_old(facts, "keepalived", facts.keepalived_version, MIN_KEEPALIVED),
            _older(facts.keepalived_version, MIN_KEEPALIVED),
        ),
        (not facts.has_link, f"it has no link {link}"),
        (is_full, f"{facts.free_kib} KiB free below {ROOT}, {needed_kib} KiB needed"),
    )
    return tuple(message for fails, message in checks if fails)


def _is_old(facts: Facts, tool: str, said: str, minimum: tuple[int, ...]) -> bool:
    return tool not in facts.missing_tools and _version(said) < minimum


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def _older(said: str, minimum: tuple[int, ...]) -> str:
    return f"{said or 'it tells no version'}: at least {'.'.join(map(str, minimum))} is needed"
