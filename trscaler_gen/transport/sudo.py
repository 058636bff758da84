"""Running commands as root for a user who is not: the words before a command, and what sudo's refusals mean.

sudo(8) has no exit status of its own: it ends with 1 when it refuses, and so do commands. What looks like a
refusal is believed when a command that cannot fail is refused too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trscaler_gen.errors import NodeError

# -n: never ask. LC_ALL: refusals are told apart by their words. env: sets that in every login shell, and ends
# alike in all of them where there is no sudo.
_WORDS = ("env", "LC_ALL=C", "sudo", "-n", "--")

#: a command that succeeds wherever sudo lets us through
PROBE = ("sh", "-c", ":")

_REFUSED = 1
_CANNOT_RUN = (126, 127)
_WARNING = re.compile(r"^sudo: unable to resolve host .*\n?", re.MULTILINE)
_WANTS_PASSWORD = re.compile(r"password is required|no tty present|terminal is required to (read|auth)")
_WANTS_TERMINAL = re.compile(r"must have a tty")
_NOT_ALLOWED = re.compile(r"not in the sudoers file|is not allowed to|may not run sudo")
_NO_COMMAND = re.compile(r"sudo: (\S+: command not found)\n?")


def as_root(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line that runs ``argv`` as root, without ever asking for anything."""
    return (*_WORDS, *argv)


def as_without(status: int, stderr: str) -> tuple[int, str]:
    """Exit status and standard error as they would be without sudo in between."""
    own = _WARNING.sub("", stderr)
    missing = _NO_COMMAND.fullmatch(own) if status == _REFUSED else None
    return (127, f"{missing[1]}\n") if missing else (status, own)


def may_be_refusal(status: int, stderr: str) -> bool:
    """Whether a command may have ended like this because it was not begun."""
    return status in (_REFUSED, *_CANNOT_RUN) and ("sudo" in stderr or stderr.startswith("Sorry"))


def refusal(node: str, user: str, status: int, stderr: str) -> NodeError:
    """What it means that ``PROBE`` ended with this status and these words."""
    message, hint = _meaning(user, status, stderr)
    shown = " ".join(("sudo -n --", *PROBE))
    return NodeError(node, message, hint=hint, command=shown, status=status, stderr=stderr)


def _meaning(user: str, status: int, stderr: str) -> tuple[str, str]:
    rule = f"{user} ALL=(root) NOPASSWD: ALL"
    if status in _CANNOT_RUN:
        hint = "install it, or log in as root (ssh.user); where no sudo is needed: ssh.sudo: false"
        return f"{user} is not root there, and there is no sudo", hint
    if _WANTS_PASSWORD.search(stderr):
        return f"sudo wants a password from {user}", _add(rule)
    if _WANTS_TERMINAL.search(stderr):
        return f"sudo wants a terminal from {user} (requiretty)", _add(f"Defaults:{user} !requiretty")
    if _NOT_ALLOWED.search(stderr):
        return f"sudo does not let {user} run commands as root", _add(rule)
    said = (stderr.strip() or f"exit {status}, without a word").splitlines()[-1].removeprefix("sudo: ")
    return f"sudo does not work for {user}: {said}", "this must succeed there: sudo -n -- sh -c :"


def _add(line: str) -> str:
    return f"on the node, as root, `visudo -f /etc/sudoers.d/trscaler-gen` and write this line: {line}"
