"""A cluster that is deployed by hand: generations are staged and verbs called without the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from trscaler_gen.bundle import Bundle
from trscaler_gen.deploy.node import archive
from trscaler_gen.deploy.scripts import script
from trscaler_gen.facts import ROOT, RUNTIME, Facts, parse_facts
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lockfile import lock_path, write_lock
from trscaler_gen.pipeline import compile_inventory

from .cluster import eventually, inventory_text

CLUSTER = "e2e"
HOME = f"{ROOT}/{CLUSTER}"
RUN = f"{RUNTIME}/{CLUSTER}"
TOKEN = "0123456789ab"
CHANGE = "c0ffeec0ffee"
WHO = "op@test"
NODES = ("n1", "n2", "n3")
#: for `pgrep -f`, written so that the shell that asks is not found itself
OURS = "/etc/trscaler-gen/e2[e]/"
TIMER = "node.s[h] expire"
#: what is changed; the others run the first generation all the time
NODE = "n1"
#: longer than any test
NEVER_S = "900"


def deploy_script(name: str) -> str:
    """One of the scripts that run on the nodes over SSH."""
    return script(f"{name}.sh")


@dataclass
class Site:
    """A lab of three nodes and three rollouts: two that differ in their rules, one with another MAC."""

    lab: Lab
    first: Mapping[str, Bundle]
    second: Mapping[str, Bundle]
    framed: Mapping[str, Bundle]
    holder: subprocess.Popen[str] | None = field(default=None)

    def sh(self, command: str, *words: str, node: str = NODE, check: bool = True) -> str:
        """Run a shell command on a node."""
        return self.lab.exec(node, ["sh", "-c", command, "sh", *words], check=check, timeout_s=100).stdout

    def stage(self, bundle: Bundle, node: str = NODE) -> None:
        """Put a generation beside the others."""
        base = f"{HOME}/generations"
        argv = ["sh", "-c", deploy_script("stage"), "sh", base, bundle.generation]
        subprocess.run(
            self.lab.command(node, argv),
            env=self.lab.environment(node),
            input=archive(bundle),
            check=True,
            capture_output=True,
            timeout=60,
        )

    def call(
        self, bundle: Bundle, *words: str, node: str = NODE, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb of a generation's script."""
        path = f"{HOME}/generations/{bundle.generation}/node.sh"
        return self.lab.exec(node, ["sh", path, *words], check=check, timeout_s=100)

    def facts(self, generation: str = "", node: str = NODE) -> Facts:
        """What the node says of itself."""
        argv = ["sh", "-c", deploy_script("observe"), "sh", HOME, "eth0", generation, "nft", "no-such-tool"]
        return asked(lambda: self.lab.exec(node, argv).stdout)

    def runs(self, bundle: Bundle) -> bool:
        """Whether the node is wholly as this generation has it, and serves."""
        facts = self.facts()
        return facts.running == bundle.generation and facts.is_whole and facts.serving

    def runs_nothing(self) -> bool:
        """Whether nothing of the cluster is left in the kernel, and nothing is to run."""
        look = f"nft list tables; ip -o link show vip-{CLUSTER}; pgrep -f {OURS}current"
        left = self.sh(look, check=False)
        return left == "" and self.facts().generation == ""

    def exists(self, path: str) -> bool:
        """Whether there is such a file on the node."""
        return self.lab.exec(NODE, ["test", "-e", path], check=False).returncode == 0

    def history(self) -> list[list[str]]:
        """The words of the history's lines, without the time."""
        return [line.split()[1:] for line in self.sh(f"cat {HOME}/history", check=False).splitlines()]

    def returned_to(self, bundle: Bundle, by: str = "timer") -> bool:
        """Whether the node has come back to a generation, serves, and says who brought it back."""
        return (
            self.facts().unconfirmed == ""
            and self.runs(bundle)
            and self.history()[-1] == ["went-back", CHANGE, bundle.generation, by]
        )

    def await_return_to(self, bundle: Bundle, by: str = "timer") -> None:
        """Wait until the node has come back to what ran before."""
        eventually(lambda: self.returned_to(bundle, by), "it has gone back")

    def timers(self) -> int:
        """How many timers wait to take something back."""
        return len(self.sh(f"pgrep -f '{TIMER}'", check=False).split())

    def end_timer(self) -> None:
        """Let the timer's time be over."""
        self.sh(f"pgrep -f '{TIMER}' | xargs -n 1 pkill -x sleep -P")

    def hold(self, token: str = TOKEN, who: str = WHO, silence_s: str = NEVER_S) -> subprocess.Popen[str]:
        """Ask for the deployment lock; the answer is to be read from the process."""
        argv = ["sh", "-c", deploy_script("hold"), "sh", RUN, token, who, silence_s]
        return self.lab.popen(NODE, argv)

    def take_lock(self) -> None:
        """Hold the deployment lock until ``release``."""
        self.holder = self.hold()
        assert answer(self.holder) == "held"

    def release(self) -> None:
        """Hang up."""
        if self.holder is not None:
            end(self.holder)
            self.holder = None

    def reset(self) -> None:
        """Let all nodes run the first generation, and forget what was before."""
        self.release()
        daemons = f"pgrep -f '{OURS}' | xargs -r kill -9"
        for node in NODES if self.facts(node="n2").running == "" else (NODE,):
            self.sh(f"{daemons}; rm -rf {HOME}; rm -f /usr/local/sbin/*", node=node)
            self.sh(f"ip link del vip-{CLUSTER}; nft flush ruleset; rm -rf {RUN}", node=node, check=False)
            self.stage(self.first[node], node)
            self.call(self.first[node], "up", node=node)
            self.call(self.first[node], "record", CHANGE, WHO, node=node)
        for bundles in (self.second, self.framed):
            self.stage(bundles[NODE])
        self.await_all()

    def await_all(self) -> None:
        """Wait until every node holds all for alive."""
        eventually(lambda: all(len(self.facts(node=n).alive) == len(NODES) for n in NODES), "all serve")

    def reboot(self) -> None:
        """What a reboot leaves: files below /etc. Everything else begins anew."""
        self.release()
        self.sh(f"pgrep -f '{OURS}' | xargs -r kill -9; rm -rf {RUN}")
        self.sh(f"ip link del vip-{CLUSTER}; nft flush ruleset", check=False)


def asked(ask: Callable[[], str], times: int = 4) -> Facts:
    """What a node says of itself; asked again where files went as it looked, in the midst of a change."""
    for _ in range(times - 1):
        with suppress(ValueError):
            return parse_facts(ask())
    return parse_facts(ask())


def answer(process: subprocess.Popen[str]) -> str:
    """The first line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Hang up and wait for the end."""
    process.communicate(timeout=60)


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Bring up a lab of its own; it is gone at the end."""
    directory = Path("/run/trscaler-gen") / f"test-confirm-{os.getpid()}"
    path = folder / "cluster.yaml"
    path.write_text(inventory_text(directory, nodes=len(NODES)))
    first = compile_inventory(path)
    write_lock(first.lock_path, first.lock)
    second = Path(shutil.copy(path, folder / "second.yaml"))  # a ruleset names its file
    document = {
        **yaml.safe_load(path.read_text()),
        "mac": {"mode": "stealth", "address": "02:00:5e:00:01:01"},
    }
    framed = folder / "framed.yaml"
    framed.write_text(yaml.safe_dump(document))
    for other in (second, framed):
        shutil.copy(first.lock_path, lock_path(other))
    with Lab.up(load_inventory(path), directory) as lab:
        yield Site(lab, first.bundles, compile_inventory(second).bundles, compile_inventory(framed).bundles)
