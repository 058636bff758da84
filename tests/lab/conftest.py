from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.world import inventory
from trscaler_gen.lab import Lab


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A place for one test's lab, apart from the user's own; cleared afterwards, even if the test failed."""
    path = Path("/run/trscaler-gen") / f"test-lab-{os.getpid()}-{request.node.name[:24].strip('[]')}"
    yield path
    Lab.clear(path)


@pytest.fixture(scope="session")
def shared_directory() -> Iterator[Path]:
    """Where the lab is that the tests share."""
    path = Path("/run/trscaler-gen") / f"test-lab-{os.getpid()}-shared"
    yield path
    Lab.clear(path)


@pytest.fixture(scope="session")
def lab(shared_directory: Path) -> Iterator[Lab]:
    """Three nodes, shared by tests that leave them as they found them."""
    with Lab.up(inventory(3), shared_directory) as running:
        yield running
