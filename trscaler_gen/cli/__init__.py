"""The command line: every verb is a module of its own, imported only when it is called."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from trscaler_gen import __version__
from trscaler_gen.cli.completing import equip
from trscaler_gen.errors import InputError, NodeError, OperationError

#: the program, in usages and for the shells
NAME = "trscaler-gen"
#: verb -> module with a click command (or group) named ``command``
VERBS = {
    "init": "trscaler_gen.cli.init",
    "schema": "trscaler_gen.cli.schema",
    "check": "trscaler_gen.cli.check",
    "build": "trscaler_gen.cli.build",
    "verify": "trscaler_gen.cli.verify",
    "plan": "trscaler_gen.cli.plan",
    "apply": "trscaler_gen.cli.apply",
    "rollback": "trscaler_gen.cli.rollback",
    "rebalance": "trscaler_gen.cli.rebalance",
    "drain": "trscaler_gen.cli.drain",
    "undrain": "trscaler_gen.cli.undrain",
    "rolling": "trscaler_gen.cli.rolling",
    "status": "trscaler_gen.cli.status",
    "watch": "trscaler_gen.cli.watch",
    "simulate": "trscaler_gen.cli.simulate",
    "history": "trscaler_gen.cli.history",
    "explain": "trscaler_gen.cli.explain",
    "lock": "trscaler_gen.cli.lock",
    "lab": "trscaler_gen.cli.lab",
    "completion": "trscaler_gen.cli.completion",
    "man": "trscaler_gen.cli.man",
}
#: other names for verbs, which lists of verbs leave out
ALIASES = {"diff": "plan"}

#: how a command's help begins the line that shows its use
_EXAMPLE = "Example:"

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_BUG = 3
EXIT_TIMEOUT = 124  # as timeout(1)
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class LazyGroup(click.Group):
    """A group that knows its verbs by name, so that `build` does not pay for paramiko's import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module, and let the shells complete what it takes."""
        verb = ALIASES.get(cmd_name, cmd_name)
        if verb not in VERBS:
            return None
        command = importlib.import_module(VERBS[verb]).command
        assert isinstance(command, click.Command)
        return equip(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs with what they do, read from their files: none is imported before it is called."""
        verbs = [verb for verb in VERBS if verb.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(verb, help=_summary(VERBS[verb])) for verb in verbs), *options]


def _summary(module: str) -> str:
    """The first sentence about the command of a module that may not have been imported."""
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_bytes())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "command")
    said = next((ast.get_docstring(node) for node in functions), None) or ""
    return said.partition("\n")[0].rstrip(".")


def walk(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with the words that call it; a group comes before its commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from walk(command, (*above, name))


def paragraphs(command: click.Command) -> tuple[str, ...]:
    """What a command says of itself, without its examples; a line each."""
    return tuple(text for text in _said(command) if not text.startswith(_EXAMPLE))


def examples(command: click.Command) -> tuple[str, ...]:
    """The command lines that a command gives as examples."""
    return tuple(text.removeprefix(_EXAMPLE).strip() for text in _said(command) if text.startswith(_EXAMPLE))


def _said(command: click.Command) -> list[str]:
    texts = inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n")
    return [" ".join(text.split()) for text in texts if text.strip()]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def group() -> None:
    """Compile one inventory into a shared-address cluster, and deploy it.

    Example: trscaler-gen check inventory/lab.yaml
    """


def main() -> None:
    """Run the command line.

    The exit status is 0, 1 (the inventory, a node or the machine needs mending), 2 (the command line makes
    no sense), 3 (a bug of ours), 124 (connections are left when the time is over), or 130 after a Ctrl-C.
    """
    try:
        group.main(standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE if isinstance(error, click.UsageError) else EXIT_ERROR)
    except (InputError, OperationError) as error:
        report(error)
        sys.exit(EXIT_ERROR)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        forget_output()
        sys.exit(EXIT_ERROR)
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("this is a bug in trscaler-gen: please report the lines above", err=True)
        sys.exit(EXIT_BUG)


def forget_output() -> None:
    """Nobody reads on: keep the interpreter from saying so once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report(error: InputError | OperationError) -> None:
    """Print an error for a person: what happened, where, what to do."""
    if isinstance(error, InputError):
        from trscaler_gen.inventory.report import format_problem

        for problem in error.problems:
            click.echo(format_problem(problem), err=True)
        return
    where = f"{error.node}: " if isinstance(error, NodeError) else ""
    _say(f"error: {where}{error.message}")
    if isinstance(error, NodeError) and error.command:
        _say(f"  command: {error.command_and_status}")
    if isinstance(error, NodeError) and error.stderr:
        for line in error.stderr.strip().splitlines()[-20:]:
            _say(f"  | {line}")
    if error.hint:
        _say(f"  hint: {error.hint}")


def _say(text: str) -> None:
    """Write to standard error what a terminal will not obey; tabs and ends of lines stay."""
    from trscaler_gen.inventory.text import printable

    click.echo(re.sub(r"[^\t\n]+", lambda part: printable(part[0]), text), err=True)
