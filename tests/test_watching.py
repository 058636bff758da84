"""What has happened between two looks: told once, with names, and nothing that has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_verdict import lock, member

from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.glance import Glance
from trscaler_gen.verdict import Member, State
from trscaler_gen.watching import (
    TOO_LATE_S,
    Chronicle,
    Event,
    NodeState,
    Picture,
    Sighting,
    What,
    owners_of,
    picture_of,
)

RUNS = lock(4)
EVERYONE = frozenset({1, 2, 3, 4})
REFUSED = NodeError("n2", "192.0.2.2 port 22: connection refused")
Sightings = Mapping[str, Sighting]


def glance(
    uptime_s: float, accepted: int, dropped: int = 0, ages_ms: Mapping[int, int] | None = None
) -> Glance:
    counted = {"accepted": accepted, "dropped": dropped}
    return Glance(uptime_s, has_table=True, counted=counted, ages_ms=ages_ms or {})


def sighting(node_id: int, alive: Collection[int] = EVERYONE, **changes: object) -> Sighting:
    one = member(node_id, RUNS, alive, **changes)
    return Sighting(one.facts, one.lock, glance(100.0, 1000))


def seen(alive: Collection[int] = EVERYONE, **others: Sighting) -> dict[str, Sighting]:
    """Four nodes that hold these for alive, but for those that are named."""
    return {f"n{number}": sighting(number, alive) for number in EVERYONE} | others


def members() -> list[Member]:
    return [replace(member(number, RUNS), facts=None, lock=None) for number in sorted(EVERYONE)]


def picture(sightings: Sightings, at_s: float = 0.0) -> Picture:
    return picture_of(at_s, "web", members(), sightings)


def told(*looks: Sightings) -> list[Event]:
    """What is told of these looks, without what was found at the beginning."""
    chronicle = Chronicle()
    chronicle.advance(picture(seen()))
    return [event for look in numbered(looks) for event in chronicle.advance(picture(look))]


def numbered(looks: Sequence[Sightings]) -> Iterator[dict[str, Sighting]]:
    """Whoever is not late has answered once more."""
    answers = Counter[str]()
    for look in looks:
        answers.update(name for name, one in look.items() if one.is_fresh)
        yield {name: replace(one, answers=answers[name]) for name, one in look.items()}


def kinds(events: Collection[Event]) -> list[tuple[What, str]]:
    return [(event.what, event.node) for event in events if event.what is not What.HEALTH]


LOST = seen({1, 3, 4}, n2=Sighting(error=REFUSED))


def test_it_begins_with_how_the_cluster_is() -> None:
    events = Chronicle().advance(picture(LOST))
    assert [event.what for event in events] == [What.BEGAN, What.FOUND]
    assert events[0].text == "4 nodes, degraded: 64 of 64 buckets have exactly one owner"
    assert events[1].text == "n2: could not be asked, and no other node hears it"
    assert all(event.is_bad for event in events)


def test_a_node_that_is_lost_and_who_took_over() -> None:
    lost, takeover, health = told(LOST, LOST)
    assert (lost.what, lost.node, lost.is_bad) == (What.LOST, "n2", True)
    assert "connection refused" in lost.text
    assert (takeover.what, takeover.node) == (What.TAKEOVER, "n2")
    assert takeover.text.startswith("its 16 buckets (25 %) went to ")
    assert sum(takeover.buckets.values()) == 16
    assert set(takeover.buckets) == {"n1", "n3", "n4"}
    assert health.what is What.HEALTH


def test_it_is_told_once() -> None:
    assert told(LOST, LOST, LOST, LOST) == told(LOST, LOST)


def test_a_node_that_is_back_has_its_buckets_again() -> None:
    back, takeover, _ = told(LOST, LOST, seen())[3:]
    assert (back.what, back.node) == (What.BACK, "n2")
    assert (takeover.what, takeover.node, takeover.buckets) == (What.TAKEOVER, "n2", {"n2": 16})
    assert takeover.text.startswith("took over 16 buckets (25 %) from ")


def test_leases_that_just_end_are_nobodys_disagreement() -> None:
    """n1 has noticed already, n3 not yet: with the next look all have."""
    midway = seen({1, 3, 4}, n2=Sighting(error=REFUSED), n3=sighting(3, EVERYONE))
    events = told(midway, LOST, LOST)
    assert kinds(events) == [(What.LOST, "n2"), (What.TAKEOVER, "n2")]


def test_a_disagreement_that_stays_is_told_and_so_is_its_end() -> None:
    deaf = seen(n1=sighting(1, {1, 3, 4}), n2=sighting(2, {2, 3, 4}))
    events = told(deaf, deaf, seen())
    assert [(event.what, event.text) for event in events if event.what is not What.HEALTH] == [
        (What.DISAGREEMENT, "n1 does not hear n2"),
        (What.DISAGREEMENT, "n2 does not hear n1"),
        (What.AGREEMENT, "no more: n1 does not hear n2"),
        (What.AGREEMENT, "no more: n2 does not hear n1"),
    ]


def test_a_look_that_was_late_is_no_event() -> None:
    slow = replace(sighting(2), late_s=1.0)
    assert told(seen(n2=slow), seen(), seen(n2=slow), seen()) == []
    assert picture(seen(n2=slow)).nodes[1].state is NodeState.SERVING


def test_a_slow_node_is_waited_for() -> None:
    """What it said before the others noticed something is no disagreement with them."""
    slow = seen({1, 3, 4}, n2=Sighting(error=REFUSED), n3=replace(sighting(3), late_s=1.0))
    assert told(slow, slow, slow, slow) == []
    assert kinds(told(slow, slow, slow, LOST, LOST)) == [(What.LOST, "n2"), (What.TAKEOVER, "n2")]


def test_a_node_that_hangs_and_is_heard_cannot_be_reached() -> None:
    hangs = seen(n2=replace(sighting(2), late_s=TOO_LATE_S + 1))
    events = told(hangs, hangs, seen())
    assert kinds(events) == [(What.UNREACHABLE, "n2"), (What.REACHABLE, "n2")]
    assert events[0].text == "does not answer: it has not answered in time"


def test_a_node_that_hangs_and_is_not_heard_is_lost_at_once() -> None:
    cut = seen({1, 3, 4}, n2=replace(sighting(2), late_s=0.5))
    assert picture(cut).nodes[1].state is NodeState.LOST
    assert picture(cut).verdict.several == {}


def test_when_nobody_answers_nobody_is_lost() -> None:
    """It is the operator's own network that is gone."""
    dark = {f"n{number}": Sighting(error=REFUSED) for number in EVERYONE}
    events = told(dark, dark)
    assert {event.what for event in events} == {What.UNREACHABLE, What.HEALTH}


def test_drained_and_undrained() -> None:
    drained = seen(
        {1, 3, 4},
        n2=sighting(2, {1, 3, 4}, draining=True, can_drain=True, held=3),
        **{f"n{n}": sighting(n, {1, 3, 4}, peers_draining=frozenset({2}), can_drain=True) for n in (1, 3, 4)},
    )
    events = told(drained, seen())
    assert kinds(events) == [
        (What.DRAINED, "n2"),
        (What.TAKEOVER, "n2"),
        (What.UNDRAINED, "n2"),
        (What.TAKEOVER, "n2"),
    ]
    assert events[0].text == "takes no new connections; 3 connections are here"
    assert not any(event.is_bad for event in events)


def test_a_node_between_drained_and_serving_is_not_lost() -> None:
    drained = seen({1, 3, 4}, n2=sighting(2, {1, 3, 4}, draining=True))
    silent = seen({1, 3, 4}, n2=sighting(2, {1, 3, 4}))
    assert (What.LOST, "n2") not in kinds(told(drained, silent, seen()))
    assert (What.LOST, "n2") in kinds(told(drained, silent, silent))


@pytest.mark.parametrize(
    ("changes", "what", "words"),
    [
        ({"ruleset": "altered"}, What.DRIFT, "its ruleset is altered"),
        ({"listed": {"a": "1"}, "digests": {"a": "2"}}, What.DRIFT, "files edited on the node: a"),
        ({"loaded": "1" * 12, "serial": 4}, What.SWAPPED, "000000000000 -> 111111111111, serial 3 -> 4"),
        ({"fenced": True}, What.ASIDE, "stands aside"),
    ],
)
def test_what_a_node_says(changes: dict[str, object], what: What, words: str) -> None:
    changed = seen(n2=sighting(2, **changes))  # type: ignore[arg-type]
    events = [event for event in told(changed, changed) if event.what is what]
    assert [event.node for event in events] == ["n2"]
    assert words in events[0].text


def test_drift_that_is_mended() -> None:
    altered = seen(n2=sighting(2, ruleset="altered"))
    assert (What.MENDED, "n2") in kinds(told(altered, altered, seen()))


def test_a_deployer_is_told_once_for_all_nodes() -> None:
    at_work = {f"n{n}": sighting(n, deployer="alice@host", since="now") for n in EVERYONE}
    assert [(event.what, event.text) for event in told(at_work, at_work, seen())] == [
        (What.DEPLOYING, "n1, n2, n3, n4: alice@host deploys"),
        (What.DEPLOYED, "n1, n2, n3, n4: alice@host has let go"),
    ]


def test_a_node_that_is_taken_down_has_stopped_and_nothing_else() -> None:
    facts = replace(Facts(), node_id=2, generation="0" * 12, can_drain=True)
    gone = Sighting(facts, RUNS, Glance(101.0, has_table=False))
    assert kinds(told(seen({1, 3, 4}, n2=gone), seen({1, 3, 4}, n2=gone)))[:2] == [
        (What.STOPPED, "n2"),
        (What.TAKEOVER, "n2"),
    ]


def test_nodes_that_go_over_together_are_one_event() -> None:
    before = {f"n{n}": sighting(n, placement="before") for n in EVERYONE}
    after = {f"n{n}": sighting(n, placement="after") for n in EVERYONE}
    (event,) = [event for event in told(before, after) if event.what is What.SWITCHED]
    assert event.text == "n1, n2, n3, n4: went over to the newer placement"


# --- rates ------------------------------------------------------------------------------------------


def rate(before: Glance | None, now: Glance) -> float | None:
    one = replace(sighting(2), glance=now, before=before)
    return picture(seen(n2=one)).nodes[1].accepted_pps


def test_rates_are_by_the_nodes_own_clock() -> None:
    assert rate(glance(100.0, 1000), glance(102.0, 1500)) == 250.0
    assert rate(None, glance(102.0, 1500)) is None


@given(st.integers(0, 1 << 64), st.integers(0, 1 << 64), st.floats(0, 1e9), st.floats(0, 1e9))
def test_no_rate_is_negative(packets: int, later: int, uptime_s: float, later_s: float) -> None:
    """Counters begin again when rules are loaded anew, and a clock that began again is another boot's."""
    found = rate(glance(uptime_s, packets), glance(later_s, later))
    assert found is None or found >= 0


def test_counters_that_began_again_are_an_event() -> None:
    began = replace(sighting(2), glance=glance(102.0, 3), before=glance(100.0, 1000))
    assert kinds(told(seen(n2=began))) == [(What.RELOADED, "n2")]
    rebooted = replace(sighting(2), glance=glance(5.0, 3), before=glance(100.0, 1000))
    assert kinds(told(seen(n2=rebooted))) == [(What.REBOOTED, "n2")]


def test_shares_are_of_what_all_accept() -> None:
    rates = {1: 100, 2: 300, 3: 0, 4: 0}
    now = picture(
        {
            f"n{n}": replace(sighting(n), glance=glance(101.0, 1000 + more), before=glance(100.0, 1000))
            for n, more in rates.items()
        }
    )
    assert [now.share_of(node) for node in now.nodes] == [0.25, 0.75, 0.0, 0.0]
    assert picture(seen()).share_of(picture(seen()).nodes[0]) is None


def test_the_peer_that_has_waited_longest_tells_the_age() -> None:
    ages = {1: {2: 50, 1: 900}, 2: {1: 20}, 3: {2: 400}, 4: {2: 100}}
    now = picture({f"n{n}": replace(sighting(n), glance=glance(1, 1, ages_ms=of)) for n, of in ages.items()})
    assert [node.age_ms for node in now.nodes] == [20, 400, None, None]


# --- whatever happens -------------------------------------------------------------------------------


@st.composite
def any_look(draw: st.DrawFn) -> dict[str, Sighting]:
    return {
        f"n{n}": draw(
            st.one_of(
                st.just(Sighting()),
                st.just(Sighting(error=REFUSED)),
                st.builds(
                    lambda alive, late_s, draining, n=n: replace(
                        sighting(n, alive, draining=draining), late_s=late_s
                    ),
                    st.frozensets(st.sampled_from(sorted(EVERYONE))),
                    st.sampled_from([0.0, 1.0, 99.0]),
                    st.booleans(),
                ),
            )
        )
        for n in sorted(EVERYONE)
    }


@settings(max_examples=60)
@given(st.lists(any_look(), max_size=6))
def test_buckets_never_change_hands_twice_in_one_telling(looks: list[dict[str, Sighting]]) -> None:
    chronicle = Chronicle()
    for look in numbered(looks):
        events = chronicle.advance(picture(look))
        moved = sum(sum(event.buckets.values()) for event in events)
        assert moved <= len(owners_of(picture(look).verdict))
        assert all(event.text and event.cluster == "web" for event in events)


@settings(max_examples=30)
@given(st.lists(any_look(), max_size=4))
def test_a_look_like_the_last_one_is_no_event(looks: list[dict[str, Sighting]]) -> None:
    chronicle = Chronicle()
    *before, last = numbered([*looks, seen(), seen(), seen(), seen()])
    for look in before:
        chronicle.advance(picture(look))
    assert chronicle.advance(picture(last)) == ()
    assert chronicle.told is not None and chronicle.told.verdict.state is State.HEALTHY
