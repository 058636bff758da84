"""The checker sees what it is for, and nothing else: evidence made by hand, of two nodes and two sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from e2e.cluster import PACE
from e2e.witness import Span

from .evidence import DRAINS, Beat, Evidence, Happened, Probe, Verdict, leases, read_tap
from .invariants import Judge
from .schedule import Fault

START_S = 1000.0
LENGTH_S = 10.0
ALIVE, GOODBYE, UNSTAMPED = 100, 0, -1

Times = Sequence[tuple[float, float]]


def beats(*silent: tuple[float, float], priority: int = ALIVE) -> list[Beat]:
    """A heartbeat every quarter of a second, from a lease before the start on, but for silences."""
    times = [number / 4 for number in range(-4, int(LENGTH_S * 4))]
    heard = [at_s for at_s in times if not any(begin <= at_s < end for begin, end in silent)]
    return [Beat(START_S + at_s, priority) for at_s in heard]


def probes(usual: str, other: Mapping[tuple[float, float], tuple[str, ...]] | None = None) -> list[Probe]:
    """One every 100 ms, answered by the usual node but at times by others."""
    spans = other or {}
    found = []
    for number in range(int(LENGTH_S * 10)):
        at_s = number / 10
        nodes = next((names for (begin, end), names in spans.items() if begin <= at_s < end), (usual,))
        found.append(Probe(START_S + at_s, nodes))
    return found


WELL = Evidence(
    pace=PACE,
    started_s=START_S,
    calm_s=START_S + 9,
    sources={1: probes("n1"), 2: probes("n2")},
    heard={("n1", "n2"): beats(), ("n2", "n1"): beats()},
    left={"n1": beats(), "n2": beats()},
    orders={1: ("n1", "n2"), 2: ("n2", "n1")},
)
CUT = Fault("cut", 3, 5, ("n1",))
CUT_NOW = Happened(CUT, str(CUT), START_S + 3, START_S + 3)
STALL = Span(START_S + 3, START_S + 4.5)


def broken(seen: Evidence) -> set[str]:
    return {violation.rule for violation in Judge(seen).violations()}


def doubled(seen: Evidence = WELL, begin: float = 3.0, end: float = 3.2) -> Evidence:
    return replace(seen, sources={1: probes("n1", {(begin, end): ("n1", "n2")}), 2: probes("n2")})


def unanswered(begin: float, end: float, seen: Evidence = WELL) -> Evidence:
    """The first source, of n1, is without an answer for a while."""
    return replace(seen, sources={1: probes("n1", {(begin, end): ()}), 2: probes("n2")})


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert broken(WELL) == set()
    assert Judge(WELL).counts() == (200, 0, 0, 0)


def test_two_owners_that_hear_each_other() -> None:
    first, *_ = Judge(doubled()).violations()
    assert (first.rule, first.at_s) == ("one owner", 3.0)
    assert "n1 and n2" in first.text


def test_two_owners_of_which_one_does_not_hear_the_other() -> None:
    deaf = replace(WELL, heard={("n1", "n2"): beats(), ("n2", "n1"): beats((2.0, 5.0))})
    assert broken(doubled(deaf)) == set()
    assert broken(doubled(deaf, 2.0, 2.2)) == {"one owner"}, "it has heard it less than a lease ago"
    assert broken(doubled(deaf, 5.3, 5.5)) == {"one owner"}, "it hears it again"


def test_who_has_said_goodbye_or_has_no_stamp_is_not_heard() -> None:
    for priority in (GOODBYE, UNSTAMPED):
        said = [*beats((2.0, 5.0)), *(Beat(START_S + at_s, priority) for at_s in (2.0, 3.0))]
        spans = leases(said, PACE.lease_s)
        ends_s = START_S + (2.0 if priority == GOODBYE else 1.75 + PACE.lease_s)
        assert spans[0].end_s == pytest.approx(ends_s)


def test_a_node_without_a_lease_answers() -> None:
    frozen = replace(WELL, left={"n1": beats((3.0, 6.0)), "n2": beats()})
    (first, *_) = Judge(frozen).violations()
    assert first.rule == "lease"
    assert 3.5 < first.at_s < 3.8, "2.75 s and a lease"


def test_a_hole_for_no_reason() -> None:
    assert broken(unanswered(3.0, 3.1)) == {"served"}


def test_a_hole_of_a_lease_after_a_cut() -> None:
    assert broken(unanswered(3.0, 3.8, replace(WELL, happened=(CUT_NOW,)))) == set()


def test_a_hole_of_two_leases_after_a_cut() -> None:
    (first, *_) = Judge(unanswered(3.0, 4.8, replace(WELL, happened=(CUT_NOW,)))).violations()
    assert first.rule == "served"
    assert "cut n1" in first.text


def test_a_hole_of_another_node_than_the_one_that_was_cut() -> None:
    others = replace(WELL, happened=(replace(CUT_NOW, fault=replace(CUT, nodes=("n2",))),))
    assert broken(unanswered(3.0, 3.3, others)) == {"served"}


def test_a_hole_that_another_nodes_end_makes_longer() -> None:
    """Only where that one was next: whoever comes after the substitute was not asked."""
    next_cut = Happened(replace(CUT, nodes=("n3",)), "cut n3", START_S + 4, START_S + 4)
    both = unanswered(3.0, 4.8, replace(WELL, happened=(CUT_NOW, next_cut)))
    taken = probes("n2", {(0, 3.0): ("n1",), (3.0, 4.8): ()})
    both = replace(both, sources={1: taken, 2: probes("n2")})
    orders = {1: ("n1", "n3", "n2"), 2: ("n2", "n1", "n3")}
    heard = replace(both, heard={}, orders=orders)
    assert "served" not in broken(heard)
    assert "served" in broken(replace(heard, orders={**orders, 1: ("n1", "n2", "n3")}))


def test_a_run_that_shows_nothing() -> None:
    assert Judge(WELL).too_little() == ""
    assert "0 of 0 probes" in Judge(replace(WELL, sources={})).too_little()
    stalled = replace(WELL, stalls=(Span(START_S, START_S + 6),))
    assert "probes can be judged" in Judge(stalled).too_little()
    in_vain = replace(CUT_NOW, failed="no such device")
    assert "2 of 3 events" in Judge(replace(WELL, happened=(CUT_NOW, in_vain, in_vain))).too_little()


def test_a_hole_while_every_node_is_away() -> None:
    faults = [Fault("cut", 3, 7, (node,)) for node in ("n1", "n2")]
    begun = tuple(Happened(fault, str(fault), START_S + 3, START_S + 3) for fault in faults)
    over = tuple(Happened(fault, fault.end, START_S + 7, START_S + 7) for fault in faults)
    assert broken(unanswered(3.0, 7.5, replace(WELL, happened=(*begun, *over)))) == set()
    assert broken(unanswered(3.0, 7.5, replace(WELL, happened=(begun[0], over[0])))) == {"served"}


def test_a_probe_that_never_left_counts_as_lost() -> None:
    lines = ["Q 1.0 1 0", "A 1.0 1 0 n1", "Q 1.2 1 2", "A 1.2 1 2 n1", "end 0"]
    (one, two, three) = read_tap(lines, 0.1).sources[1]
    assert (one.nodes, two.nodes, three.nodes) == (("n1",), (), ("n1",))
    assert two.asked_s == pytest.approx(1.1)


def test_a_tap_that_was_cut_off_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="end"):
        read_tap(["Q 1.0 1 0"], 0.1)


def test_a_stall_excuses_what_it_costs_and_no_more() -> None:
    stalled = replace(WELL, stalls=(STALL,))
    assert broken(unanswered(3.0, 4.0, stalled)) == set()
    assert broken(doubled(stalled)) == set()
    assert broken(unanswered(6.0, 6.2, stalled)) == {"served"}
    assert broken(doubled(stalled, 6.0, 6.2)) == {"one owner"}


def test_a_node_that_does_not_return() -> None:
    assert broken(replace(WELL, unreturned=("apply fails",))) == {"return"}


@pytest.mark.parametrize("nodes", [(), ("n1", "n1")])
def test_an_answer_too_few_or_too_many_when_all_is_well_again(nodes: tuple[str, ...]) -> None:
    late = replace(WELL, sources={1: probes("n1", {(9.2, 9.3): nodes}), 2: probes("n2")})
    assert "return" in broken(late)


def test_a_controller_that_does_not_say_what_is_there() -> None:
    said = (asked(1, 0), asked(2, 3, "status ended with 3 and said Traceback"))
    (only,) = Judge(replace(WELL, verdicts=said)).violations()
    assert (only.rule, only.at_s) == ("verdict", 2.0)


def asked(at_s: float, status: int, wrong: str = "") -> Verdict:
    """What was said at a moment, and took half a second."""
    return Verdict(START_S + at_s, START_S + at_s + 0.5, status, wrong)


@pytest.mark.parametrize("at_s", [2.9, 4.0, 5.6])
def test_a_controller_that_finds_all_well_while_a_node_is_silent(at_s: float) -> None:
    """Unless the node was heard meanwhile, or a lease before."""
    silent = replace(WELL, heard={**WELL.heard, ("n2", "n1"): beats((3.0, 6.0))})
    found = Judge(replace(silent, verdicts=(asked(at_s, 0),))).violations()
    assert [(each.rule, each.text) for each in found] == (
        [("verdict", "all was well, and nobody heard n1")] if at_s == 4.0 else []
    )
    assert broken(replace(silent, verdicts=(asked(at_s, 1),))) == set(), "it says that something is wrong"


def test_a_node_that_drains_is_heard() -> None:
    said = [*beats((3.0, 6.0)), *(Beat(START_S + 3 + number / 4, DRAINS) for number in range(12))]
    drains = replace(WELL, heard={**WELL.heard, ("n2", "n1"): said}, verdicts=(asked(4.5, 0),))
    assert broken(drains) == set()
