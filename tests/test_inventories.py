"""Several inventories, and folders of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trscaler_gen.cli.inventories import expand
from trscaler_gen.errors import InputError, OperationError


def write(folder: Path, name: str, cluster: str, *hosts: int) -> Path:
    nodes = "".join(f"  n{host}: {{address: 192.0.2.{host}}}\n" for host in hosts)
    path = folder / name
    path.write_text(f"cluster: {cluster}\nlink: eth0\nvirtual_addresses: [192.0.2.100]\nnodes:\n{nodes}")
    return path


def test_files_are_taken_as_given_and_once(tmp_path: Path) -> None:
    b, a = write(tmp_path, "b.yaml", "b", 1), write(tmp_path, "a.yaml", "a", 1)
    assert expand([b, a, b, tmp_path]) == (b, a)


def test_a_single_file_is_not_looked_into(tmp_path: Path) -> None:
    assert expand([tmp_path / "missing.yaml"]) == (tmp_path / "missing.yaml",)


def test_a_folder_gives_its_inventories_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "b.yml", "b", 1)
    write(tmp_path, "a.yaml", "a", 1)
    (tmp_path / "a.lock").write_text("cluster: a\n")
    (tmp_path / ".hidden.yaml").write_text("cluster: hidden\n")
    (tmp_path / "values.yaml").write_text("port: 80\n")
    (tmp_path / "folder.yaml").mkdir()
    assert [path.name for path in expand([tmp_path])] == ["a.yaml", "b.yml"]
    assert "values.yaml: no inventory" in capsys.readouterr().err


def test_a_folder_without_inventories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="no inventory in the folder"):
        expand([tmp_path])


def test_a_broken_inventory_in_a_folder_is_not_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "a", 1)
    (tmp_path / "b.yaml").write_text("cluster: b\nnodes: [\n")
    (tmp_path / "c.yaml").write_text("cluster: Capital\n")
    with pytest.raises(InputError) as caught:
        expand([tmp_path])
    assert {Path(problem.source).name for problem in caught.value.problems} == {"b.yaml", "c.yaml"}


def test_two_inventories_of_one_cluster_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "web", 1, 2)
    write(tmp_path, "b.yaml", "web", 3, 2)
    with pytest.raises(OperationError, match=r'both of cluster "web" with a node at 192\.0\.2\.2'):
        expand([tmp_path])


def test_clusters_of_one_name_at_two_sites_are_fine(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "web", 1, 2)
    write(tmp_path, "b.yaml", "web", 3, 4)
    assert len(expand([tmp_path])) == 2


def test_two_clusters_may_share_hosts(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "web", 1, 2)
    write(tmp_path, "b.yaml", "dns", 1, 2)
    assert len(expand([tmp_path])) == 2
