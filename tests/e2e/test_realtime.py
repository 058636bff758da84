"""Heartbeats go before the host's other work; where that is not allowed there are heartbeats all the same."""

from __future__ import annotations

import pytest

from .cluster import Cluster, eventually
from .events import VICTIM, on
from .test_changes import apply

PID = "/run/trscaler-gen/e2e/vrrp.pid"
CONFIG = "/etc/trscaler-gen/e2e/current/keepalived.conf"
REFUSED = "setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice"


def said(cluster: Cluster, command: str) -> str:
    return cluster.lab.exec(VICTIM, ["sh", "-c", command]).stdout


def has_policy(cluster: Cluster, policy: str) -> bool:
    """What the VRRP process of the victim runs as."""
    return f"scheduling policy: {policy}\n" in said(cluster, f"chrt --pid $(cat {PID})")


def may_be_real_time(cluster: Cluster) -> bool:
    return cluster.lab.exec(VICTIM, ["chrt", "--rr", "1", "true"], check=False).returncode == 0


def limit_us(cluster: Cluster) -> list[str]:
    """How long it may compute without a pause: until it is told, and until it is killed."""
    return said(cluster, f"grep 'Max realtime timeout' /proc/$(cat {PID})/limits").split()[3:5]


def await_real_time(cluster: Cluster) -> None:
    wanted = "SCHED_RR|SCHED_RESET_ON_FORK" if may_be_real_time(cluster) else "SCHED_OTHER"
    eventually(lambda: has_policy(cluster, wanted), "it is real-time")


def test_heartbeats_are_real_time_and_the_health_command_is_not(cluster: Cluster) -> None:
    await_real_time(cluster)
    assert limit_us(cluster) == ["500000", "1000000"]


def test_another_configuration_leaves_the_process_as_it_is(
    cluster: Cluster, inventory: dict[str, object]
) -> None:
    before = said(cluster, f"cat {PID}")
    for interval_ms in (200, 250, 200):
        inventory["heartbeat"] = {"interval_ms": interval_ms, "missed": 3}
        apply(cluster, inventory)
    assert said(cluster, f"cat {PID}") == before
    await_real_time(cluster)
    assert limit_us(cluster) == ["500000", "1000000"]


def test_a_priority_of_keepalived_s_own_does_not_outlive_two_reloads(cluster: Cluster) -> None:
    """Why it is not asked for one: 2.2.7 then has a limit of 0 us, and the kernel kills it within moments."""
    if not may_be_real_time(cluster):
        pytest.skip("nothing may be real-time here: there is no limit that could be wrong")
    before, config = said(cluster, f"cat {PID}"), said(cluster, f"cat {CONFIG}")
    on(cluster, f"sed -i 's/vrrp_version 3/&\\n vrrp_rt_priority 1\\n vrrp_rlimit_rttime 1000000/' {CONFIG}")
    try:
        eventually(lambda: reloaded_and_killed(cluster, before), "it is another process")
    finally:
        cluster.lab.exec(VICTIM, ["tee", CONFIG], input=config)
        cluster.script(VICTIM, "down")
        cluster.script(VICTIM, "up")
        cluster.settle()


def reloaded_and_killed(cluster: Cluster, before: str) -> bool:
    on(cluster, "kill -HUP $(cat /run/trscaler-gen/e2e/keepalived.pid)")
    return said(cluster, f"cat {PID}") != before


def test_where_it_is_refused_a_node_serves_all_the_same(cluster: Cluster) -> None:
    cluster.script(VICTIM, "down")
    try:
        on(cluster, f"{REFUSED} sh /etc/trscaler-gen/e2e/current/node.sh up")
        cluster.settle()
        assert has_policy(cluster, "SCHED_OTHER")
    finally:
        cluster.script(VICTIM, "down")
        cluster.script(VICTIM, "up")
