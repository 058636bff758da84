"""A ProxyCommand as a real socket: its deadline, its end of file and its end of life are then ordinary ones.

paramiko's own ProxyCommand spins when the command dies, is not reaped, and keeps three pipes open.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from typing import IO

_EXIT_GRACE_S = 1.0


class Proxy:
    """A running ProxyCommand; ``socket`` is our end of its standard input and output."""

    def __init__(self, command: str) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self.socket, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C at the terminal must not cut the connections before we say so.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,
            )

    def failure(self) -> str:
        """What the command said on its standard error and how it ended; empty while it runs in silence."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_GRACE_S)
        self._stderr.seek(0)
        said = self._stderr.read(64 * 1024).decode(errors="replace").strip()
        status = self._process.returncode
        return "\n".join(filter(None, [said, f"exit status {status}" if status else ""]))

    def close(self) -> None:
        """End the command with everything that it started, and reap it."""
        self.socket.close()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._stderr.close()

    def _signal(self, number: signal.Signals) -> None:
        # Once reaped, the number may be another's: ask before sending.
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
