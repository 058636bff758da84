"""Whether a node is fit to take a bundle. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from trscaler_gen.bundle import Bundle
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import ROOT, Facts

MIN_KERNEL = (5, 16)  # the netdev egress hook
MIN_NFT = (1, 0, 6)
MIN_KEEPALIVED = (2, 2, 7)
TOOLS = (
    *("od", "tar", "sha256sum", "sync", "mktemp", "find", "timeout", "stdbuf", "flock", "setsid", "unshare"),
    *("nft", "ip", "bridge", "keepalived"),
)

#: room that a node must have beside the generation itself
SPARE_KIB = 1024


class Objection(NamedTuple):
    """What keeps a node from a change, and what to do about it."""

    message: str
    hint: str


#: what a script exits with that only root gets an answer from (EX_NOPERM)
NO_PERMISSION = 77
NOT_ROOT = Objection("the SSH user is not root there", "ssh.user: root, or ssh.sudo: true in the inventory")


def not_root(node: str) -> NodeError:
    """What only root can be told was asked by another user."""
    return NodeError(node, NOT_ROOT.message, hint=NOT_ROOT.hint, status=NO_PERMISSION)


def objections(facts: Facts, link: str, bundle: Bundle | None) -> tuple[Objection, ...]:
    """Everything that keeps a node from taking the bundle; None: from leaving its cluster."""
    found = [NOT_ROOT] if facts.uid != 0 else []
    if bundle is not None:
        found += [*_of_tools(facts), *_of_place(facts, link, sum(map(len, bundle.files.values())))]
    return tuple(found)


def _of_tools(facts: Facts) -> Iterator[Objection]:
    if _version(facts.kernel) < MIN_KERNEL:
        yield Objection(_older(f"kernel {facts.kernel}", MIN_KERNEL), "boot a newer kernel")
    if not facts.is_little_endian:
        message = "its processor stores the highest byte of a number first"
        hint = "the rules read the first two bytes of a bucket's number: take a little-endian host"
        yield Objection(message, hint)
    if facts.missing_tools:
        missing = ", ".join(facts.missing_tools)
        yield Objection(f"not installed: {missing}", "install it from the distribution's packages")
    for tool, package, said, minimum in (
        ("nft", "nftables", facts.nft, MIN_NFT),
        ("keepalived", "keepalived", facts.keepalived_version, MIN_KEEPALIVED),
    ):
        if tool not in facts.missing_tools and _version(said) < minimum:
            yield Objection(_older(said, minimum), f"install a newer {package}")


def _of_place(facts: Facts, link: str, size_bytes: int) -> Iterator[Objection]:
    if not facts.has_link:
        hint = "bring the link up, or give the node its own in the inventory (link)"
        yield Objection(f"it has no link {link}", hint)
    needed_kib = SPARE_KIB + size_bytes // 1024
    if not facts.is_staged and facts.free_kib < needed_kib:
        message = f"{facts.free_kib} KiB free below {ROOT}, {needed_kib} KiB needed"
        yield Objection(message, f"free space there (df -h {ROOT})")


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def _older(said: str, minimum: tuple[int, ...]) -> str:
    return f"{said or 'it tells no version'}: at least {'.'.join(map(str, minimum))} is needed"
