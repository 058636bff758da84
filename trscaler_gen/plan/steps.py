"""What is to be done on one node, and what of it is touched."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from trscaler_gen.bundle import MANIFEST, SCRIPT, Bundle
from trscaler_gen.drift import drift_of
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.plan.model import FileChange, Seen, Step, StepAction, UnfitNode

RULESET = "ruleset.nft"
KEEPALIVED = "keepalived.conf"
_UNIT_SUFFIX = ".service"

_FRAME_WORDS = ("link", "device", "cluster MAC", "inner MAC", "MAC mode")


def member_step(
    node: str, bundle: Bundle, seen: Seen | NodeError | None, *, is_reinserted: bool = False
) -> Step:
    """Decide what becomes of a node of the inventory; ``is_reinserted``: see ``lineage.reinserted``."""
    if not isinstance(seen, Seen):
        return blocked_step(node, seen, bundle.generation)
    facts = seen.facts
    files = file_changes(bundle.files, seen)
    is_at_rest = facts.is_whole and facts.way_back != "stuck"
    is_as_wanted = facts.generation == bundle.generation and is_at_rest and not files
    stops_first = is_reinserted and facts.runs
    if is_as_wanted and not stops_first:
        return Step(node, StepAction.NONE, facts.generation, bundle.generation)
    action = StepAction.RESTART if stops_first else _action(facts, bundle, seen)
    step = Step(
        node,
        action,
        before=facts.running,
        after=bundle.generation,
        files=files,
        drift=drift_of(facts),
        stops_first=stops_first,
    )
    return replace(step, services=_services(bundle, seen, step))


def departed_step(node: str, seen: Seen, *, erased: bool) -> Step:
    """Stop a node that has left, and erase its traces; where nothing runs only the traces go."""
    facts = seen.facts
    stopped = ("keepalived says goodbye and stops", "ruleset and addresses go") if facts.runs else ()
    return Step(
        node,
        StepAction.STOP,
        before=facts.running,
        files=file_changes({}, seen) if erased else (),
        services=(*stopped, "its traces are erased" if erased else "its generations stay"),
        drift=drift_of(facts),
    )


def blocked_step(node: str, error: NodeError | None, after: str = "") -> Step:
    """Say that nothing can be done on a node: a command that answered means that it was reached."""
    problem = error or NodeError(node, "it was not asked")
    is_reached = isinstance(problem, UnfitNode) or problem.status is not None
    return Step(
        node, StepAction.UNFIT if is_reached else StepAction.UNREACHABLE, after=after, problem=problem
    )


def frame_of(script: bytes | None) -> tuple[str, ...]:
    """Read what cannot change under a running node from its script: link, device, MACs and mode."""
    match = re.search(rb"^FRAME='?([^'\n]*)'?$", script or b"", re.MULTILINE)
    return tuple(match[1].decode(errors="replace").split()) if match else ()


def frame_changes(bundle: Bundle, seen: Seen) -> tuple[tuple[str, str, str], ...]:
    """List what of the frame changes: what it is called, before, after."""
    before, after = frame_of(seen.files.get(SCRIPT)), frame_of(bundle.files.get(SCRIPT))
    if not before or not after:
        return ()
    pairs = zip(_FRAME_WORDS, before, after, strict=False)
    return tuple((word, old, new) for word, old, new in pairs if old != new)


def file_changes(wanted: Mapping[str, bytes], seen: Seen) -> tuple[FileChange, ...]:
    """Compare the files that lie on a node with the wanted ones; the manifest follows from the others."""
    there = seen.facts.digests
    names = sorted(({*wanted, *there, *seen.files}) - {MANIFEST})
    changes = (_file_change(name, wanted.get(name), there.get(name), seen.files.get(name)) for name in names)
    return tuple(change for change in changes if change is not None)


def _file_change(
    name: str, wanted: bytes | None, digest: str | None, found: bytes | None
) -> FileChange | None:
    if wanted is None:
        return FileChange(name, "delete", found or b"", b"")
    if digest is None and found is None:
        return FileChange(name, "create", b"", wanted)
    if found == wanted or (digest is not None and digest == hashlib.sha256(wanted).hexdigest()):
        return None
    return FileChange(name, "change", found or b"", wanted)


def _action(facts: Facts, bundle: Bundle, seen: Seen) -> StepAction:
    if not facts.runs:
        return StepAction.START
    # Without heartbeats a node holds no lease and answers nothing: nothing is lost when it begins anew.
    if facts.keepalived != "running" or frame_changes(bundle, seen):
        return StepAction.RESTART
    return StepAction.SWAP


def _services(bundle: Bundle, seen: Seen, step: Step) -> tuple[str, ...]:
    """Say what of the host is touched by a step."""
    if step.action is StepAction.START:
        return ("ruleset loaded, addresses up, keepalived started",)
    if step.action is StepAction.RESTART:
        return tuple(_restarted(seen.facts, frame_changes(bundle, seen), stops_first=step.stops_first))
    return tuple(_swapped(bundle, seen, {change.name for change in step.files}))


def _restarted(
    facts: Facts, changes: tuple[tuple[str, str, str], ...], *, stops_first: bool
) -> Iterator[str]:
    if stops_first:
        yield "removed and added again since: goes silent before the others change, starts after them"
    else:
        yield "taken down and up again"
    words = {word for word, _, _ in changes}
    if "link" in words or "device" in words:
        yield "macvlan made again on another link"
    elif "inner MAC" in words or "cluster MAC" in words:
        yield "macvlan made again: neighbours learn another MAC"
    if facts.keepalived != "running":
        yield "keepalived started"


def _swapped(bundle: Bundle, seen: Seen, names: set[str]) -> Iterator[str]:
    facts = seen.facts
    if RULESET in names or facts.ruleset != "intact":
        yield "ruleset swapped in place"
    before, after = (_addresses(files.get(SCRIPT)) for files in (seen.files, bundle.files))
    if before and before != after:
        signed = [*(f"-{each}" for each in before - after), *(f"+{each}" for each in after - before)]
        yield f"addresses {' '.join(sorted(signed))}"
    elif not facts.attached:
        yield "addresses and settings put right"
    if KEEPALIVED in names:
        yield "keepalived reloads"
    if facts.way_back == "stuck":
        yield "what could not be gone back to is left behind"
    if facts.units == "altered" or (
        facts.units != "none" and any(name.endswith(_UNIT_SUFFIX) for name in names)
    ):
        yield "systemd reloads its units"


def _addresses(script: bytes | None) -> frozenset[str]:
    match = re.search(rb"^ADDRESSES='?([^'\n]*)'?$", script or b"", re.MULTILINE)
    return frozenset(match[1].decode(errors="replace").split()) if match else frozenset()
