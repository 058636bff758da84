"""A change that nobody confirms goes back by itself, whatever happens in between: on real nodes, by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from trscaler_gen.bundle import Bundle

from .by_hand import (
    CHANGE,
    HOME,
    NEVER_S,
    NODE,
    NODES,
    OURS,
    RUN,
    TIMER,
    TOKEN,
    WHO,
    Site,
    answer,
    end,
    running_site,
)
from .cluster import PACE, eventually
from .events import SOURCES, assert_nothing_noticed
from .witness import watched_probes

#: soon enough for a test, late enough for it to look before
SOON_S = "2"
OTHER = "ba9876543210"
#: until its input ends; who puts the address back waits for the lock
DETACHED = "ip addr del 192.0.2.100/32 dev vip-e2e && echo detached && cat"


@pytest.fixture(scope="module")
def lab_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("confirm")) as site:
        yield site


@pytest.fixture
def site(lab_site: Site) -> Iterator[Site]:
    """All nodes run the first generation; the test's own token holds the deployment lock of n1."""
    lab_site.reset()
    lab_site.take_lock()
    yield lab_site
    lab_site.release()


@pytest.fixture
def first(site: Site) -> Bundle:
    return site.first[NODE]


@pytest.fixture
def second(site: Site) -> Bundle:
    return site.second[NODE]


# What is not confirmed goes back


def test_swap_goes_back(site: Site, first: Bundle, second: Bundle) -> None:
    with watched_probes(site.lab, PACE, sources=SOURCES, interval_ms=100) as watched:
        site.call(second, "swap", TOKEN, NEVER_S)
        assert site.facts().unconfirmed == TOKEN
        assert site.runs(second)
        site.end_timer()
        site.await_return_to(first)
    assert_nothing_noticed(watched.result)


def test_seconds_are_seconds(site: Site, first: Bundle, second: Bundle) -> None:
    begin_s = time.monotonic()
    site.call(second, "swap", TOKEN, SOON_S)
    site.await_return_to(first)
    took_s = time.monotonic() - begin_s
    assert int(SOON_S) <= took_s < int(NEVER_S)


def test_start_goes_back_to_nothing(site: Site, first: Bundle) -> None:
    site.call(first, "down")
    site.sh(f"rm {HOME}/current")
    site.call(first, "up", TOKEN, NEVER_S)
    assert site.facts().unconfirmed == TOKEN
    site.end_timer()
    eventually(site.runs_nothing, "it is down again")
    eventually(lambda: site.facts().unconfirmed == "", "the return has ended")
    assert site.history()[-1] == ["went-back", "-", "-", "timer"]


def test_start_of_what_was_down_goes_back_to_down(site: Site, first: Bundle, second: Bundle) -> None:
    """What was current stays current, so that `up` by hand still means it."""
    site.call(first, "down")
    site.call(second, "up", TOKEN, NEVER_S)
    site.call(second, "revert", TOKEN)
    facts = site.facts()
    assert (facts.generation, facts.runs, facts.unconfirmed) == (first.generation, False, "")


def test_stop_goes_back(site: Site, first: Bundle) -> None:
    site.call(first, "down", TOKEN, NEVER_S)
    facts = site.facts()
    assert (facts.runs, facts.unconfirmed) == (False, TOKEN)
    site.end_timer()
    site.await_return_to(first)
    site.await_all()


def test_change_of_frame_goes_back(site: Site, first: Bundle) -> None:
    """Down and up are one change: what is gone back to is what ran before the first of them."""
    framed = site.framed[NODE]
    assert site.call(framed, "swap", TOKEN, SOON_S, check=False).returncode == 75
    assert site.facts().unconfirmed == ""
    site.call(first, "down", TOKEN, NEVER_S)
    site.call(framed, "up", TOKEN, NEVER_S)
    eventually(lambda: site.runs(framed), "it serves")
    assert site.timers() == 1
    site.end_timer()
    site.await_return_to(first)
    site.await_all()


def test_second_verb_that_cannot_be_armed_leaves_the_first_timer(site: Site, first: Bundle) -> None:
    """Nothing runs in between that could look after the timer."""
    site.call(first, "down", TOKEN, NEVER_S)
    site.sh(f"mkdir {HOME}/unconfirmed.new")  # as good as a full disk
    assert site.call(site.framed[NODE], "up", TOKEN, NEVER_S, check=False).returncode != 0
    site.end_timer()
    site.await_return_to(first)


def test_operator_sends_it_back(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    site.call(second, "revert", TOKEN)
    assert site.returned_to(first, by="operator")
    eventually(lambda: site.timers() == 0, "its timer has ended")
    again = site.call(second, "revert", TOKEN, check=False)
    assert (again.returncode, again.stdout) == (66, "e2e: nothing to go back from\n")


# What is confirmed stays


def test_confirmed_change_stays(site: Site, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    assert "confirmed" in site.call(second, "confirm", TOKEN).stdout
    eventually(lambda: site.timers() == 0, "its timer has ended")
    assert site.runs(second)
    assert site.facts().unconfirmed == ""
    # The answer may have been lost on its way: asked again it is the same.
    assert "confirmed already" in site.call(second, "confirm", TOKEN).stdout


def test_confirmed_start_and_stop_stay(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(first, "down", TOKEN, NEVER_S)
    site.call(first, "confirm", TOKEN)
    eventually(lambda: site.timers() == 0, "its timer has ended")
    assert not site.facts().runs
    site.call(second, "up", TOKEN, NEVER_S)
    site.call(second, "confirm", TOKEN)
    eventually(lambda: site.timers() == 0, "its timer has ended")
    eventually(lambda: site.runs(second), "it serves")


def test_confirmation_after_the_return_is_refused(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, "0")
    site.await_return_to(first)
    done = site.call(second, "confirm", TOKEN, check=False)
    assert done.returncode == 1
    assert "gone back already" in done.stderr


def test_confirmation_of_something_else_is_refused(site: Site, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    done = site.call(second, "confirm", OTHER, check=False)
    assert done.returncode == 1
    assert site.facts().unconfirmed == TOKEN


def test_timer_and_confirmation_at_once(site: Site, first: Bundle, second: Bundle) -> None:
    """One of them wins, whole."""
    for _ in range(4):
        site.call(second, "swap", TOKEN, NEVER_S)
        site.end_timer()
        confirmed = site.call(second, "confirm", TOKEN, check=False).returncode == 0
        winner = second if confirmed else first
        eventually(lambda winner=winner: site.runs(winner), "one of them has won")  # type: ignore[misc]
        eventually(lambda: site.facts().unconfirmed == "", "and it is over")
        assert site.runs(winner)
        site.call(first, "swap")


# Whoever dies


def deadly(site: Site, tool: str, pattern: str, *, before: str = "") -> None:
    """Let the verb die on the node where it calls a tool with words that match a pattern; once."""
    path = f"/usr/local/sbin/{tool}"
    script = (
        f'#!/bin/sh\ncase "$*" in {pattern}) rm {path}; {before} kill -9 $PPID ;;\n'
        f'*) PATH=/usr/sbin:/usr/bin:/sbin:/bin exec {tool} "$@" ;; esac\n'
    )
    site.lab.exec(NODE, ["sh", "-c", f"cat >{path} && chmod 755 {path}"], input=script)


@pytest.mark.parametrize(
    ("tool", "pattern"),
    [
        ("mv", "*/unconfirmed"),
        ("nft", "*'-f -'"),
        ("mv", "*/listing"),
        ("mv", "*/current"),
        ("cp", "*/heartbeat.conf"),
    ],
)
def test_swap_that_is_killed_goes_back(
    site: Site, first: Bundle, second: Bundle, tool: str, pattern: str
) -> None:
    deadly(site, tool, pattern)
    assert site.call(second, "swap", TOKEN, "1", check=False).returncode != 0
    eventually(lambda: site.facts().unconfirmed == "", "nothing is open")
    eventually(lambda: site.runs(first), "it runs what it ran")
    site.await_all()


@pytest.mark.parametrize(
    ("tool", "pattern"),
    [
        ("mv", "*/current"),
        ("nft", "'-I '*'-f -'"),
        ("nft", "'-D '*'-f -'"),  # in a network of its own
        ("ip", "'link set dev vip-e2e up'"),
    ],
)
def test_start_that_is_killed_goes_back(site: Site, first: Bundle, tool: str, pattern: str) -> None:
    site.call(first, "down")
    site.sh(f"rm {HOME}/current")
    deadly(site, tool, pattern)
    assert site.call(first, "up", TOKEN, "1", check=False).returncode != 0
    eventually(lambda: site.facts().unconfirmed == "", "nothing is open")
    assert site.runs_nothing()


@pytest.mark.parametrize(("tool", "pattern"), [("ip", "'link del'*"), ("nft", "'delete table'*")])
def test_stop_that_is_killed_goes_back(site: Site, first: Bundle, tool: str, pattern: str) -> None:
    deadly(site, tool, pattern)
    assert site.call(first, "down", TOKEN, "1", check=False).returncode != 0
    site.await_return_to(first)
    site.await_all()


def test_killed_change_cannot_be_confirmed(site: Site, first: Bundle, second: Bundle) -> None:
    deadly(site, "mv", "*/current")
    site.call(second, "swap", TOKEN, NEVER_S, check=False)
    done = site.call(second, "confirm", TOKEN, check=False)
    assert done.returncode == 1
    assert "not come to its end" in done.stderr
    site.end_timer()
    site.await_return_to(first)


def test_killed_timer_is_replaced(site: Site, first: Bundle, second: Bundle) -> None:
    """The health check and the watcher look after it."""
    site.call(second, "swap", TOKEN, NEVER_S)
    site.sh(f"pgrep -f '{TIMER}' | xargs kill -9")
    site.await_return_to(first)


def test_confirmation_of_what_died_at_its_first_step_is_refused(site: Site, first: Bundle) -> None:
    site.call(first, "down")
    deadly(site, "mv", "*/current")
    site.call(first, "up", TOKEN, NEVER_S, check=False)
    done = site.call(first, "confirm", TOKEN, check=False)
    assert done.returncode == 1
    assert "not come to its end" in done.stderr
    site.call(first, "revert", TOKEN)
    assert not site.facts().runs


def test_return_that_is_killed_is_made_again(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    deadly(site, "mv", "*/current")
    site.call(second, "revert", TOKEN)
    assert site.returned_to(first, by="operator")


def test_operator_who_hangs_up_does_not_stop_the_return(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    deadly(site, "mv", "*/current")
    argv = ["sh", f"{HOME}/generations/{second.generation}/node.sh", "revert", TOKEN]
    operator = site.lab.popen(NODE, argv)
    eventually(lambda: site.exists(f"{HOME}/returning"), "it is on its way")
    operator.kill()
    end(operator)
    site.await_return_to(first, by="operator")


def make_impatient(site: Site) -> None:
    """Let the node give up at once."""
    site.sh(f"sed -i 's/for pause_s in .*; do/for pause_s in 0; do/' {HOME}/generations/*/node.sh")


def test_return_that_fails_for_good_is_told_and_can_be_left_behind(
    site: Site, first: Bundle, second: Bundle
) -> None:
    """The node goes on with what it has; the next change begins there."""
    make_impatient(site)
    script = f"{HOME}/generations/{first.generation}/node.sh"
    site.call(second, "swap", TOKEN, NEVER_S)
    site.sh(f"mv {script} {script}.away")
    site.end_timer()
    eventually(lambda: site.exists(f"{HOME}/stuck"), "it has given up")
    assert "return=stuck" in site.call(second, "state").stdout
    assert site.facts().unconfirmed == ""
    assert site.call(second, "confirm", TOKEN, check=False).returncode == 1
    assert site.call(second, "revert", TOKEN, check=False).returncode == 1
    site.call(second, "swap", TOKEN, NEVER_S)
    site.call(second, "confirm", TOKEN)
    facts = site.facts()
    assert (facts.running, facts.way_back) == (second.generation, "none")


def test_generation_that_cannot_come_back_takes_nothing_down(
    site: Site, first: Bundle, second: Bundle
) -> None:
    """Better the new rules than none; once the old ones can come, they do."""
    make_impatient(site)
    site.call(second, "swap", TOKEN, NEVER_S)
    rules = f"{HOME}/generations/{first.generation}/ruleset.nft"
    site.sh(f"cp {rules} /tmp/rules; echo nonsense >>{rules}")
    done = site.call(second, "revert", TOKEN, check=False)
    assert done.returncode == 1
    assert "failed" in done.stderr
    facts = site.facts()
    assert (facts.serving, facts.loaded) == (True, second.generation)
    site.sh(f"cp /tmp/rules {rules}")
    site.call(second, "revert", TOKEN)
    facts = site.facts()
    assert (facts.serving, facts.loaded, facts.ruleset) == (True, first.generation, "intact")


# Reboots


def test_reboot_takes_an_unconfirmed_swap_back(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    site.reboot()
    site.sh(f"sh {HOME}/current/node.sh attach")
    facts = site.facts()
    assert (facts.generation, facts.loaded, facts.unconfirmed) == (first.generation, first.generation, "")
    site.sh(f"sh {HOME}/current/node.sh up")
    assert site.returned_to(first)


def test_reboot_takes_an_unconfirmed_start_back(site: Site, first: Bundle) -> None:
    site.call(first, "down")
    site.sh(f"rm {HOME}/current")
    site.call(first, "up", TOKEN, NEVER_S)
    eventually(lambda: site.runs(first), "it serves")
    site.reboot()
    done = site.lab.exec(NODE, ["sh", f"{HOME}/current/node.sh", "attach"], check=False)
    assert done.returncode == 69
    assert site.runs_nothing()
    assert site.facts().unconfirmed == ""


def test_reboot_takes_an_unconfirmed_stop_back(site: Site, first: Bundle) -> None:
    site.call(first, "down", TOKEN, NEVER_S)
    site.reboot()
    site.sh(f"sh {HOME}/current/node.sh up")
    assert site.returned_to(first)


def test_reboot_in_the_middle_of_a_return(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    site.sh(f"mv {HOME}/unconfirmed {HOME}/returning")
    site.reboot()
    site.sh(f"sh {HOME}/current/node.sh up")
    assert site.returned_to(first)


def test_reboot_leaves_a_confirmed_change_alone(site: Site, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    site.call(second, "confirm", TOKEN)
    site.reboot()
    site.sh(f"sh {HOME}/current/node.sh up")
    assert site.runs(second)


def test_without_its_marker_a_change_stays(site: Site, second: Bundle) -> None:
    """The marker is what all of this hangs on: without it neither timer nor reboot takes anything back."""
    site.call(second, "swap", TOKEN, NEVER_S)
    site.sh(f"rm {HOME}/unconfirmed")
    site.end_timer()
    eventually(lambda: site.timers() == 0, "its timer has ended")
    assert site.runs(second)
    site.reboot()
    site.sh(f"sh {HOME}/current/node.sh up")
    assert site.runs(second)


# Whose turn it is


def test_token_that_does_not_hold_the_lock_is_refused(site: Site, first: Bundle, second: Bundle) -> None:
    refused = site.call(second, "swap", OTHER, SOON_S, check=False)
    assert refused.returncode == 1
    assert "not ours any more" in refused.stderr
    assert site.holder is not None
    site.holder.kill()
    eventually(lambda: site.facts().deployer == "", "the lock is free")
    assert site.exists(f"{RUN}/deploy-holder")  # its owner died: the name alone is worth nothing
    for verb in ("swap", "up", "down"):
        assert site.call(second, verb, TOKEN, SOON_S, check=False).returncode == 1
    assert site.runs(first)
    eventually(lambda: site.timers() == 0, "its timer has ended")


def test_nobody_changes_what_another_has_not_confirmed(site: Site, first: Bundle, second: Bundle) -> None:
    site.call(second, "swap", TOKEN, NEVER_S)
    site.release()
    site.holder = site.hold(token=OTHER)
    assert answer(site.holder) == "held"
    for words in (("swap", OTHER, SOON_S), ("swap",), ("down",)):
        done = site.call(first, *words, check=False)
        assert done.returncode == 1
        assert f"revert {TOKEN}" in done.stderr
    assert site.runs(second)
    site.call(first, "revert", TOKEN)
    site.call(second, "swap", OTHER, NEVER_S)
    site.call(second, "confirm", OTHER)


def test_odd_words_are_refused(site: Site, first: Bundle) -> None:
    odd = (("up", "x y", "1"), ("up", TOKEN, "1;id"), ("up", TOKEN), ("confirm", ""), ("record", "..", WHO))
    for words in odd:
        assert site.call(first, *words, check=False).returncode == 2
    assert site.runs(first)


# The deployment lock


def test_second_deployer_is_told_who_deploys(site: Site) -> None:
    second = site.hold(token=OTHER, who="late@test")
    word, who, since = answer(second).split()
    end(second)
    assert (word, who, second.returncode) == ("busy", WHO, 75)
    assert (site.facts().deployer, site.facts().since) == (WHO, since)


@pytest.mark.parametrize("death", ["killed", "hung up", "silent"])
def test_dead_deployer_keeps_nobody_out(site: Site, death: str) -> None:
    site.release()
    holder = site.hold(silence_s="1" if death == "silent" else NEVER_S)
    assert answer(holder) == "held"
    if death == "killed":
        site.sh(f"pgrep -of 's[h] {RUN} {TOKEN}' | xargs kill -9")
    elif death == "hung up":
        end(holder)
    eventually(lambda: site.facts().deployer == "", "the lock is free")
    site.take_lock()
    if death != "hung up":
        end(holder)


def test_deployer_who_is_heard_keeps_the_lock(site: Site) -> None:
    site.release()
    holder = site.hold(silence_s="1")
    assert answer(holder) == "held"
    assert holder.stdin is not None
    for _ in range(3):
        holder.stdin.write(".")
        holder.stdin.flush()
        second = site.hold(token=OTHER)
        assert answer(second).startswith("busy")
        end(second)
    end(holder)


# History, old generations, traces


def test_history_and_pruning(site: Site, first: Bundle, second: Bundle) -> None:
    """Five generations of the history stay, and all that is in use; what was just staged as well."""
    old = [f"00000000000{digit}" for digit in range(8)]
    for generation in old:
        site.sh(f"cp -r {HOME}/generations/{first.generation} {HOME}/generations/{generation}")
        site.sh(f"echo 2026-01-01T00:00:00Z applied {CHANGE} {generation} {WHO} >>{HOME}/history")
    site.sh(
        f"cd {HOME}/generations && mkdir fresh forgotten .staging-fresh .staging-forgotten &&"
        " touch -d '2 hours ago' forgotten .staging-forgotten"
    )
    site.call(second, "swap", TOKEN, NEVER_S)
    site.call(second, "record", OTHER, WHO)  # not confirmed yet: the way back must stay open
    kept = set(site.sh(f"ls -A {HOME}/generations").split())
    in_use = {first.generation, second.generation}
    assert kept == {*old[4:], *in_use, site.framed[NODE].generation, "fresh", ".staging-fresh"}
    site.call(second, "confirm", TOKEN)
    site.call(second, "record", OTHER, WHO)
    assert site.history()[-1] == ["applied", OTHER, second.generation, WHO]
    assert site.facts().change == OTHER
    assert not site.exists(f"{HOME}/generations/{first.generation}")
    lines = len(site.history())
    site.call(second, "record", OTHER, WHO)
    assert len(site.history()) == lines


def test_history_is_not_endless(site: Site, first: Bundle) -> None:
    line = f"2026-01-01T00:00:00Z applied {CHANGE} $i {WHO}"
    site.sh(f"for i in $(seq 300); do echo {line}; done >{HOME}/history")
    site.call(first, "record", CHANGE, WHO)
    lines = site.history()
    assert len(lines) == 200
    assert lines[-1] == ["applied", CHANGE, first.generation, WHO]


def test_erase_leaves_no_trace(site: Site, first: Bundle) -> None:
    assert "take it down first" in site.call(first, "erase", check=False).stderr
    site.call(first, "down", TOKEN, NEVER_S)
    assert "not confirmed" in site.call(first, "erase", check=False).stderr
    site.call(first, "confirm", TOKEN)
    site.call(first, "erase")
    site.release()
    look = f"ls -d {HOME} {RUN}; nft list ruleset; ip -o link show vip-e2e; pgrep -f {OURS}"
    traces = site.sh(look, check=False)
    assert traces == ""


# Facts


def test_facts_of_a_node(site: Site, first: Bundle, second: Bundle) -> None:
    facts = site.facts(second.generation)
    assert facts.is_whole and facts.is_staged and facts.serving and facts.attached and not facts.fenced
    assert facts.missing_tools == ("no-such-tool",)
    assert facts.node_id in facts.alive
    assert len(facts.alive) == len(NODES)
    assert (facts.generation, facts.heartbeat, facts.change) == (first.generation, "MASTER", CHANGE)
    assert set(facts.digests) == set(facts.listed) == set(first.files) - {"MANIFEST"}
    assert facts.deployer == WHO
    with site.lab.probing(sources=SOURCES, interval_ms=20) as probe:
        eventually(lambda: site.facts().accepted > facts.accepted, "packets are counted")
        eventually(lambda: site.facts().dropped > facts.dropped, "packets are counted")
        probe.stop()
    holder = site.lab.popen(NODE, ["flock", f"{RUN}/lock", "sh", "-c", DETACHED])
    assert answer(holder) == "detached"
    facts = site.facts()
    end(holder)
    assert not facts.attached
    eventually(lambda: site.runs(first), "the address is back")


def test_drift_is_seen(site: Site, first: Bundle) -> None:
    site.sh(f"echo >>{HOME}/current/keepalived.conf; rm {HOME}/current/peers.nft")
    facts = site.facts(first.generation)
    assert facts.edited_files == ("keepalived.conf", "peers.nft")
    assert not facts.is_whole and not facts.is_staged
