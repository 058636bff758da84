"""Whatever way a lab dies, `lab down` leaves no process, namespace or file of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.world import eventually, host_network, inventory, network_namespace, network_namespaces, traces
from trscaler_gen.errors import OperationError
from trscaler_gen.lab import Lab, build, network

UP = """
import sys
from pathlib import Path
from lab.world import inventory
from trscaler_gen.lab import Lab
Lab.up(inventory(8), Path(sys.argv[1]))
print("up", flush=True)
"""


def bring_up(directory: Path) -> subprocess.Popen[str]:
    """A controller in a process of its own, which has just begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", UP, str(directory)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    eventually(lambda: directory.exists() or process.poll() is not None, "the controller has begun")
    return process


def assert_gone(directory: Path, namespaces: set[int]) -> None:
    assert traces(directory) == []
    assert not directory.exists()
    assert not namespaces & network_namespaces()


def namespaces_of(lab: Lab) -> set[int]:
    return {network_namespace(member.pid) for member in lab.status()}


@pytest.mark.parametrize("after_ms", [0, 10, 25, 50, 100, 200])
def test_a_controller_killed_while_it_builds(directory: Path, after_ms: int) -> None:
    before = host_network()
    with bring_up(directory) as controller:
        time.sleep(after_ms / 1000)  # not a wait for anything: the moment of the kill is the test's parameter
        controller.kill()
    with pytest.raises(OperationError, match=r"killed and has left things behind|already up"):
        Lab.up(inventory(1), directory)
    Lab.clear(directory)
    assert_gone(directory, set())
    assert host_network() == before
    with Lab.up(inventory(1), directory):
        pass


def test_an_interrupted_controller_cleans_up_itself(directory: Path) -> None:
    with bring_up(directory) as controller:
        controller.send_signal(signal.SIGINT)
        controller.wait(20)
    assert controller.returncode != 0
    assert_gone(directory, set())


def test_killed_members(directory: Path) -> None:
    lab = Lab.up(inventory(3), directory)
    namespaces = namespaces_of(lab)
    for member in lab.status():
        os.kill(member.pid, signal.SIGKILL)
    assert not Lab.clear(directory).nothing
    assert_gone(directory, namespaces)


def lose(directory: Path) -> None:
    (directory / "state.json").unlink()


def halve(directory: Path) -> None:
    state = directory / "state.json"
    state.write_text(state.read_text()[:200])


def forget_processes(directory: Path) -> None:
    state = directory / "state.json"
    document = json.loads(state.read_text())
    for member in document["members"].values():
        member["process"] = None
    state.write_text(json.dumps(document))


def remove_everything(directory: Path) -> None:
    subprocess.run(["rm", "-r", str(directory)], check=True)


@pytest.mark.parametrize("damage", [lose, halve, forget_processes, remove_everything])
def test_a_lab_whose_files_are_damaged(directory: Path, damage: Callable[[Path], None]) -> None:
    lab = Lab.up(inventory(2), directory)
    namespaces = namespaces_of(lab)
    damage(directory)
    with pytest.raises(OperationError):
        Lab.up(inventory(2), directory)
    assert Lab.clear(directory).processes >= 4
    assert_gone(directory, namespaces)


def test_processes_that_others_started_in_the_lab_end_too(directory: Path) -> None:
    lab = Lab.up(inventory(1), directory)
    namespaces = namespaces_of(lab)
    client = next(member for member in lab.status() if member.name == "client")
    command = ["nsenter", f"--net=/proc/{client.pid}/ns/net", "sleep", "600"]
    with subprocess.Popen(command, env={"PATH": os.environ["PATH"]}) as stranger:
        eventually(lambda: network_namespace(stranger.pid) in namespaces, "it has entered")
        lab.down()
        assert stranger.wait(60) == -signal.SIGKILL
    assert_gone(directory, namespaces)


def test_a_pid_that_belongs_to_somebody_else_now_is_spared(directory: Path) -> None:
    """The pid of a dead member may be anybody's by the time that somebody cleans up."""
    lab = Lab.up(inventory(1), directory)
    with subprocess.Popen(["sleep", "600"]) as innocent:
        state = directory / "state.json"
        document = json.loads(state.read_text())
        document["members"]["n1"]["process"]["pid"] = innocent.pid
        state.write_text(json.dumps(document))
        namespaces = namespaces_of(lab)
        Lab.clear(directory)
        assert innocent.poll() is None
        innocent.kill()
    assert_gone(directory, namespaces)


def test_labs_in_different_directories_do_not_see_each_other(lab: Lab, directory: Path) -> None:
    with Lab.up(inventory(1), directory):
        assert all(member.running for member in lab.status())
    assert all(member.running and member.services for member in lab.status())


def test_a_member_that_fails_is_named_and_nothing_is_left(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "node_batch", lambda seat, client: "address add nonsense dev eth0\n")
    with pytest.raises(OperationError, match="the lab's n1 did not start") as refusal:
        Lab.up(inventory(2), directory)
    assert "nonsense" in refusal.value.message or "ip" in refusal.value.message
    assert_gone(directory, set())


def test_a_second_lab_is_refused_and_the_first_lives_on(lab: Lab) -> None:
    with pytest.raises(OperationError, match='already up: cluster "test"') as refusal:
        Lab.up(inventory(1), lab.directory)
    assert "lab down" in refusal.value.hint
    assert all(member.running for member in lab.status())


def test_clearing_nothing_is_no_error(directory: Path) -> None:
    assert Lab.clear(directory).nothing


def test_a_missing_tool_is_named_with_its_package(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(build.TOOLS, "no-such-tool", "no-such-package")
    with pytest.raises(OperationError, match="no-such-tool") as refusal:
        Lab.up(inventory(1), directory)
    assert refusal.value.hint == "apt-get install no-such-package"
    assert not directory.exists()
