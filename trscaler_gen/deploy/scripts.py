"""The scripts that run on the nodes over SSH."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def script(name: str) -> str:
    """The text of a script that lies beside this module: ``script("observe.sh")``."""
    return files("trscaler_gen.deploy").joinpath(name).read_text(encoding="utf-8")
