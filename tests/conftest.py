"""For all tests: one that fails while the machine stands still is run again."""

from __future__ import annotations

from again import pytest_configure, pytest_runtest_protocol, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_runtest_protocol", "pytest_terminal_summary"]
