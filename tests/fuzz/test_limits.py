"""Files made to exhaust whoever reads them: refused, with the memory and the time of any other file."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trscaler_gen.errors import InputError
from trscaler_gen.inventory.load import parse_inventory

from . import samples

#: of address space: what numpy and all modules need, and a quarter of a gigabyte more
MEMORY_BYTES = 1 << 30
CPU_S = 60
MEGABYTE = 1 << 20
#: larger than any memory; a file that is all hole takes no room on disk
HUGE = 1 << 40


def filled(unit: bytes) -> bytes:
    """As much of it as is read of an inventory."""
    return (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]


def aliases() -> bytes:
    """Each value is made of ten of the one before: a billion laughs."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    return "\n".join(lines).encode()


HOSTILE = {
    **{f"all {unit!r}": filled(unit) for unit in (b"[", b"{", b"- ", b"? ", b"&a ", b"*a ", b"a: ", b"!!x ")},
    **{
        f"all {unit!r}": filled(unit)
        for unit in (b"'", b'"', b"\\", b"#", b"%", b"\n", b" ", b"\0", b"9", b"a")
    },
    "deeper and deeper": b"".join(b" " * depth + b"a:\n" for depth in range(1400)),
    "keys": b"".join(b"k%d: 1\n" % number for number in range(80_000)),
    "one key again": filled(b"cluster: web\n"),
    "anchors": b"".join(b"- &a%d x\n" % number for number in range(80_000)),
    "nodes": b"nodes:\n" + b"".join(b"  n%d: {address: x}\n" % number for number in range(9_000)),
    "a billion laughs": aliases(),
    "an alias in itself": b"a: &a [*a, *a]\n",
    "escapes": b'"' + b"\\U0010FFFF" * 100_000 + b'"',
    "a long number": b"cluster: 1" + b"0" * 900_000,
    "documents": filled(b"---\n"),
}


def limited(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python with an end to its memory and its time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))

    return subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=limit,
        timeout=300,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert len(done.stderr) < MEGABYTE and "error" in done.stderr
    return done.stderr


@pytest.mark.parametrize("name", HOSTILE)
def test_an_inventory_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_inventory(HOSTILE[name], "hostile.yaml")
    assert caught.value.problems


def test_inventories_are_refused_with_little_memory(tmp_path: Path) -> None:
    """All of them in one folder, by one process."""
    for number, data in enumerate(HOSTILE.values()):
        (tmp_path / f"h{number}.yaml").write_bytes(b"cluster: web\n" + data)
    refused(limited("-m", "trscaler_gen", "build", str(tmp_path), "-o", str(tmp_path / "out")))


def huge(path: Path, beginning: bytes) -> Path:
    """A file of a terabyte that begins so."""
    path.write_bytes(beginning)
    os.truncate(path, HUGE)
    return path


def inventory(folder: Path) -> str:
    path = folder / "web.yaml"
    path.write_bytes(samples.INVENTORY)
    return str(path)


def huge_inventory(folder: Path) -> tuple[str, ...]:
    return "build", str(huge(folder / "web.yaml", samples.INVENTORY)), "-o", str(folder / "out")


def huge_in_folder(folder: Path) -> tuple[str, ...]:
    huge(folder / "web.yaml", b"cluster: web\n")
    return "build", str(folder), "-o", str(folder / "out")


def huge_lock(folder: Path) -> tuple[str, ...]:
    huge(folder / "web.lock", samples.lock())
    return "build", inventory(folder), "-o", str(folder / "out")


def huge_plan(folder: Path) -> tuple[str, ...]:
    return "apply", "--yes", str(huge(folder / "web.plan", samples.plan()))


@pytest.mark.parametrize("arguments", [huge_inventory, huge_in_folder, huge_lock, huge_plan])
def test_a_file_larger_than_memory_is_refused(
    tmp_path: Path, arguments: Callable[[Path], tuple[str, ...]]
) -> None:
    refused(limited("-m", "trscaler_gen", *arguments(tmp_path)))


@pytest.mark.parametrize("unit", [b"0", b"1.2.3.4,", b"\0"])
def test_a_capture_that_unpacks_to_more_than_memory_is_read_to_its_end(tmp_path: Path, unit: bytes) -> None:
    """Members of gzip follow one another: two gigabytes without a line's end take two megabytes."""
    member = gzip.compress(filled(unit))
    (tmp_path / "web.csv.gz").write_bytes(gzip.compress(b"source,destination\n") + member * 2048)
    done = limited(
        "-m", "trscaler_gen", "simulate", inventory(tmp_path), "--traffic", str(tmp_path / "web.csv.gz")
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "1 record could not be read" in done.stdout and len(done.stdout) < MEGABYTE


def test_twin_who_reads_all_of_it_runs_out_of_memory(tmp_path: Path) -> None:
    path = huge(tmp_path / "web.plan", samples.plan())
    done = limited("-c", "import sys; open(sys.argv[1]).read()", str(path))
    assert "MemoryError" in done.stderr
