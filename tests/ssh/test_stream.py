"""Commands whose output is shown while it comes: every line once, whatever they do to their pipes."""

from __future__ import annotations

import pytest

from ssh.nodes import Lan
from trscaler_gen.errors import NodeError


def stream(lan: Lan, command: str) -> tuple[int, list[tuple[str, bool]]]:
    if not lan.nodes:
        lan.boot("n1")
        lan.write_config()
    told: list[tuple[str, bool]] = []
    with lan.connect("n1") as connection:
        status = connection.stream(
            ("sh", "-c", command), lambda line, is_error: told.append((line, is_error))
        )
    return status, told


def test_lines_of_both_streams_and_the_status(lan: Lan) -> None:
    assert stream(lan, "echo one; echo two; exit 7") == (7, [("one", False), ("two", False)])
    status, told = stream(lan, "echo no >&2; printf end")
    assert (status, sorted(told)) == (0, [("end", False), ("no", True)])


def test_a_line_comes_as_soon_as_it_is_said(lan: Lan) -> None:
    """The command goes on only when it has been seen."""
    lan.boot("n1")
    lan.write_config()
    seen = lan.folder / "seen"
    command = f"echo ready; until [ -e {seen} ]; do sleep 0.02; done; echo done"
    told: list[str] = []

    def tell(line: str, is_error: bool) -> None:
        told.append(line)
        seen.touch()

    with lan.connect("n1") as connection:
        assert connection.stream(("sh", "-c", command), tell) == 0
    assert told == ["ready", "done"]


def test_much_output_comes_whole(lan: Lan) -> None:
    _, told = stream(lan, "seq 200000")
    assert [line for line, _ in told] == [str(number) for number in range(1, 200001)]


def test_a_line_without_an_end_is_shown_in_pieces(lan: Lan) -> None:
    _, told = stream(lan, "head -c 20000 /dev/zero | tr '\\0' x; echo; echo after")
    assert "".join(line for line, _ in told[:-1]) == "x" * 20000
    assert told[-1] == ("after", False)


def test_a_command_that_closes_its_output_is_waited_for(lan: Lan) -> None:
    assert stream(lan, "exec >&- 2>&-; sleep 1.5; exit 4") == (4, [])


def test_a_daemon_that_keeps_the_pipes_open_is_not(lan: Lan) -> None:
    assert stream(lan, "sleep 600 & echo started") == (0, [("started", False)])


def test_a_command_that_is_killed(lan: Lan) -> None:
    with pytest.raises(NodeError, match="a command was killed there"):
        stream(lan, "kill -9 $$")


def test_escapes_are_taken_away(lan: Lan) -> None:
    assert stream(lan, r"printf 'a\033[31mb\n'") == (0, [("a[31mb", False)])


def test_it_reads_no_input(lan: Lan) -> None:
    assert stream(lan, "cat; echo end") == (0, [("end", False)])
