"""A node that somebody else rules, or that answers nonsense: what it says is shown, and never obeyed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from status.test_status_command import World, say

from trscaler_gen.cli import crews, report
from trscaler_gen.cli import history as history_module
from trscaler_gen.cli import status as status_module
from trscaler_gen.cli.plan import command as plan_command
from trscaler_gen.console import status_view
from trscaler_gen.deploy.rollback import _bundle
from trscaler_gen.errors import InputError, NodeError, OperationError
from trscaler_gen.transport import harmless

from . import samples
from .test_readers import Reply

#: clears the screen, renames the window, rings, turns the direction, goes back over what was written
EVIL = "\x1b[2J\x1b]0;x\x07\u202e\x9b2J\r\x08"
#: what is shown as the node says it
SHOWN = ("generation", "loaded", "heartbeat", "ruleset", "keepalived", "units", "change", "placement")
OTHERS = ("kernel", "nft_version", "keepalived_version", "holder", "unconfirmed", "return", "epoch", "alive")


def obeyed(text: str) -> list[str]:
    """The lines of it that hold anything but text."""
    return [line for line in text.split("\n") if line and not line.replace("\t", "").isprintable()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three nodes; what they say is not made harmless on its way, as the transport does."""
    made = World(tmp_path)
    for module in (status_module, history_module, crews):
        monkeypatch.setattr(module, "connector", made.connector)
    monkeypatch.setattr(status_module, "pause", made.waited.append)
    return made


def shown(command: click.Command, *words: str | Path) -> str:
    """What a verb writes; an error of its own is written as the program does."""

    @click.command()
    def program() -> None:
        try:
            command.main([str(word) for word in words], standalone_mode=False)
        except (InputError, OperationError) as error:
            report(error)

    result = CliRunner().invoke(program)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


VERBS: dict[str, tuple[click.Command, tuple[str, ...]]] = {
    "status": (status_module.command, ()),
    "status --json": (status_module.command, ("--json",)),
    "plan": (plan_command, ()),
    "history": (history_module.command, ()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_that_a_node_says_is_obeyed(world: World, verb: str) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    command, words = VERBS[verb]
    node = world.nodes["192.0.2.1"]
    node.lock = f"version: {EVIL}\n".encode()
    node.history = f"current={EVIL}\ngeneration={EVIL}\nline={EVIL}\n{samples.HISTORY.decode()}"
    (usual,) = node.looks
    assert isinstance(usual, str)
    files = "".join(f"{key}={'a' * 64}  {EVIL}\n" for key in ("digest", "listed"))
    everything = "".join(f"{key}={EVIL}x\n" for key in (*SHOWN, *OTHERS))
    one_by_one = [f"{key}={EVIL}x\n" for key in SHOWN] if verb == "status" else []
    for said in (everything, files, *one_by_one):
        node.looks = [usual + said]
        text = shown(command, *words, path)
        assert text and not obeyed(text), (said, obeyed(text))


@pytest.mark.parametrize("verb", VERBS)
def test_nor_is_an_error(world: World, verb: str) -> None:
    path = world.run_cluster("web", 1, 2, 3)
    command, words = VERBS[verb]
    world.nodes["192.0.2.1"].looks = [
        NodeError("n1", f"refused {EVIL}", stderr=f"{EVIL}\n{EVIL}", command=EVIL, status=3, hint=EVIL)
    ]
    text = shown(command, *words, path)
    assert text and not obeyed(text), obeyed(text)


@pytest.mark.parametrize(
    "error", [OperationError(f"said {EVIL}", EVIL), NodeError("n1", f"said {EVIL}", hint=EVIL, stderr=EVIL)]
)
def test_nor_is_an_error_that_ends_a_command(
    error: OperationError, capsys: pytest.CaptureFixture[str]
) -> None:
    report(error)
    text = capsys.readouterr().err
    assert "said" in text and not obeyed(text)


def test_twin_what_is_shown_as_it_came_is_obeyed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_view, "printable", lambda text: text)
    path = world.run_cluster("web", 1, 2, 3)
    say(world, 1, f"heartbeat={EVIL}\n")
    assert obeyed(shown(status_module.command, path))


@given(st.text())
def test_what_comes_over_ssh_holds_no_escapes(text: str) -> None:
    kinds = {unicodedata.category(char) for char in harmless(text) if char not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs"}


@pytest.mark.parametrize("data", [b"", b"\0" * 1024, b"hello", samples.archive()])
def test_a_generation_without_a_manifest_is_the_nodes_fault(data: bytes) -> None:
    with pytest.raises(NodeError):
        _bundle("n1", Reply(data), "web", "abcdefabcdef")  # type: ignore[arg-type]
