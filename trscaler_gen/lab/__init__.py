"""The lab: a cluster's hosts, its switch and a client as namespaces here, reached over real SSH."""

from trscaler_gen.lab.connections import (
    BrokenConnection,
    ConnectionCount,
    Connections,
    ConnectionsResult,
    Load,
    SlowRequest,
)
from trscaler_gen.lab.lab import Lab, LeftOver, MemberStatus
from trscaler_gen.lab.probe import Probe, ProbeResult, SourceResult

__all__ = [
    "BrokenConnection",
    "ConnectionCount",
    "Connections",
    "ConnectionsResult",
    "Lab",
    "LeftOver",
    "Load",
    "MemberStatus",
    "Probe",
    "ProbeResult",
    "SlowRequest",
    "SourceResult",
]
