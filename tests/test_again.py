"""Whether a test is run again hangs on the machine alone, and a fault stays one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """\
import again
from again import pytest_configure, pytest_runtest_protocol, pytest_terminal_summary
from e2e.witness import Span

class Witness:
    def stalls(self, since_s):
        return tuple(Span(since_s, since_s + length_s) for length_s in ({lengths}))

again.witness = Witness
"""
TESTS = """\
import pytest
from pathlib import Path

def nth(name):
    path = Path(__file__).with_name(name)
    path.write_text(path.read_text() + "." if path.exists() else ".")
    return len(path.read_text())

@pytest.fixture(scope="module")
def late():
    assert nth("fixture") == 2
    return "there"

def test_well():
    nth("well")

def test_fails_once():
    assert nth("once") == 2

def test_fails():
    assert nth("always") == 0

def test_fixture_fails_once(late):
    assert late == "there"

def test_fixture_is_kept(late):
    assert nth("kept") == 1
"""


def run(folder: Path, *lengths_s: float) -> tuple[dict[str, int], str]:
    """How often each test was run on a machine that stood still so long each time, and what pytest says."""
    (folder / "conftest.py").write_text(
        CONFTEST.format(lengths="".join(f"{length}, " for length in lengths_s))
    )
    (folder / "test_it.py").write_text(TESTS)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        str(folder),
    ]
    environment = {"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    names = ("well", "once", "always", "fixture", "kept")
    return {name: len(path.read_text()) for name in names if (path := folder / name).exists()}, done.stdout


@pytest.mark.parametrize("lengths_s", [(), (0.2, 0.1)])
def test_without_a_long_stall_nothing_is_run_again(tmp_path: Path, lengths_s: tuple[float, ...]) -> None:
    runs, said = run(tmp_path, *lengths_s)
    assert runs == {"well": 1, "once": 1, "always": 1, "fixture": 1}
    assert "2 failed, 1 passed, 2 errors" in said
    assert "run again" not in said


def test_with_one_what_failed_is_run_again_and_a_fault_fails_again(tmp_path: Path) -> None:
    runs, said = run(tmp_path, 0.1, 0.3)
    assert runs == {"well": 1, "once": 2, "always": 3, "fixture": 2, "kept": 1}
    assert "1 failed, 4 passed" in said
    assert "test_it.py::test_fails_once: the machine stood still for 0.30 s" in said
