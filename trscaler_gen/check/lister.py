"""The inside of a sandbox that loads rulesets and says what the kernel has of them.

Runs as a process of its own in a fresh network namespace; reads jobs as JSON from standard input, prints
answers as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import nftables

#: any address will do: the ruleset is to fit every hardware
_HARDWARE_ADDRESS = "02:00:00:00:00:01"

_TOOL_TIMEOUT_S = 60


def main() -> None:
    """Answer the jobs on standard input."""
    json.dump([_answer(job) for job in json.load(sys.stdin)], sys.stdout)


def _answer(job: dict[str, str]) -> dict[str, str]:
    # No other device has a name that a ruleset could mean.
    _ip("link", "add", job["link"], "type", "veth", "peer", "name", "trscaler-peer")
    try:
        error = _load(job["ruleset"])
        return {"node": job["node"], "error": error, "listing": "" if error else _listing()}
    finally:
        nftables.Nftables().cmd("flush ruleset")
        _ip("link", "del", job["link"])


def _load(ruleset: str) -> str:
    """Load a ruleset; returns what nft has against it."""
    with tempfile.NamedTemporaryFile("w", prefix="trscaler-verify-", suffix=".nft") as file:
        file.write(ruleset)
        file.flush()
        nft = nftables.Nftables()
        nft.add_var(f"hwaddr={_HARDWARE_ADDRESS}")
        status, _, error = nft.cmd_from_file(file.name)
    return "" if status == 0 else error or f"status {status}"


def _listing() -> str:
    # A context of its own: libnftables 1.0.6 corrupts its memory when a command follows add_var.
    nft = nftables.Nftables()
    nft.set_json_output(True)
    # Names of protocols are the host's (/etc/protocols); all other names are nft's own.
    nft.set_numeric_proto_output(True)
    status, listing, error = nft.cmd("list ruleset")
    if status != 0:
        raise SystemExit(f"nft cannot list what it loaded: {error}")
    return str(listing)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=_TOOL_TIMEOUT_S)


if __name__ == "__main__":
    main()
