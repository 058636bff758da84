from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ssh.nodes import Lan
from ssh.team import Team
from ssh.user import User, user_of


@pytest.fixture
def lan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lan]:
    """No nodes yet: ``lan.boot("n1", "n2")`` starts them. The user's own keys and agent stay out of it."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    nodes = Lan(tmp_path)
    yield nodes
    nodes.close()


@pytest.fixture
def user(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody with an inventory and two nodes."""
    return user_of(lan, monkeypatch)


@pytest.fixture
def team(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> Team:
    """Three nodes that serve, hear each other, and can be drained."""
    return Team(lan, monkeypatch)
