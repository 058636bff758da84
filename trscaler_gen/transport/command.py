"""One command over an open SSH connection: input, bounded output, exit status, deadline."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paramiko import Channel, ChannelException, SSHException, Transport

from trscaler_gen.errors import NodeError
from trscaler_gen.transport import sudo
from trscaler_gen.transport.channel import Killed, Line

#: of each of standard output and standard error; what goes beyond is read and thrown away
OUTPUT_LIMIT_BYTES = 1 << 20

#: of what is fetched; more is an error
FETCH_LIMIT_BYTES = 64 << 20

#: how long output may still come after the exit status: a daemon that was started may keep the pipes open
_LINGER_S = 1.0
_POLL_S = 0.25
_PROBE_TIMEOUT_S = 10.0
_SHOWN_COMMAND_CHARACTERS = 120
_CUT_OFF = "\n[more than 1 MiB: cut off]"


@dataclass(frozen=True)
class Completed:
    """How a command ended. The texts are safe to show: see ``harmless``."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Remote:
    """Where commands run, and as whom: ``sudo_user`` is who needs sudo to be root there, if anybody does."""

    transport: Transport
    node: str
    sudo_user: str = ""

    def line(self, argv: Sequence[str], *, timeout_s: float) -> Line:
        """Start a command, each word quoted."""
        words = sudo.as_root(argv) if self.sudo_user else argv
        return Line(self.transport, shlex.join(words), timeout_s=timeout_s)

    def judge(self, status: int, stderr: str) -> tuple[int, str]:
        """Exit status and standard error as the command's own; raises NodeError if sudo did not run it."""
        if not self.sudo_user:
            return status, stderr
        if sudo.may_be_refusal(status, stderr):
            probe = _execute(self, sudo.PROBE, timeout_s=_PROBE_TIMEOUT_S)
            if probe.status != 0:
                raise sudo.refusal(self.node, self.sudo_user, probe.status, decoded(probe.stderr))
        return sudo.as_without(status, stderr)


def harmless(text: str) -> str:
    """The text without control characters, terminal escapes and direction overrides; newline and tab stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def decoded(data: bytes | bytearray) -> str:
    """What a node said, as text that is safe to show."""
    return harmless(bytes(data).decode(errors="replace"))


def run(remote: Remote, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
    """Run ``argv`` and wait for its end.

    Raises NodeError if sudo refuses, the connection breaks or ``timeout_s`` passes; any exit status of the
    command's is a result.
    """
    ended = _execute(remote, argv, stdin=stdin, timeout_s=timeout_s)
    status, stderr = remote.judge(ended.status, _text(ended.stderr))
    return Completed(status, _text(ended.stdout), stderr)


def fetch(remote: Remote, argv: Sequence[str], *, timeout_s: float, limit_bytes: int) -> bytes:
    """Return all that ``argv`` writes on its standard output, as it is.

    Raises NodeError if the command fails or writes more than ``limit_bytes``, if the connection breaks, or if
    the output has not ended when ``timeout_s`` has passed.
    """
    ended = _execute(remote, argv, timeout_s=timeout_s, limit_bytes=limit_bytes, is_whole=True)
    if len(ended.stdout) > limit_bytes:
        message = f"it sends more than {limit_bytes} bytes"
        raise NodeError(remote.node, message, command=_shown(argv), stderr=_text(ended.stderr))
    status, stderr = remote.judge(ended.status, _text(ended.stderr))
    if status != 0:
        said = (stderr.strip() or "without a word").splitlines()[-1]
        message = f"a command failed: {said}"
        raise NodeError(remote.node, message, command=_shown(argv), status=status, stderr=stderr)
    return bytes(ended.stdout)


@contextlib.contextmanager
def explained(remote: Remote, argv: Sequence[str], timeout_s: float) -> Iterator[None]:
    """What goes wrong with a command's line becomes a NodeError."""
    try:
        yield
    except TimeoutError:
        hint = "it may still be running there; look at the node before applying again"
        message = f"no answer within {timeout_s:g} s"
        raise NodeError(remote.node, message, hint=hint, command=_shown(argv)) from None
    except ChannelException as error:
        hint = "MaxSessions in its sshd_config must allow 4 commands side by side"
        message = f"the node refuses to run another command ({_reason(error)})"
        raise NodeError(remote.node, message, hint=hint, command=_shown(argv)) from error
    except (SSHException, OSError, EOFError) as error:
        hint = "the command may or may not have been carried out; applying again is safe"
        message = f"connection lost while a command ran ({_reason(error)})"
        if isinstance(error, Killed):
            message = "a command was killed there"
        raise NodeError(remote.node, message, hint=hint, command=_shown(argv)) from error


def _shown(argv: Sequence[str]) -> str:
    return harmless(shlex.join(argv)).splitlines()[0][:_SHOWN_COMMAND_CHARACTERS]


def _reason(error: Exception) -> str:
    return harmless(str(error)) or type(error).__name__


def _feed(channel: Channel, data: bytes) -> None:
    """Send the whole input and close it, beside the reader: neither side can then block the other."""

    def send() -> None:
        # A command that ends before it has read all its input says why by its status.
        with contextlib.suppress(OSError, SSHException, EOFError):
            channel.sendall(data)
            channel.shutdown_write()

    if data:
        threading.Thread(target=send, daemon=True, name="ssh-stdin").start()
    else:
        channel.shutdown_write()


@dataclass
class _Ended:
    """How a command ended, as it came; ``stdout`` holds one byte more than its limit if that was passed."""

    status: int
    stdout: bytearray
    stderr: bytearray


def _execute(
    remote: Remote,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float,
    limit_bytes: int = OUTPUT_LIMIT_BYTES,
    is_whole: bool = False,
) -> _Ended:
    deadline = time.monotonic() + timeout_s
    with explained(remote, argv, timeout_s):
        line = remote.line(argv, timeout_s=timeout_s)
        try:
            _feed(line.channel, stdin)
            return _collect(line, deadline, limit_bytes, is_whole=is_whole)
        finally:
            line.hang_up()


def _collect(line: Line, deadline: float, limit_bytes: int, *, is_whole: bool) -> _Ended:
    """Read until the command has ended and its output too; TimeoutError if that takes too long.

    With ``is_whole`` nothing may be missing: the end of the output is awaited whatever becomes of the
    command, and beyond the limit nothing is read. Otherwise silence after the exit is taken for the end.
    """
    ended = _Ended(0, bytearray(), bytearray())
    give_up, has_exited = deadline, False
    while not line.is_at_end and time.monotonic() < give_up:
        line.wait(min(_POLL_S, max(0.0, give_up - time.monotonic())))
        came = _take(line, ended, limit_bytes)
        if is_whole and len(ended.stdout) > limit_bytes:
            return ended
        if not is_whole and line.channel.exit_status_ready() and (came or not has_exited):
            give_up, has_exited = min(deadline, time.monotonic() + _LINGER_S), True
    if is_whole and not line.channel.eof_received:
        raise EOFError("closed in the middle of the output") if line.is_at_end else TimeoutError
    ended.status = line.await_status(deadline)
    _take(line, ended, limit_bytes)
    return ended


def _take(line: Line, ended: _Ended, limit_bytes: int) -> bool:
    """Add what has come; answers whether there was anything."""
    stdout, stderr = line.take()
    _append(ended.stdout, stdout, limit_bytes)
    _append(ended.stderr, stderr, OUTPUT_LIMIT_BYTES)
    return bool(stdout or stderr)


def _append(buffer: bytearray, data: bytes, limit_bytes: int) -> None:
    # One byte more than the limit is kept, to know that it was passed.
    buffer += data[: limit_bytes + 1 - len(buffer)]


def _text(buffer: bytearray) -> str:
    text = decoded(buffer[:OUTPUT_LIMIT_BYTES])
    return text + _CUT_OFF if len(buffer) > OUTPUT_LIMIT_BYTES else text
