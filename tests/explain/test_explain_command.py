"""``explain`` as a user runs it, without nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trscaler_gen.cli.explain import command
from trscaler_gen.errors import OperationError
from trscaler_gen.lockfile import write_lock
from trscaler_gen.pipeline import compile_inventory

TEXT = """\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100, "2001:db8::100"]
nodes:
  n1: {address: 192.0.2.1}
  n2: {address: 192.0.2.2}
"""
REQUEST = "IP 203.0.113.9.4000 > 192.0.2.100.80: Flags [S]\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(TEXT)
    compiled = compile_inventory(path)
    write_lock(compiled.lock_path, compiled.lock)
    return path


def run(path: Path, *words: str, lines: bytes = b"") -> Result:
    return CliRunner().invoke(command, [str(path), *words], input=lines)


def refusal(result: Result) -> OperationError:
    assert isinstance(result.exception, OperationError), result.output
    return result.exception


def test_without_a_lock_nothing_is_said_or_written(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(TEXT)
    refused = refusal(run(path, "203.0.113.9", "192.0.2.100"))
    assert "there is no lock" in refused.message and "lock recover" in refused.hint
    assert list(tmp_path.iterdir()) == [path]


def test_an_inventory_that_is_ahead_of_its_lock(path: Path) -> None:
    before = path.with_suffix(".lock").read_bytes()
    path.write_text(f"{TEXT}  n3: {{address: 192.0.2.3}}\n")
    result = run(path, "203.0.113.9", "192.0.2.100")
    assert result.exit_code == 0
    assert "n3" in result.stdout and "so it will be after `apply`" in result.stdout
    assert path.with_suffix(".lock").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("client.example.net", "192.0.2.100"), "is not an IP address"),
        (("203.0.113.9", "192.0.2.100:80"), "is not an IP address"),
        (("203.0.113.9", "192.0.2.100", "x"), "put the line in quotes"),
        (("203.0.113.9", "192.0.2.100", "--down", "n1,n9"), 'has no node "n9"'),
        (("203.0.113.9", "192.0.2.100", "--down", "n1", "--live"), "--live what is"),
        ((), "Missing argument"),
    ],
)
def test_command_lines_that_make_no_sense(path: Path, words: tuple[str, ...], says: str) -> None:
    result = run(path, *words)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("203.0.113.9", "2001:db8::100"), "different families"),
        (("203.0.113.9", "198.51.100.1"), "is a virtual address of web"),
        (("a \x1b[31m",), r"no addresses in"),
    ],
)
def test_what_no_node_decides(path: Path, words: tuple[str, ...], says: str) -> None:
    refused = refusal(run(path, *words))
    assert says in refused.message
    assert "\x1b" not in refused.message


def test_all_nodes_down(path: Path) -> None:
    result = run(path, "203.0.113.9", "192.0.2.100", "--down", "n1,n2")
    assert result.exit_code == 0
    assert "nobody answers" in result.stdout


def test_lines_that_are_bad_do_not_stop_the_others(path: Path) -> None:
    result = run(path, "--json", "-", lines=b"\xff\xfe\n" + REQUEST.encode() * 2 + b"x" * 100_000 + b"\n\n")
    assert result.exit_code == 1
    assert [json.loads(line)["source"] for line in result.stdout.splitlines()] == ["203.0.113.9"] * 2
    assert "line 1: no addresses" in result.stderr and "line 4: " in result.stderr
    assert result.stderr.endswith("2 lines explained, 2 not\n")


def test_no_line_at_all(path: Path) -> None:
    result = run(path, "-")
    assert (result.exit_code, result.stderr) == (1, "0 lines explained, 0 not\n")
