"""The figures as a page for people: docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import failover_report, path_report
from bench.table import table

_HEAD = """# Benchmarks

Written by `make bench` (quick, with fewer runs and less in it: `make bench-quick`), with the raw figures in
[benchmarks.json](benchmarks.json). Do not edit: run it again, on a machine that does nothing else.
"""


def markdown(results: Mapping[str, Any]) -> str:
    """Lay all results out."""
    parts = [_HEAD]
    for key, section in _SECTIONS.items():
        if results.get(key):
            parts.append(section(results))
    return "\n".join(parts)


def _machine(machine: Mapping[str, str]) -> str:
    return "## Measured on\n\n" + table(["what", ""], machine.items())


def _events(rows: Sequence[Mapping[str, Any]], load: str) -> str:
    first = rows[0]
    text = f"""## What clients notice when something happens to one node of four

{first["sources"]} sources send a probe each every {first["probe_interval_ms"]} ms, from half a second
before the event until half a second after the nodes agree again on who is alive.

- *lost*: no answer; *doubled*: more than one
- *longest gap*: the longest time that any one source went without an answer; a source that loses nothing
  sees {first["probe_interval_ms"]} ms and what the prober was late
- *late*: probes that the prober itself sent more than 10 ms after their time, because the machine was busy;
  with many of them the row says more of the machine than of the cluster: a virtual machine that stands still
  for a lease stops all nodes at once

{_runs(len(first["sent"]))} {load}Three heartbeats may be missed, so a lease is 3.5 intervals.
"""
    tables = []
    for interval_ms in dict.fromkeys(row["interval_ms"] for row in rows):
        mine = [row for row in rows if row["interval_ms"] == interval_ms]
        tables.append(f"\n### Heartbeat every {interval_ms} ms\n\n" + _event_table(mine))
    return text + "".join(tables)


def _changes(rows: Sequence[Mapping[str, Any]], load: str) -> str:
    text = f"""## What clients notice when an operator changes the cluster

As above: `apply` and `rollback` over SSH, from the first connection to the last record, on four of five
hosts, with a heartbeat every {rows[0]["interval_ms"]} ms. {_runs(len(rows[0]["sent"]))} {load}"""
    return f"{text.rstrip()}\n\n{_event_table(rows)}"


def _load(results: Mapping[str, Any], part: str) -> str:
    """How busy the machine was, as a sentence and a blank; nothing, of figures that did not say."""
    load = results.get("loads", {}).get(part)
    return f"Load of the machine at the start: {load}. " if load else ""


def _runs(runs: int) -> str:
    return "One run." if runs == 1 else f"{runs} runs: sums, and the worst run's gap."


def _event_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["event", "sent", "lost", "doubled", "longest gap, ms", "late"]
    return table(
        head,
        (
            [
                row["event"],
                f"{sum(row['sent']):,}",
                str(sum(row["lost"])),
                str(sum(row["doubled"])),
                f"{max(row['longest_gap_ms']):.0f}",
                str(sum(row["late"])),
            ]
            for row in rows
        ),
    )


def _connections(part: Mapping[str, Any]) -> str:
    interval_ms = part["rows"][0]["interval_ms"]
    planned = [row for row in part["rows"] if not row["crashed"]]
    crashes = [row for row in part["rows"] if row["crashed"]]
    text = f"""## What happens to TCP connections

200 connections that ask every 100 ms and 40 that rest for 2 s, over IPv4 and IPv6 from 100 sources each,
and a new one every 5 ms; beside them 50 sources of each family send a probe every 100 ms. A heartbeat every
{interval_ms} ms; four of five hosts are nodes. {_runs(part["runs"])} Load of the machine at the start:
{part["machine"]["load before"]}. [What breaks, and why](packet-flow.md#what-breaks-all-the-same).

- *slow*: answers after more than 150 ms; the opening counts
- *late*: what the clients themselves did more than 10 ms after its time; *stall*: how long the machine stood
  still at most. With many, or long ones, a row says more of the machine than of the cluster
"""
    return f"""{text}
### What breaks nothing

{_connection_table(planned)}
### What resets a crashed node's connections

*Others*: broken, though on a node that did not crash. *Hung*: broken without a reset. *Reset after*: the
longest time from the first packet that nobody has heard.

{_crash_table(crashes)}"""


def _connection_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["event", "opened", "broken", "slow", "probes", "lost", "doubled", "late", "stall, ms"]
    return table(head, ([row["event"], *_sums(row, "opened", "broken"), *_beside(row)] for row in rows))


def _crash_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["event", "opened", "broken", "others", "hung", "reset after, ms", "slow"]
    head += ["probes", "lost", "doubled", "late", "stall, ms"]
    return table(
        head,
        (
            [
                row["event"],
                *_sums(row, "opened", "broken", "alien", "hung"),
                f"{max(row['reset_ms']):.0f}",
                *_beside(row),
            ]
            for row in rows
        ),
    )


def _beside(row: Mapping[str, Any]) -> list[str]:
    return [*_sums(row, "slow", "probes", "lost", "doubled", "late"), f"{max(row['stall_ms']):.0f}"]


def _sums(row: Mapping[str, Any], *keys: str) -> list[str]:
    return [f"{sum(row[key]):,}" for key in keys]


def _packets(rows: Sequence[Mapping[str, Any]], load: str) -> str:
    text = f"""## What a packet costs a node

Nanoseconds more than a frame that is for nobody, where nothing has happened for `keep_connections_s`: the
quickest of 300 times 250 packets. *Dropped*: another node is the owner. With `preserve` it meets the same
rules as with `hash-only`; what is accepted passes the node's own table as well, and TCP is tracked.
{load}

"""
    modes = list(rows[0]["ns"])
    return text + table(
        ["", *modes], ([row["what"], *(f"{row['ns'][mode]:.0f}" for mode in modes)] for row in rows)
    )


def _deployment(rows: Sequence[Mapping[str, Any]]) -> str:
    text = """## A lab, and deploying to it

Seconds, from a cold interpreter to its end; where there are several runs, the median and the worst. All nodes
run on this one machine. *First*: nothing is deployed yet, and at the end every node serves. *Same*: there is
nothing to do. *Change*: every node gets another virtual address. The goals for 32 nodes: a plan at most 5 s,
an apply from nothing at most 25 s, one with nothing to do at most 6 s.

"""
    head = ["", *(f"{row['nodes']} nodes" for row in rows)]
    steps = {
        "`lab up`": "up_s",
        "`plan`, first": "plan_first_s",
        "`apply`, first": "apply_first_s",
        "`plan`, same": "plan_same_s",
        "`apply`, same": "apply_same_s",
        "`plan`, change": "plan_change_s",
        "`apply`, change": "apply_change_s",
        "`status`": "status_s",
        "`lab down`": "down_s",
    }
    return text + table(head, ([name, *(_seconds(row[key]) for row in rows)] for name, key in steps.items()))


def _seconds(measured: float | Sequence[float]) -> str:
    if isinstance(measured, float):
        return f"{measured:.1f}"
    return f"{statistics.median(measured):.1f} ({max(measured):.1f})"


def _against_ansible(part: Mapping[str, Any]) -> str:
    rows, load = part["rows"], part["machine"]["load before"]
    text = f"""## Deploying, next to {rows[0]["ansible"]}

Seconds, from a cold interpreter to its end, medians of {len(rows[0]["apply_first_s"])} runs in turn with
the spread; all nodes run on this one machine. Load of the machine at the start: {load}. *First*: onto bare
nodes, until every node serves. *Same*: there is nothing to do. The goal: at least 5 times as fast.

Ansible has a [playbook](../bench/playbook.yaml) that brings the same files to the same places and calls
the same verbs of the node's script, as an expert would tune it: 32 forks, pipelining, no gathering of
facts, ControlPersist (its connections stay open from one run to the next; `apply` opens its own), one
archive per node instead of a file after the other. Its bundles were built and packed before the clock
started; `apply` builds them itself. The playbook takes no lock, arms no way back, and proves nothing
over new connections.

"""
    lines = []
    for row in rows:
        for name, label in (("first", "first"), ("same", "same")):
            ours, theirs = row[f"apply_{name}_s"], row[f"ansible_{name}_s"]
            ratio = statistics.median(theirs) / statistics.median(ours)
            lines.append(
                [f"{row['nodes']} nodes, {label}", _spread_of(ours), _spread_of(theirs), f"{ratio:.1f} x"]
            )
    return text + table(["", "`apply`, s", "ansible, s", "ratio"], lines)


def _spread_of(measured: Sequence[float]) -> str:
    return f"{statistics.median(measured):.1f} ({min(measured):.1f}-{max(measured):.1f})"


def _build(part: Mapping[str, Any]) -> str:
    load = part["machine"]["load before"]
    text = f"""## Build

`trscaler-gen build` from a cold interpreter: wall time, median of {part["runs"]} runs, and the peak of
resident memory. *First*: there is no lock yet, and the placement is made. *Again*: the lock is there.
The goal for 32 nodes is at most 1.0 s and 150 MB. Load of the machine at the start:
{load}.

"""
    head = ["nodes x buckets", "first, s", "again, s", "peak, MiB", "largest ruleset, kB"]
    return (
        text
        + table(
            head,
            (
                [
                    f"{row['nodes']} x {row['buckets']}",
                    f"{row['first_s']:.2f}",
                    f"{row['again_s']:.2f}",
                    f"{row['peak_mib']:.0f}",
                    f"{row['largest_ruleset_kb']:.0f}",
                ]
                for row in part["rows"]
            ),
        )
        + _folders(part["folders"])
    )


def _folders(rows: Sequence[Mapping[str, Any]]) -> str:
    text = f"""
### A folder of clusters

One `build` of a folder of inventories without locks, {rows[0]["nodes"]} nodes each, one run. *Equal*:
all nodes of all clusters weigh the same, so their orders are made once in each process. *Unequal*: in
each cluster one node weighs more, another one from cluster to cluster. *CPU*: of all processes. The goal
for 1,000 is at most 120 s on two processors.

![Time for a cluster, in folders of different sizes](images/bench-build.svg)

"""
    head = [
        "clusters",
        "wall, s",
        "CPU, s",
        "wall per cluster, ms",
        "CPU per cluster, ms",
        "peak, MiB",
        "written, GB",
    ]
    return text + table(
        head,
        (
            [
                f"{row['clusters']:,} {'equal' if row['is_equal'] else 'unequal'}",
                f"{row['wall_s']:.1f}",
                f"{row['cpu_s']:.1f}",
                f"{row['wall_s'] / row['clusters'] * 1000:.0f}",
                f"{row['cpu_s'] / row['clusters'] * 1000:.0f}",
                f"{row['peak_mib']:.0f}",
                f"{row['written_mb'] / 1000:.1f}",
            ]
            for row in rows
        ),
    )


def _ruleset(rows: Sequence[Mapping[str, Any]], runs: int) -> str:
    text = f"""## Loading a ruleset

One `nft -f`, with the start of the process, in a network namespace: median of {runs} loads of the boot
ruleset and of {2 * runs} swaps. A swap is one transaction: packets see the old ruleset or the new one.

"""
    head = ["nodes", "load, ms", "swap, ms"]
    return text + table(
        head, ([str(row["nodes"]), f"{row['load_ms']:.0f}", f"{row['swap_ms']:.0f}"] for row in rows)
    )


def _spread(rows: Sequence[Mapping[str, Any]]) -> str:
    most = max(row["nodes"] for row in rows)
    text = """## Spread

Equal nodes; arithmetic, the same on every machine. The fullest node's share as a multiple of the mean:
with all alive, and after the worst failure of one node and of two. Then the part of all buckets that
another node moves, and the worst removal of one, beside the least that is possible for shares that are
even. The others are written from their papers ([bench/hashing.py](../bench/hashing.py)) and put as many
buckets onto nodes (Maglev 1,021: its tables have a prime size).

Maglev stays more even after a failure, because it makes its table anew: that moves buckets between nodes
that live, about as many again as had to move. Here only the buckets of the failed node move.

![The fullest node after the worst failure](images/bench-spread.svg)

"""
    head = ["", "all alive", "one failed", "two failed", "added: moved", "least", "removed: moved", "least"]
    return text + table(head, (_spread_row(row) for row in rows if row["nodes"] == most)) + _worst(rows)


def _spread_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['scheme']}, {row['nodes']} x {row['buckets']}",
        *(f"{row[key]:.3f}" for key in ("all_alive", "after_one", "after_two")),
        *(f"{row[key]:.2%}" for key in ("moved_by_adding", "least_for_adding")),
        *(f"{row[key]:.2%}" for key in ("moved_by_removing", "least_for_removing")),
    ]


def _worst(rows: Sequence[Mapping[str, Any]]) -> str:
    sizes = sorted({row["nodes"] for row in rows})
    text = f"""
The worst over all sizes measured, {sizes[0]} to {sizes[-1]} nodes; *beyond*: moved more than the least.

"""
    lines = []
    for scheme in dict.fromkeys(row["scheme"] for row in rows):
        mine = [row for row in rows if row["scheme"] == scheme]
        lines.append(
            [
                scheme,
                *(f"{max(row[key] for row in mine):.3f}" for key in ("all_alive", "after_one", "after_two")),
                *(
                    f"{max(0.0, *(row[f'moved_by_{way}'] - row[f'least_for_{way}'] for row in mine)):.2%}"
                    for way in ("adding", "removing")
                ),
            ]
        )
    return text + table(
        ["", "all alive", "one failed", "two failed", "added: beyond", "removed: beyond"], lines
    )


def _verify(part: Mapping[str, Any]) -> str:
    row = part["row"]
    return f"""## The proof

`verify` of {row["nodes"]} nodes and {row["buckets"]:,} buckets: {row["sets"]:,} sets of dead nodes are
counted one by one, each with {row["kinds"]} kinds of packets in {row["states"]} states. It took
{row["seconds"]:.1f} s on the clock and {row["processor_s"]:.1f} s of processors; the goal is 20 s. Load of
the machine at the start: {part["machine"]["load before"]}.
"""


def _simulate(part: Mapping[str, Any]) -> str:
    row = part["row"]
    return f"""## Recorded traffic

`simulate`: {row["flows_per_s_ipv4"] / 1e6:.1f} million flows a second are hashed and given their node on one
core over IPv4, {row["flows_per_s_ipv6"] / 1e6:.1f} over IPv6; the goal is 10. A capture of
{row["capture_bytes"] / 1e9:.1f} GB with {row["capture_records"]:,} records took {row["capture_s"]:.1f} s and
at most {row["peak_bytes"] / 2**20:.0f} MiB. Load of the machine at the start:
{part["machine"]["load before"]}.
"""


_SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "machine": lambda results: _machine(results["machine"]),
    "path": lambda results: path_report.section(results["path"]),
    "events": lambda results: _events(results["events"], _load(results, "events")),
    "failover": lambda results: failover_report.section(results["failover"]),
    "changes": lambda results: _changes(results["changes"], _load(results, "changes")),
    "connections": lambda results: _connections(results["connections"]),
    "packets": lambda results: _packets(results["packets"], _load(results, "packets")),
    "lab": lambda results: _deployment(results["lab"]),
    "deploy": lambda results: _against_ansible(results["deploy"]),
    "build": lambda results: _build(results["build"]),
    "ruleset": lambda results: _ruleset(results["ruleset"], results["ruleset_runs"]),
    "spread": lambda results: _spread(results["spread"]),
    "verify": lambda results: _verify(results["verify"]),
    "simulate": lambda results: _simulate(results["simulate"]),
}
