"""A test that fails while the machine stands still is run again; one that fails without a stall never is.

What a test finds depends on heartbeats that come. On a machine that stops for as long as their interval it
can find what is no fault of the product's. A fault fails again.
"""

from __future__ import annotations

import signal
import time

import pytest
from _pytest.runner import runtestprotocol
from e2e.witness import witness

#: as long as a heartbeat interval of the tests' clusters
STALL_S = 0.25
TIMES = 3

#: what a report tells, also from another process, of a test that was run again
AGAIN = "run again"


def pytest_configure() -> None:
    """Watch the machine from now on.

    Whoever starts the tests in a shell's background hands down that Ctrl-C is ignored: commands that tests
    interrupt would never end.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    witness()


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test, again where the machine stood still; what the last run says counts."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item, nextitem):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _reports(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """What the last run of a test says."""
    for _ in range(TIMES - 1):
        began_s = time.monotonic()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if not any(report.failed for report in reports):
            return reports
        stalls = [stall.length_s for stall in witness().stalls(began_s) if stall.length_s > STALL_S]
        if not stalls:
            return reports
        item.user_properties.append((AGAIN, f"the machine stood still for {max(stalls):.2f} s"))
        if reports[0].failed:  # a fixture of a module that failed would fail again as it did
            item.session._setupstate.teardown_exact(None)
    return runtestprotocol(item, log=False, nextitem=nextitem)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was run again, and why."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    told = {
        f"{report.nodeid}: {value}": None
        for report in reports
        if isinstance(report, pytest.TestReport)
        for name, value in report.user_properties
        if name == AGAIN
    }
    if told:
        terminalreporter.section(AGAIN)
        for line in told:
            terminalreporter.line(line)
