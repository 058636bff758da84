"""One channel of an SSH connection: opened for a command, listened to and hung up, each within a time."""

from __future__ import annotations

import contextlib
import threading
import time

from paramiko import Channel, SSHException, Transport

#: as much as a channel's window: what is taken whole need not be moved about
_CHUNK_BYTES = 1 << 21

#: how long a hang-up may take before the connection counts as stuck
_HANG_UP_S = 2.0

#: paramiko's for a channel that was closed without one
_NO_STATUS = -1


class Killed(EOFError):
    """A command has ended without an exit status: by a signal."""


class _Bell(threading.Event):
    """Rung by paramiko when something has come on either stream.

    Its own way to wait for both (``Channel.fileno``) writes into a pipe that ``close`` may just have closed:
    into whatever file has the number by then.
    """

    def clear(self) -> None:
        """Nothing: paramiko believes that one stream is all there is, and that it is empty."""

    def hush(self) -> None:
        """Be silent until something comes."""
        super().clear()


class Line:
    """A channel on which a command runs, and what has come of it so far."""

    def __init__(self, transport: Transport, command: str, *, timeout_s: float) -> None:
        """Start the command; raises TimeoutError, OSError, EOFError or SSHException."""
        deadline = time.monotonic() + timeout_s
        self._transport = transport
        self._bell = _Bell()
        self.channel = _open(transport, timeout_s)
        self.channel.settimeout(timeout_s)
        self.channel.in_buffer.set_event(self._bell)
        self.channel.in_stderr_buffer.set_event(self._bell)
        try:
            _execute(self.channel, command, deadline)
        except BaseException:
            self.hang_up()
            raise

    @property
    def is_at_end(self) -> bool:
        """Whether nothing more will come than what can be taken now."""
        return bool(self.channel.eof_received or self.channel.closed)

    def wait(self, timeout_s: float) -> None:
        """Wait until something has come or ended, at most this long."""
        self._bell.wait(timeout_s)
        self._bell.hush()

    def take(self) -> tuple[bytes, bytes]:
        """What has come on standard output and standard error since the last time."""
        stdout = self.channel.recv(_CHUNK_BYTES) if self.channel.recv_ready() else b""
        stderr = self.channel.recv_stderr(_CHUNK_BYTES) if self.channel.recv_stderr_ready() else b""
        return stdout, stderr

    def await_status(self, deadline: float) -> int:
        """The exit status; raises TimeoutError, Killed, or EOFError when the connection has broken."""
        if not self.channel.status_event.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        status = self.channel.recv_exit_status()
        if status == _NO_STATUS:
            raise Killed if self._transport.is_active() else EOFError("closed without an exit status")
        return status

    def hang_up(self) -> None:
        """Close the channel; the command sees the end of its input, and no reader for its output.

        A peer that reads no more would hold up the closing too: then the whole connection is given up.
        """
        if self.channel.closed:
            return
        closer = threading.Thread(target=_close, args=(self.channel,), daemon=True, name="ssh-hang-up")
        closer.start()
        closer.join(_HANG_UP_S)
        if closer.is_alive():
            self._transport.close()


def _open(transport: Transport, timeout_s: float) -> Channel:
    began = time.monotonic()
    try:
        return transport.open_session(timeout=timeout_s)
    except SSHException as error:
        if time.monotonic() - began >= timeout_s:
            raise TimeoutError from error
        raise


def _close(channel: Channel) -> None:
    # On a connection that has broken there is nothing left to close.
    with contextlib.suppress(OSError, EOFError, SSHException):
        channel.close()


def _execute(channel: Channel, command: str, deadline: float) -> None:
    """As ``exec_command``, which would wait for its answer without a limit."""
    watchdog = threading.Timer(deadline - time.monotonic(), _close, (channel,))
    watchdog.daemon = True
    watchdog.start()
    try:
        channel.exec_command(command)
    except SSHException as error:
        if time.monotonic() >= deadline:
            raise TimeoutError from error
        raise
    finally:
        watchdog.cancel()
