"""A login that is neither root nor allowed to use sudo: every verb says so, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ssh.nodes import CLUSTER, LINK, Lan
from trscaler_gen.cli import group
from trscaler_gen.deploy.preflight import NOT_ROOT, objections
from trscaler_gen.errors import OperationError
from trscaler_gen.facts import Facts

# sshd reads authorized_keys as the user, who may not enter the tests' folder.
_KEYS = "AuthorizedKeysCommand /bin/cat {keys}\nAuthorizedKeysCommandUser root\n"


@pytest.fixture
def inventory(lan: Lan) -> Path:
    lan.boot("n1", extra=_KEYS.format(keys=lan.folder / "authorized_keys"))
    lan.run("n1", "useradd --no-create-home --home-dir / --shell /bin/sh --password '*' ops")
    path = lan.folder / "web.yaml"
    path.write_text(
        f"cluster: {CLUSTER}\nlink: {LINK}\nvirtual_addresses: [192.0.2.100]\n"
        f"ssh: {{user: ops, sudo: false, config: {lan.folder / 'config'}}}\n"
        "nodes: {n1: {address: 192.0.2.1}}\n"
    )
    return path


@pytest.mark.parametrize("verb", ["plan", "apply", "status", "history", "rollback", "lock recover"])
def test_every_verb_says_so(inventory: Path, verb: str) -> None:
    result = CliRunner().invoke(group, [*verb.split(), str(inventory)])
    assert result.exit_code != 0
    raised = result.exception if isinstance(result.exception, OperationError) else None
    said = " ".join(f"{result.output} {raised} {raised and raised.hint}".split())
    assert NOT_ROOT.message in said
    assert NOT_ROOT.hint in said or verb in ("status", "history"), "these show one line a node"


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_who_drains_is_told_as_well(inventory: Path, verb: str) -> None:
    result = CliRunner().invoke(group, [verb, "n1", "--inventory", str(inventory)])
    raised = result.exception if isinstance(result.exception, OperationError) else None
    assert result.exit_code == 1
    said = f"{result.output} {raised} {raised and raised.hint}"
    assert NOT_ROOT.message in said
    assert NOT_ROOT.hint in said


def test_a_tour_does_not_begin(inventory: Path) -> None:
    result = CliRunner().invoke(group, ["rolling", str(inventory), "--yes", "--", "true"])
    assert result.exit_code == 1
    assert isinstance(result.exception, OperationError)
    assert "nothing was begun" in result.exception.message


def test_every_objection_has_a_remedy(lan: Lan) -> None:
    facts = Facts(
        kernel="5.10.0",
        is_little_endian=False,
        nft="nftables v0.9.8",
        missing_tools=("tar",),
        free_kib=10,
    )
    found = objections(facts, LINK, lan.bundle("n1", ""))
    assert [objection.message.split()[-1] for objection in found] == [
        *("there", "needed", "first", "tar", "needed", "needed", LINK, "needed")
    ]
    assert all(objection.hint for objection in found)
    assert objections(facts, LINK, None) == (NOT_ROOT,)
