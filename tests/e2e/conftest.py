"""One cluster of four nodes for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from .cluster import Cluster, running_cluster


@pytest.fixture(scope="package")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e2e"), "e2e") as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The shared cluster, whole again after whatever the test before did to it."""
    shared_cluster.settle()
    return shared_cluster


@pytest.fixture
def inventory(cluster: Cluster) -> Iterator[dict[str, object]]:
    """The inventory as a document to change; what is deployed is as before once the test has ended."""
    original = cluster.path.read_text()
    document = yaml.safe_load(original)
    assert isinstance(document, dict)
    yield document
    cluster.path.write_text(original)
    cluster.apply()
