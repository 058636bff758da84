"""``trscaler-gen rebalance``: it edits the lock, says what moves, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from trscaler_gen.cli import main as run_main
from trscaler_gen.cli.rebalance import command
from trscaler_gen.lock import Lock
from trscaler_gen.lockfile import lock_path, read_lock, write_lock
from trscaler_gen.pipeline import compile_inventory
from trscaler_gen.reweigh import is_even


def write(folder: Path, *numbers: int) -> Path:
    path = folder / "web.yaml"
    document = {
        "cluster": "web",
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100"],
        "hash": {"buckets": 64},
        "nodes": {f"n{number}": {"address": f"192.0.2.{number}"} for number in numbers},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def built(path: Path) -> Lock:
    """Build as the command line does: the lock is written down."""
    lock = compile_inventory(path).lock
    write_lock(lock_path(path), lock)
    return lock


def rebalance(path: Path) -> Result:
    return CliRunner().invoke(command, [str(path)])


def test_an_uneven_lock_is_made_even(tmp_path: Path) -> None:
    built(write(tmp_path, *range(1, 10)))
    path = write(tmp_path, *range(4, 10))
    before = built(path)
    result = rebalance(path)
    assert result.exit_code == 0, result.output
    after = read_lock(lock_path(path))
    assert after is not None and is_even(after.placement)
    assert (after.before, after.switch) == (before.orders, before.serial + 1)
    assert "of 64 buckets" in result.output and "the least possible" in result.output
    assert "before: the fullest node has 1." in result.output
    assert f"next: trscaler-gen apply {path}" in result.output
    assert compile_inventory(path).lock == after


def test_an_even_one_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    built(path)
    text = lock_path(path).read_bytes()
    assert "nothing to do" in rebalance(path).output
    assert lock_path(path).read_bytes() == text


@pytest.mark.parametrize(
    ("is_built", "reason"), [(False, "does not exist"), (True, "has changes that are not in")]
)
def test_what_is_not_settled_is_refused(
    tmp_path: Path,
    is_built: bool,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path, 1, 2, 3)
    if is_built:
        built(path)
        write(tmp_path, 1, 2)
    monkeypatch.setattr("sys.argv", ["trscaler-gen", "rebalance", str(path)])
    with pytest.raises(SystemExit) as caught:
        run_main()
    assert caught.value.code == 1
    assert reason in capsys.readouterr().err
