"""Who fails while the machine stands still is run again, and no example is against the clock."""

from __future__ import annotations

from again import pytest_configure, pytest_runtest_protocol, pytest_terminal_summary
from hypothesis import HealthCheck, settings
from workers import pytest_xdist_make_scheduler

__all__ = [
    "pytest_configure",
    "pytest_runtest_protocol",
    "pytest_terminal_summary",
    "pytest_xdist_make_scheduler",
]

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
