from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
from e2e.witness import Heartbeat, Seen, watched_probes

from lab.world import VIP4, VIP6, VIPS, eventually, virtual_addresses_on
from trscaler_gen.errors import OperationError
from trscaler_gen.lab import Lab
from trscaler_gen.lab.probe import ProbeResult

#: a group address that no switch knows: flooded, and taken by every host that has the IP address
GROUP_MAC = "03:00:5d:00:01:01"
#: what a busy machine may add to any time, besides what the prober itself says of it
SPARE_MS = 25.0
#: nobody beats here: an answerer whose buffer runs full while the machine stands still is excused
PACE = Heartbeat(0.1)


def spare_ms(result: ProbeResult) -> float:
    """How far times may be off."""
    return SPARE_MS + result.worst_late_ms + result.slowest_answer_ms


def probed(lab: Lab, *, sources: int, interval_ms: float, seconds: float, family: int = 4) -> Seen:
    """The result of probes before a witness."""
    families = (family,)
    with watched_probes(
        lab, PACE, sources=sources, interval_ms=interval_ms, seconds=seconds, families=families
    ) as watched:
        pass
    return watched.result


@pytest.mark.parametrize("family", [4, 6])
def test_every_probe_is_answered_once(lab: Lab, family: int) -> None:
    with virtual_addresses_on(lab, "n2"):
        result = lab.probing(sources=250, interval_ms=100, seconds=0.5, family=family).wait()
    assert (result.sent, result.lost, result.doubled) == (1250, 0, 0)
    assert result.by_node == {"n2": 1250}
    assert (result.lost_at_ms, result.doubled_at_ms) == ((), ())
    assert result.destination == str(VIPS[family])
    assert len({source.source for source in result.per_source}) == 250
    assert all(source.sent == 5 for source in result.per_source)
    assert abs(result.longest_gap_ms - 100) <= spare_ms(result)


@pytest.mark.parametrize("family", [4, 6])
def test_two_nodes_that_answer_are_seen(lab: Lab, family: int) -> None:
    with virtual_addresses_on(lab, "n1", "n2"):
        neighbour = ["ip", "neigh", "replace", str(VIPS[family]), "lladdr", GROUP_MAC, "dev", "eth0"]
        lab.exec("client", [*neighbour, "nud", "permanent"])
        result = lab.probing(sources=20, interval_ms=50, seconds=0.5, family=family).wait()
        lab.exec("client", ["ip", "neigh", "del", str(VIPS[family]), "dev", "eth0"])
    assert (result.sent, result.lost, result.doubled) == (200, 0, 200)
    assert result.by_node == {"n1": 200, "n2": 200}
    assert len(result.double_answers) == 200
    assert {tuple(sorted(double.nodes)) for double in result.double_answers} == {("n1", "n2")}
    assert {double.source for double in result.double_answers} == {each.source for each in result.per_source}
    assert list(result.doubled_at_ms) == sorted(result.doubled_at_ms)
    assert all(source.doubled == 10 for source in result.per_source)


def test_nobody_answering_is_all_lost(lab: Lab) -> None:
    result = lab.probing(sources=3, interval_ms=50, seconds=0.3).wait()
    assert (result.sent, result.lost, result.doubled, result.by_node) == (18, 18, 0, {})
    assert len(result.lost_at_ms) == 18
    assert abs(result.longest_gap_ms - 5 * 50) <= spare_ms(result), "from a first probe to its sixth"


@pytest.mark.parametrize("silent", [False, True])
def test_a_cut_is_seen_with_its_time_and_length(lab: Lab, silent: bool) -> None:
    with virtual_addresses_on(lab, "n1"), lab.probing(sources=10, interval_ms=20) as probe:
        eventually(lambda: probe.elapsed_ms > 200, "some probes are answered")
        cut_ms = probe.elapsed_ms
        lab.cut("n1", silent=silent)
        is_cut_ms = probe.elapsed_ms
        eventually(lambda: probe.elapsed_ms > is_cut_ms + 300, "the cut lasts")
        mend_ms = probe.elapsed_ms
        lab.mend("n1")
        is_mended_ms = probe.elapsed_ms
        eventually(lambda: probe.elapsed_ms > is_mended_ms + 400, "answered again")
        result = probe.stop()
    spare = spare_ms(result)
    assert result.sent > result.lost > 100
    assert cut_ms - spare < result.lost_at_ms[0] < is_cut_ms + spare
    assert mend_ms - spare < result.lost_at_ms[-1] < is_mended_ms + 300 + spare
    assert mend_ms - is_cut_ms - spare <= result.longest_gap_ms < is_mended_ms - cut_ms + 300 + spare
    assert sum(result.by_node.values()) == result.sent - result.lost


def test_an_answer_from_another_address_does_not_count(lab: Lab) -> None:
    with virtual_addresses_on(lab, "n1"):
        chain = "type filter hook output priority 0; udp sport 7 ip saddr set 192.0.2.1;"
        lab.exec("n1", ["nft", "-f", "-"], input=f"table ip away {{\n chain out {{\n {chain}\n }}\n}}\n")
        result = lab.probing(sources=2, interval_ms=50, seconds=0.2).wait()
        lab.exec("n1", ["nft", "delete table ip away"])
    assert result.lost == result.sent == 8


def test_both_families_at_once(lab: Lab) -> None:
    with (
        virtual_addresses_on(lab, "n1"),
        lab.probing(sources=50, family=4) as four,
        lab.probing(sources=50, family=6) as six,
    ):
        eventually(lambda: six.elapsed_ms > 500, "half a second of probes")
        results = four.stop(), six.stop()
    assert [result.destination for result in results] == [str(VIP4), str(VIP6)]
    assert all(result.sent >= 200 and not result.lost and not result.doubled for result in results)


def test_stopping_twice_says_the_same(lab: Lab) -> None:
    probe = lab.probing(sources=1, interval_ms=10)
    first = probe.stop()
    assert probe.stop() is first
    assert probe.wait() is first


def test_a_rate_of_ten_thousand_is_held(lab: Lab) -> None:
    """Sent and counted in full even when the machine is busy; then it must say that it was late."""
    with virtual_addresses_on(lab, "n1"):
        result = probed(lab, sources=200, interval_ms=20, seconds=1)
    assert result.sent == 10_000
    assert result.losses() == (), result
    assert (result.late > 0) == (result.worst_late_ms > 10)


def test_an_answer_that_took_long_is_counted_and_shown(lab: Lab) -> None:
    """The node's responder is frozen meanwhile: what waited for it is answered in the end."""
    with virtual_addresses_on(lab, "n1"), lab.probing(sources=5, interval_ms=20) as probe:
        stop_ms = probe.elapsed_ms
        lab.exec("n1", ["pkill", "-STOP", "-f", "responder.py"])
        stopped_ms = probe.elapsed_ms
        eventually(lambda: probe.elapsed_ms > stopped_ms + 200, "probes wait for the responder")
        go_on_ms = probe.elapsed_ms
        lab.exec("n1", ["pkill", "-CONT", "-f", "responder.py"])
        went_on_ms = probe.elapsed_ms
        result = probe.stop()
    assert result.lost == 0
    spare = SPARE_MS + result.worst_late_ms
    assert go_on_ms - stopped_ms - spare < result.slowest_answer_ms < went_on_ms - stop_ms + 100 + spare


def test_a_prober_that_falls_behind_says_so(lab: Lab) -> None:
    """Frozen in the middle, it sends what was due all the same, and counts it as late."""
    with virtual_addresses_on(lab, "n1"), lab.probing(sources=10, interval_ms=10, seconds=0.6) as probe:
        eventually(lambda: probe.elapsed_ms > 100, "it is at work")
        os.kill(probe.pid, signal.SIGSTOP)
        eventually(lambda: probe.elapsed_ms > 350, "it is behind")
        os.kill(probe.pid, signal.SIGCONT)
        result = probe.wait()
    assert result.sent == 600
    assert result.late >= 100
    assert result.worst_late_ms >= 150


def test_the_result_is_a_value_that_json_can_carry(lab: Lab) -> None:
    result = lab.probing(sources=1, interval_ms=20, seconds=0.1).wait()
    assert json.loads(json.dumps(result.as_json()))["lost"] == result.lost == 5
    assert replace(result, lost=0) != result


def test_a_prober_that_is_killed_is_not_a_result(lab: Lab) -> None:
    probe = lab.probing(sources=1)
    os.kill(probe.pid, signal.SIGKILL)
    with pytest.raises(OperationError, match="the prober died"):
        probe.wait()


@pytest.mark.parametrize("arguments", [{"sources": 0}, {"sources": 251}, {"interval_ms": 0}, {"seconds": -1}])
def test_senseless_arguments_are_refused(lab: Lab, arguments: dict[str, int]) -> None:
    with pytest.raises(OperationError):
        lab.probing(**arguments)  # type: ignore[arg-type]


def test_a_family_without_virtual_address_is_refused(lab: Lab) -> None:
    four_only = Lab(lab.directory, replace(lab.state, virtual_addresses=(VIP4,)))
    with pytest.raises(OperationError, match="no IPv6 virtual address"):
        four_only.probing(family=6)
