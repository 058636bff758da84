"""What the shells complete beyond options and files: inventories, and nodes of the inventory on the line.

A parameter says by its name in the usage what it takes: INVENTORY, or NODE. Verbs need no line of their
own to be completed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

#: where a parameter keeps its own word for what it takes
_INVENTORY = re.compile(r"\bINVENTOR(?:Y|IES)\b")
_NODE = re.compile(r"\bNODES?\b")
_SUFFIXES = (".yaml", ".yml")
#: what a shell takes as it stands; other names it completes itself, with quotes
_PLAIN = re.compile(r"[A-Za-z0-9_.@%+-][A-Za-z0-9_.@%+=:-]*")

Complete = Callable[[click.Context, str], Iterable[CompletionItem]]


class Completed(click.ParamType[Any]):
    """Another type, with a way to complete it."""

    def __init__(self, inner: click.ParamType[Any], complete: Complete) -> None:
        self.inner = inner
        self.complete = complete
        self.name = inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As the other type does."""
        return self.inner.convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """As the other type does."""
        return self.inner.get_metavar(param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Answer what the word may become."""
        return list(self.complete(ctx, incomplete))


def equip(command: click.Command) -> click.Command:
    """Let a command, and those below it, be completed by what their parameters take."""
    for param in command.params:
        if isinstance(param.type, Completed):
            continue
        if takes_inventory(param):
            param.type = Completed(param.type, _inventories)
        elif takes_node(param):
            param.type = Completed(param.type, _departed if "--forget" in param.opts else _nodes)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            equip(inner)
    return command


def takes_inventory(param: click.Parameter) -> bool:
    """Whether a parameter is the file of an inventory."""
    return "--inventory" in param.opts or bool(_INVENTORY.search(_word(param)))


def takes_node(param: click.Parameter) -> bool:
    """Whether a parameter is a node's name, or names with commas between them."""
    return not param.is_eager and bool(_NODE.search(_word(param)))


def _word(param: click.Parameter) -> str:
    """What the usage calls it; an option without a word of its own takes no name."""
    if param.metavar:
        return param.metavar
    return (param.name or "").upper() if isinstance(param, click.Argument) else ""


def _inventories(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Files that may be inventories; where there are none, the shell completes any file or folder."""
    start, slash, begun = incomplete.rpartition("/")
    try:
        names = sorted(path.name for path in Path(f"{start}{slash}" or ".").expanduser().iterdir())
    except (OSError, RuntimeError):  # RuntimeError: ~nobody
        names = []
    found = [name for name in names if name.startswith(begun) and _is_named_so(name)]
    yield from (CompletionItem(f"{start}{slash}{name}") for name in found)
    if not found:
        yield CompletionItem(incomplete, type="file")


def _is_named_so(name: str) -> bool:
    return name.endswith(_SUFFIXES) and name[0] not in ".-" and bool(_PLAIN.fullmatch(name))


def _nodes(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Nodes of the inventory on the line, or of the lab; after a comma the next one."""
    before, comma, begun = incomplete.rpartition(",")
    taken = set(before.split(","))
    for name in _names(ctx):
        if name.startswith(begun) and name not in taken and _PLAIN.fullmatch(name):
            yield CompletionItem(f"{before}{comma}{name}")


def _departed(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Nodes that have left the inventory, and wait to be stopped."""
    from trscaler_gen.errors import InputError
    from trscaler_gen.lockfile import lock_path, read_lock

    for path in _paths(ctx):
        try:
            lock = read_lock(lock_path(path))
        except InputError:
            continue
        names = [node.name for node in lock.retired] if lock else []
        yield from (CompletionItem(name) for name in names if name.startswith(incomplete))


def _names(ctx: click.Context) -> list[str]:
    paths = _paths(ctx)
    if not paths and ctx.parent is not None and ctx.parent.info_name == "lab":
        return _lab_names()
    from trscaler_gen.inventory.document import node_names

    return list(dict.fromkeys(name for path in paths for name in node_names(path)))


def _lab_names() -> list[str]:
    from trscaler_gen.errors import OperationError
    from trscaler_gen.lab.state import lab_directory, read_state

    try:
        state = read_state(lab_directory(None))
    except (OSError, OperationError):
        return []
    return [member.name for member in state.members.values() if member.kind == "node"] if state else []


def _paths(ctx: click.Context) -> list[Path]:
    """The inventories that are on the line already."""
    values = [ctx.params.get(param.name or "") for param in ctx.command.params if takes_inventory(param)]
    every = [value for one in values for value in (one if isinstance(one, tuple) else (one,))]
    # Where an option still waits for its value, what stands before it has not been dealt out yet.
    found = [value for value in every if value is not None] or [
        word for word in ctx.args if str(word).endswith(_SUFFIXES)
    ]
    return [Path(value).expanduser() for value in found]
