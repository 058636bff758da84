"""Random faults against a cluster of four nodes: a few schedules, and clusters that are broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import Cluster
from e2e.left_out import altered

from .__main__ import main, write
from .evidence import Beat, Evidence
from .invariants import Judge, Violation
from .run import cluster_for, perform
from .schedule import KINDS, Fault, Schedule, draw, from_json

#: what goes through the command line takes long, and is left to `make faults`
QUICK = tuple(kind for kind in KINDS if kind not in ("swap", "table"))
SECONDS = 20
#: a cluster that is broken on purpose does not come to rest
RETURN_S = 10


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_for(4, tmp_path_factory.mktemp("faults")) as cluster:
        yield cluster


@pytest.fixture
def cluster(town: Cluster) -> Cluster:
    town.settle()
    return town


def performed(cluster: Cluster, folder: Path, *faults: Fault) -> Evidence:
    """A schedule made by hand."""
    seconds = max(fault.end_s for fault in faults)
    return perform(
        cluster, Schedule(0, seconds, 4, 4, "preserve", faults), folder, applies=False, return_s=RETURN_S
    )


def test_invariants_hold_under_a_schedule_at_random(cluster: Cluster, tmp_path: Path) -> None:
    seen = perform(cluster, draw(34, SECONDS, 4, QUICK), tmp_path)
    assert Judge(seen).violations() == ()
    assert Judge(seen).too_little() == ""
    assert len(seen.verdicts) > 0


def test_invariants_hold_where_connections_do_not_matter(tmp_path: Path) -> None:
    with cluster_for(3, tmp_path, "hash-only", "faults-hashed") as cluster:
        seen = perform(cluster, draw(31, SECONDS, 3, QUICK), tmp_path)
    assert Judge(seen).violations() == ()
    assert Judge(seen).too_little() == ""


# --- clusters that are broken on purpose --------------------------------------------------------

FREEZE = Fault("freeze", 1, 3.5, ("n2",))


@pytest.mark.parametrize(
    ("words", "instead", "rule"),
    [
        (r"timeout \d+ms (.*this node's lease)", r"timeout 1h \1", "lease"),
        (r"timeout \d+ms (.*this node's lease)", r"timeout 100ms \1", "served"),
        (r"timeout \d+ms (.*a peer's lease)", r"timeout 1h \1", "served"),
        (r"timeout \d+ms (.*a peer's lease)", r"timeout 100ms \1", "one owner"),
    ],
    ids=[
        "own lease of an hour",
        "own lease too short",
        "lease of peers of an hour",
        "lease of peers too short",
    ],
)
def test_twin_of_a_cluster_with_wrong_leases(
    cluster: Cluster, tmp_path: Path, words: str, instead: str, rule: str
) -> None:
    with altered(cluster, words, instead):
        seen = performed(cluster, tmp_path, FREEZE)
    assert rule in {violation.rule for violation in Judge(seen).violations()}


def test_the_same_without_a_twin(cluster: Cluster, tmp_path: Path) -> None:
    assert Judge(performed(cluster, tmp_path, FREEZE)).violations() == ()


def test_a_node_that_stays_away_is_told(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = Schedule(0, 2, 4, 4, "preserve", (Fault("cut", 1, 60, ("n2",)),))
    monkeypatch.setattr("faults.run.moments", lambda schedule: [(1.0, schedule.faults[0], True)])
    try:
        seen = perform(cluster, stays, tmp_path, applies=False, return_s=3)
    finally:
        cluster.lab.mend("n2")
    assert "return" in {violation.rule for violation in Judge(seen).violations()}


# --- what happens to heartbeats on their way ----------------------------------------------------


def during(beats: list[Beat], begin_s: float, end_s: float) -> list[float]:
    """When heartbeats were seen in this time."""
    return [beat.at_s for beat in beats if begin_s <= beat.at_s <= end_s]


def test_heartbeats_are_lost_late_and_kept_from_each_half(cluster: Cluster, tmp_path: Path) -> None:
    seen = performed(
        cluster,
        tmp_path,
        Fault("one-way", 1, 3, ("n1", "n2")),
        Fault("loss", 1, 5, ("n3",), 30),
        Fault("delay", 1, 5, ("n4",), 300),
        Fault("split", 6, 7, ("n1", "n4")),
        Fault("delay", 8, 10, ("n2",), 100),
        Fault("cut", 8.5, 10, ("n2",), 1),
    )
    start_s = seen.started_s

    def heard(hearer: str, sender: str, begin: float, end: float) -> list[float]:
        return during(list(seen.heard[hearer, sender]), start_s + begin, start_s + end)

    def left(sender: str, begin: float, end: float) -> list[float]:
        return during(list(seen.left[sender]), start_s + begin, start_s + end)

    assert heard("n2", "n1", 1.3, 2.9) == []
    assert len(heard("n3", "n1", 1.3, 2.9)) == len(left("n1", 1.3, 2.9))
    assert (
        0
        < sum(len(heard(node, "n3", 1.3, 4.9)) for node in ("n1", "n2", "n4"))
        < 3 * len(left("n3", 1.3, 4.9))
    )
    late = [at - max(sent for sent in left("n4", 0, 9) if sent <= at) for at in heard("n1", "n4", 1.6, 4.9)]
    assert max(late) > 0.05
    assert heard("n2", "n1", 6.3, 6.9) == [] == heard("n1", "n3", 6.3, 6.9)
    assert heard("n1", "n2", 8.9, 9.9) == [] == heard("n2", "n1", 8.9, 9.9), "cut, though it would be late"
    assert len(heard("n4", "n1", 6.3, 6.9)) > 0 < len(heard("n3", "n2", 6.3, 6.9))


# --- the command --------------------------------------------------------------------------------


def test_schedule_that_broke_something_is_written_and_read_again(tmp_path: Path) -> None:
    schedule = draw(7, 60, 4)
    path = write(schedule, (Violation(12.0, "served", "a hole"),), tmp_path)
    assert from_json(json.loads(path.read_text())["schedule"]) == schedule.prefix(12.0)


@pytest.mark.parametrize(
    "argv", [["--nodes", "2"], ["--time", "1"], ["--kinds", "flood"], ["--schedule", "/nowhere"]]
)
def test_nonsense_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("faults: ")
