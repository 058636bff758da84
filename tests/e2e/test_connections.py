"""A planned change breaks no connection, and a crash only those of the node that crashed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cluster import Cluster, running_cluster
from .connections import assert_nothing_broke, under_load
from .operations import FOUR, write
from .planned import PLANNED, Planned


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five hosts: four are nodes, one may become one."""
    with running_cluster(tmp_path_factory.mktemp("connections"), "connections", nodes=5) as cluster:
        write(cluster, *FOUR)
        cluster.cli("apply", "--yes", str(cluster.path))
        yield cluster


@pytest.fixture
def cluster(town: Cluster) -> Cluster:
    town.settle(FOUR)
    return town


@pytest.mark.parametrize("change", PLANNED, ids=lambda change: change.name)
def test_a_planned_change_breaks_nothing(cluster: Cluster, change: Planned) -> None:
    with under_load(cluster, change.load) as clients:
        change.make(clients)
    assert_nothing_broke(clients.service, change.crossing)
