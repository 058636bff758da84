"""Heartbeats go before the host's other work; where that is not allowed there are heartbeats all the same."""

from __future__ import annotations

from .cluster import Cluster
from .events import VICTIM, on

#: what the VRRP process of the victim runs as
LOOK = "chrt --pid $(cat /run/trscaler-gen/e2e/vrrp.pid)"
REFUSED = "setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice"


def scheduling(cluster: Cluster) -> str:
    return cluster.lab.exec(VICTIM, ["sh", "-c", LOOK]).stdout


def test_heartbeats_are_real_time_and_the_health_command_is_not(cluster: Cluster) -> None:
    may = cluster.lab.exec(VICTIM, ["chrt", "--rr", "1", "true"], check=False).returncode == 0
    wanted = "SCHED_RR|SCHED_RESET_ON_FORK" if may else "SCHED_OTHER"
    assert f"scheduling policy: {wanted}\n" in scheduling(cluster)


def test_where_it_is_refused_a_node_serves_all_the_same(cluster: Cluster) -> None:
    cluster.script(VICTIM, "down")
    try:
        on(cluster, f"{REFUSED} sh /etc/trscaler-gen/e2e/current/node.sh up")
        cluster.settle()
        assert "scheduling policy: SCHED_OTHER\n" in scheduling(cluster)
    finally:
        cluster.script(VICTIM, "down")
        cluster.script(VICTIM, "up")
