"""Somebody who runs ``trscaler-gen`` against real sshds.

The bundles are those of the tests: real ones would change this host's own network.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ssh.nodes import CLUSTER, LINK, Lan
from trscaler_gen import pipeline
from trscaler_gen.bundle import LOCK
from trscaler_gen.cli import apply as apply_module
from trscaler_gen.cli import history as history_module
from trscaler_gen.cli import plan as plan_module
from trscaler_gen.cli import rollback as rollback_module
from trscaler_gen.lockfile import lock_path
from trscaler_gen.pipeline import Compiled


@dataclass(frozen=True)
class User:
    """Somebody with an inventory."""

    lan: Lan
    inventory: Path

    def write(self, *nodes: str, **keys: object) -> None:
        """Put these nodes into the inventory."""
        lines = [
            f"cluster: {CLUSTER}",
            f"link: {LINK}",
            "virtual_addresses: [192.0.2.100]",
            f"ssh: {{config: {self.lan.folder / 'config'}}}",
            *(f"{key}: {json.dumps(value)}" for key, value in keys.items()),
            "nodes:",
            *(f"  {name}: {{address: 192.0.2.{name.removeprefix('n')}}}" for name in nodes),
        ]
        self.inventory.write_text("\n".join(lines) + "\n")

    def with_fakes(self, compiled: Compiled) -> Compiled:
        """The same with the tests' bundles; the lock decides what is in them."""
        lock = next(iter(compiled.bundles.values())).files[LOCK].decode()
        bundles = {name: self.lan.bundle(name, "", lock=lock) for name in compiled.bundles}
        return dataclasses.replace(compiled, bundles=bundles)

    def apply(self, *options: str, source: Path | None = None, stdin: str = "") -> Result:
        return CliRunner().invoke(
            apply_module.command, [str(source or self.inventory), *options], input=stdin
        )

    def plan(self, *options: str) -> Result:
        return CliRunner().invoke(plan_module.command, [str(self.inventory), *options])

    def rollback(self, *options: str) -> Result:
        return CliRunner().invoke(rollback_module.command, [str(self.inventory), *options])

    def history(self) -> dict[str, Any]:
        result = CliRunner().invoke(history_module.command, [str(self.inventory), "--json"])
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    @property
    def lock(self) -> Path:
        return lock_path(self.inventory)


def user_of(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> User:
    """Two nodes and an inventory to write; what is compiled holds the tests' scripts."""
    lan.boot("n1", "n2")
    someone = User(lan, lan.folder / "web.yaml")

    def compile_inventory(path: Path) -> Compiled:
        return someone.with_fakes(pipeline.compile_inventory(path))

    def compile_text(path: Path, text: str, **locks: object) -> Compiled:
        return someone.with_fakes(pipeline.compile_text(path, text, **locks))  # type: ignore[arg-type]

    monkeypatch.setattr(plan_module, "compile_inventory", compile_inventory)
    monkeypatch.setattr(apply_module, "compile_inventory", compile_inventory)
    monkeypatch.setattr(apply_module, "compile_text", compile_text)
    return someone


def actions(result: Result) -> dict[str, str]:
    """Node -> what became of it, from the last lines of the output."""
    rows = [line.split() for line in result.stdout.splitlines()]
    known = {
        "started",
        "swapped",
        "restarted",
        "switched",
        "unchanged",
        "stopped",
        "absent",
        "reverted",
        "failed",
        "untouched",
    }
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[1] in known and row[0] != "?"}
