"""A command on a terminal of its own: what its screen shows, what it is typed, what it leaves behind."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[78=>]")
#: a deadline for a busy machine
PATIENCE_S = 90.0


class Screen:
    """As much of a terminal as a screen that is drawn from top to bottom needs.

    ``is_other``: the alternate screen is on; ``has_cursor``: the cursor is shown.
    """

    def __init__(self, width: int, height: int) -> None:
        self.is_other, self.has_cursor = False, True
        self.resize(width, height)
        self._rest = ""

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[" "] * width for _ in range(height)]
        self._x = self._y = 0

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:  # the rest is on its way
                    self._rest = text[at:]
                    return
                self._obey(found[1] or "", found[2] or "")
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def _obey(self, words: str, letter: str) -> None:
        if letter == "H":
            row, _, column = words.partition(";")
            self._y, self._x = int(row or 1) - 1, int(column or 1) - 1
        elif words == "?1049" or words == "?1049;":
            self.is_other = letter == "h"
        elif words == "?25":
            self.has_cursor = letter == "h"
        elif letter == "J":
            self.resize(self.width, self.height)

    def _put(self, char: str) -> None:
        if char == "\r":
            self._x = 0
        elif char == "\n":
            self._y = min(self._y + 1, self.height - 1)
        elif self._y < self.height and self._x < self.width:
            self._cells[self._y][self._x] = char
            self._x += 1


class Seat:
    """Somebody who sits before a command on a terminal, in a session of its own."""

    def __init__(
        self, argv: list[str], *, width: int = 80, height: int = 24, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = Screen(width, height)
        self.typescript = ""
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._ours, self._theirs = os.openpty()
        self.resize(width, height)
        self.modes = termios.tcgetattr(self._theirs)
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)
            for number in (0, 1, 2):
                os.dup2(self._theirs, number)
            words = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})}
            os.execve(argv[0], argv, {**os.environ, **words})

    def __enter__(self) -> Seat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._ours)
        os.close(self._theirs)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size; the kernel tells who draws on it."""
        self.screen.resize(width, height)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def await_screen(self, condition: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until the screen is so; answers its lines."""
        self._until(lambda: bool(condition(self.screen.lines)), what)
        return self.screen.lines

    def await_line(self, pattern: str) -> re.Match[str]:
        """Wait until a line that is like this was written, whatever has become of it."""
        self._until(lambda: re.search(pattern, self.typescript, re.MULTILINE) is not None, pattern)
        found = re.search(pattern, self.typescript, re.MULTILINE)
        assert found is not None
        return found

    def await_words(self, *words: str) -> list[str]:
        """Wait until all words are on the screen."""
        return self.await_screen(lambda lines: all(word in "\n".join(lines) for word in words), str(words))

    def await_end(self) -> int:
        """Wait for the end; answers the exit status, negative for a signal."""

        def has_ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            return bool(pid)

        self._until(has_ended, "it has ended")
        self._read(0.0)
        assert self.status is not None
        return self.status

    @property
    def is_as_found(self) -> bool:
        """Whether the terminal is as it was before: its modes, its screen, its cursor."""
        self._read(0.0)
        is_shown = self.screen.has_cursor and not self.screen.is_other
        return is_shown and termios.tcgetattr(self._theirs) == self.modes

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "\n".join([f"not in time: {what}", *self.screen.lines])
            self._read(0.05)

    def _read(self, timeout_s: float) -> None:
        while select.select([self._ours], [], [], timeout_s)[0]:
            said = self._decode(os.read(self._ours, 65536))
            self.typescript += said
            self.screen.feed(said)
            timeout_s = 0.0


@contextmanager
def seated(*argv: str, width: int = 80, height: int = 24, **env: str) -> Iterator[Seat]:
    """Run ``trscaler-gen`` on a terminal; it is gone at the end, whatever happens."""
    with Seat([sys.executable, "-m", "trscaler_gen", *argv], width=width, height=height, env=env) as seat:
        yield seat
