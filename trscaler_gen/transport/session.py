"""A command on a node that lives as long as we want it to, and is spoken with line by line."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trscaler_gen.transport.command import OUTPUT_LIMIT_BYTES, Remote, decoded, explained

_SEND_TIMEOUT_S = 10.0


class Session:
    """One running command. One thread may read while others send and close."""

    def __init__(self, remote: Remote, argv: Sequence[str], *, timeout_s: float) -> None:
        """Start the command; raises NodeError."""
        self._remote, self._argv = remote, tuple(argv)
        self._unread, self._stderr = bytearray(), bytearray()
        with explained(remote, argv, timeout_s):
            self._line = remote.line(argv, timeout_s=timeout_s)
        self._line.channel.settimeout(_SEND_TIMEOUT_S)

    @property
    def is_open(self) -> bool:
        """Whether the command may still be running, as far as we have heard."""
        return not self._line.is_at_end

    @property
    def stderr(self) -> str:
        """What ``read_line`` has met on standard error; safe to show."""
        return decoded(self._stderr)

    def read_line(self, timeout_s: float) -> str:
        """The next line with its line end, safe to show; an empty text when no more will come.

        Raises NodeError if none comes within the time, if sudo refuses, or if the connection has broken.
        """
        deadline = time.monotonic() + timeout_s
        with explained(self._remote, self._argv, timeout_s):
            while b"\n" not in self._unread:
                is_last = self._line.is_at_end
                if self._take():
                    continue
                if is_last:
                    return self._last(deadline)
                self._wait(deadline)
        return self._cut(self._unread.index(b"\n") + 1)

    def send(self, data: bytes) -> None:
        """Write to the command's standard input; raises NodeError if it has ended or does not read."""
        with explained(self._remote, self._argv, _SEND_TIMEOUT_S):
            if not self.is_open:
                raise EOFError("the command has ended")
            self._line.channel.sendall(data)

    def close(self) -> None:
        """Hang up: the command sees the end of its input; safe to call twice."""
        self._line.hang_up()

    def _take(self) -> bool:
        """Add what has come; answers whether there was anything."""
        stdout, stderr = self._line.take()
        self._unread += stdout
        self._stderr += stderr[: OUTPUT_LIMIT_BYTES - len(self._stderr)]
        if len(self._unread) > OUTPUT_LIMIT_BYTES:
            raise EOFError("a line without an end")
        return bool(stdout or stderr)

    def _wait(self, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._line.wait(left_s)

    def _last(self, deadline: float) -> str:
        """What is left without a line end, once nothing more will come."""
        if self._unread:
            return self._cut(len(self._unread))
        self._remote.judge(self._line.await_status(deadline), self.stderr)
        return ""

    def _cut(self, length: int) -> str:
        line = bytes(self._unread[:length])
        del self._unread[:length]
        return decoded(line)
