"""Start the sandboxes and collect what the tools said.

A sandbox is one process in network and mount namespaces of its own; it dies with them, whatever happens.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trscaler_gen.bundle import Bundle
from trscaler_gen.errors import OperationError
from trscaler_gen.files import write_bundle

#: what the sandbox calls -> the Debian package that brings it
_TOOLS = {
    "unshare": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "keepalived": "keepalived",
    "sh": "dash",
    "sha256sum": "coreutils",
}

_TIMEOUT_S = 300


@dataclass(frozen=True)
class Finding:
    """What a tool said against a file; ``output`` is the tool's own text."""

    node: str
    file: str
    tool: str
    output: str


def check_bundles(
    bundles: Mapping[str, Bundle], links: Mapping[str, str], other_links: Mapping[str, str] | None = None
) -> tuple[Finding, ...]:
    """Check every bundle; no findings means that all tools are content.

    ``links`` names each node's link, ``other_links`` those to which nodes forward.

    Raises OperationError when a check could not be made: that is never a success.
    """
    require_tools(_TOOLS)
    try:
        with tempfile.TemporaryDirectory(prefix="trscaler-check-") as folder:
            findings = _check_in(Path(folder), bundles, links, other_links or {})
    except OSError as error:
        raise OperationError(
            f"cannot check in {tempfile.gettempdir()}: {error.strerror}", "free it, or set TMPDIR"
        ) from error
    names = list(bundles)
    return tuple(sorted(findings, key=lambda finding: names.index(finding.node)))


def _check_in(
    folder: Path, bundles: Mapping[str, Bundle], links: Mapping[str, str], other_links: Mapping[str, str]
) -> list[Finding]:
    """Write the bundles to a folder and deal them out to a sandbox per processor."""
    for name, bundle in bundles.items():
        write_bundle(folder / name, bundle)
    names = list(bundles)
    workers = min(len(names), os.cpu_count() or 1)
    jobs = [
        [_job(folder, bundles[n], links[n], other_links.get(n, "")) for n in names[i::workers]]
        for i in range(workers)
    ]
    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(partial(run_sandbox, "sandbox", str(folder)), jobs))
    return [Finding(**finding) for answer in answers for finding in answer]


def _job(folder: Path, bundle: Bundle, link: str, other_link: str) -> dict[str, str]:
    return {
        "node": bundle.node,
        "cluster": bundle.cluster,
        "generation": bundle.generation,
        "link": link,
        "other_link": other_link,
        "folder": str(folder / bundle.node),
    }


def require_tools(tools: Mapping[str, str]) -> None:
    """Raise OperationError unless every tool (tool -> Debian package) and libnftables are there."""
    for tool, package in tools.items():
        if not shutil.which(tool, path=_search_path()):
            raise OperationError(f"cannot check: {tool} is not installed", f"apt-get install {package}")
    if importlib.util.find_spec("nftables") is None:
        raise OperationError(
            f"cannot check: {sys.executable} has no module nftables",
            "apt-get install python3-nftables; in a virtual environment make setup links it",
        )


def _search_path() -> str:
    """Administrators' folders too: an ordinary user's PATH may lack them."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def run_sandbox(module: str, folder: str, jobs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Let a module of this package answer jobs in namespaces of its own; raises OperationError."""
    unshare = ["unshare", "--net", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    try:
        done = subprocess.run(
            [*unshare, sys.executable, "-P", "-m", f"trscaler_gen.check.{module}", folder],
            input=json.dumps(list(jobs)),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OperationError(
            f"the check took longer than {_TIMEOUT_S} s", "is the machine overloaded?"
        ) from None
    if done.returncode != 0:
        raise OperationError(
            f"the check could not be made: {_last_line(done.stderr)}",
            "it needs root, or a kernel that lets users make namespaces (kernel.unprivileged_userns_clone)",
        )
    answer = json.loads(done.stdout)
    assert isinstance(answer, list)
    return answer


def _environment() -> dict[str, str]:
    """The sandbox imports this very package, and nothing from the folder that the user happens to be in."""
    package = Path(__file__).resolve().parents[2]
    return {**os.environ, "PATH": _search_path(), "PYTHONPATH": str(package)}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"
