"""Single functions of a node's script, to be run without the rest of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

#: in one line, or up to the first brace at a line's begin
_FUNCTION = re.compile(r"^(?P<name>\w+)\(\) \{(?: .*\}|$(?:.|\n)*?^\})$", re.MULTILINE)


def functions(script: Path, names: Iterable[str]) -> str:
    """The text of these functions; raises KeyError if one is not there."""
    found = _FUNCTION.finditer(script.read_text())
    bodies = {match["name"]: match[0] for match in found}
    return "\n".join(bodies[name] for name in names)
