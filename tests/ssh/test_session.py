"""Commands that live on: read line by line, fed byte by byte, and ended by hanging up."""

from __future__ import annotations

import threading
import time

import pytest

from ssh.nodes import Lan, await_true
from trscaler_gen.errors import NodeError

ECHO = ("sh", "-c", 'echo ready; while read -r line; do echo "<$line>"; done; echo ended >"$1"', "sh")


def test_lines_go_to_and_fro(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        session = connection.start((*ECHO, "/run/ended"))
        assert session.read_line(10) == "ready\n"
        for word in (b"one", b"two"):
            session.send(word + b"\n")
            assert session.read_line(10) == f"<{word.decode()}>\n"
        assert session.is_open
        assert connection.run(("echo", "beside"), timeout_s=60).stdout == "beside\n"
        session.close()
        session.close()
        assert not session.is_open
        # Hanging up was the end of its input.
        await_true(lambda: connection.run(("cat", "/run/ended"), timeout_s=60).status == 0, "its end")


def test_a_command_that_ends_has_said_all(lan: Lan) -> None:
    lan.boot("n1")
    argv = ("sh", "-c", "echo one; echo; printf rest; echo oops >&2; exit 75")
    with lan.connect("n1") as connection:
        session = connection.start(argv)
        lines = [session.read_line(10) for _ in range(5)]
        assert lines == ["one\n", "\n", "rest", "", ""]
        assert session.stderr == "oops\n"
        assert not session.is_open
        with pytest.raises(NodeError):
            session.send(b".")


def test_a_line_that_does_not_come_is_not_awaited_for_ever(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        session = connection.start(("sh", "-c", "printf part; read line; echo ial"))
        began = time.monotonic()
        with pytest.raises(NodeError, match=r"no answer within 0\.5 s"):
            session.read_line(0.5)
        assert time.monotonic() - began < 30
        session.send(b"\n")
        assert session.read_line(10) == "partial\n"


def test_hanging_up_wakes_the_reader(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        session = connection.start(("sleep", "60"))
        threading.Timer(0.3, session.close).start()
        began = time.monotonic()
        with pytest.raises(NodeError):
            session.read_line(30)
        assert time.monotonic() - began < 30


def test_a_node_that_dies_closes_the_session(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        session = connection.start(("sleep", "60"))
        lan.nodes["n1"].kill()
        with pytest.raises(NodeError, match="connection lost"):
            session.read_line(20)
        assert not session.is_open


def test_closing_the_connection_ends_the_command(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        connection.start((*ECHO, "/run/ended")).read_line(10)
    with lan.connect("n1") as connection:
        await_true(lambda: connection.run(("cat", "/run/ended"), timeout_s=60).status == 0, "its end")


def test_a_server_that_allows_one_command_at_a_time_says_so(lan: Lan) -> None:
    lan.boot("n1", extra="MaxSessions 1")
    with lan.connect("n1") as connection:
        connection.start(ECHO).read_line(10)
        with pytest.raises(NodeError, match="refuses to run another command") as caught:
            connection.run(("true",), timeout_s=60)
    assert "MaxSessions" in caught.value.hint


def test_a_command_that_is_killed_is_told_from_a_connection_that_breaks(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection, pytest.raises(NodeError, match="was killed there"):
        connection.run(("sh", "-c", "kill -9 $$"), timeout_s=60)
