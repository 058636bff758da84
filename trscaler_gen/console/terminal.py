"""A terminal as a screen with keys: taken, given back whatever happens, and taken again after a stop.

A Ctrl-C, a SIGTERM or an exception leaves through ``__exit__``, which puts back what was found. A Ctrl-Z
gives the terminal back, stops, and takes it again when the process goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from rich.console import Console, ConsoleDimensions, RenderableType

#: what keys send that are not characters
_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b"\x1b[H": "home", b"\x1b[F": "end",
}  # fmt: skip
#: the terminal is gone
END = "end of input"

Handler = Callable[[int, "FrameType | None"], object] | int | None


class Bell:
    """Wakes up who waits for it; may be rung by any thread and by a signal handler. A context manager."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Bell:
        return self

    def __exit__(self, *_: object) -> None:
        """Silent from now on; threads that still ring it are not told."""
        write, self._write = self._write, -1
        os.close(self._read)
        os.close(write)

    def ring(self) -> None:
        """Wake up who waits, or who waits next."""
        with contextlib.suppress(OSError):  # full: rung already; closed: nobody waits any more
            os.write(self._write, b"!")

    def wait(self, timeout_s: float, *files: int) -> bool:
        """Wait until it rings or something can be read from a file; answers whether one of these can be."""
        ready, _, _ = select.select([self._read, *files], [], [], max(0.0, timeout_s))
        if self._read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)
        return any(file in ready for file in files)


def has_screen() -> bool:
    """Whether standard output is a terminal on which a screen can be drawn."""
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def is_ascii() -> bool:
    """Whether standard output cannot show more than ASCII."""
    return not Console().encoding.startswith("utf")


class Terminal:
    """The terminal while it is ours: no echo, no line at a time, the alternate screen, no cursor."""

    def __init__(self, bell: Bell) -> None:
        """Show on standard output; read keys from standard input if that is a terminal too."""
        self._console, self._bell = Console(), bell
        self._keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._found: list[object] | None = None
        self._handlers: dict[int, Handler] = {}
        self._is_to_stop = self._is_to_redraw = False

    def __enter__(self) -> Terminal:
        try:
            for number in (signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP):
                self._handlers[number] = signal.signal(number, self._on_signal)
            if self._keyboard is not None:
                self._found = termios.tcgetattr(self._keyboard)
            self._take()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now; of a terminal that does not know, as a serial line's, what is usual."""
        try:
            columns, lines = os.get_terminal_size(self._console.file.fileno())
        except OSError:  # it is gone, as the next key will tell
            columns = lines = 0
        return columns or self._console.width, lines or self._console.height

    def draw(self, lines: RenderableType) -> None:
        """Show these lines from the top left corner on, instead of all before."""
        # Else COLUMNS and LINES would count, which a window that is given another size leaves as they were.
        self._console.size = ConsoleDimensions(*self.size)
        self._console.update_screen(lines)

    def wait(self, timeout_s: float) -> Sequence[str] | None:
        """Wait for keys, the bell or a change of the terminal, at most this long.

        Answers the keys that were pressed: characters, ``up``, ``page down``..., or END; None where the
        screen has to be drawn anew.
        """
        files = () if self._keyboard is None else (self._keyboard,)
        keys = self._read() if self._bell.wait(timeout_s, *files) else ()
        if self._is_to_stop:
            self._is_to_stop = False
            self._stop()
        is_to_redraw, self._is_to_redraw = self._is_to_redraw, False
        if is_to_redraw:
            self._take()  # who was stopped by force finds the terminal as the shell has it
        return None if is_to_redraw and not keys else keys

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._is_to_stop = True
        self._is_to_redraw = True
        self._bell.ring()

    def _read(self) -> Sequence[str]:
        assert self._keyboard is not None
        try:
            data = os.read(self._keyboard, 1024)
        except OSError:  # EIO: nobody has the other end any more
            data = b""
        return keys_in(data) if data else (END,)

    def _stop(self) -> None:
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_signal)  # here it goes on
        self._is_to_redraw = True

    def _take(self) -> None:
        if self._keyboard is not None:
            tty.setcbreak(self._keyboard, termios.TCSANOW)
            modes = termios.tcgetattr(self._keyboard)
            modes[tty.IFLAG] &= ~termios.IXON  # a Ctrl-S would hold up what is drawn, and the end as well
            termios.tcsetattr(self._keyboard, termios.TCSANOW, modes)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _give_back(self) -> None:
        if self._keyboard is not None and self._found is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self._keyboard, termios.TCSANOW, self._found)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def _end(self) -> None:
        """A second signal must not come between."""
        ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ends}
        try:
            self._give_back()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def keys_in(data: bytes) -> tuple[str, ...]:
    """What was pressed; a sequence that nobody knows counts as nothing."""
    keys = []
    while data:
        sequence = next((known for known in _KEYS if data.startswith(known)), b"")
        if sequence:
            keys.append(_KEYS[sequence])
        elif data.startswith(b"\x1b"):
            break
        else:
            keys.append(chr(data[0]))
        data = data[len(sequence) or 1 :]
    return tuple(keys)
