"""known_hosts as sshd(8) defines it: plain and hashed names, patterns, ``[host]:port``, markers. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache

_MARKERS = ("@revoked", "@cert-authority")


class Verdict(Enum):
    """What the known_hosts files say about a key that a host has shown."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True)
class KnownHost:
    """One line of a known_hosts file; ``line`` counts from 1."""

    source: str
    line: int
    marker: str
    names: str
    key_type: str
    blob: bytes

    def is_about(self, name: str) -> bool:
        """Whether the line names ``name``, which is ``host`` or ``[host]:port``."""
        if self.names.startswith("|1|"):
            return _hash_matches(self.names, name)
        patterns = self.names.lower().split(",")
        if any(pattern.startswith("!") and _matches(pattern[1:], name) for pattern in patterns):
            return False
        return any(_matches(pattern, name) for pattern in patterns)


@lru_cache(maxsize=16)
def parse(text: str, source: str) -> tuple[KnownHost, ...]:
    """Every line that can be understood; as in OpenSSH, the others are passed over.

    Remembered, for one file may be asked about hundreds of nodes.
    """
    lines = (_parse_line(line, source, number) for number, line in enumerate(text.splitlines(), start=1))
    return tuple(host for host in lines if host is not None)


def about(hosts: Iterable[KnownHost], name: str) -> tuple[KnownHost, ...]:
    """The plain and revoked keys of one host; certificate authorities are not supported and left out."""
    return tuple(host for host in hosts if host.marker != "@cert-authority" and host.is_about(name.lower()))


def judge(hosts: Iterable[KnownHost], blob: bytes) -> Verdict:
    """What the lines about one host say of the key with this public blob; a revocation outweighs all else."""
    lines = tuple(hosts)
    same = [host for host in lines if host.blob == blob]
    if any(host.marker == "@revoked" for host in same):
        return Verdict.REVOKED
    if same:
        return Verdict.KNOWN
    return Verdict.CHANGED if any(not host.marker for host in lines) else Verdict.UNKNOWN


def name_of(host: str, port: int) -> str:
    """The name under which known_hosts keeps a host: with the port unless it is 22."""
    return host if port == 22 else f"[{host}]:{port}"


def line_for(name: str, key_type: str, blob: bytes) -> str:
    """The line that makes a key known, with its line end."""
    return f"{name} {key_type} {base64.b64encode(blob).decode()}\n"


def fingerprint(blob: bytes) -> str:
    """The fingerprint as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _parse_line(line: str, source: str, number: int) -> KnownHost | None:
    words = line.split()
    marker = words.pop(0) if words and words[0] in _MARKERS else ""
    if len(words) < 3 or words[0].startswith("#"):
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except binascii.Error:
        return None
    return KnownHost(source, number, marker, words[0], words[1], blob)


def _matches(pattern: str, name: str) -> bool:
    # fnmatch remembers 256 patterns only; a fleet has more.
    if "*" not in pattern and "?" not in pattern:
        return name == pattern
    # Square brackets are literal here ([host]:port); only * and ? are special.
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _hash_matches(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        expected = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(expected, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False
