"""What a node says of itself, read from the lines of ``observe.sh``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: where bundles live on a node
ROOT = "/etc/trscaler-gen"
#: where pids, locks and fingerprints live on a node until it reboots
RUNTIME = "/run/trscaler-gen"

#: what the octets 1, 0 are for a processor that stores the lowest one first
_LITTLE_ENDIAN = "1"
#: what the kernel counts with 64 bits, and no longer
_NUMBER = re.compile(r"[0-9]{1,20}")
_DIGEST_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Facts:
    """What a node said of itself.

    Versions are as the tools print them; ``free_kib`` is below ROOT; ``is_staged``: the wanted generation
    lies there unaltered. ``generation`` is the one that is to run, ``loaded`` the one in the kernel (empty:
    none), ``epoch`` and ``serial`` those of the loaded ruleset (0: none).

    ``ruleset`` is intact, altered, missing or unfinished; ``keepalived`` running or stopped; ``heartbeat``
    what keepalived said last (MASTER, FAULT, ...); ``units`` intact, altered or none. ``alive`` are the node
    ids that its kernel holds for alive now, its own among them while it serves; ``fenced``: it stands aside
    because its peers know of a newer epoch or serial. ``unconfirmed`` is the token of a change that it will
    take back by itself, ``way_back`` how far that has come: unconfirmed, returning, stuck or none. ``change``
    is the last change in its history, ``deployer`` who deploys to it now (empty: nobody), ``since`` when that
    began, by the node's clock.

    ``can_drain``: what runs there knows of draining; the files of an earlier release do not. ``draining``: it
    was told to drain, and takes no new connections. ``held`` counts the TCP connections to shared addresses
    that end there (-1: not known). ``joining``: it came alive a while ago, and leaves old connections to
    their nodes; ``hosting`` are the node ids whose connections it may hold, ``peers_draining`` those whose
    heartbeats say that they drain. ``placement`` is only, or before or after a switch to another one.
    ``tracked`` of ``most_tracked`` entries of its connection table are taken (-1 and 0: not known).

    ``digests`` are the SHA-256 of the current generation's files as they lie there, ``listed`` those that its
    manifest lists, both by file name.
    """

    uid: int = -1
    kernel: str = ""
    is_little_endian: bool = True
    nft: str = ""
    keepalived_version: str = ""
    missing_tools: tuple[str, ...] = ()
    has_link: bool = False
    free_kib: int = -1
    is_staged: bool = False
    generation: str = ""
    loaded: str = ""
    epoch: int = 0
    serial: int = 0
    ruleset: str = "missing"
    keepalived: str = "stopped"
    heartbeat: str = ""
    serving: bool = False
    fenced: bool = False
    attached: bool = False
    units: str = "none"
    runs: bool = False
    unconfirmed: str = ""
    way_back: str = "none"
    node_id: int = 0
    alive: frozenset[int] = frozenset()
    accepted: int = 0
    dropped: int = 0
    change: str = ""
    deployer: str = ""
    since: str = ""
    can_drain: bool = False
    draining: bool = False
    held: int = -1
    joining: bool = False
    hosting: frozenset[int] = frozenset()
    peers_draining: frozenset[int] = frozenset()
    placement: str = "only"
    tracked: int = -1
    most_tracked: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)
    listed: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> str:
        """The generation that runs; empty if none does."""
        return self.generation if self.runs else ""

    @property
    def is_whole(self) -> bool:
        """Whether what runs is unaltered, on disk and in the kernel."""
        return (
            self.runs
            and self.ruleset == "intact"
            and self.keepalived == "running"
            and self.loaded == self.generation
            and self.attached
            and self.units != "altered"
            and dict(self.digests) == dict(self.listed)
        )

    @property
    def edited_files(self) -> tuple[str, ...]:
        """Files of the current generation that are not as their manifest lists them, or are gone."""
        return tuple(name for name in sorted(self.listed) if self.digests.get(name) != self.listed[name])


def parse_facts(text: str) -> Facts:
    """Read the lines of ``observe.sh``; raises ValueError if they end in a failure or too early."""
    said = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[a-z_]+=", line))
    if "state_status" in said or "staged" not in said:
        raise ValueError(f"node.sh state: exit {said.get('state_status', 'unknown')}")
    deployer, _, since = said.get("holder", "").partition(" ")
    return Facts(
        uid=_number(said, "uid", -1),
        kernel=said.get("kernel", ""),
        is_little_endian=said.get("byte_order", "") in ("", _LITTLE_ENDIAN),
        nft=said.get("nft_version", ""),
        keepalived_version=said.get("keepalived_version", ""),
        missing_tools=tuple(said.get("missing", "").split()),
        has_link=said.get("link") == "yes",
        free_kib=_number(said, "free_kib", -1),
        is_staged=said["staged"] == "yes",
        generation=said.get("generation", ""),
        loaded=said.get("loaded", ""),
        epoch=_number(said, "epoch"),
        serial=_number(said, "serial"),
        ruleset=said.get("ruleset", "missing"),
        keepalived=said.get("keepalived", "stopped"),
        heartbeat=said.get("heartbeat", ""),
        serving=said.get("serving") == "yes",
        fenced=said.get("fenced") == "yes",
        attached=said.get("attached") == "yes",
        units=said.get("units", "none"),
        runs=said.get("running") == "yes",
        unconfirmed=said.get("unconfirmed", ""),
        way_back=said.get("return", "none"),
        node_id=_number(said, "node_id"),
        alive=_ids(said, "alive"),
        accepted=_number(said, "accepted"),
        dropped=_number(said, "dropped"),
        change=said.get("change", ""),
        deployer=deployer,
        since=since,
        can_drain="draining" in said,
        draining=said.get("draining") == "yes",
        held=_number(said, "held", -1),
        joining=said.get("joining") == "yes",
        hosting=_ids(said, "hosting"),
        peers_draining=_ids(said, "peers_draining"),
        placement=said.get("placement", "only"),
        tracked=_number(said, "tracked", -1),
        most_tracked=_number(said, "most_tracked"),
        digests=_digests(text, "digest="),
        listed=_digests(text, "listed="),
    )


def _number(said: Mapping[str, str], key: str, default: int = 0) -> int:
    text = said.get(key, "")
    return int(text) if _NUMBER.fullmatch(text) else default


def _ids(said: Mapping[str, str], key: str) -> frozenset[int]:
    return frozenset(int(word) for word in said.get(key, "").split() if _NUMBER.fullmatch(word))


def _digests(text: str, prefix: str) -> dict[str, str]:
    lines = (line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix))
    matches = (_DIGEST_LINE.fullmatch(line) for line in lines)
    return {match[2]: match[1] for match in matches if match}


def deploying(deployer: str, since: str) -> str:
    """Say who holds a node's deployment lock, as far as that is known."""
    return f"{deployer or 'somebody'} has been deploying to it since {since or 'a moment ago'}"


def script_path(cluster: str, generation: str) -> str:
    """Where a generation's node.sh lies."""
    return f"{ROOT}/{cluster}/generations/{generation}/node.sh"
