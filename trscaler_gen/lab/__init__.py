"""The lab: a cluster's hosts, its switch and a client as namespaces here, reached over real SSH."""

from trscaler_gen.lab.lab import Lab, LeftOver, MemberStatus
from trscaler_gen.lab.probe import Probe, ProbeResult, SourceResult

__all__ = ["Lab", "LeftOver", "MemberStatus", "Probe", "ProbeResult", "SourceResult"]
