"""The manual page: whole, right by groff's own judgement, and nothing of it beyond the edge of a terminal."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trscaler_gen.cli import NAME, examples, group, walk
from trscaler_gen.cli.manual import manual

SECTIONS = [
    *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS"),
    *("FILES", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"),
]
WIDTH = 80


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("man") / f"{NAME}.1"
    path.write_text(CliRunner().invoke(group, ["man"]).output)
    return path


def formatted(page: Path) -> tuple[str, str]:
    """The page on a terminal, without overstriking, and what man has to complain about."""
    environment = {**os.environ, "MANWIDTH": str(WIDTH), "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout), done.stderr


def complaints(page: Path) -> str:
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", str(page)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stderr


def test_groff_and_man_have_no_complaint(page: Path) -> None:
    assert complaints(page) == ""
    assert formatted(page)[1] == ""


def test_what_is_wrong_is_complained_about(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.1"
    wrong.write_text(".TH X 1\n.SH NAME\nx \\- y\n.NO SUCH MACRO\n")
    assert complaints(wrong) != ""


def test_sections(page: Path) -> None:
    assert re.findall(r"^\.SH (.*)$", page.read_text(), re.MULTILINE) == SECTIONS


def test_nothing_is_cut_off_or_beyond_the_edge(page: Path) -> None:
    text = formatted(page)[0]
    assert max(map(len, text.splitlines())) <= WIDTH
    words = "".join(text.replace("\u2010\n", "").split())
    for path, command in walk(group):
        for param in command.params:
            options = param.opts if isinstance(param, click.Option) else ()
            assert all(option in words for option in options), path
        for example in examples(command):
            assert "".join(example.split()) in words.replace("\\", "")


def test_every_command_is_told(page: Path) -> None:
    told = re.findall(r"^\.SS (.*)$", page.read_text(), re.MULTILINE)
    assert told == [" ".join(path).replace("-", "\\-") for path, _ in walk(group)]


def test_the_same_version_gives_the_same_page(page: Path) -> None:
    assert manual(group, "1.2.3") == manual(group, "1.2.3")
    assert page.read_text().startswith(f'.TH {NAME.upper()} 1 "" ')


def test_nothing_in_a_help_text_is_a_request() -> None:
    @click.group(help="A group.\n\n.ig\n\nExample: trscaler-gen 'x' \\fB -n")
    def guilty() -> None:
        pass

    guilty.add_command(click.Command("\\fBc", help=".so /etc/passwd\n\n'br"))
    text = manual(guilty, "1")
    assert not re.search(r"^(?:\.so|\.ig|')", text, re.MULTILINE)
    assert "\\fB" not in text
