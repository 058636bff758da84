"""``trscaler-gen completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from trscaler_gen.cli import NAME, group

SHELLS = ("bash", "zsh", "fish")
#: what click looks at to see that it is asked by a shell
_VARIABLE = f"_{NAME.replace('-', '_').upper()}_COMPLETE"


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script by which SHELL completes verbs, options, inventories and nodes.

    bash: source <(trscaler-gen completion bash), in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit;
    fish: trscaler-gen completion fish >~/.config/fish/completions/trscaler-gen.fish

    Example: trscaler-gen completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(group, {}, NAME, _VARIABLE)
    script = completion.source_template % completion.source_vars()
    # click's script for fish ends a word at its first comma; nodes are named with commas between them.
    click.echo(script.replace('string split "," ', 'string split -m 1 "," '))
