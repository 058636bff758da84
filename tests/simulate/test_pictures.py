"""``--html`` and ``--svg``: where they write, what they replace, and what they say when they cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import pytest

from .samples import ROOT

INVENTORY = ROOT / "inventory" / "lab.yaml"


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    path = tmp_path / "traffic.csv"
    rows = (f"203.0.113.{number},192.0.2.100,{number},{number * 100}" for number in range(1, 200))
    path.write_text("\n".join(("source,destination,packets,bytes", *rows)) + "\n")
    return path


def simulate(traffic: Path, *more: str | Path, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trscaler_gen", "simulate", INVENTORY, "--traffic", traffic, *more]
    return subprocess.run(
        list(map(str, argv)),
        cwd=traffic.parent,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_both_are_written_and_told_of(traffic: Path) -> None:
    done = simulate(traffic, "--html", "page.html", "--svg", "chart.svg")
    assert (done.returncode, done.stderr) == (0, "page.html: written\nchart.svg: written\n")
    assert "As it is" in done.stdout
    assert "<!DOCTYPE html>" in (traffic.parent / "page.html").read_text()
    assert xml.dom.minidom.parse(str(traffic.parent / "chart.svg"))


def test_a_file_is_replaced_and_a_link_is_followed(traffic: Path) -> None:
    real = traffic.parent / "real.svg"
    real.write_text("old")
    (traffic.parent / "link.svg").symlink_to("real.svg")
    done = simulate(traffic, "--svg", "link.svg")
    assert done.stderr == "link.svg: replaced\n"
    assert real.read_text().startswith("<svg") and (traffic.parent / "link.svg").is_symlink()


def test_the_umask_decides_who_reads_it(traffic: Path) -> None:
    before = os.umask(0o027)
    try:
        simulate(traffic, "--svg", "chart.svg")
    finally:
        os.umask(before)
    assert (traffic.parent / "chart.svg").stat().st_mode & 0o777 == 0o640


def test_standard_output_holds_the_picture_alone(traffic: Path) -> None:
    done = simulate(traffic, "--svg", "-")
    assert done.returncode == 0 and xml.dom.minidom.parseString(done.stdout)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--html", "gone/page.html"), "cannot write gone/page.html: there is no such folder"),
        (("--svg", "."), "'.' is a directory"),
        (("--html", "/dev/full"), "cannot write /dev/full: No space left on device"),
        (("--html", "a", "--svg", "a"), "--html and --svg name the same file"),
        (("--html", "traffic.csv"), "traffic.csv is read: give the picture another name"),
        (("--svg", "circle"), "cannot write circle: its links lead in a circle"),
        (("--html", "-", "--json"), "--json and a picture cannot both go to standard output"),
    ],
)
def test_what_cannot_be_written_is_told(traffic: Path, more: tuple[str, ...], said: str) -> None:
    traffic.with_name("circle").symlink_to("circle")
    before = traffic.read_bytes()
    done = simulate(traffic, *more)
    assert traffic.read_bytes() == before
    assert done.returncode in (1, 2) and said in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_missing_folder_is_told_before_the_traffic_is_read(traffic: Path) -> None:
    done = simulate(traffic.with_name("gone.csv"), "--html", "gone/page.html")
    assert "gone/page.html" in done.stderr and "gone.csv" not in done.stderr


def test_a_full_standard_output_is_told(traffic: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = simulate(traffic, "--svg", "-", stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def test_a_pipe_stays_a_pipe(traffic: Path) -> None:
    """Replaced by a file, whoever reads it would wait for ever, and /dev/null would be lost to everybody."""
    pipe = traffic.with_name("pipe")
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert simulate(traffic, "--svg", pipe).returncode == 0
        read, _ = reader.communicate(timeout=300)
    assert read.startswith(b"<svg") and pipe.is_fifo()
