"""Completion as real shells do it, and what it costs: no verb's heavy imports."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trscaler_gen.cli import NAME, VERBS, group, walk
from trscaler_gen.cli.completing import takes_inventory, takes_node

BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
INVENTORY = """\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100]
nodes:
  alpha: {address: 192.0.2.1}
  bravo: {address: 192.0.2.2}
  broken: {adress: 192.0.2.3}
"""
#: what is typed before the key, and what the line is then
TYPED = [
    ("rebal", "rebalance"),
    ("lock rec", "lock recover"),
    ("status --js", "status --json"),
    ("status we", "status web.yaml"),
    ("status sub/d", "status sub/db.yml"),
    ("drain --inventory web.yaml alp", "drain --inventory web.yaml alpha"),
    ("rolling web.yaml --node alp", "rolling web.yaml --node alpha"),
    ("explain web.yaml --down alpha,bra", "explain web.yaml --down alpha,bravo"),
    ("completion zs", "completion zsh"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An inventory that is not valid yet: its nodes have names all the same."""
    (tmp_path / "web.yaml").write_text(INVENTORY)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "db.yml").write_text(INVENTORY)
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(BIN), "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", **more}


def completed(folder: Path, line: str) -> list[str]:
    """What click answers a shell that asks about the last word of a line."""
    words = f"{NAME} {line}"
    done = subprocess.run(
        [BIN / NAME],
        env=environment(folder, COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1))
        | {"_TRSCALER_GEN_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


class Terminal:
    """A shell that takes its user for a person."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def await_text(self, text: str) -> None:
        """Wait until the screen has shown it, whatever the shell draws in between."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.plain():
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"not within {PATIENCE_S:g} s: {text!r} in {self.plain()!r}"
            self.shown += os.read(self.master, 65536).decode(errors="replace")

    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x07|\r", "", self.shown)


@contextmanager
def shell(argv: list[str], folder: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env=environment(folder, PS1="ready> "),
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(trscaler-gen completion bash)"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='ready> '; autoload -U compinit; compinit -D -u; source <(trscaler-gen completion zsh)",
    ),
}


@pytest.mark.parametrize("name", SHELLS)
def test_the_key_completes_the_word(name: str, folder: Path) -> None:
    argv, preparation = SHELLS[name]
    with shell(argv, folder) as terminal:
        terminal.type(f"{preparation}; echo pre''pared\n")
        terminal.await_text("prepared")
        for before, after in TYPED:
            terminal.shown = ""
            terminal.type(f"echo {NAME} {before}"[5:])
            terminal.type("\t")
            terminal.await_text(f"{NAME} {after}")
            terminal.type("\x15")


def test_fish_completes_the_word(folder: Path) -> None:
    for before, after in TYPED:
        script = f"{NAME} completion fish | source; complete -C '{NAME} {before}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=folder,
            env=environment(folder),
            check=True,
        )
        words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        assert words == [after.rpartition(" ")[2]], (before, done.stderr)


def test_other_files_are_left_to_the_shell(folder: Path) -> None:
    assert completed(folder, "status n") == ["file,n"]
    assert completed(folder, "status su") == ["file,su"]


def test_names_are_data(folder: Path) -> None:
    """Nothing that a file or a node is called is more than a word to the shell."""
    (folder / "we;touch x.yaml").touch()
    (folder / "we$(id).yaml").touch()
    (folder / "web.yaml").write_text(INVENTORY.replace("alpha", '"al pha"').replace("bravo", '"$(id)"'))
    assert completed(folder, "status we") == ["plain,web.yaml"]
    assert completed(folder, "drain -i web.yaml ") == ["plain,broken"]


def test_without_an_inventory_there_are_no_nodes(folder: Path) -> None:
    assert completed(folder, "drain ") == []
    assert completed(folder, "drain -i gone.yaml ") == []


def test_every_verb_is_offered(folder: Path) -> None:
    assert completed(folder, "") == [f"plain,{verb}" for verb in VERBS]


def test_every_node_and_every_inventory_is_found() -> None:
    """By what the usage calls them: what is called otherwise is not completed."""
    commands = dict(walk(group))
    inventories = {path for path, command in commands.items() if any(map(takes_inventory, command.params))}
    nodes = {path for path, command in commands.items() if any(map(takes_node, command.params))}
    assert {(verb,) for verb in VERBS} - {path[:1] for path in inventories} <= {
        (verb,) for verb in ("init", "schema", "completion", "man")
    }
    assert nodes >= {
        ("drain",),
        ("undrain",),
        ("rolling",),
        ("explain",),
        ("lab", "cut"),
        ("lock", "recover"),
    }


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_heavy_is_imported(verb: str, folder: Path) -> None:
    script = (
        "import sys, click.shell_completion as shells\n"
        "from trscaler_gen.cli import group\n"
        "made = shells.BashComplete(group, {}, 'trscaler-gen', '_X')\n"
        f"assert made.get_completions([{verb!r}], '--')\n"
        f"made.get_completions([{verb!r}, 'web.yaml'], '')\n"
        "print(*{'paramiko', 'numpy', 'cryptography'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=folder, check=True
    )
    assert done.stdout == "\n"
