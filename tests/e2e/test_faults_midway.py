"""What goes wrong while `apply` is at work: every node is wholly as before or wholly as wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from .by_hand import HOME
from .cluster import eventually
from .faults import VICTIM, Change, Site, Undo, running_faulty_site, watched
from .test_status import NO_SSH

CURRENT = "/etc/trscaler-gen/e2e/current/node.sh"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_faulty_site(tmp_path_factory.mktemp("midway"), "midway") as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The site, whole again after whatever a test that failed did to it."""
    yield shared
    shared.mend()


# Each takes effect at one moment of the change


#: nft quotes the line that it refuses; this one has a seed in it, as ours have
REFUSED_RULE = "add rule netdev trscaler_e2e decide meta mark set jhash ip saddr mod 8 seed 0x5eedbabe bogus"
REFUSE = f"echo '{REFUSED_RULE}' | \"$REAL\" -f -; exit"


def refuse(site: Site, node: str, when: str) -> Undo:
    """Let nft refuse a ruleset, in its own words."""
    return site.replace_tool(node, "nft", f'case " $* " in {when} {REFUSE} ;; esac; exec "$REAL" "$@"')


def checked_rules_refused(site: Site, change: Change) -> Undo:
    return refuse(site, VICTIM, '*" -c -f - ") cat >/dev/null;')


def swapped_rules_refused(site: Site, change: Change) -> Undo:
    return refuse(site, VICTIM, '*" -c "*) ;; *" -I "*" -f - ") cat >/dev/null;')


def first_rules_refused(site: Site, change: Change) -> Undo:
    """On the node that joins, which has loaded them in a sandbox before."""
    return refuse(site, change.joins, '*" -c "*) ;; *" -I "*" -f - ") cat >/dev/null;')


def small_disk(site: Site) -> Undo:
    """The victim's generations on a file system that is as good as full with one more of them."""
    copy = "cp -a . /run/small && mount --move /run/small /etc/trscaler-gen/e2e"
    make = f"mkdir /run/small && mount -t tmpfs -o size=2400k tmpfs /run/small && cd {HOME} && {copy}"
    site.sh(VICTIM, make)
    return lambda: site.sh(VICTIM, f"umount -l {HOME} && rmdir /run/small")


def fills_up(site: Site, place: str, tool: str, when: str) -> Undo:
    fill = f"cat /dev/zero >{place}/fill 2>/dev/null"
    restore = site.replace_tool(VICTIM, tool, f'case "$*" in {when}) {fill} ;; esac; exec "$REAL" "$@"')
    return lambda: (restore(), site.sh(VICTIM, f"rm {place}/fill"))


def disk_full_while_staging(site: Site, change: Change) -> Undo:
    undo, restore = small_disk(site), fills_up(site, HOME, "tar", "-xf*")
    return lambda: (restore(), undo())


def disk_full_at_the_swap(site: Site, change: Change) -> Undo:
    undo, restore = small_disk(site), fills_up(site, HOME, "setsid", "*expire*")
    return lambda: (restore(), undo())


def memory_full(site: Site, change: Change) -> Undo:
    """Where pids, locks and listings are kept."""
    used_kib = int(site.sh(VICTIM, "df -k --output=used /run | tail -n 1"))
    site.sh(VICTIM, f"mount -o remount,size={used_kib + 100}k /run; cat /dev/zero >/run/fill", check=False)
    return lambda: site.sh(VICTIM, "rm /run/fill; mount -o remount,size=100m /run")


SESSIONS = "pgrep -f 'sshd: root' | xargs -r kill -9"


def at_the_end_of_the_swap(site: Site, command: str) -> Undo:
    once = f'rm "$0"; ( {command} ) >/dev/null 2>&1'
    script = f'case "$*" in */heartbeat.conf) {once} ;; esac; exec "$REAL" "$@"'
    return site.replace_tool(VICTIM, "cp", script)


def sessions_killed(site: Site, change: Change) -> Undo:
    return at_the_end_of_the_swap(site, SESSIONS)


def cut_off(site: Site, change: Change) -> Undo:
    """By the change itself, as a firewall rule might do: nobody gets in any more."""
    site.sh(VICTIM, "cat >/run/shut.nft", input=NO_SSH)
    restore = at_the_end_of_the_swap(site, f"nft -f /run/shut.nft; {SESSIONS}")
    return lambda: (restore(), site.sh(VICTIM, "nft delete table inet shut"))


@dataclass(frozen=True)
class Fault:
    """What happens, what is said of it, and who is as wanted in spite of it: all others are as before."""

    happens: Callable[[Site, Change], Undo]
    said: tuple[str, ...]
    new: str = ""
    by_itself: bool = False


NOBODY, WHO_LEAVES, ALL_BUT_WHO_JOINS = "", "leaves", "n1 n2 leaves"

FAULTS = [
    Fault(checked_rules_refused, ("n2: check failed", "nft refuses to swap", "seed ... bogus")),
    Fault(disk_full_while_staging, ("n2: generation", "could not be put there", "No space left", "df -h")),
    Fault(memory_full, ("n2: the deployment lock could not be taken", "is there room in /run")),
    Fault(swapped_rules_refused, ("n2: swap failed: e2e: nft refuses", "seed ... bogus"), WHO_LEAVES),
    Fault(disk_full_at_the_swap, ("n2: swap failed", "cannot be written: is there room"), WHO_LEAVES),
    Fault(sessions_killed, ("n2: connection lost",), WHO_LEAVES),
    Fault(cut_off, ("n2: ", "goes back by itself within 60 s"), WHO_LEAVES, by_itself=True),
    Fault(first_rules_refused, ("up failed", "seed ... bogus"), ALL_BUT_WHO_JOINS),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.happens.__name__)
def test_fault_on_the_way(site: Site, fault: Fault) -> None:
    change = site.change()
    with watched(site):
        undo = fault.happens(site, change)
        try:
            done = site.apply()
            print(done.stdout[-900:], done.stderr)
            if fault.by_itself:
                assert site.facts(VICTIM).unconfirmed
                site.end_timers()
            site.await_rest()
            became = site.become(change)
        finally:
            undo()
        assert done.returncode == 1
        for words in fault.said:
            assert words in " ".join(done.stderr.split())
        named = {"leaves": change.leaves}
        new = {named.get(word, word) for word in fault.new.split()}
        assert {node for node, state in became.items() if state == "new"} == new
        site.assert_served()
        site.recover()


def test_health_check_that_waited_out_a_swap_judges_by_what_came(site: Site) -> None:
    """By its own addresses it would take the new one away, and the node out of service."""
    wait = "{ : >/run/waits; until [ -e /run/go ]; do sleep 0.02; done; }"
    slow = f'[ -z "${{SLOW:-}}" ] || {wait}; exec "$REAL" "$@"'
    undo = site.replace_tool(VICTIM, "flock", slow)
    site.sh(VICTIM, "rm -f /run/go /run/waits")
    health = site.lab.popen(VICTIM, ["env", "SLOW=yes", "sh", CURRENT, "health"])
    try:
        eventually(lambda: "waits" in site.sh(VICTIM, "ls /run").split(), "it waits for the lock")
        site.change()
        site.recover()
    finally:
        site.sh(VICTIM, "touch /run/go")
        _, said = health.communicate(timeout=60)
        undo()
    assert health.returncode == 0, said
    site.assert_complete()
