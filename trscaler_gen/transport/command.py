"""One command over an open SSH connection: input, bounded output, exit status, deadline."""

from __future__ import annotations

import contextlib
import select
import shlex
import threading
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from paramiko import Channel, SSHException, Transport

from trscaler_gen.errors import NodeError

#: of each of standard output and standard error; what goes beyond is read and thrown away
OUTPUT_LIMIT_BYTES = 1 << 20

#: how long output may still come after the exit status: a daemon that was started may keep the pipes open
_LINGER_S = 1.0
_POLL_S = 0.25
_CHUNK_BYTES = 1 << 16
_SHOWN_COMMAND_CHARACTERS = 120
_CUT_OFF = "\n[more than 1 MiB: cut off]"


@dataclass(frozen=True)
class Completed:
    """How a command ended. The texts are safe to show: see ``harmless``."""

    status: int
    stdout: str
    stderr: str


def harmless(text: str) -> str:
    """The text without control characters, terminal escapes and direction overrides; newline and tab stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def run(
    transport: Transport, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float
) -> Completed:
    """Run ``argv``, each word quoted, and wait for its end.

    Raises NodeError if the connection breaks or ``timeout_s`` passes; any exit status is a result.
    """
    shown = harmless(shlex.join(argv)).splitlines()[0][:_SHOWN_COMMAND_CHARACTERS]
    deadline = time.monotonic() + timeout_s
    try:
        with contextlib.closing(transport.open_session(timeout=timeout_s)) as channel:
            channel.settimeout(timeout_s)
            channel.exec_command(shlex.join(argv))
            _feed(channel, stdin)
            return _collect(channel, deadline)
    except TimeoutError:
        hint = "it may still be running there; look at the node before applying again"
        message = f"no answer within {timeout_s:g} s"
        raise NodeError(node, message, hint=hint, command=shown) from None
    except (SSHException, OSError, EOFError) as error:
        hint = "the command may or may not have been carried out; applying again is safe"
        message = f"connection lost while a command ran ({_reason(error)})"
        raise NodeError(node, message, hint=hint, command=shown) from error


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


def _collect(channel: Channel, deadline: float) -> Completed:
    stdout, stderr = bytearray(), bytearray()
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    ended_at = float("inf")
    while not channel.eof_received and time.monotonic() < min(deadline, ended_at + _LINGER_S):
        poll.poll(_POLL_S * 1000)
        _drain(channel, stdout, stderr)
        if channel.exit_status_ready():
            ended_at = min(ended_at, time.monotonic())
    channel.status_event.wait(max(0.0, deadline - time.monotonic()))
    _drain(channel, stdout, stderr)
    return Completed(_status(channel), _text(stdout), _text(stderr))


def _status(channel: Channel) -> int:
    if not channel.exit_status_ready():
        raise TimeoutError
    status = channel.recv_exit_status()
    if status == -1:
        raise EOFError("closed without an exit status")
    return status


def _drain(channel: Channel, stdout: bytearray, stderr: bytearray) -> None:
    while channel.recv_ready():
        _append(stdout, channel.recv(_CHUNK_BYTES))
    while channel.recv_stderr_ready():
        _append(stderr, channel.recv_stderr(_CHUNK_BYTES))


def _append(buffer: bytearray, data: bytes) -> None:
    # One byte more than the limit is kept, to know that it was passed.
    buffer += data[: OUTPUT_LIMIT_BYTES + 1 - len(buffer)]


def _text(buffer: bytearray) -> str:
    text = harmless(bytes(buffer[:OUTPUT_LIMIT_BYTES]).decode(errors="replace"))
    return text + _CUT_OFF if len(buffer) > OUTPUT_LIMIT_BYTES else text
