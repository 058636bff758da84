"""The wheel alone, away from the working tree, does what the working tree does."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trscaler_gen.cli.init import sample
from trscaler_gen.pipeline import compile_inventory

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trscaler_gen"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by hatchling as `pip wheel` would, without a network and without a trace in the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    argv = [*pip, "--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={folder}", str(ROOT)]
    subprocess.run(argv, check=True, timeout=120, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and its command alone; dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", f"--target={folder}", str(wheel)], check=True, timeout=120
    )
    return folder


def run(installed: Path, cwd: Path, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """The wheel's own command; its package comes before the working tree's."""
    return subprocess.run(
        [sys.executable, str(installed / "bin" / "trscaler-gen"), *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    """Not Python alone: scripts that run on nodes, templates, and the marker of types."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    wanted = {str(path.relative_to(ROOT)) for path in ours}
    wanted |= {f"trscaler_gen/templates/{path.name}" for path in (ROOT / "templates").iterdir()}
    assert {path.suffix for path in ours} >= {".py", ".sh"}
    assert wanted <= inside


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"trscaler_gen"}


def test_the_wheel_runs_its_own_files(installed: Path, tmp_path: Path) -> None:
    script = (
        "import trscaler_gen, trscaler_gen.render as r; print(trscaler_gen.__file__, r.template_folder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert done.stdout.split() == [
        str(installed / "trscaler_gen" / "__init__.py"),
        str(installed / "trscaler_gen" / "templates"),
    ]


def test_init_schema_and_check(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "init", "web.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "web.yaml").read_text() == sample("web", "eth0")
    assert '"virtual_addresses"' in run(installed, tmp_path, "schema").stdout
    done = run(installed, tmp_path, "check", "web.yaml")
    assert done.returncode == 0, done.stderr


def test_build_gives_the_same_bytes_as_the_working_tree(installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(sample("web", "eth0"))
    done = run(installed, tmp_path, "build", "web.yaml", "-o", "out")
    assert done.returncode == 0, done.stderr
    for node, bundle in compile_inventory(path).bundles.items():
        written = {file.name: file.read_bytes() for file in (tmp_path / "out" / node).iterdir()}
        assert written == bundle.files
