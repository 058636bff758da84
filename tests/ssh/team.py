"""Three nodes that hear each other, run a cluster, and are drained by somebody's commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ssh.nodes import Lan, await_true
from ssh.user import User, user_of
from trscaler_gen.cli import group
from trscaler_gen.errors import OperationError

NODES = ("n1", "n2", "n3")


class Team:
    """Somebody with three nodes that serve."""

    def __init__(self, lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
        lan.let_talk()
        self.lan = lan
        self.user: User = user_of(lan, monkeypatch)
        lan.boot("n3")
        lan.write_config()
        self.user.write(*NODES)
        applied = self.user.apply("--yes")
        assert applied.exit_code == 0, said(applied)
        lan.forget_journal()

    @property
    def inventory(self) -> str:
        return str(self.user.inventory)

    def run(self, *words: str) -> Result:
        """Run a verb in this process; what it raises is told as the command line would."""
        result = CliRunner().invoke(group, words)
        if result.exception is not None and not isinstance(result.exception, (SystemExit, OperationError)):
            raise result.exception
        return result

    def drain(self, *words: str) -> Result:
        return self.run("drain", *words, "--inventory", self.inventory)

    def undrain(self, *words: str) -> Result:
        return self.run("undrain", *words, "--inventory", self.inventory)

    def is_drained(self, node: str) -> bool:
        """By what lies on the node."""
        return (self.lan.nodes[node].folder / "lasts" / "web" / "drained").exists()

    @property
    def drained(self) -> tuple[str, ...]:
        return tuple(node for node in NODES if self.is_drained(node))

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb in a process of its own, which can be interrupted."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "trscaler_gen", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def await_word(self, node: str, name: str) -> None:
        """Until a node's script has come to a verb that it was told to wait in, or has left another word."""
        await_true((self.lan.nodes[node].folder / name).exists, f"{name} of {node}")


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Press Ctrl-C: exit status, standard output, standard error."""
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stdout, stderr


def said(result: Result) -> str:
    """All that a verb has told, on one line, with the error that ended it."""
    error = result.exception if isinstance(result.exception, OperationError) else None
    told = f"{error.message} {error.hint}" if error else ""
    return " ".join(f"{result.stdout} {result.stderr} {told}".split())


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]
