"""Who deploys dies, is interrupted, or is not alone: every node goes back or stays, and all is served."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from trscaler_gen.cli.clusters import deployer

from .by_hand import HOME, TIMER
from .cluster import HEARTBEAT_MS, eventually
from .faults import VICTIM, Change, Run, Site, running_faulty_site, watched


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_faulty_site(tmp_path_factory.mktemp("killed"), "killed") as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The site, whole again after whatever a test that failed did to it."""
    yield shared
    shared.mend()


@dataclass(frozen=True)
class Moment:
    """So many nodes have done their part of a phase of a step; who then stays as wanted, and who may."""

    step: str
    phase: str
    nodes: int
    new: str = ""
    may: str = ""

    def __str__(self) -> str:
        return f"{self.step}-{self.phase}-{self.nodes}"

    def judge(self, change: Change, became: dict[str, str]) -> None:
        """Compare with what the nodes have become."""
        new = {node for node, state in became.items() if state == "new"}
        assert names(change, self.new) <= new <= names(change, f"{self.new} {self.may}"), became


def names(change: Change, words: str) -> set[str]:
    """Nodes by name, or by what becomes of them."""
    roles = {"leaves": change.leaves, "joins": change.joins}
    return {roles.get(word, word) for word in words.split()}


MOMENTS = [
    Moment("lock", "lock", 1),
    Moment("stage", "stage", 1),
    Moment("stop", "stop", 0),
    Moment("stop", "prove", 0),
    Moment("stop", "confirm", 1, "leaves"),
    Moment("swap", "swap", 1, "leaves"),
    Moment("swap", "confirm", 1, "leaves", "n1 n2"),
    Moment("start", "start", 0, "n1 n2 leaves"),
    Moment("start", "prove", 0, "n1 n2 leaves"),
    Moment("record", "record", 1, "n1 n2 leaves joins"),
]
#: soon enough to wait for, late enough for another run to come before
WITHIN_S = "15"
#: probes of a source, one each 100 ms; who alone is as before is silent at once, gone with its next heartbeat
MAY_STAND_ASIDE = HEARTBEAT_MS // 100 + 1


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_killed(site: Site, moment: Moment) -> None:
    change = site.change()
    with watched(site, lost_per_source=MAY_STAND_ASIDE if moment.may else 0):
        with Run(site) as run:
            run.await_moment(moment.step, moment.phase, moment.nodes)
            run.kill()
        site.await_rest(timers_end=True)
        moment.judge(change, site.become(change))
        site.assert_served()
        site.recover()


def test_killed_and_nobody_helps(site: Site) -> None:
    """The nodes' own timers bring back what ran; until then nobody else changes anything."""
    change = site.change()
    with watched(site):
        with Run(site, "--confirm-within", WITHIN_S) as run:
            run.await_moment("swap", "prove", 0)
            run.kill()
        assert WITHIN_S in site.sh(VICTIM, f"pgrep -af '{TIMER}'").split()  # and not the default's 60
        refused = site.apply()
        assert refused.returncode == 1
        assert "n1, n2: a change by another run was not confirmed yet" in " ".join(refused.stdout.split())
        assert re.search(r"node\.sh revert [0-9a-f]{12}", refused.stdout)
        site.await_rest()
        assert new_ones(site, change) == {change.leaves}
        assert site.sh(VICTIM, f"tail -n 1 {HOME}/history").split()[-1] == "timer"
        site.recover()


def new_ones(site: Site, change: Change) -> set[str]:
    return {node for node, state in site.become(change).items() if state == "new"}


def test_twin_without_its_timer_a_node_stays(site: Site) -> None:
    """What ends the others' changes is what this one has lost: the file by which its timer knows it."""
    change = site.change()
    with Run(site) as run:
        run.await_moment("swap", "prove", 0)
        run.kill()
    site.sh(VICTIM, f"rm {HOME}/unconfirmed")
    site.await_rest(timers_end=True)
    assert new_ones(site, change) == {VICTIM, change.leaves}
    site.recover()


def test_killed_between_two_confirmations(site: Site) -> None:
    """One node stays and one goes back. Alone with its older tables it stands aside for the other."""
    change = site.change()
    wait = "touch /run/waits; until [ -e /run/go ]; do sleep 0.02; done; exit 1"
    undo = site.replace_tool(VICTIM, "mv", f'case "$*" in */confirmed) {wait} ;; esac; exec "$REAL" "$@"')
    with watched(site, lost_per_source=MAY_STAND_ASIDE):
        with Run(site) as run:
            run.await_moment("swap", "confirm", 1)
            eventually(lambda: "waits" in site.sh(VICTIM, "ls /run").split(), "the second is being confirmed")
            run.kill()
        undo()
        site.sh(VICTIM, "touch /run/go")
        site.await_rest(timers_end=True)
        assert new_ones(site, change) == {"n1", change.leaves}
        site.assert_served()
        site.recover()
    site.sh(VICTIM, "rm /run/go /run/waits")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted(site: Site, number: signal.Signals) -> None:
    change = site.change()
    with watched(site):
        with Run(site) as run:
            run.await_moment("swap", "swap", 1)
            run.process.send_signal(number)
            status, _, outcome = run.finish()
        assert status == 130
        assert outcome["interrupted"]
        actions = {node["node"]: (node["action"], node["message"]) for node in outcome["nodes"]}
        assert actions["n1"] == actions["n2"] == ("reverted", "went back")
        assert new_ones(site, change) == {change.leaves}
        assert site.sh(VICTIM, f"pgrep -f '{TIMER}'", check=False) == ""
        site.assert_served()
        site.recover()


def test_two_at_once(site: Site) -> None:
    """The second one is told who is at work and since when, changes nothing, and leaves nothing behind."""
    site.change()
    wait = "touch /run/waits; until [ -e /run/go ]; do sleep 0.02; done"
    undo = site.replace_tool(VICTIM, "tar", f'case "$*" in -xf*) {wait} ;; esac; exec "$REAL" "$@"')
    with watched(site), Run(site) as first:
        eventually(lambda: "waits" in site.sh(VICTIM, "ls /run").split(), "the first one is at work")
        with Run(site) as second:
            status, _, lost = second.finish()
        undo()
        site.sh(VICTIM, "touch /run/go; rm /run/waits")
        won, stderr, _ = first.finish()
        assert won == 0, stderr
    assert status == 1
    assert {node["action"] for node in lost["nodes"]} == {"failed", "untouched"}
    (told,) = (node for node in lost["nodes"] if node["action"] == "failed")
    assert re.fullmatch(rf"{re.escape(deployer())} has been deploying to it since 20\S+Z", told["message"])
    assert "wait until that is over" in told["hint"]
    site.sh(VICTIM, "rm /run/go")
    site.await_rest()
    site.assert_complete()


def test_clocks_that_differ(site: Site) -> None:
    """Neither the order of events nor a way back depends on what the nodes take for the time."""
    skews = {"n1": "-3 days", VICTIM: "+5 hours"}
    undo = [site.replace_tool(node, "date", f'exec "$REAL" -d "{skew}" "$@"') for node, skew in skews.items()]
    with watched(site):
        first = site.change()
        site.recover()
        second = site.change()
        site.recover()
        third = site.change()
        with Run(site) as run:
            run.await_moment("swap", "prove", 0)
            run.kill()
        site.await_rest(timers_end=True)
        assert new_ones(site, third) == {third.leaves}
        told = json.loads(site.run("history", "--json").stdout)["changes"]
        for take_back in undo:
            take_back()
        site.assert_served()
        site.recover()
    seen = [(change["event"], change["nodes"][VICTIM]["generation"]) for change in told[:3]]
    went_back_to = second.new[VICTIM]
    assert seen == [("went-back", went_back_to), ("applied", went_back_to), ("applied", first.new[VICTIM])]
