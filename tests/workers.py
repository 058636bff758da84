"""Who runs which tests where there are several workers (`pytest -n 2`): files, but all clusters at one.

Two clusters that are measured at once would disturb each other; beside what needs a CPU only they may be.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

#: one worker's, all of them, in their order
TOGETHER = ("tests/e2e/", "tests/faults/")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """A file at a time, in the order of the files; those that belong together are one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return TOGETHER[0] if path.startswith(TOGETHER) else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Also where --dist says something else."""
    return Scheduling(config, log)
