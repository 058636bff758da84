"""The deployment lock: one deployer at a time, on every node, for as long as he lives.

It is a ``flock`` that a process on the node holds. The process ends when its SSH channel does, or when no
byte has come for a minute: a deployer who dies, or whose machine sleeps, keeps nobody out. What a deployer
does to a node names his token, and the node refuses a token that does not hold the lock.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from trscaler_gen.deploy.scripts import script
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import RUNTIME, deploying

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection, Session

#: four of these fit into the minute after which a node lets go
_BEAT_S = 15.0
_ANSWER_S = 30.0


class BusyError(NodeError):
    """Somebody else holds a node's deployment lock."""


class DeploymentLocks:
    """The locks of one deployment; as a context manager it lets all of them go at the end."""

    def __init__(self, cluster: str, token: str, who: str) -> None:
        self._argv = ("sh", "-c", script("hold.sh"), "sh", f"{RUNTIME}/{cluster}", token, who)
        self._sessions: dict[str, Session] = {}
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="deployment-lock")

    def __enter__(self) -> DeploymentLocks:
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._heart.join()
        for session in tuple(self._sessions.values()):
            session.close()

    def take(self, node: str, connection: Connection) -> None:
        """Take one node's lock; raises NodeError that names who has it."""
        session = connection.start(self._argv)
        answer = session.read_line(_ANSWER_S).strip()
        if answer == "held":
            self._sessions[node] = session
            return
        session.close()
        if answer.startswith("busy"):
            who, _, since = answer.removeprefix("busy").strip().partition(" ")
            hint = "wait until that is over; a deployer who has died is let go of within a minute"
            raise BusyError(node, deploying(who, since), hint=hint)
        hint = f"is there room in /run, and is flock installed? Look at {self._argv[4]} on the node"
        message = f"the deployment lock could not be taken: {answer or 'no answer'}"
        raise NodeError(node, message, hint=hint, stderr=session.stderr)

    def holds(self, node: str) -> bool:
        """Whether a node's lock is ours, as far as we have heard: a node that reboots lets it go."""
        return node in self._sessions and self._sessions[node].is_open

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            for session in tuple(self._sessions.values()):
                # Who has hung up is found out by the next command to him.
                with contextlib.suppress(NodeError, OSError):
                    session.send(b".")
