"""What a node says of itself, and whether it is fit to take a bundle. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trscaler_gen.bundle import Bundle

#: where bundles live on a node
ROOT = "/etc/trscaler-gen"

MIN_KERNEL = (5, 16)  # the netdev egress hook
MIN_NFT = (1, 0, 6)
MIN_KEEPALIVED = (2, 2, 7)
TOOLS = ("tar", "sha256sum", "sync", "mktemp", "find", "flock", "nft", "ip", "bridge", "keepalived")

#: room that a node must have beside the generation itself
SPARE_KIB = 1024


@dataclass(frozen=True)
class Facts:
    """What a node said of itself.

    Versions are as the tools print them, ``free_kib`` is below ROOT, ``is_staged`` tells whether the wanted
    generation lies there unaltered, ``generation`` is the one that is to run (empty: none).
    """

    uid: int
    kernel: str
    nft: str
    keepalived_version: str
    missing_tools: tuple[str, ...]
    has_link: bool
    free_kib: int
    is_staged: bool
    generation: str
    runs: bool
    ruleset: str
    keepalived: str
    serving: bool

    @property
    def running(self) -> str:
        """The generation that runs; empty if none does."""
        return self.generation if self.runs else ""

    def serves(self, generation: str) -> bool:
        """Whether the node runs exactly this generation, unaltered on disk and in the kernel."""
        is_whole = self.runs and self.ruleset == "intact" and self.keepalived == "running"
        return is_whole and self.is_staged and self.generation == generation


def parse_facts(text: str) -> Facts:
    """Read the key=value lines of ``observe.sh``; raises ValueError if they end in a failure or too early."""
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "state_status" in said or "staged" not in said:
        raise ValueError(f"node.sh state: exit {said.get('state_status', 'unknown')}")
    return Facts(
        uid=_number(said.get("uid", "")),
        kernel=said.get("kernel", ""),
        nft=said.get("nft_version", ""),
        keepalived_version=said.get("keepalived_version", ""),
        missing_tools=tuple(said.get("missing", "").split()),
        has_link=said.get("link") == "yes",
        free_kib=_number(said.get("free_kib", "")),
        is_staged=said["staged"] == "yes",
        generation=said.get("generation", ""),
        runs=said.get("running") == "yes",
        ruleset=said.get("ruleset", ""),
        keepalived=said.get("keepalived", ""),
        serving=said.get("serving") != "no",
    )


def objections(facts: Facts, link: str, bundle: Bundle) -> tuple[str, ...]:
    """Everything that keeps a node from taking the bundle."""
    needed_kib = SPARE_KIB + sum(map(len, bundle.files.values())) // 1024
    is_full = not facts.is_staged and facts.free_kib < needed_kib
    checks = (
        (facts.uid != 0, "the SSH user is not root there"),
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


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


def _is_old(facts: Facts, tool: str, said: str, minimum: tuple[int, ...]) -> bool:
    return tool not in facts.missing_tools and _version(said) < minimum


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def _older(said: str, minimum: tuple[int, ...]) -> str:
    return f"{said or 'it tells no version'}: at least {'.'.join(map(str, minimum))} is needed"


def script_path(cluster: str, generation: str) -> str:
    """Where a generation's node.sh lies."""
    return f"{ROOT}/{cluster}/generations/{generation}/node.sh"
