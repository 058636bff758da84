"""Asking busy servers again, without any server: how often, how many at once, and for how long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import patience
from trscaler_gen.transport.patience import TurnedAwayError, insist


class Busy:
    """A server that has room for two logins at a time."""

    def __init__(self) -> None:
        self.room = threading.Semaphore(2)
        self.turned_away = 0

    def connect(self) -> str:
        if not self.room.acquire(blocking=False):
            self.turned_away += 1
            raise TurnedAwayError("n1", "busy")
        threading.Event().wait(0.01)  # as long as a login takes
        self.room.release()
        return "in"


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_GATES", {})


def knock(server: Busy, jump: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(insist, server.connect, jump=jump, timeout_s=30) for _ in range(64)]
    assert [one.result() for one in asked] == ["in"] * 64


def test_a_jump_host_is_soon_asked_by_no_more_than_it_takes() -> None:
    server = Busy()
    knock(server, "jump")
    assert server.turned_away <= 6  # of eight who came first


def test_without_knowing_of_the_jump_host_all_come_at_once() -> None:
    server = Busy()
    knock(server, "")
    assert server.turned_away > 6


def test_one_jump_hosts_trouble_is_not_anothers() -> None:
    knock(Busy(), "first")
    assert patience._GATES["first"]._width < 8
    insist(lambda: "in", jump="second", timeout_s=1)
    assert patience._GATES["second"]._width == 8


@pytest.mark.parametrize("jump", ["", "jump"])
def test_a_server_that_never_has_time_is_given_up(jump: str) -> None:
    server = Busy()
    server.room = threading.Semaphore(0)
    with pytest.raises(TurnedAwayError):
        insist(server.connect, jump=jump, timeout_s=0.5)
    assert server.turned_away > 1


def test_other_errors_are_not_for_patience() -> None:
    asked = 0

    def refuse() -> None:
        nonlocal asked
        asked += 1
        raise NodeError("n1", "no")

    for _ in range(20):  # and each gives its place back
        with pytest.raises(NodeError, match="no"):
            insist(refuse, jump="jump", timeout_s=30)
    assert asked == 20
