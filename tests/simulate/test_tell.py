"""Numbers and sentences that the views of a simulation share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trscaler_gen.simulate.result import Counts, HeavyClient
from trscaler_gen.simulate.tell import (
    duration,
    families_sentence,
    fullest,
    headline,
    heavy_sentence,
    percent,
    problem_sentence,
    read_sentence,
    size,
)

from .samples import empty, four, two


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.00 kB"),
        (9_994_999, "9.99 MB"),
        (9_999_999, "10.0 MB"),
        (23_000_000, "23.0 MB"),
        (954_309_165, "954 MB"),
        (10**15, "1.00 PB"),
        (7 * 10**19, "70000 PB"),
    ],
)
def test_sizes(count: int, told: str) -> None:
    assert size(count) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, "0 s"), (0.01234, "0.0123 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3672.4, "1 h 1 min")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_one_is_not_in_the_plural() -> None:
    one = replace(
        four(), total=Counts(1, 1, 1), seconds=None, families={4: Counts(1, 1, 1), 6: Counts(2, 2, 2)}
    )
    assert read_sentence(one) == "1 flow, 1 packet, 1 byte"
    assert families_sentence(one) == "IPv4 1 flow, IPv6 2 flows"


def test_days() -> None:
    assert duration(90_000) == "1 d 1 h"


def test_the_fullest_node_is_so_for_its_weight() -> None:
    """n2 has the most flows, and twice the weight."""
    load = fullest(four().scenarios[0], four().total, "flows")
    assert load and load.node == "n1" and load.ratio == pytest.approx(1.0287, abs=1e-4)


def test_a_node_that_is_down_is_never_the_fullest() -> None:
    down = four().scenarios[1]
    assert all(
        load and load.node != "n2"
        for load in (fullest(down, four().total, measure) for measure in ("flows", "packets", "bytes"))
    )


def test_nothing_is_no_share() -> None:
    assert fullest(empty().scenarios[0], empty().total, "flows") is None
    assert headline(empty()) == "Nothing in none.csv is for web."
    assert percent(None) == "-"


def test_only_what_the_file_tells_is_told() -> None:
    assert read_sentence(two()) == "1,000 flows"
    assert "flows" in headline(two()) and "bytes" not in headline(two())


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (("n1",), "203.0.113.9 alone is 60.0 % of the bytes: its node, n1, carries at least 60.0 %."),
        (
            ("n1", "n2"),
            "203.0.113.9 alone is 60.0 % of the bytes: it speaks to several addresses, and n1, n2 share it.",
        ),
    ],
)
def test_a_client_is_told_with_what_it_is_most_of(nodes: tuple[str, ...], told: str) -> None:
    client = HeavyClient("203.0.113.9", Counts(), {"flows": 0.1, "packets": 0.4, "bytes": 0.6}, nodes)
    assert heavy_sentence(client, four()) == told
    assert "10.0 % of the flows" in heavy_sentence(client, two())


def test_at_least_is_not_rounded_up() -> None:
    client = HeavyClient("203.0.113.9", Counts(), {"bytes": 0.999998}, ("n1",))
    assert "alone is 99.9 % of the bytes: its node, n1, carries at least 99.9 %." in heavy_sentence(
        client, four()
    )


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, "1 record could not be read"),
        (2, "2 records could not be read"),
        (65, "65 records could not be read; the first 2"),
    ],
)
def test_problems_that_are_not_listed_are_counted(count: int, told: str) -> None:
    problems = four().problems[: min(count, 2)]
    assert problem_sentence(replace(four(), problems=problems, problem_count=count)) == told
