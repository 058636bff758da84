"""``make bench``: measure everything and write docs/benchmarks.md and docs/benchmarks.json.

``--quick`` repeats less, at one heartbeat, and brings up no lab of 32 nodes. ``--only connections`` measures
what happens to connections, and leaves all other figures as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import build, changes, connections, events, lab, machine, packets, report, ruleset, spread

DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Scope:
    """How much is measured."""

    runs: int
    event_runs: int
    heartbeats_ms: tuple[int, ...]
    lab_nodes: tuple[int, ...]


QUICK = Scope(runs=3, event_runs=1, heartbeats_ms=(100,), lab_nodes=(4,))
FULL = Scope(runs=7, event_runs=5, heartbeats_ms=(100, 30, 10), lab_nodes=(4, 32))


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder for both files")
    parser.add_argument("--only", choices=["connections"], help="only this part; the others' figures stay")
    parser.add_argument("--event-runs", type=int, help="how often each event is repeated")
    options = parser.parse_args()
    scope = QUICK if options.quick else FULL
    if options.event_runs:
        scope = replace(scope, event_runs=options.event_runs)
    with tempfile.TemporaryDirectory(prefix="trscaler-bench-", dir="/var/tmp") as folder:
        if options.only:
            results = json.loads((options.output / "benchmarks.json").read_text())
        else:
            results = measure(scope, Path(folder))
        results["connections"] = measure_connections(scope, Path(folder))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    (options.output / "benchmarks.md").write_text(report.markdown(results))


def measure(scope: Scope, folder: Path) -> dict[str, object]:
    """All parts in turn; each says on standard output when it begins."""
    results: dict[str, object] = {"scope": asdict(scope), "machine": machine.describe()}
    say("builds")
    results["build"] = [asdict(row) for row in build.measure((2, 8, 32), scope.runs, folder)]
    say("rulesets")
    results["ruleset"] = [asdict(row) for row in ruleset.measure((4, 32), scope.runs, folder)]
    say("spread")
    results["spread"] = asdict(spread.measure(32, 1024))
    for nodes in scope.lab_nodes:
        say(f"a lab of {nodes}")
        results.setdefault("lab", []).append(asdict(lab.measure(nodes, folder)))  # type: ignore[attr-defined]
    say("changes by an operator")
    results["changes"] = [asdict(row) for row in changes.measure(scope.event_runs, folder)]
    for interval_ms in scope.heartbeats_ms:
        say(f"events at {interval_ms} ms")
        rows = events.measure(interval_ms, scope.event_runs, folder)
        results.setdefault("events", []).extend(map(asdict, rows))  # type: ignore[attr-defined]
    return results


def measure_connections(scope: Scope, folder: Path) -> dict[str, object]:
    """It takes longest, and may be measured alone: so it says itself what on."""
    results: dict[str, object] = {"runs": scope.event_runs, "machine": machine.describe()}
    say("packets")
    results["packets"] = [asdict(row) for row in packets.measure(folder)]
    say("connections")
    results["rows"] = [asdict(row) for row in connections.measure(scope.event_runs, folder)]
    return results


def say(what: str) -> None:
    """Tell how far it is."""
    print(f"bench: {what}", flush=True)


if __name__ == "__main__":
    main()
