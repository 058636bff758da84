"""Two clusters on the same hosts that want the same VRRP ids or addresses: one is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from trscaler_gen.bundle import Bundle
from trscaler_gen.deploy.node import archive
from trscaler_gen.facts import ROOT, RUNTIME
from trscaler_gen.lockfile import lock_path, write_lock
from trscaler_gen.pipeline import compile_inventory

from .by_hand import CLUSTER, HOME, NEVER_S, NODE, TOKEN, Site, deploy_script, running_site
from .cluster import eventually

OTHER = "other"
#: an address of the other cluster's that ours wants as well
SHARED = "192.0.2.150"
FIRST_VRID = 101


@dataclass(frozen=True)
class Pair:
    """Our cluster's first generation runs; its claim wants the other's address. The other has two, staged."""

    site: Site
    ours: Bundle
    claim: Bundle
    same_ids: Bundle
    other: Bundle

    def call(self, bundle: Bundle, cluster: str, verb: str) -> subprocess.Popen[str]:
        """Begin a verb of a generation."""
        return self.site.lab.popen(NODE, ["sh", script(cluster, bundle), verb])


def script(cluster: str, bundle: Bundle) -> str:
    return f"{ROOT}/{cluster}/generations/{bundle.generation}/node.sh"


def stage(site: Site, cluster: str, bundle: Bundle) -> None:
    argv = ["sh", "-c", deploy_script("stage"), "sh", f"{ROOT}/{cluster}/generations", bundle.generation]
    subprocess.run(
        site.lab.command(NODE, argv),
        env=site.lab.environment(NODE),
        input=archive(bundle),
        check=True,
        capture_output=True,
        timeout=60,
    )


def bundle_of(folder: Path, name: str, like: Path, **keys: object) -> Bundle:
    """Another inventory's generation for the node; of our cluster it shares the lock."""
    path = folder / f"{name}.yaml"
    document = {**yaml.safe_load(like.read_text()), **keys}
    path.write_text(yaml.safe_dump(document))
    if document["cluster"] == CLUSTER:
        shutil.copy(lock_path(like), lock_path(path))
    compiled = compile_inventory(path)
    write_lock(compiled.lock_path, compiled.lock)
    return compiled.bundles[NODE]


@pytest.fixture(scope="module")
def lab_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("neighbours")
    with running_site(folder) as site:
        ours = folder / "cluster.yaml"
        others = {"cluster": OTHER, "virtual_addresses": [SHARED]}
        pair = Pair(
            site,
            site.first[NODE],
            bundle_of(folder, "claim", ours, virtual_addresses=["192.0.2.100", SHARED]),
            bundle_of(folder, "same-ids", ours, **others),
            bundle_of(folder, "other", ours, **others, heartbeat={"first_vrid": FIRST_VRID}),
        )
        yield pair


@pytest.fixture
def pair(lab_pair: Pair) -> Iterator[Pair]:
    """Our cluster runs nothing on the node, nor does the other."""
    site = lab_pair.site
    site.reset()
    site.call(lab_pair.ours, "down")
    site.sh(f"rm {HOME}/current")
    stage(site, CLUSTER, lab_pair.claim)
    for bundle in (lab_pair.same_ids, lab_pair.other):
        stage(site, OTHER, bundle)
    yield lab_pair
    site.release()
    site.sh(f"sh {script(OTHER, lab_pair.other)} down; rm -rf {ROOT}/{OTHER} {RUNTIME}/{OTHER}")


def begin_at_once(pair: Pair) -> list[tuple[int, str]]:
    """Start both clusters at the same moment; exit status and what is said, of each."""
    site = pair.site
    gate = site.lab.popen(NODE, ["flock", "--no-fork", RUNTIME, "sh", "-c", "echo held; exec sleep 60"])
    assert gate.stdout is not None
    assert gate.stdout.readline() == "held\n"
    begun = [pair.call(pair.ours, CLUSTER, "up"), pair.call(pair.same_ids, OTHER, "up")]

    def both_wait() -> bool:
        return site.sh("pgrep -fxc 'flock -w 20 7'", check=False).strip() == "2"

    eventually(both_wait, "both have come to the gate")
    gate.terminate()
    gate.communicate(timeout=60)
    results = []
    for process in begun:
        _, said = process.communicate(timeout=60)
        results.append((process.returncode, said))
    return results


def test_of_two_that_begin_at_once_one_is_refused(pair: Pair) -> None:
    for bundle, cluster in ((pair.ours, CLUSTER), (pair.same_ids, OTHER)):
        pair.site.sh(f"sh {script(cluster, bundle)} check")  # neither runs: each is good by itself
    results = begin_at_once(pair)
    assert sorted(status for status, _ in results) == [0, 1]
    (said,) = [said for status, said in results if status == 1]
    assert "has VRRP id 1 on eth0 already" in said
    current = pair.site.sh(f"ls -d {ROOT}/*/current").split()
    assert len(current) == 1, "who was refused has left nothing"


def test_those_that_do_not_ask_again_both_begin(pair: Pair) -> None:
    """The breaking twin: both wait for the gate, but neither looks at what the other has made current."""
    for bundle, cluster in ((pair.ours, CLUSTER), (pair.same_ids, OTHER)):
        pair.site.sh(
            f"sed -i '/^    flock -w 20 7/,/^}}/s/^    check_neighbours$//' {script(cluster, bundle)}"
        )
    assert [status for status, _ in begin_at_once(pair)] == [0, 0]
    pair.site.stage(pair.ours)


def test_nobody_inherits_the_gate(pair: Pair) -> None:
    pair.site.call(pair.ours, "up")
    pair.site.sh(f"flock -n {RUNTIME} true")


def test_an_address_of_another_cluster_is_refused_by_a_swap(pair: Pair) -> None:
    site = pair.site
    site.call(pair.ours, "up")
    site.sh(f"sh {script(OTHER, pair.other)} up")
    refused = site.call(pair.claim, "swap", check=False)
    assert refused.returncode == 1
    assert f"cluster {OTHER} has the address {SHARED} on eth0 already" in refused.stderr
    assert site.facts().running == pair.ours.generation
    site.sh(f"sh {script(OTHER, pair.other)} down; rm {ROOT}/{OTHER}/current")
    site.call(pair.claim, "swap")
    assert site.facts().running == pair.claim.generation


def test_what_a_cluster_may_go_back_to_is_its_own_still(pair: Pair) -> None:
    """Its change is not confirmed yet: the address that it has given up may come back."""
    site = pair.site
    site.call(pair.claim, "up")
    site.take_lock()
    site.call(pair.ours, "swap", TOKEN, NEVER_S)
    refused = site.sh(f"sh {script(OTHER, pair.other)} up 2>&1 || echo refused")
    assert f"cluster {CLUSTER} has the address {SHARED} on eth0 already" in refused
    site.call(pair.ours, "confirm", TOKEN)
    site.sh(f"sh {script(OTHER, pair.other)} up")
