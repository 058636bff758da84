"""The command line as scripts see it.

Exit statuses: 0 done; 1 the inventory, a node or the machine needs mending; 2 the command line itself makes
no sense (as with most commands); 3 a bug of ours, with a traceback; 130 after a Ctrl-C, as shells count.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from trscaler_gen import __version__
from trscaler_gen.cli import VERBS, group, main

ROOT = Path(__file__).parent.parent
SCRIPT = Path(sys.executable).with_name("trscaler-gen")


def run(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *map(str, argv)], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


@pytest.mark.parametrize("command", [[str(SCRIPT)], [sys.executable, "-m", "trscaler_gen"]])
def test_version(command: list[str]) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"trscaler-gen, version {__version__}\n"


def commands() -> list[tuple[str, ...]]:
    """Every verb, and every verb of a verb."""
    found: list[tuple[str, ...]] = []
    for verb in VERBS:
        command = group.get_command(click.Context(group), verb)
        inner = list(command.commands) if isinstance(command, click.Group) else []
        found += [(verb,), *((verb, name) for name in inner)]
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_an_example(verb: str) -> None:
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"trscaler-gen\s+{verb}\b", done.stdout.partition("\n")[2]), "no example"


def test_diff_is_another_name_for_plan() -> None:
    assert run("diff", "--help").stdout.partition("\n")[2] == run("plan", "--help").stdout.partition("\n")[2]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = run(*command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: trscaler-gen {' '.join(command)}")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["no-such-verb"],
        ["--no-such-option"],
        ["build"],
        ["build", "x.yaml"],
        ["build", "x.yaml", "-o", "pyproject.toml"],
        ["check", "a.yaml", "b.yaml"],
        ["lab", "probe", "--sources", "many"],
    ],
    ids=" ".join,
)
def test_command_lines_that_make_no_sense_exit_2(argv: list[str]) -> None:
    done = run(*argv)
    assert done.returncode == 2
    assert "Usage: trscaler-gen" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("verb", ["check", "build", "apply"])
def test_bad_input_exits_1_with_its_place(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("cluster: web\nlink: eth0\nvirtual_addresses: []\nnodes: {}\n")
    done = run(verb, path, *(["-o", str(tmp_path / "out")] if verb == "build" else []))
    assert done.returncode == 1
    assert re.search(r"bad\.yaml:3:\d+: error\[", done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [path]


def test_trouble_outside_exits_1_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "taken.yaml").write_text("mine")
    done = run("init", tmp_path / "taken.yaml")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "hint: " in done.stderr


def test_bug_exits_3_with_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("trscaler_gen.inventory.schema.json_schema", broken)
    monkeypatch.setattr(sys, "argv", ["trscaler-gen", "schema"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    errors = capsys.readouterr().err
    assert "Traceback" in errors and "ZeroDivisionError: surprise" in errors
    assert "this is a bug in trscaler-gen" in errors


def test_reader_that_goes_away_is_no_bug() -> None:
    """The pipe is closed before the first byte: `trscaler-gen schema | true`, without the race."""
    process = subprocess.Popen([SCRIPT, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_build_imports_neither_paramiko_nor_rich(tmp_path: Path) -> None:
    """What keeps the start fast: each verb pays for its own imports alone."""
    script = "import sys, trscaler_gen.cli.build; print(*{'paramiko', 'rich', 'nftables'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "\n"
