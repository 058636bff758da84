"""`build` of several inventories, and of a folder: as each one alone; trouble of one is no other's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "trscaler_gen", "build"]


def write(folder: Path, cluster: str, nodes: int = 2, extra: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    hosts = "".join(f"  n{host}: {{address: 192.0.2.{host}}}\n" for host in range(1, nodes + 1))
    path = folder / f"{cluster}.yaml"
    path.write_text(
        f"cluster: {cluster}\nlink: eth0\nvirtual_addresses: [192.0.2.100]\n{extra}nodes:\n{hosts}"
    )
    return path


def build(*argv: Path | str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, argv)], capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_cluster_is_built_as_it_is_alone(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(7)]
    for name in names:
        write(tmp_path / "in", name, nodes=3)
    done = build(tmp_path / "in", "-o", tmp_path / "all")
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        f"3 bundles in {tmp_path}/all/{name}" for name in names
    ]
    for name in names:
        build(tmp_path / "in" / f"{name}.yaml", "-o", tmp_path / "alone" / name)
    assert contents(tmp_path / "all") == contents(tmp_path / "alone")
    assert len(contents(tmp_path / "all")) == 7 * 3 * 10


def test_a_folder_with_one_inventory_has_the_layout_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "in", "web")
    build(tmp_path / "in", "-o", tmp_path / "out")
    assert (tmp_path / "out/web/n1/MANIFEST").is_file()


def test_what_cannot_be_built_keeps_no_other_from_it(tmp_path: Path) -> None:
    good, bad, taken = (write(tmp_path, name) for name in ("good", "bad", "taken"))
    bad.with_suffix(".lock").write_text("no lock\n")
    (tmp_path / "out/taken/n1").mkdir(parents=True)
    (tmp_path / "out/taken/n1/mine").write_text("a stranger's")
    done = build(bad, taken, good, "-o", tmp_path / "out", expect=1)
    assert done.stdout.startswith("2 bundles in ") and done.stdout.count("\n") == 1
    assert f"{tmp_path}/bad.lock" in done.stderr and "is no bundle of cluster taken" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/bad").exists() and not taken.with_suffix(".lock").exists()
    assert contents(tmp_path / "out/taken") == {"n1/mine": b"a stranger's"}


def test_nothing_is_left_where_nothing_could_be_built(tmp_path: Path) -> None:
    paths = [write(tmp_path, name) for name in ("a", "b")]
    for path in paths:
        path.with_suffix(".lock").write_text("no lock\n")
    build(*paths, "-o", tmp_path / "new/out", expect=1)
    assert not (tmp_path / "new").exists()


def test_an_invalid_inventory_is_told_before_anything_is_written(tmp_path: Path) -> None:
    good, bad = write(tmp_path, "good"), write(tmp_path, "bad", extra="hash: {buckets: many}\n")
    done = build(good, bad, "-o", tmp_path / "out", expect=1)
    assert "bad.yaml:4:" in done.stderr and not (tmp_path / "out").exists()


def test_two_clusters_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", "web"), write(tmp_path / "b", "web")
    other.write_text(other.read_text().replace("192.0.2.", "198.51.100."))
    done = build(one, other, "-o", tmp_path / "out", expect=1)
    assert "both of cluster" in done.stderr and not (tmp_path / "out").exists()


def test_a_follower_is_built_after_the_cluster_that_it_follows(tmp_path: Path) -> None:
    write(tmp_path, "zebra")
    extra = "heartbeat: {first_vrid: 101}\nhash: {like: zebra.yaml}\n"
    write(tmp_path, "ant", extra=extra)
    done = build(tmp_path, "-o", tmp_path / "out")
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        f"2 bundles in {tmp_path}/out/{name}" for name in ("zebra", "ant")
    ]


def test_ctrl_c_leaves_each_cluster_whole_or_not_begun(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / "in", f"c{number:02}", nodes=16)
    argv = [*COMMAND, str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.strip() == "interrupted"
    built = sorted((tmp_path / "out").iterdir())
    assert 0 < len(built) < 60
    for folder in built:
        assert len(contents(folder)) == 16 * 10 and not list(folder.glob(".trscaler-gen-*"))
        assert (tmp_path / "in" / f"{folder.name}.lock").is_file()
