"""`apply` next to ansible-core, which copies the same files and calls the same verbs of the nodes' script."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from e2e.cluster import Cluster, inventory_text

from trscaler_gen.bundle import MANIFEST
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab

HERE = Path(__file__).parent
#: the last release for Python 3.11; no dependency of the product
ANSIBLE = "ansible-core==2.19.14"
_VENV = HERE.parent / "build" / "ansible"
_GENERATIONS = "/etc/trscaler-gen/e2e/generations"
_PATIENCE_S = 600
INTERVAL_MS = 100


@dataclass(frozen=True)
class Deployment:
    """Seconds of each run, in turn; ``first``: onto bare nodes, until all serve; ``same``: nothing to do."""

    nodes: int
    ansible: str
    apply_first_s: tuple[float, ...]
    ansible_first_s: tuple[float, ...]
    apply_same_s: tuple[float, ...]
    ansible_same_s: tuple[float, ...]


@dataclass(frozen=True)
class _Site:
    """A lab, with what both deploy to it."""

    cluster: Cluster
    folder: Path

    def apply(self) -> float:
        start = time.perf_counter()
        self.cluster.cli("apply", "--yes", str(self.cluster.path))
        return time.perf_counter() - start

    def ansible(self) -> float:
        paths = (_VENV / "bin/ansible-playbook", self.folder / "hosts.yaml", HERE / "playbook.yaml")
        program, hosts, playbook = map(str, paths)
        argv = [program, "-i", hosts, playbook]
        start = time.perf_counter()
        done = subprocess.run(
            argv,
            env=os.environ | self._settings(),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
        return time.perf_counter() - start

    def _settings(self) -> dict[str, str]:
        """All that makes it quick: https://docs.ansible.com, reference of configuration settings."""
        config = self.cluster.lab.ssh_config
        return {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_FORKS": "32",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_ARGS": f"-F {config} -o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(config.parent / "cp"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }

    def make_bare(self) -> None:
        """Nothing of the cluster is left on any node."""
        words = "sh /etc/trscaler-gen/e2e/current/node.sh"
        argv = ["sh", "-c", f"{words} down && {words} erase"]
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda node: self.cluster.lab.exec(node, argv), self.cluster.lab.nodes))


def measure(nodes: int, runs: int, folder: Path) -> Deployment:
    """Both in turn, so many times over; ansible's bundles have been built and packed before."""
    installed = _install()
    apply_first, ansible_first, apply_same, ansible_same = [], [], [], []
    with _site(nodes, folder) as site:
        for _ in range(runs):
            apply_first.append(site.apply())
            site.cluster.settle()
            apply_same.append(site.apply())
            site.make_bare()
            ansible_first.append(site.ansible())
            site.cluster.settle()
            ansible_same.append(site.ansible())
            site.make_bare()
    times = (apply_first, ansible_first, apply_same, ansible_same)
    return Deployment(nodes, installed, *map(tuple, times))


@contextmanager
def _site(nodes: int, folder: Path) -> Iterator[_Site]:
    directory = Path(f"/run/trscaler-gen/bench-deploy-{os.getpid()}")
    here = folder / f"deploy-{nodes}"
    here.mkdir()
    path = here / "cluster.yaml"
    health = {"command": ["/usr/bin/true"], "interval_s": 5}  # 32 every second are much for a small machine
    path.write_text(inventory_text(directory, nodes=nodes, interval_ms=INTERVAL_MS, health=health))
    with Lab.up(load_inventory(path), directory) as lab:
        site = _Site(Cluster(lab, path), here)
        site.cluster.cli("build", str(path), "-o", str(here / "out"))
        (here / "hosts.yaml").write_text(yaml.safe_dump(_hosts(lab.nodes, here)))
        (here / "ansible.cfg").write_text("[defaults]\n")  # so that no other one is found
        (directory / "cp").mkdir()
        try:
            yield site
        finally:
            _hang_up(site)


def _hosts(nodes: tuple[str, ...], folder: Path) -> dict[str, object]:
    """Ansible's inventory; packs each node's bundle."""
    hosts = {}
    for node in nodes:
        bundle = folder / "out" / node
        generation = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()[:12]
        with tarfile.open(folder / f"{node}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for file in sorted(bundle.iterdir()):
                tar.add(file, file.name)
        hosts[node] = {"generation": generation}
    common = {
        "place": _GENERATIONS,
        "bundles": str(folder),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {"all": {"hosts": hosts, "vars": common}}


def _hang_up(site: _Site) -> None:
    """End the connections that ControlPersist keeps."""
    config = site.cluster.lab.ssh_config
    for socket in (config.parent / "cp").iterdir():
        argv = ["ssh", "-F", str(config), "-o", f"ControlPath={socket}", "-O", "exit", "n1"]
        subprocess.run(argv, capture_output=True, timeout=10, check=False)


def _install() -> str:
    """Install ansible-core from PyPI below build/, once; answers its name and version."""
    if not (_VENV / "bin/ansible-playbook").exists():
        subprocess.run([sys.executable, "-m", "venv", str(_VENV)], check=True, timeout=_PATIENCE_S)
        pip = [str(_VENV / "bin/python"), "-m", "pip", "install", "--quiet", ANSIBLE]
        subprocess.run(pip, check=True, capture_output=True, timeout=_PATIENCE_S)
    return ANSIBLE.replace("==", " ")
