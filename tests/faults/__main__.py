"""Faults at random against a cluster in namespaces, and whether the invariants held: python -m faults."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trscaler_gen.errors import OperationError

from .evidence import Evidence
from .invariants import Judge, Violation
from .run import cluster_for, perform
from .schedule import KINDS, LONGEST_S, MOST_NODES, Schedule, draw, from_json, moments

MANY = 12
OUTPUT = Path(__file__).parent.parent.parent / "build" / "faults"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a schedule, drawn or from a file; 0: no invariant was broken, 1: one was, 2: nothing is shown."""
    arguments = _arguments(argv)
    try:
        schedule = _schedule(arguments)
        violations = _shown(schedule) if arguments.show else _run(schedule, arguments.output)
    except (OperationError, ValueError, OSError, subprocess.SubprocessError) as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("faults: interrupted; the lab is gone", file=sys.stderr)
        return 130
    return 1 if violations else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the schedule is drawn from it")
    parser.add_argument(
        "--time", type=float, default=60, metavar="S", help=f"how long faults happen, 5 to {LONGEST_S} s"
    )
    parser.add_argument("--nodes", type=int, default=4, help="3 to 8")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which faults: %(default)s")
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="run the schedule of this file instead")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where schedules are written")
    parser.add_argument("--show", action="store_true", help="only print the schedule")
    return parser.parse_args(argv)


def _schedule(arguments: argparse.Namespace) -> Schedule:
    if arguments.schedule:
        document = json.loads(arguments.schedule.read_text())
        return from_json(document.get("schedule") if isinstance(document, dict) else document)
    kinds = arguments.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if not 3 <= arguments.nodes <= MOST_NODES or not 5 <= arguments.time <= LONGEST_S:
        raise ValueError(f"3 to {MOST_NODES} nodes, 5 to {LONGEST_S} s")
    return draw(arguments.seed, arguments.time, arguments.nodes, kinds)


def _shown(schedule: Schedule) -> tuple[Violation, ...]:
    for at_s, fault, begins in moments(schedule):
        print(f"{at_s:7.2f} s  {fault if begins else fault.end}")
    return ()


def _run(schedule: Schedule, output: Path) -> tuple[Violation, ...]:
    head = f"seed {schedule.seed}: {len(schedule.faults)} faults in {schedule.seconds:g} s against "
    print(
        head + f"{schedule.nodes} nodes ({schedule.connections}), probes over IPv{schedule.family}",
        flush=True,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster_for(schedule.nodes, Path(folder), schedule.connections) as cluster,
    ):
        seen = perform(cluster, schedule, Path(folder), lambda line: print(line, flush=True))
    judge = Judge(seen)
    violations = judge.violations()
    _report(seen, judge, violations)
    if violations:
        print(f"run it again: make faults SCHEDULE={write(schedule, violations, output)}")
    elif why := judge.too_little():
        raise OperationError(f"nothing is shown: {why}", "run it again, on a machine with less to do")
    return violations


def _report(seen: Evidence, judge: Judge, violations: Sequence[Violation]) -> None:
    sent, lost, doubled, excused = judge.counts()
    print(
        f"{sent} probes: {lost} lost, {doubled} answered by several nodes; stalls excuse {excused} of them,"
    )
    print(f"the machine stood still, or had just stood still, for {judge.excused_s():.1f} s")
    for name, hole_s in sorted(judge.longest_holes().items(), key=lambda item: -item[1]):
        print(f"  longest hole after {name}: {hole_s:.2f} s")
    failed = sum(bool(item.failed) for item in seen.happened)
    print(f"{len(seen.happened)} events, {failed} could not be done; {len(seen.verdicts)} verdicts asked")
    for violation in violations[:MANY]:
        print(f"BROKEN {violation}")
    if len(violations) > MANY:
        print(f"BROKEN {len(violations) - MANY} more times")
    print("broken" if violations else "no invariant was broken")


@dataclass(frozen=True)
class _Record:
    schedule: Schedule
    violations: Sequence[Violation]

    def as_json(self) -> dict[str, object]:
        prefix = self.schedule.prefix(self.violations[0].at_s)
        broken = [violation._asdict() for violation in self.violations[:1000]]
        return {"schedule": prefix.as_json(), "whole": self.schedule.as_json(), "broken": broken}


def write(schedule: Schedule, violations: Sequence[Violation], output: Path) -> Path:
    """Write down what broke an invariant: the schedule up to there, the whole one, and what was broken."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"seed-{schedule.seed}-{schedule.nodes}-nodes.json"
    path.write_text(json.dumps(_Record(schedule, violations).as_json(), indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
