"""The end-to-end scenario on this machine's kernel, step by step, with the link that is asked for.

    cd tests && python -m kernels.scenario wire|vlan|bond ...

Says a line for each thing that was shown. Exit status: 0 if all was, 1 at the first thing that was not.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from e2e.cluster import Cluster, eventually, inventory_text
from e2e.events import swap_everywhere
from e2e.witness import Span, Watched, watched_probes

from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab

from .links import LINKS, Link, Wiring

NODES = ("n1", "n2", "n3")
VICTIM, OTHERS = "n2", ("n1", "n3")
#: software emulation is slow
HEARTBEAT_MS = 500
HEALTH_EVERY_S = 5
SOURCES = 20
INTERVAL_MS = 250
PATIENCE_S = 240.0
_CLI_S = 1200.0
_CONFIRM_S = 600
_LISTEN_S = 2.0


@dataclass(frozen=True)
class Site:
    """A cluster that serves, and its links."""

    cluster: Cluster
    wiring: Wiring

    def settle(self, *nodes: str) -> None:
        """Wait until just these nodes are alive; all, by default."""
        self.cluster.settle(nodes or NODES, PATIENCE_S)

    def change(self, **keys: object) -> None:
        """Apply the inventory with these keys."""
        document = {**yaml.safe_load(self.cluster.path.read_text()), **keys}
        self.cluster.path.write_text(yaml.safe_dump(document, sort_keys=False))
        options = ("--yes", "--allow-disruption", "--confirm-within", str(_CONFIRM_S))
        self.cluster.cli("apply", *options, str(self.cluster.path))
        self.settle()

    @contextmanager
    def probed(self, family: int = 4) -> Iterator[Watched]:
        """Probe while the block runs, and some time before and after."""
        start = {"sources": SOURCES, "interval_ms": INTERVAL_MS, "families": (family,)}
        with watched_probes(self.cluster.lab, self.cluster.heartbeat, **start) as watched:  # type: ignore[arg-type]
            time.sleep(_LISTEN_S)
            yield watched
            time.sleep(_LISTEN_S)

    @contextmanager
    def taking_away(self) -> Iterator[list[Span]]:
        """What the block takes away goes without a word; the list then says until when its part is lost."""
        began_s = time.monotonic()
        spans: list[Span] = []
        yield spans
        lease_s = self.cluster.heartbeat.lease_s
        spans.append(Span(began_s - INTERVAL_MS / 1000, time.monotonic() + lease_s + INTERVAL_MS / 1000))


@contextmanager
def running_site(folder: Path, name: str, link: Link) -> Iterator[Site]:
    """Bring a lab with such links up and deploy to it; it is gone at the end, whatever happens."""
    directory = Path("/run/trscaler-gen") / f"test-kernels-{name}-{os.getpid()}"
    path = folder / "cluster.yaml"
    document = yaml.safe_load(inventory_text(directory, nodes=len(NODES), interval_ms=HEARTBEAT_MS))
    document["health"] |= {"interval_s": HEALTH_EVERY_S}
    document["ssh"] |= {"connect_timeout_s": 60}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    inventory = load_inventory(path)
    with Lab.up(inventory, directory) as lab:
        wiring = Wiring.lay(lab, inventory, link)
        site = Site(Cluster(lab, path, _CLI_S), wiring)
        site.change(link=link.device)
        yield site


# --- what is shown ---------------------------------------------------------------------------------


def told(watched: Watched, *expected: Span, nodes: tuple[str, ...] = NODES) -> str:
    """What the probes saw; raises AssertionError if one was lost for no reason, or answered twice."""
    seen = watched.result
    assert seen.losses(*expected) == (), seen
    assert seen.doubles() == (), seen
    assert set(seen.by_node) >= set(nodes), f"only {seen.by_node} answered"
    excused = "" if seen.is_quiet else " (the machine stalled meanwhile)"
    return f"{seen.sent} probes, {seen.lost} lost, {seen.doubled} answered twice{excused}"


def steady(site: Site) -> str:
    with site.probed() as watched:
        pass
    return told(watched)


def steady_ipv6(site: Site) -> str:
    with site.probed(6) as watched:
        pass
    return told(watched)


def cut_and_return(site: Site) -> str:
    with site.probed() as watched:
        with site.taking_away() as spans:
            site.cluster.lab.cut(VICTIM)
        site.settle(*OTHERS)
        site.cluster.lab.mend(VICTIM)
        site.settle()
    return told(watched, *spans)


def drain_and_undrain(site: Site) -> str:
    inventory = ("--inventory", str(site.cluster.path))
    with site.probed() as watched:
        site.cluster.cli("drain", VICTIM, *inventory)
        site.settle(*OTHERS)
        site.cluster.cli("undrain", VICTIM, *inventory)
        site.settle()
    return told(watched)


def swap(site: Site) -> str:
    with site.probed() as watched:
        swap_everywhere(site.cluster, 2)
        site.settle()
    return told(watched)


def hash_of_the_source(site: Site) -> str:
    site.change(hash={"input": "source"})
    return steady(site)


def failover(site: Site) -> str:
    """The wire that the bond uses is pulled, and then the other one: both times the bond carries on."""
    with site.probed() as watched:
        before = site.wiring.active_wire(VICTIM)
        with site.taking_away() as spans:
            site.cluster.lab.exec("switch", ["ip", "link", "set", f"p-{VICTIM}", "down"])
            eventually(
                lambda: site.wiring.active_wire(VICTIM) != before, "the bond uses the other wire", PATIENCE_S
            )
        time.sleep(2 * site.cluster.heartbeat.lease_s)  # a node that is not heard is dead by then
        assert site.cluster.sees_all(), "a node was lost with the failover"
    return f"{told(watched, *spans)}, from {before} to {site.wiring.active_wire(VICTIM)}"


def made_again(site: Site) -> str:
    """The device is deleted; the node stands aside, and comes back when it is there again."""
    with site.probed() as watched:
        with site.taking_away() as spans:
            site.wiring.delete(VICTIM)
        site.settle(*OTHERS)
        site.wiring.make(VICTIM)
        made_s = time.monotonic()
        site.settle()
        took_s = time.monotonic() - made_s
    words = told(watched, *spans)
    return f"{words}; back {took_s:.0f} s after the device"


Step = Callable[[Site], str]
ON_EVERY_LINK: tuple[Step, ...] = (steady, steady_ipv6, cut_and_return)
STEPS: dict[str, tuple[Step, ...]] = {
    "wire": (*ON_EVERY_LINK, drain_and_undrain, swap, made_again, hash_of_the_source),
    "vlan": (*ON_EVERY_LINK, made_again),
    "bond": (steady, steady_ipv6, failover, made_again),
}


def play(kind: str, say: Callable[[str], None], steps: tuple[Step, ...] = ()) -> None:
    """Show everything on links of one kind; raises AssertionError, or what the lab raises."""
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder), kind, LINKS[kind]) as site:
        say(f"{kind}: applied: {len(NODES)} nodes serve on {LINKS[kind].device}")
        for step in steps or STEPS[kind]:
            say(f"{kind}: {step.__name__.replace('_', ' ')}: {step(site)}")


def versions() -> str:
    """What is judged here."""
    tools = (["nft", "--version"], ["keepalived", "--version"])
    said = [subprocess.run(tool, capture_output=True, text=True, check=True) for tool in tools]
    lines = [(done.stdout or done.stderr).splitlines()[0].split(" (")[0] for done in said]
    return ", ".join([f"kernel {platform.release()}", *lines])


def main(kinds: list[str]) -> int:
    """Play what is asked for, or everything."""

    def say(line: str) -> None:
        print(line, flush=True)

    say(versions())
    for kind in kinds or LINKS:
        try:
            play(kind, say)
        except AssertionError as error:
            say(f"{kind}: FAILED: {error}")
            return 1
    say("all of it holds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
