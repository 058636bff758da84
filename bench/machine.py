"""What was measured on: without it no figure means anything."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from trscaler_gen import __version__


def describe() -> dict[str, str]:
    """Hardware, kernel and versions; no host name, no date."""
    return {
        "processor": f"{os.cpu_count()} x {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) // 1024} MiB",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "kernel": platform.release(),
        "nft": _version("nft", "--version"),
        "keepalived": _version("keepalived", "--version"),
        "python": platform.python_version(),
        "jinja2, pydantic, paramiko": ", ".join(version(name) for name in ("jinja2", "pydantic", "paramiko")),
        "trscaler-gen": __version__,
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _version(*argv: str) -> str:
    """Both tools print their version on one stream or the other."""
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10)
    return " ".join((done.stdout + done.stderr).split()[:2])
