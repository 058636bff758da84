"""A command whose output is shown line by line while it comes, for as long as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from trscaler_gen.transport.channel import Line
from trscaler_gen.transport.command import Remote, decoded, explained

#: how long output may still come after the exit status: a daemon that was started may keep the pipes open
_LINGER_S = 1.0
_POLL_S = 0.25
_STATUS_S = 10.0
#: what has no line end by then is shown without waiting for one
_LONGEST_LINE_BYTES = 8192

#: called with a line without its end, and whether it came on standard error; safe to show
Tell = Callable[[str, bool], None]


def stream(remote: Remote, argv: Sequence[str], tell: Tell, *, start_timeout_s: float) -> int:
    """Run ``argv`` with no input and answer its exit status; it may take any time.

    Raises NodeError if it does not start, if sudo refuses, if the connection breaks, or if the command was
    killed. Whatever is raised meanwhile, the line is hung up: the command may go on there.
    """
    with explained(remote, argv, start_timeout_s):
        line = remote.line(argv, timeout_s=start_timeout_s)
        try:
            line.channel.shutdown_write()
            return _follow(remote, line, tell)
        finally:
            line.hang_up()


def _follow(remote: Remote, line: Line, tell: Tell) -> int:
    parts = (bytearray(), bytearray())
    said = bytearray()
    quiet_since = time.monotonic()
    while True:
        line.wait(_POLL_S)
        if _take(line, parts, said, tell) or not line.channel.exit_status_ready():
            quiet_since = time.monotonic()
        elif line.is_at_end or time.monotonic() - quiet_since > _LINGER_S:
            break
    for number, part in enumerate(parts):
        if part:
            tell(decoded(part), number == 1)
    status = line.await_status(time.monotonic() + _STATUS_S)
    return remote.judge(status, decoded(said))[0]


def _take(line: Line, parts: tuple[bytearray, bytearray], said: bytearray, tell: Tell) -> bool:
    """Tell the lines that have come whole; answers whether anything came. ``said`` is how errors begin."""
    came = line.take()
    said += came[1][: _LONGEST_LINE_BYTES - len(said)]
    for number, (part, data) in enumerate(zip(parts, came, strict=True)):
        part += data
        while b"\n" in part or len(part) > _LONGEST_LINE_BYTES:
            end = part.find(b"\n", 0, _LONGEST_LINE_BYTES)
            end = end if end >= 0 else _LONGEST_LINE_BYTES
            tell(decoded(part[:end]), number == 1)
            del part[: end + (part[end : end + 1] == b"\n")]
    return any(came)
