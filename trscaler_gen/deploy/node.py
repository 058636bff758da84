"""What is done on one node: observe, stage, and the verbs of its node.sh."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trscaler_gen.bundle import Bundle
from trscaler_gen.deploy.preflight import TOOLS
from trscaler_gen.deploy.scripts import script
from trscaler_gen.deploy.unpack import contents, opened
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import ROOT, RUNTIME, Facts, parse_facts

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Completed, Connection

_OBSERVE_TIMEOUT_S = 30.0
_STAGE_TIMEOUT_S = 120.0
#: node.sh's answer when no change is open under the token (EX_NOINPUT)
_NOTHING_OPEN = 66
_REVERT_TIMEOUT_S = 180.0  # it waits 20 s for its lock, and 80 s and more for what ran before
_VERB_TIMEOUT_S = 90.0  # `await` waits up to 50 s for the first heartbeat


def observe(
    node: str,
    connection: Connection,
    *,
    cluster: str,
    link: str = "lo",
    generation: str = "",
    tools: tuple[str, ...] = TOOLS,
) -> Facts:
    """Read a node's facts with one command; raises NodeError if it cannot tell what runs there.

    Who asks again needs no ``tools``: what the host can do, and which versions it has, is left out then.
    """
    argv = ("sh", "-c", script("observe.sh"), "sh", f"{ROOT}/{cluster}", link, generation, *tools)
    done = connection.run(argv, timeout_s=_OBSERVE_TIMEOUT_S)
    try:
        return parse_facts(done.stdout)
    except ValueError as error:
        hint = f"run it on the node: sh {ROOT}/{cluster}/current/node.sh state"
        message = f"cannot tell what runs there: {error}"
        raise _failure(node, message, hint, "read the node's facts", done) from error


def stage(node: str, connection: Connection, bundle: Bundle) -> None:
    """Put a bundle beside the node's generations, whole or not at all; raises NodeError."""
    base = f"{ROOT}/{bundle.cluster}/generations"
    argv = ("sh", "-c", script("stage.sh"), "sh", base, bundle.generation)
    done = connection.run(argv, stdin=archive(bundle), timeout_s=_STAGE_TIMEOUT_S)
    if done.status != 0:
        message = f"generation {bundle.generation} could not be put there: {_lines(done)[0]}"
        hint = f"what runs there was not touched; is there room (df -h {ROOT}; df -i {ROOT})?"
        raise _failure(node, message, hint, "unpack and verify the generation", done)


def archive(bundle: Bundle) -> bytes:
    """The bundle as a tar archive: same bundle, same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(bundle.files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), bundle.mode(name)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def call(node: str, connection: Connection, script: str, verb: str, *words: str) -> str:
    """Run a verb of the node.sh at ``script`` and answer its last line; raises NodeError if it fails."""
    done = connection.run(("sh", script, verb, *words), timeout_s=_VERB_TIMEOUT_S)
    _expect_success(node, done, verb)
    return done.stdout.strip().rpartition("\n")[2].partition(": ")[2]


def give_time_to_serve(connection: Connection, script: str) -> None:
    """Wait until a node serves, for as long as it says itself that this may take.

    Whether it does is for others to ask: a script of an earlier release knows no such verb, and has waited.
    """
    connection.run(("sh", script, "await"), timeout_s=_VERB_TIMEOUT_S)


def revert(node: str, connection: Connection, script: str, token: str) -> bool:
    """Send a node back; answers whether there was anything to go back from. Raises NodeError if it fails."""
    done = connection.run(("sh", script, "revert", token), timeout_s=_REVERT_TIMEOUT_S)
    if done.status == _NOTHING_OPEN:
        return False
    _expect_success(node, done, "revert")
    return True


def wipe(node: str, connection: Connection, cluster: str) -> None:
    """Remove what a change that was never made has left on a node without a generation; raises NodeError."""
    argv = ("rm", "-rf", "--", f"{ROOT}/{cluster}", f"{RUNTIME}/{cluster}")
    done = connection.run(argv, timeout_s=_VERB_TIMEOUT_S)
    if done.status != 0:
        raise _failure(node, f"its files could not be removed: {_lines(done)[0]}", "", "rm", done)


def read_files(
    node: str, connection: Connection, cluster: str, generation: str, names: Iterable[str]
) -> dict[str, bytes]:
    """Read files of a generation that lies on the node; those that are gone are left out."""
    wanted = tuple(names)
    if not wanted:
        return {}
    folder = f"{ROOT}/{cluster}/generations/{generation}"
    argv = ("sh", "-c", 'cd "$1" && shift && tar -cf - -- "$@"', "sh", folder, *wanted)
    archived = connection.fetch(argv, timeout_s=_STAGE_TIMEOUT_S)
    try:
        with opened(archived) as tar:
            return dict(contents(tar))
    except tarfile.TarError as error:
        hint = f"look at it on the node: ls -l {folder}"
        raise NodeError(node, f"its files came damaged: {error}", hint=hint) from error


def _expect_success(node: str, done: Completed, verb: str) -> None:
    if done.status != 0:
        raise _failure(node, f"{verb} failed: {_lines(done)[-1]}", "", f"node.sh {verb}", done)


def _lines(done: Completed) -> list[str]:
    """What a command said, errors before all else; at least one line."""
    said = done.stderr.strip() or done.stdout.strip()
    return said.splitlines() or [f"exit {done.status}, without a word"]


def _failure(node: str, message: str, hint: str, command: str, done: Completed) -> NodeError:
    return NodeError(
        node, message, hint=hint, command=command, status=done.status, stderr=done.stderr or done.stdout
    )
