"""Every command says how it is used, with an example that the command line itself accepts."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import click
import pytest

from trscaler_gen.cli import NAME, examples, group, paragraphs, walk

ROOT = Path(__file__).parent.parent
COMMANDS = {" ".join(path): command for path, command in walk(group)}
EVERY = {NAME: group, **COMMANDS}
EXAMPLES = [(words, line) for words, command in EVERY.items() for line in examples(command)]


def parse(line: str) -> click.Context:
    """Let click read a command line as it would, down to the last verb, and run nothing."""
    program, *words = itertools.takewhile(lambda word: word not in ("|", ">"), shlex.split(line))
    assert program == NAME
    context = group.make_context(NAME, words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None and name is not None
        context = command.make_context(name, rest, parent=context)
    return context


def test_commands_of_commands_are_walked() -> None:
    assert {"plan", "lock", "lock recover", "lab probe", "explain"} <= COMMANDS.keys()


@pytest.mark.parametrize("words", EVERY)
def test_every_command_has_an_example(words: str) -> None:
    assert paragraphs(EVERY[words]), "it does not say what it does"
    assert examples(EVERY[words]), "no paragraph of its help begins with `Example:`"


@pytest.mark.parametrize(("words", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_every_example_is_a_command_line(words: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the command that it is the example of, or of one below it."""
    monkeypatch.chdir(ROOT)
    assert parse(line).command_path.startswith(" ".join((NAME, words) if words != NAME else (NAME,)))


@pytest.mark.parametrize(
    "line",
    [
        "trscaler-gen explain inventory/lab.yaml 203.0.113.9 192.0.2.100 --downn n1",
        "trscaler-gen lab cutt n2",
        "trscaler-gen drain --inventory inventory/lab.yaml",
        "trscaler-gen plan inventory/lab.yaml --parallel many",
    ],
)
def test_an_example_that_has_rotted_is_seen(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_says_what_it_is_for(words: str) -> None:
    options = [param for param in COMMANDS[words].params if isinstance(param, click.Option)]
    assert [option.opts for option in options if not option.help] == []
