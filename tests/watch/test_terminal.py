"""The terminal is given back as it was found, however the command ends; and what finds out when it is not."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from trscaler_gen.console.terminal import END, keys_in

from .screen import Seat

ENDLESS = """
import sys
from trscaler_gen.cli.clusters import ends_like_ctrl_c
from trscaler_gen.console.terminal import Bell, Terminal
with ends_like_ctrl_c(), Bell() as bell, Terminal(bell) as terminal:
    number = 0
    while True:
        number += 1
        terminal.draw(f"drawn {number} at {terminal.size[0]}x{terminal.size[1]}")
        for key in terminal.wait(60) or ():
            ACTION
"""
BAD = """
import sys, termios, tty
tty.setcbreak(0)
print("drawn", {shown!r}, flush=True)
sys.stdin.read(1)
"""


def seat(program: str, **env: str) -> Seat:
    return Seat([sys.executable, "-c", program], env=env)


def endless(action: str = "pass", **env: str) -> Seat:
    return seat(ENDLESS.replace("ACTION", action), **env)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(number: signal.Signals) -> None:
    with endless() as one:
        one.await_words("drawn")
        assert not one.is_as_found
        one.signal(number)
        assert one.await_end() != 0
        assert one.is_as_found


def test_ctrl_c() -> None:
    with endless() as one:
        one.await_words("drawn")
        one.type("\x03")
        assert one.await_end() != 0
        assert one.is_as_found


def test_an_exception() -> None:
    with endless("raise RuntimeError(key)") as one:
        one.await_words("drawn")
        one.type("x")
        assert one.await_end() == 1
        assert one.is_as_found
        assert any("RuntimeError: x" in line for line in one.screen.lines)


def test_a_ctrl_s_holds_nothing_up() -> None:
    with endless() as one:
        one.await_words("drawn")
        one.type("\x13")
        one.resize(90, 20)
        one.await_words("90x20")
        one.signal(signal.SIGTERM)
        assert one.await_end() != 0
        assert one.is_as_found


@pytest.mark.parametrize("env", [{}, {"COLUMNS": "80", "LINES": "24"}], ids=["", "as exported"])
def test_another_size_is_drawn_anew(env: dict[str, str]) -> None:
    """Some shells and editors export the size that the window had."""
    with endless(**env) as one:
        one.await_words("drawn", "80x24")
        one.resize(132, 50)
        one.await_words("132x50")


def test_a_terminal_that_does_not_know_its_size_is_drawn_on() -> None:
    """A serial console's: it says 0 x 0."""
    shell = 'stty cols 0 rows 0; exec "$0" -c "$1"'
    with Seat(["/bin/sh", "-c", shell, sys.executable, ENDLESS.replace("ACTION", "pass")]) as one:
        one.await_words("drawn", "80x2")


def test_a_stop_and_a_return(tmp_path: Path) -> None:
    """A shell with job control stands between, as with a person."""
    (tmp_path / "endless.py").write_text(ENDLESS.replace("ACTION", "sys.exit(key != 'q')"))
    shell = 'set -m; stty -g; "$0" "$1"; echo stopped $?; stty -g; read -r word; fg >/dev/null; stty -g'
    with Seat(["/bin/bash", "-c", shell, sys.executable, str(tmp_path / "endless.py")]) as one:
        one.await_words("drawn 1 ")
        one.type("\x1a")
        modes = one.await_line(r"stopped 148\s+([0-9a-f:]+)\r$")[1]
        assert not one.screen.is_other and one.screen.has_cursor
        one.type("\n")
        one.await_screen(lambda _: one.screen.is_other and not one.screen.has_cursor, "it is back")
        one.type("q")
        assert one.await_end() == 0
        assert one.is_as_found
        assert one.typescript.count(modes) == 3, "before, while it was stopped, and at the end"


def test_one_that_was_stopped_by_force_takes_the_screen_again() -> None:
    with endless() as one:
        one.await_words("drawn 1 ")
        one.signal(signal.SIGSTOP)
        one.signal(signal.SIGCONT)
        one.await_words("drawn 2 ")


@pytest.mark.parametrize("shown", ["\x1b[?1049h", "\x1b[?25l", ""])
def test_a_terminal_that_is_left_behind_is_seen(shown: str) -> None:
    with seat(BAD.format(shown=shown)) as one:
        one.await_words("drawn")
        one.type("x")
        one.await_end()
        assert not one.is_as_found


def test_keys() -> None:
    assert keys_in(b"sq") == ("s", "q")
    assert keys_in(b"\x1b[A\x1b[5~j") == ("up", "page up", "j")
    assert keys_in(b"\x1b") == ()
    assert keys_in(b"\x1b[99zq") == ()
    assert END not in keys_in(bytes(range(256)))
