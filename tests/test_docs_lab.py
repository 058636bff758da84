"""The examples of the documentation that need a cluster: run in one lab, as a reader would.

Blocks that follow ``<!-- lab -->`` are run in the order of PAGES, against three bare nodes at first; after
``<!-- lab: EVENT -->`` something happens before (see EVENTS). Identifiers, times, names of people and the
widths of columns are not compared.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_docs import DOCS, ROOT, Block, blocks, is_as_shown, run_command, steps

from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.state import DIRECTORY_VARIABLE

#: each goes on where the one before has ended
PAGES = (DOCS / "guide.md", DOCS / "operations.md", ROOT / "README.md")
NODES = ("n1", "n2", "n3", "n4")
UNWELL = "/run/unwell"
SCRIPT = "/etc/trscaler-gen/web/current/node.sh"
PATIENCE_S = 60.0

INVENTORY = """\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100, "2001:db8::100"]
health: {{command: [/usr/bin/test, "!", -e, {unwell}]}}
ssh: {{config: {directory}/ssh_config, connect_timeout_s: 2}}
nodes:
  n1: {{address: 192.0.2.1}}
  n2: {{address: 192.0.2.2}}
  n3: {{address: 192.0.2.3}}
"""

#: what differs from run to run, and what stands for it
VARIABLE = (
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+", "WHO"),
    (r"(?<=\S) {2,}", " "),
)


@dataclass(frozen=True)
class Scene:
    """A lab, and the folder that the reader works in."""

    lab: Lab
    folder: Path

    def run(self, command: str) -> str:
        return run_command(command, self.folder, {DIRECTORY_VARIABLE: str(self.lab.directory)}).stdout

    def state(self, node: str) -> dict[str, str]:
        said = self.lab.exec(node, ["sh", SCRIPT, "state"], check=False).stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def await_state(self, nodes: tuple[str, ...], **wanted: str) -> None:
        """Wait until these nodes say so."""
        deadline = time.monotonic() + PATIENCE_S
        while any(wanted.items() - self.state(node).items() for node in nodes):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {wanted}"
            time.sleep(0.1)


def unplug(scene: Scene) -> None:
    scene.lab.cut("n4")
    scene.await_state(("n1", "n2", "n3"), alive="1 2 3")


def make_unwell(scene: Scene) -> None:
    """Also what was before on this stage is put away: n4 comes back as a new machine."""
    scene.lab.mend("n4")
    for verb in ("down", "erase"):
        scene.lab.exec("n4", ["sh", SCRIPT, verb])
    scene.lab.exec("n2", ["touch", UNWELL])
    scene.await_state(("n1", "n3"), alive="1 3")


def make_well(scene: Scene) -> None:
    scene.lab.exec("n2", ["rm", UNWELL])
    scene.await_state(("n1", "n2", "n3"), alive="1 2 3")


def kill_deployer(scene: Scene) -> None:
    """Change something, and kill who does it when all nodes have changed and none is confirmed."""
    path = scene.folder / "web.yaml"
    path.write_text(path.read_text().replace(UNWELL, f"{UNWELL}.2"))
    argv = [sys.executable, "-m", "trscaler_gen", "apply", "--yes", path.name]
    with subprocess.Popen(
        argv, cwd=scene.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as deployer:
        assert deployer.stderr is not None
        said = next((line for line in deployer.stderr if line.startswith("prove: ")), "")
        deployer.kill()
    assert said, "the change ended too early"


def end_time(scene: Scene) -> None:
    """The minute is over: what each node's timer sleeps through is cut short."""
    for node in NODES:
        scene.lab.exec(node, ["sh", "-c", "pkill -P $(cat /run/trscaler-gen/web/timer)"])
    scene.await_state(NODES, unconfirmed="", serving="yes")


EVENTS: dict[str, Callable[[Scene], None]] = {
    "n4 is unplugged": unplug,
    "n2 is unwell": make_unwell,
    "n2 is well again": make_well,
    "the deployer dies": kill_deployer,
    "they have gone back": end_time,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Four machines, of which the inventory knows three."""
    directory = Path("/run/trscaler-gen") / f"test-docs-{os.getpid()}"
    folder = tmp_path_factory.mktemp("docs")
    text = INVENTORY.format(unwell=UNWELL, directory=directory)
    (folder / "web.yaml").write_text(text)
    every = parse_inventory(f"{text}  n4: {{address: 192.0.2.4}}\n".encode(), "web.yaml")
    with Lab.up(every, directory) as lab:
        yield Scene(lab, folder)


def is_for_the_lab(block: Block) -> bool:
    return block.marker.partition(":")[0] == "lab"


def comparable(text: str) -> str:
    for pattern, word in VARIABLE:
        text = re.sub(pattern, word, text)
    return text


def perform(block: Block, scene: Scene) -> None:
    """Let happen what the block's marker says, and run its commands; raises AssertionError."""
    event = block.marker.partition(": ")[2]
    if event:
        EVENTS[event](scene)
    for step in steps(block):
        said = scene.run(step.command)
        shown = tuple(map(comparable, step.shown))
        assert is_as_shown(shown, comparable(said)), f"{step.command} says:\n{said}"


def test_examples_in_the_lab_do_what_they_show(scene: Scene) -> None:
    for page in PAGES:
        found = [block for block in blocks(page.read_text()) if is_for_the_lab(block)]
        assert found, f"{page} has no example for the lab"
        for block in found:
            perform(block, scene)


def test_a_wrong_example_for_the_lab_is_seen(scene: Scene) -> None:
    line = "n1  20ab5509c586   2026-11-23T00:05:45Z by ann@desk  341 33.3%"
    other = "n1 4a1273933a91 2026-11-24T10:05:45Z by root@vm 341 33.3%"
    perform(Block("console", "lab", (f"$ echo '{line}'", other)), scene)
    with pytest.raises(AssertionError):
        perform(Block("console", "lab", (f"$ echo '{line}'", other.replace("341", "342"))), scene)
    with pytest.raises(KeyError):
        perform(Block("console", "lab: pigs fly", ("$ true",)), scene)
