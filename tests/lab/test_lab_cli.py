"""The verbs as a user types them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.world import eventually, traces, virtual_addresses_on
from trscaler_gen.lab import Lab

INVENTORY = Path(__file__).parents[2] / "inventory" / "lab.yaml"
COMMAND = [sys.executable, "-m", "trscaler_gen", "lab"]


def run(directory: Path, *argv: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *COMMAND, *argv],
        env={**os.environ, "TRSCALER_LAB_DIR": str(directory)},
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_from_up_to_down(directory: Path) -> None:
    up = run(directory, "up", str(INVENTORY))
    assert (up.returncode, up.stderr) == (0, "")
    assert "4 nodes" in up.stdout
    members = json.loads(run(directory, "status", "--json").stdout)["members"]
    assert [member["name"] for member in members] == ["n1", "n2", "n3", "n4", "client", "switch"]
    assert all(member["running"] for member in members)
    again = run(directory, "up", str(INVENTORY))
    assert (again.returncode, again.stderr.splitlines()[0]) == (
        1,
        'error: a lab is already up: cluster "lab"',
    )
    assert "the lab is down" in run(directory, "down").stdout
    assert traces(directory) == []
    down_again = run(directory, "down")
    assert (down_again.returncode, down_again.stdout) == (0, "no lab is up\n")


def test_exec_has_the_commands_status_and_output(lab: Lab) -> None:
    done = run(lab.directory, "exec", "n2", "--", "sh", "-c", "hostname; echo bad >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "n2\n", "bad\n")
    assert run(lab.directory, "exec", "n2", "hostname").stdout == "n2\n"
    assert run(lab.directory, "exec", "client", "--", "pwd").stdout == f"{Path.cwd()}\n"


def test_exec_passes_the_terminal_through(lab: Lab) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "exec", "n1", "--", "test", "-t", "0"],
        env={**os.environ, "TRSCALER_LAB_DIR": str(lab.directory)},
        stdin=theirs,
    )
    os.close(theirs)
    assert process.wait(20) == 0
    os.close(ours)
    assert run(lab.directory, "exec", "n1", "--", "test", "-t", "0").returncode == 1


def test_a_control_c_in_exec_is_the_commands_alone(lab: Lab) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TRSCALER_LAB_DIR"] = str(lab.directory)
        os.execv(COMMAND[0], [*COMMAND, "exec", "n1", "--", "sh", "-c", script])
    assert "ready" in read_until(terminal, "ready")
    os.write(terminal, b"\x03")
    assert "caught" in read_until(terminal, "caught")
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    os.close(terminal)


def read_until(terminal: int, word: str) -> str:
    """What the terminal shows up to ``word``, or until the command ends."""
    shown = ""
    while word not in shown:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:  # EIO: nobody has it open any more
            break
    return shown


def test_cut_status_mend(lab: Lab) -> None:
    assert run(lab.directory, "cut", "n3").returncode == 0
    assert any(line.split()[:3] == ["n3", "running", "cut"] for line in status_lines(lab))
    assert run(lab.directory, "mend", "n3").returncode == 0
    assert run(lab.directory, "cut", "--silent", "n3").returncode == 0
    assert any(line.split()[:3] == ["n3", "running", "silent"] for line in status_lines(lab))
    assert run(lab.directory, "mend", "n3").returncode == 0
    assert any(line.split()[:3] == ["n3", "running", "up"] for line in status_lines(lab))


def status_lines(lab: Lab) -> list[str]:
    return run(lab.directory, "status").stdout.splitlines()


def test_probe_as_text_and_as_json(lab: Lab) -> None:
    words = ("probe", "--sources", "4", "--interval-ms", "50", "--seconds", "0.3")
    with virtual_addresses_on(lab, "n1"):
        text = run(lab.directory, *words, "--family", "6", "--per-source").stdout
        result = json.loads(run(lab.directory, *words, "--destination", "192.0.2.1", "--json").stdout)
    assert "2001:db8::100 asked by 4 sources" in text
    assert "sent 24  lost 0  answered twice 0" in text
    assert any(line.split() == ["n1", "24", "100.0", "%", "4"] for line in text.splitlines())
    assert any(line.startswith("2001:db8:100::4 ") for line in text.splitlines())
    assert (result["sent"], result["lost"], result["by_node"]) == (24, 0, {"n1": 24})
    assert result["destination"] == "192.0.2.1"


def test_an_interrupted_probe_prints_what_it_has(lab: Lab) -> None:
    before = datagrams(lab, "n1")
    with virtual_addresses_on(lab, "n1"):
        process = subprocess.Popen(
            [*COMMAND, "probe", "--seconds", "600", "--sources", "2", "--interval-ms", "20", "--json"],
            env={**os.environ, "TRSCALER_LAB_DIR": str(lab.directory)},
            stdout=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: datagrams(lab, "n1") > before + 30, "it is at work")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert 30 < json.loads(output)["sent"] < 60_000


def datagrams(lab: Lab, node: str) -> int:
    """UDP datagrams that the node has taken in, over IPv4."""
    rows = lab.exec(node, ["grep", "^Udp:", "/proc/net/snmp"]).stdout.splitlines()
    return int(dict(zip(rows[0].split(), rows[1].split(), strict=True))["InDatagrams"])


@pytest.mark.parametrize("verb", ["status", "cut n1", "mend n1", "exec n1 -- true", "probe"])
def test_without_a_lab_it_says_how_to_start_one(directory: Path, verb: str) -> None:
    done = run(directory, *verb.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no lab is up\n  hint: start one with `trscaler-gen lab up INVENTORY`\n"


def test_without_root_it_says_so(directory: Path) -> None:
    # The capability lets it import the tree wherever that lies, below /root for example; an inventory has
    # to be readable without it.
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        inventory = shutil.copy(INVENTORY, folder)
        done = run(directory, "up", str(inventory), before=nobody)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "error: the lab needs root (it makes namespaces)"


def test_an_unknown_node_is_one_line_and_a_suggestion(lab: Lab) -> None:
    done = run(lab.directory, "cut", "clinet")
    assert done.returncode == 1
    assert done.stderr == 'error: the lab has no member "clinet"\n  hint: did you mean "client"?\n'
