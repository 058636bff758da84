"""The inside of a sandbox: loads rulesets for real, asks keepalived, lets sh read the scripts.

Runs as a process of its own in fresh network and mount namespaces, with a folder for its mounts as its
argument; reads jobs as JSON from standard input, prints findings as JSON. ``/etc`` is empty here: a
configuration is judged where it will stand, with its script beside it, because keepalived looks at both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nftables

#: any address will do: the ruleset is to fit every hardware
_HARDWARE_ADDRESS = "02:00:00:00:00:01"

#: how keepalived tells, with exit status 0, that it will not do what the configuration says
_LEFT_OUT = ("disabling", "skipping", "ignoring")

_TOOL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Job:
    """One node's files."""

    node: str
    cluster: str
    generation: str
    link: str
    other_link: str
    folder: str

    @property
    def home(self) -> Path:
        """Where the files stand on the node."""
        return Path("/etc/trscaler-gen") / self.cluster / "generations" / self.generation


def main() -> None:
    """Answer the jobs on standard input."""
    os.umask(0o022)  # whatever the user's is: keepalived minds who may write where its script stands
    jobs = [Job(**job) for job in json.load(sys.stdin)]
    _enter_own_root()
    findings = [
        {"node": job.node, "file": file, "tool": tool, "output": output}
        for job in jobs
        for file, tool, output in _check(job)
    ]
    json.dump(findings, sys.stdout)


def _enter_own_root() -> None:
    """Make a root directory whose /etc holds nothing but the users that keepalived looks up.

    keepalived runs no script below a directory that is not root's, and for an ordinary user even the host's /
    is not: inside his namespace root is he himself.
    """
    root = Path(tempfile.mkdtemp(prefix="root-", dir=sys.argv[1]))
    _run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(root)])
    for path in Path("/").iterdir():
        if path.is_symlink():
            (root / path.name).symlink_to(path.readlink())
        elif path.is_dir():
            (root / path.name).mkdir()
            if path.name != "etc":
                _run(["mount", "--rbind", str(path), str(root / path.name)])
    for name in ("passwd", "group"):
        (root / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
    os.chroot(root)


def _check(job: Job) -> Iterator[tuple[str, str, str]]:
    """Yield ``(file, tool, output)`` for everything that a tool refuses."""
    _place(job)
    _run(["ip", "link", "add", job.link, "type", "veth", "peer", "name", job.other_link or "trscaler-peer"])
    try:
        yield from _check_manifest(job)
        yield from _check_rulesets(job)
        yield from _check_keepalived(job)
        yield from _check_script(job)
    finally:
        _run(["ip", "link", "del", job.link])


def _place(job: Job) -> None:
    shutil.rmtree("/etc/trscaler-gen", ignore_errors=True)
    shutil.copytree(job.folder, job.home)
    current = job.home.parent.parent / "current"
    current.symlink_to(Path("generations") / job.generation)


def _check_manifest(job: Job) -> Iterator[tuple[str, str, str]]:
    done = _tool(["sha256sum", "--check", "--strict", "--quiet", "MANIFEST"], job.home)
    if done.returncode != 0:
        yield "MANIFEST", "sha256sum", done.stdout + done.stderr


def _check_rulesets(job: Job) -> Iterator[tuple[str, str, str]]:
    """Load for real, not with --check: only a commit shows all that the kernel refuses."""
    for file in ("ruleset.nft", "boot.nft"):
        # A context for each: libnftables 1.0.6 corrupts its memory when a second command follows add_var.
        nft = nftables.Nftables()
        nft.add_include_path(str(job.home))
        nft.add_var(f"hwaddr={_HARDWARE_ADDRESS}")
        status, _, error = nft.cmd_from_file(str(job.home / file))
        if status != 0:
            yield file, "nft", error
    nftables.Nftables().cmd("flush ruleset")


def _check_keepalived(job: Job) -> Iterator[tuple[str, str, str]]:
    """Ask ``keepalived -t``, which says yes to files and scripts that it leaves out."""
    config = job.home.parent.parent / "current" / "keepalived.conf"
    if not config.is_file() or config.stat().st_size == 0:
        yield "keepalived.conf", "keepalived", "missing or empty"
        return
    # It judges the first word of a script line alone: let that be our script, and not the sh that reads it.
    judged = config.with_name("judged.conf")
    judged.write_text(config.read_text(errors="replace").replace('"/bin/sh ', '"'))
    shutil.copymode(config, judged)
    done = _tool(["keepalived", "-t", f"--use-file={judged}"], job.home)
    output = (done.stdout + done.stderr).strip()
    if done.returncode != 0 or any(word in output.lower() for word in _LEFT_OUT):
        yield "keepalived.conf", "keepalived", output or f"exit status {done.returncode}"


def _check_script(job: Job) -> Iterator[tuple[str, str, str]]:
    done = _tool(["sh", "-n", "node.sh"], job.home)
    if done.returncode != 0:
        yield "node.sh", "sh", done.stderr


def _tool(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TOOL_TIMEOUT_S,
        check=False,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, timeout=_TOOL_TIMEOUT_S)


if __name__ == "__main__":
    main()
