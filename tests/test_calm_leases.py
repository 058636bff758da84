"""What is said of all peers at once ends before the lease of any of them, whatever the kernel's clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.nodeplan import CALM_SLACK_MS, NodePlan, leases

HZ = (100, 250, 300, 1000)


@dataclass(frozen=True)
class Pair:
    """As much of a node's plan as the durations follow from."""

    interval_ms: int
    missed: int

    @property
    def leases(self) -> object:
        return leases(self.interval_ms, self.missed)

    peers = ("another",)

    @property
    def calm_ms(self) -> int:
        return NodePlan.calm_ms.fget(self)  # type: ignore[attr-defined, no-any-return]

    @property
    def peer_ms(self) -> int:
        return leases(self.interval_ms, self.missed).peer_ms


@pytest.mark.parametrize("rounded", [math.floor, math.ceil], ids=["down", "up"])
@pytest.mark.parametrize("hz", HZ)
@given(interval=st.integers(1, 4095), missed=st.integers(1, 20))
def test_it_ends_first(hz: int, rounded: Callable[[float], int], interval: int, missed: int) -> None:
    """A peer is fresh up to the jiffy before its time is over; what is written then holds as long again."""
    pair = Pair(10 * interval, missed)
    fresh = calm = rounded(pair.calm_ms * hz / 1000)
    lease = rounded(pair.peer_ms * hz / 1000)
    assert fresh - 1 + calm <= lease


def test_a_longer_one_would_not() -> None:
    """The twin: with a jiffy more on both it would outlive the lease."""
    pair = Pair(10, 3)
    fresh = calm = math.floor((pair.calm_ms + 4) * 250 / 1000)
    assert fresh - 1 + calm > math.floor(pair.peer_ms * 250 / 1000)


@pytest.mark.parametrize(
    ("interval_ms", "missed", "used"), [(10, 3, True), (10, 2, False), (100, 2, True), (1000, 1, False)]
)
def test_it_spans_an_interval_or_is_left_out(interval_ms: int, missed: int, used: bool) -> None:
    pair = Pair(interval_ms, missed)
    assert bool(pair.calm_ms) is used
    assert not used or pair.calm_ms >= interval_ms + CALM_SLACK_MS
