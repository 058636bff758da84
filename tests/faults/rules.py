"""What the switch does to frames on their way: the faults in force as rules of nft. Pure.

The rules stand where a frame leaves the switch's port to a node: what they let pass arrives. Only those of
late heartbeats stand where frames come in: `late.py` has a copy by then, and sends that on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .schedule import Fault

TABLE = "faults"
_HEARTBEAT = "ether daddr 01:00:5e:00:00:12 ip protocol 112"


@dataclass(frozen=True)
class Port:
    """Where a node, or the client, is wired to the switch, and how its frames are known."""

    name: str
    port: str
    mac: str
    address: str


def switch_rules(ports: Mapping[str, Port], client: str, faults: Iterable[Fault]) -> str:
    """The switch's whole ruleset, as `nft -f` reads it."""
    faults = tuple(faults)
    chains = [_leaving(name, port, ports, client, faults) for name, port in ports.items()]
    chains += [_coming(port) for fault in faults if fault.kind == "delay" for port in [ports[fault.nodes[0]]]]
    table = f"table netdev {TABLE}"
    return f"{table} {{ }}\ndelete {table}\n{table} {{\n{''.join(chains)}}}\n"


def _leaving(name: str, port: Port, ports: Mapping[str, Port], client: str, faults: tuple[Fault, ...]) -> str:
    rules = [rule for fault in faults for rule in _rules_of(fault, name, ports, client)]
    return _chain(f"to_{name}", "egress", port, rules)


def _rules_of(fault: Fault, name: str, ports: Mapping[str, Port], client: str) -> list[str]:
    """What a fault does to frames that go to this node."""
    if fault.kind == "cut":
        return ["drop"] if name in fault.nodes else [f"ether saddr {ports[fault.nodes[0]].mac} drop"]
    if fault.kind == "loss" and name != client:
        sender = f"{_HEARTBEAT} ip saddr {ports[fault.nodes[0]].address}"
        return [f"{sender} numgen random mod 100 < {fault.amount:.0f} drop"]
    if fault.kind == "one-way" and name == fault.nodes[1]:
        return [f"{_HEARTBEAT} ip saddr {ports[fault.nodes[0]].address} drop"]
    if fault.kind == "split":
        is_there = name in fault.nodes
        others = [port.mac for other, port in ports.items() if (other in fault.nodes) != is_there]
        return [f"ether saddr {{ {', '.join(others)} }} drop"]
    return []


def _coming(port: Port) -> str:
    return _chain(f"from_{port.name}", "ingress", port, [f"{_HEARTBEAT} drop"])


def _chain(name: str, hook: str, port: Port, rules: Iterable[str]) -> str:
    lines = [f'type filter hook {hook} device "{port.port}" priority 0; policy accept;', *rules]
    return f"    chain {name} {{\n" + "".join(f"        {line}\n" for line in lines) + "    }\n"
