"""Metrics written by a unit that may write nowhere else: it begins and ends with the inventory's key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import yaml
from e2e.cluster import eventually
from exposition import judged

from trscaler_gen.bundle import Bundle
from trscaler_gen.lockfile import lock_path

from .host import PATIENCE_S, Host
from .site import NODE, WATCH, Site, built, running_site

FOLDER = "/var/lib/prometheus/node-exporter"
FILE = f"{FOLDER}/trscaler-gen-e2e.prom"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Bundle]]:
    """A site, and a generation for its host that writes metrics."""
    folder = tmp_path_factory.mktemp("systemd-metrics")
    with running_site(folder, "systemd-metrics") as site:
        path = folder / "third.yaml"
        document = yaml.safe_load((folder / "cluster.yaml").read_text())
        keys = {"metrics": {"textfile_directory": FOLDER, "interval_s": 5}}
        path.write_text(yaml.safe_dump(document | keys, sort_keys=False))
        shutil.copy(lock_path(folder / "cluster.yaml"), lock_path(path))
        yield site, built(path, folder / "third")[NODE]


@pytest.fixture
def site(running: tuple[Site, Bundle]) -> Iterator[Site]:
    """The host runs a generation without metrics; the one with them is staged."""
    site, third = running
    site.reset()
    site.host.sh(f"rm -rf {FOLDER}")
    site.stage(third)
    yield site
    site.hang_up()


@pytest.fixture
def third(running: tuple[Site, Bundle]) -> Bundle:
    return running[1]


def await_file(host: Host) -> None:
    eventually(lambda: host.exists(FILE), "metrics are written", PATIENCE_S)


def test_it_comes_and_goes_with_the_key(site: Site, third: Bundle) -> None:
    host = site.host
    host.sh(f"mkdir -p {FOLDER}")
    site.call(third, "check")
    site.call(third, "swap")
    await_file(host)
    assert judged(host.sh(f"cat {FILE}")).value("trscaler_buckets") == 1024
    assert host.sh(f"stat -c '%a %U' {FILE}").split() == ["644", "root"]
    site.call(site.first[NODE], "swap")
    assert not host.exists(FILE)
    assert host.is_active(WATCH)
    site.await_running(site.first[NODE])


def test_it_goes_when_its_writer_stops(site: Site, third: Bundle) -> None:
    host = site.host
    host.sh(f"mkdir -p {FOLDER}")
    site.call(third, "swap")
    await_file(host)
    host.sh(f"systemctl stop {WATCH}")
    assert not host.exists(FILE)
    host.sh(f"systemctl start {WATCH}")
    await_file(host)
    site.call(third, "down")
    assert host.sh(f"ls -A {FOLDER}").strip() == ""


def test_a_folder_that_comes_late(site: Site, third: Bundle) -> None:
    """To a unit that began without it, it would be read-only for ever."""
    host = site.host
    site.call(third, "swap")
    site.await_running(third)
    host.sh(f"mkdir -p {FOLDER}")
    await_file(host)
    site.await_running(third)
