"""``make bench``: measure everything and write docs/benchmarks.md and docs/benchmarks.json.

``--quick`` repeats less, of fewer parts, at one heartbeat, and brings up no lab of 32 nodes. ``--only PART``
measures one part, and leaves all other figures as they are. Of failover the raw figures are many, and have a
file of their own, docs/failover.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import (
    build,
    changes,
    connections,
    deploy,
    events,
    failover,
    failover_report,
    lab,
    machine,
    packets,
    path,
    pictures,
    report,
    ruleset,
    simulate,
    spread,
    verify,
)

DOCS = Path(__file__).parent.parent / "docs"

Results = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """How much is measured; ``parts`` beside failover, None: all."""

    runs: int
    event_runs: int
    heartbeats_ms: tuple[int, ...]
    lab_nodes: tuple[int, ...]
    failover_runs: int
    failover_ms: tuple[int, ...]
    clusters: tuple[int, ...]
    deploy_nodes: tuple[int, ...]
    spread_nodes: tuple[int, ...]
    path_rounds: int
    capture_bytes: int
    parts: tuple[str, ...] | None = None


QUICK = Scope(
    runs=2,
    event_runs=1,
    heartbeats_ms=(100,),
    lab_nodes=(4,),
    failover_runs=2,
    failover_ms=(100,),
    clusters=(5, 20),
    deploy_nodes=(4,),
    spread_nodes=(2, 8, 32),
    path_rounds=200,
    capture_bytes=100_000_000,
    parts=("path", "simulate", "build", "deploy", "spread", "ruleset"),
)
FULL = Scope(
    runs=7,
    event_runs=5,
    heartbeats_ms=(100, 30, 10),
    lab_nodes=(4, 32),
    failover_runs=30,
    failover_ms=(10, 30, 100, 1000),
    clusters=(10, 100, 1000),
    deploy_nodes=(8, 32),
    spread_nodes=tuple(range(2, 33)),
    path_rounds=2000,
    capture_bytes=1_000_000_000,
)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder for both files")
    parser.add_argument(
        "--only", choices=(*PARTS, "failover"), help="only this part; the others' figures stay"
    )
    parser.add_argument("--event-runs", type=int, help="how often each event is repeated")
    parser.add_argument("--failover-runs", type=int, help="how often each event of failover is repeated")
    parser.add_argument("--heartbeats", type=int, nargs="+", help="only these intervals of failover, in ms")
    parser.add_argument("--nodes", type=int, nargs="+", help="only labs of so many nodes")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where pip installs a program, it is compiled
    scope = QUICK if options.quick else FULL
    if options.event_runs:
        scope = replace(scope, event_runs=options.event_runs)
    if options.failover_runs:
        scope = replace(scope, failover_runs=options.failover_runs)
    if options.heartbeats:
        scope = replace(scope, failover_ms=tuple(options.heartbeats))
    if options.nodes:
        scope = replace(scope, lab_nodes=tuple(options.nodes))
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trscaler-bench-", dir="/var/tmp") as folder:
        if options.only:
            results = read_results(options.output)
            if options.only in PARTS:
                measure_alone(options.only, results, scope, Path(folder))
                write_results(results, options.output)
        else:
            results = measure(scope, Path(folder), options.output)
        if options.only in (None, "failover"):
            measure_failover(scope, Path(folder), options.output / "failover.json")
    write_pages(results, options.output)


def write_pages(results: Results, output: Path) -> None:
    """The page, and its pictures."""
    raw = output / "failover.json"
    parts = [json.loads(line) for line in raw.read_text().splitlines()] if raw.exists() else []
    (output / "benchmarks.md").write_text(report.markdown({**results, "failover": parts}))
    (output / "images").mkdir(exist_ok=True)
    for name, picture in failover_report.pictures(parts).items():
        (output / "images" / name).write_bytes(picture)
    pictures.write(results, output / "images")


def write_results(results: Results, output: Path) -> None:
    """The raw figures."""
    (output / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")


def measure(scope: Scope, folder: Path, output: Path) -> Results:
    """All parts in turn; each says on standard output when it begins, and is kept should a later one fail."""
    results: Results = {"scope": asdict(scope), "machine": machine.describe()}
    for name in PARTS:
        if scope.parts is None or name in scope.parts:
            measure_alone(name, results, scope, folder)
            write_results(results, output)
    return results


def measure_alone(name: str, results: Results, scope: Scope, folder: Path) -> None:
    """One part, with the load that it met."""
    results.setdefault("loads", {})[name] = machine.describe()["load before"]
    PARTS[name](results, scope, folder)


# Any part may be measured alone


def measure_build(results: Results, scope: Scope, folder: Path) -> None:
    """One cluster of each size, and folders of clusters."""
    part: Results = {"runs": scope.runs, "machine": machine.describe()}
    say("builds")
    part["rows"] = [asdict(row) for row in build.measure((2, 4, 8, 16, 32), scope.runs, folder)]
    say("builds of folders")
    part["folders"] = [asdict(row) for row in build.measure_folders(scope.clusters, folder)]
    results["build"] = part


def measure_deploy(results: Results, scope: Scope, folder: Path) -> None:
    """Next to ansible-core."""
    part: Results = {"machine": machine.describe(), "rows": []}
    for nodes in scope.deploy_nodes:
        say(f"apply and ansible, {nodes} nodes")
        runs = 1 if scope is QUICK else 3
        part["rows"].append(asdict(deploy.measure(nodes, runs, folder)))
    results["deploy"] = part


def measure_spread(results: Results, scope: Scope, folder: Path) -> None:
    """Next to other ways of hashing; arithmetic."""
    say("spread")
    results["spread"] = [asdict(row) for row in spread.measure(scope.spread_nodes)]


def measure_path(results: Results, scope: Scope, folder: Path) -> None:
    """Next to one static rule, and to iptables."""
    say("packets, where they arrive")
    part: Results = {"machine": machine.describe(), "rounds": scope.path_rounds}
    results["path"] = part | asdict(path.measure(scope.path_rounds, folder))


def measure_verify(results: Results, scope: Scope, folder: Path) -> None:
    """32 nodes and 1,024 buckets."""
    say("the proof")
    results["verify"] = {"machine": machine.describe(), "row": asdict(verify.measure(folder))}


def measure_simulate(results: Results, scope: Scope, folder: Path) -> None:
    """Hashing, and a long capture."""
    say("recorded traffic")
    part: Results = {"machine": machine.describe()}
    results["simulate"] = part | {"row": asdict(simulate.measure(scope.runs, folder, scope.capture_bytes))}


def measure_connections(results: Results, scope: Scope, folder: Path) -> None:
    """It takes longest."""
    part: Results = {"runs": scope.event_runs, "machine": machine.describe()}
    say("connections")
    part["rows"] = [asdict(row) for row in connections.measure(scope.event_runs, folder)]
    results["connections"] = part


def measure_packets(results: Results, scope: Scope, folder: Path) -> None:
    """What a node spends on one."""
    say("packets")
    results["packets"] = [asdict(row) for row in packets.measure(folder)]


def measure_ruleset(results: Results, scope: Scope, folder: Path) -> None:
    """Loaded, and swapped."""
    say("rulesets")
    rows = ruleset.measure((2, 4, 8, 16, 32), scope.runs, folder)
    results["ruleset"] = [asdict(row) for row in rows]
    results["ruleset_runs"] = scope.runs


def measure_lab(results: Results, scope: Scope, folder: Path) -> None:
    """Brought up, and deployed to; sizes that are not measured keep their figures."""
    rows = {row["nodes"]: row for row in results.get("lab", [])}
    for nodes in scope.lab_nodes:
        say(f"a lab of {nodes}")
        rows[nodes] = asdict(lab.measure(nodes, folder))
    results["lab"] = [rows[nodes] for nodes in sorted(rows)]


def measure_changes(results: Results, scope: Scope, folder: Path) -> None:
    """What clients notice of them."""
    say("changes by an operator")
    results["changes"] = [asdict(row) for row in changes.measure(scope.event_runs, folder)]


def measure_events(results: Results, scope: Scope, folder: Path) -> None:
    """What clients notice of them."""
    results["events"] = []
    for interval_ms in scope.heartbeats_ms:
        say(f"events at {interval_ms} ms")
        rows = events.measure(interval_ms, scope.event_runs, folder)
        results["events"] += map(asdict, rows)


PARTS: dict[str, Callable[[Results, Scope, Path], None]] = {
    "path": measure_path,
    "verify": measure_verify,
    "simulate": measure_simulate,
    "build": measure_build,
    "deploy": measure_deploy,
    "spread": measure_spread,
    "connections": measure_connections,
    "packets": measure_packets,
    "ruleset": measure_ruleset,
    "lab": measure_lab,
    "changes": measure_changes,
    "events": measure_events,
}


def read_results(folder: Path) -> Results:
    """What was measured before; a part alone may be the first."""
    path = folder / "benchmarks.json"
    found: Results = json.loads(path.read_text()) if path.exists() else {}
    return found


def measure_failover(scope: Scope, folder: Path, raw: Path) -> None:
    """It takes hours: each interval and size is written as it is measured, and replaces what was there."""
    lines = raw.read_text().splitlines() if raw.exists() else []
    parts = {(part["nodes"], part["interval_ms"]): part for part in map(json.loads, lines)}
    for nodes in scope.lab_nodes:
        for interval_ms in scope.failover_ms:
            part = failover.measure(interval_ms, nodes, scope.failover_runs, folder, say)
            parts[nodes, interval_ms] = asdict(part)
            compact = (json.dumps(parts[key], separators=(",", ":")) for key in sorted(parts))
            raw.write_text("".join(f"{line}\n" for line in compact))


def say(what: str) -> None:
    """Tell how far it is."""
    print(f"bench: {what}", flush=True)


if __name__ == "__main__":
    main()
