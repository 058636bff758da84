"""A cluster from one look to the next: what it looks like now, and what has happened in between. Pure.

A *sighting* is what is known of one node, a *picture* what all sightings of one moment say together, and a
*chronicle* tells the events between pictures. Nodes are not asked at the same instant: while leases end and
begin, some have heard of it and others have not. So a picture with trouble in it that the one before had not
(buckets without a single owner, nodes that disagree, one that is silent) is shown at once, but told of only
when the next one has the same, or when it was kept back MAX_HELD_BACK times. The next one is that for which
everybody has answered again: a slow node is waited for, unless it is known to be away.

What nobody could see is not told: where a node went away and came back between two looks, nothing happened.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from trscaler_gen.drift import drift_of
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.glance import Glance
from trscaler_gen.lock import Lock
from trscaler_gen.sight import hears
from trscaler_gen.verdict import Member, State, Verdict, judge, named

#: pictures that rates are kept of
HISTORY = 120
#: events that are kept
LOG = 1000
#: what a node said is worth nothing any more when its next answer is as late as this
TOO_LATE_S = 6.0
#: pictures in a row that may go untold while trouble takes its shape
MAX_HELD_BACK = 2


@dataclass(frozen=True)
class Sighting:
    """What is known of a node; all empty: it has not answered yet.

    ``glance`` and ``before`` are its last two quick looks, ``answers`` counts all of them, ``late_s`` is how
    long the next answer has been waited for (0: it is there). ``error`` says why nothing is known any more.
    """

    facts: Facts | None = None
    lock: Lock | None = None
    glance: Glance | None = None
    before: Glance | None = None
    late_s: float = 0.0
    answers: int = 0
    error: NodeError | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it has answered in time for this picture."""
        return self.facts is not None and self.late_s == 0.0


class NodeState(StrEnum):
    """How a node is, at a glance; the worst first."""

    LOST = "lost"  # it does not answer, and no other node hears it
    SILENT = "silent"  # it answers, and sends no heartbeats
    UNREACHABLE = "no answer"  # others hear it, or nobody could tell
    ASIDE = "aside"
    IDLE = "idle"
    DRAINED = "drained"
    LEFT = "left"
    ASKED = "asked"
    JOINING = "joining"  # it serves, and leaves old connections to their nodes
    SERVING = "serving"


SERVES = (NodeState.SERVING, NodeState.JOINING)
_TROUBLED = (NodeState.LOST, NodeState.SILENT, NodeState.UNREACHABLE)


@dataclass(frozen=True)
class NodePicture:
    """One node; what is None is not known.

    ``owned`` counts its buckets. ``age_ms`` is how long ago the peer that has waited longest heard it.
    ``accepted_pps`` and ``dropped_pps`` are packets a second between its last two looks.
    """

    name: str
    state: NodeState
    owned: int | None = None
    age_ms: int | None = None
    accepted_pps: float | None = None
    dropped_pps: float | None = None
    facts: Facts | None = None
    uptime_s: float | None = None
    counted: int | None = None
    answers: int = 0
    error: NodeError | None = None
    hosting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A cluster at one moment; ``at_s`` is seconds since 1970, ``lease_ms`` how long a silent peer counts."""

    at_s: float
    cluster: str
    nodes: tuple[NodePicture, ...]
    verdict: Verdict
    lease_ms: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every node has answered or failed to."""
        return not any(node.state is NodeState.ASKED for node in self.nodes)

    @property
    def trouble(self) -> frozenset[object]:
        """What is not as it should be, in a form to compare; leases that just end look like it at first."""
        found: set[object] = {(node.name, node.state) for node in self.nodes if node.state in _TROUBLED}
        if not self.verdict.all_owned_once:
            found.add("owners")
        return frozenset(found.union(self.verdict.disagreements))

    @property
    def accepted_pps(self) -> float:
        """Packets a second that all nodes have accepted, as far as that is known."""
        return sum(node.accepted_pps or 0.0 for node in self.nodes)

    @property
    def dropped_pps(self) -> float:
        """The same for dropped ones."""
        return sum(node.dropped_pps or 0.0 for node in self.nodes)

    def share_of(self, node: NodePicture) -> float | None:
        """A node's part of what all accept, from 0 to 1; None where nothing passes, or nobody knows."""
        total = self.accepted_pps
        return node.accepted_pps / total if total and node.accepted_pps is not None else None


# --- from sightings to a picture ---------------------------------------------------------------------------


def picture_of(
    at_s: float,
    cluster: str,
    nodes: Sequence[Member],
    sightings: Mapping[str, Sighting],
    remarks: Sequence[str] = (),
) -> Picture:
    """Judge what was seen; of ``nodes`` only what does not change is taken."""
    members = _members(nodes, sightings)
    verdict = judge(members)
    ages = _ages(members, sightings)
    locks = [member.lock for member in members if member.lock]
    return Picture(
        at_s=at_s,
        cluster=cluster,
        nodes=tuple(_node(member, members, sightings[member.name], verdict, ages) for member in members),
        verdict=verdict,
        lease_ms=locks[0].missed * locks[0].interval_ms + locks[0].interval_ms // 2 if locks else 0,
        remarks=tuple(remarks),
    )


def _members(nodes: Sequence[Member], sightings: Mapping[str, Sighting]) -> list[Member]:
    """The nodes with what they said. What a slow one said before still counts while somebody hears it."""
    members = [
        replace(node, facts=sightings[node.name].facts, lock=sightings[node.name].lock) for node in nodes
    ]
    fresh = [m for m in members if sightings[m.name].is_fresh]
    lost = {m.name for m in members if not _counts_still(m, sightings[m.name], fresh)}
    return [replace(m, facts=None, lock=None) if m.name in lost else m for m in members]


def _counts_still(member: Member, seen: Sighting, fresh: Sequence[Member]) -> bool:
    """Whether what a node said last is to be taken for true."""
    return seen.is_fresh or (seen.late_s <= TOO_LATE_S and (not fresh or bool(_hearers(member, fresh))))


def _hearers(member: Member, others: Iterable[Member]) -> list[str]:
    """Who holds a node for alive, or hears that it is drained."""
    found = []
    for by in others:
        if by.name == member.name or by.facts is None or by.lock is None:
            continue
        node_id = by.lock.ids.get(member.address, 0)
        if hears(by.facts, by.lock, member.address) or node_id in by.facts.peers_draining:
            found.append(by.name)
    return found


def _ages(members: Sequence[Member], sightings: Mapping[str, Sighting]) -> dict[str, int]:
    """How long ago each node was heard, by the peer that has waited longest."""
    ages: dict[str, int] = {}
    for by in members:
        glance = sightings[by.name].glance
        if by.facts is None or by.lock is None or glance is None or not sightings[by.name].is_fresh:
            continue
        for member in members:
            age = glance.ages_ms.get(by.lock.ids.get(member.address, 0))
            if age is not None and member.name != by.name:
                ages[member.name] = max(age, ages.get(member.name, 0))
    return ages


def _node(
    member: Member, members: Sequence[Member], seen: Sighting, verdict: Verdict, ages: Mapping[str, int]
) -> NodePicture:
    facts = member.facts
    error = seen.error
    if facts is None and error is None and seen.facts is not None:
        error = NodeError(member.name, "it has not answered in time")
    sight = verdict.sights.get(member.name)
    return NodePicture(
        name=member.name,
        state=_state(member, members, error),
        owned=verdict.owned.get(member.name),
        age_ms=ages.get(member.name),
        accepted_pps=_rate(seen, "accepted") if facts else None,
        dropped_pps=_rate(seen, "dropped") if facts else None,
        facts=facts,
        uptime_s=seen.glance.uptime_s if facts and seen.glance else None,
        counted=seen.glance.counted.get("accepted") if facts and seen.glance else None,
        answers=seen.answers,
        error=error,
        hosting=sight.hosting if sight else (),
    )


def _rate(seen: Sighting, counter: str) -> float | None:
    """Packets a second; None where the counter began again, as it does when rules are loaded anew."""
    if seen.glance is None or seen.before is None:
        return None
    packets = seen.glance.counted.get(counter, 0) - seen.before.counted.get(counter, 0)
    seconds = seen.glance.uptime_s - seen.before.uptime_s
    return packets / seconds if packets >= 0 and seconds > 0 else None


def _state(member: Member, members: Sequence[Member], error: NodeError | None) -> NodeState:
    facts = member.facts
    if facts is None:
        return _state_from_outside(member, members, error)
    if not facts.runs and facts.ruleset == "missing":
        return NodeState.LEFT if member.has_left else NodeState.IDLE
    if facts.fenced:
        return NodeState.ASIDE
    if facts.draining:
        return NodeState.DRAINED
    if facts.node_id not in facts.alive:
        return NodeState.SILENT
    return NodeState.JOINING if facts.joining else NodeState.SERVING


def _state_from_outside(member: Member, members: Sequence[Member], error: NodeError | None) -> NodeState:
    if error is None:
        return NodeState.ASKED
    if _hearers(member, members):
        return NodeState.UNREACHABLE
    if member.has_left:
        return NodeState.LEFT
    can_tell = any(m.facts and m.lock and member.address in m.lock.ids for m in members)
    return NodeState.LOST if can_tell else NodeState.UNREACHABLE


# --- from two pictures to events ---------------------------------------------------------------------------


class What(StrEnum):
    """What has happened."""

    BEGAN = "began"
    FOUND = "found"
    HEALTH = "health"
    LOST = "lost"
    BACK = "back"
    UNREACHABLE = "unreachable"
    REACHABLE = "reachable"
    STOPPED = "stopped"
    ASIDE = "aside"
    DRAINED = "drained"
    UNDRAINED = "undrained"
    TAKEOVER = "takeover"
    SWITCHED = "switched"
    SWAPPED = "swapped"
    RELOADED = "reloaded"
    REBOOTED = "rebooted"
    DRIFT = "drift"
    MENDED = "mended"
    DISAGREEMENT = "disagreement"
    AGREEMENT = "agreement"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"


#: what an operator is woken for
ALARMING = frozenset(
    {What.LOST, What.UNREACHABLE, What.ASIDE, What.DRIFT, What.DISAGREEMENT, What.FOUND, What.STOPPED}
)


@dataclass(frozen=True)
class Event:
    """Something that has happened; ``node`` is empty where it is the whole cluster's.

    ``buckets`` counts, by node, those that changed hands in a takeover. ``is_bad``: somebody has to look.
    """

    at_s: float
    cluster: str
    what: What
    node: str
    text: str
    buckets: Mapping[str, int] = field(default_factory=dict)
    is_bad: bool = False


@dataclass
class Chronicle:
    """What has been told of a cluster so far, and the rates of its last pictures."""

    rates: deque[dict[str, float | None]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    log: deque[Event] = field(default_factory=lambda: deque(maxlen=LOG))
    told: Picture | None = None
    _owners: dict[int, str] = field(default_factory=dict)
    _trouble: frozenset[object] = frozenset()
    _held_back: int = 0
    _answers: dict[str, int] = field(default_factory=dict)

    def advance(self, picture: Picture) -> tuple[Event, ...]:
        """Take the next picture; answers what has happened since the last one that was told of."""
        self.rates.append({node.name: node.accepted_pps for node in picture.nodes})
        if not picture.is_complete or self._is_waiting(picture):
            return ()
        self._answers = {node.name: node.answers for node in picture.nodes}
        if self._is_new_trouble(picture):
            self._held_back += 1
            return ()
        self._held_back = 0
        events = tuple(self._events(picture))
        self.told = picture
        self.log.extend(events)
        return events

    def _is_waiting(self, picture: Picture) -> bool:
        """Whether somebody who is there has not answered since the picture before."""
        return any(n.facts and n.answers == self._answers.get(n.name) for n in picture.nodes)

    def _is_new_trouble(self, picture: Picture) -> bool:
        before, self._trouble = self._trouble, picture.trouble
        is_known = not picture.trouble - before
        return self.told is not None and not is_known and self._held_back < MAX_HELD_BACK

    def _events(self, picture: Picture) -> Iterator[Event]:
        if self.told is None:
            yield from _first(picture)
        else:
            yield from happened(self.told, picture)
            if _is_comparable(self.told, picture):
                yield from _takeovers(picture, self._moves(picture))
            else:
                self._owners.clear()
            yield from _health(self.told, picture)
        self._owners |= owners_of(picture.verdict)

    def _moves(self, picture: Picture) -> Counter[tuple[str, str]]:
        """How many buckets went from whom to whom, since each was last known to have one owner."""
        now = owners_of(picture.verdict)
        return Counter(
            (self._owners[bucket], owner)
            for bucket, owner in now.items()
            if bucket in self._owners and self._owners[bucket] != owner
        )


def owners_of(verdict: Verdict) -> dict[int, str]:
    """The buckets that exactly one node accepts, with its name."""
    counts = Counter(bucket for buckets in verdict.accepted.values() for bucket in buckets)
    return {
        bucket: name
        for name, buckets in verdict.accepted.items()
        for bucket in buckets
        if counts[bucket] == 1
    }


def _is_comparable(before: Picture, after: Picture) -> bool:
    """Whether a bucket's number means the same in both, and on all nodes."""
    epochs = {n.facts.epoch for p in (before, after) for n in p.nodes if n.facts and n.facts.runs}
    return before.verdict.buckets == after.verdict.buckets and len(epochs) <= 1


def happened(before: Picture, after: Picture) -> Iterator[Event]:
    """Tell what is different with nodes, or between them; takeovers apart."""
    nodes = {node.name: node for node in before.nodes}
    for node in after.nodes:
        was = nodes.get(node.name)
        if was is None:
            continue
        for what, text in (*_changed_state(was, node), *_changed_facts(was, node)):
            yield Event(after.at_s, after.cluster, what, node.name, text, is_bad=what in ALARMING)
    yield from _deployments(before, after)
    yield from _switched(before, after)
    yield from _disagreements(before, after)


def _changed_state(was: NodePicture, now: NodePicture) -> Iterator[tuple[What, str]]:
    if was.state is now.state:
        return
    match now.state:
        case NodeState.LOST:
            yield What.LOST, f"no other node hears it, and it does not answer{_because(now)}"
        case NodeState.SILENT:
            assert now.facts is not None
            yield What.LOST, f"sends no heartbeats (keepalived says {now.facts.heartbeat or 'nothing'})"
        case NodeState.UNREACHABLE:
            yield What.UNREACHABLE, f"does not answer{_because(now)}"
        case NodeState.ASIDE:
            yield What.ASIDE, "stands aside: its peers have a newer epoch or newer tables"
        case NodeState.IDLE | NodeState.LEFT:
            if was.state in (*SERVES, NodeState.DRAINED):
                yield What.STOPPED, "runs nothing any more"
        case NodeState.DRAINED:
            yield What.DRAINED, _drained(now)
        case NodeState.SERVING | NodeState.JOINING:
            yield from _serves(was)


def _serves(was: NodePicture) -> Iterator[tuple[What, str]]:
    if was.state is NodeState.UNREACHABLE:
        yield What.REACHABLE, "answers again"
    elif was.state is NodeState.DRAINED:
        yield What.UNDRAINED, "takes new connections again"
    elif was.state not in SERVES:
        yield What.BACK, "serves"


def _because(node: NodePicture) -> str:
    return f": {node.error.message}" if node.error else ""


def _drained(node: NodePicture) -> str:
    held = node.facts.held if node.facts else -1
    holds = "no connection is" if held == 0 else "1 connection is" if held == 1 else f"{held} connections are"
    return f"takes no new connections{f'; {holds} here' if held >= 0 else ''}"


def _changed_facts(was: NodePicture, now: NodePicture) -> Iterator[tuple[What, str]]:
    if was.facts is None or now.facts is None:
        return
    has_rebooted = None not in (was.uptime_s, now.uptime_s) and (now.uptime_s or 0) < (was.uptime_s or 0)
    if has_rebooted:
        yield What.REBOOTED, "the host has rebooted"
    if was.facts.loaded != now.facts.loaded and now.facts.loaded:
        yield What.SWAPPED, _swapped(was.facts, now.facts)
    elif not has_rebooted and _began_again(was, now):
        yield What.RELOADED, "its rules were loaded anew: its counters begin again"
    yield from _drift(was.facts, now.facts)


def _began_again(was: NodePicture, now: NodePicture) -> bool:
    if was.counted is None or now.counted is None:
        return False
    return bool(now.facts and now.facts.loaded) and now.counted < was.counted


def _swapped(was: Facts, now: Facts) -> str:
    if not was.loaded:
        return f"runs generation {now.loaded}, serial {now.serial}"
    serial = f", serial {was.serial} -> {now.serial}" if was.serial != now.serial else ""
    epoch = f", epoch {was.epoch} -> {now.epoch}" if was.epoch != now.epoch else ""
    return f"ruleset of generation {was.loaded} -> {now.loaded}{serial}{epoch}"


def _drift(was: Facts, now: Facts) -> Iterator[tuple[What, str]]:
    before, after = drift_of(was), drift_of(now)
    for text in after:
        if text not in before:
            yield What.DRIFT, text
    for text in before:
        if text not in after:
            yield What.MENDED, f"no more: {text}"


def _deployments(before: Picture, after: Picture) -> Iterator[Event]:
    """A deployer takes nodes and lets go of them together: one event names them all."""
    was = {node.name: node.facts.deployer for node in before.nodes if node.facts}
    found: dict[tuple[What, str], list[str]] = {}
    for node in after.nodes:
        old, new = was.get(node.name), node.facts.deployer if node.facts else None
        if old is None or new is None or old == new:
            continue
        if old:
            found.setdefault((What.DEPLOYED, f"{old} has let go"), []).append(node.name)
        if new:
            found.setdefault((What.DEPLOYING, f"{new} deploys"), []).append(node.name)
    for (what, text), names in found.items():
        yield Event(after.at_s, after.cluster, what, "", f"{named(names)}: {text}")


def _switched(before: Picture, after: Picture) -> Iterator[Event]:
    """Nodes go over to a placement together: one event names them all."""
    was = {node.name: node.facts.placement for node in before.nodes if node.facts}
    names = [
        node.name
        for node in after.nodes
        if node.facts and node.facts.placement == "after" and was.get(node.name) == "before"
    ]
    if names:
        text = f"{named(names)}: went over to the newer placement"
        yield Event(after.at_s, after.cluster, What.SWITCHED, "", text)


def _disagreements(before: Picture, after: Picture) -> Iterator[Event]:
    was, now = before.verdict.disagreements, after.verdict.disagreements
    for text in now:
        if text not in was:
            yield Event(after.at_s, after.cluster, What.DISAGREEMENT, "", text, is_bad=True)
    for text in was:
        if text not in now:
            yield Event(after.at_s, after.cluster, What.AGREEMENT, "", f"no more: {text}")


def _takeovers(picture: Picture, moves: Mapping[tuple[str, str], int]) -> Iterator[Event]:
    """One event for each node that buckets were taken from; one for each that got them from living ones."""
    states = {node.name: node.state for node in picture.nodes}
    given: dict[str, Counter[str]] = {}
    got: dict[str, Counter[str]] = {}
    for (source, target), count in moves.items():
        if states.get(source) in SERVES:
            got.setdefault(target, Counter())[source] += count
        else:
            given.setdefault(source, Counter())[target] += count
    for source, takers in given.items():
        text = f"its {_share(takers, picture)} went to {_counts(takers)}"
        yield Event(picture.at_s, picture.cluster, What.TAKEOVER, source, text, dict(takers))
    for target, givers in got.items():
        text = f"took over {_share(givers, picture)} from {_counts(givers)}"
        yield Event(picture.at_s, picture.cluster, What.TAKEOVER, target, text, {target: givers.total()})


def _share(counts: Counter[str], picture: Picture) -> str:
    total = counts.total()
    return f"{total} bucket{'s' if total != 1 else ''} ({100 * total / picture.verdict.buckets:.3g} %)"


def _counts(counts: Counter[str]) -> str:
    return named([f"{name} ({count})" for name, count in counts.items()])


def headline(picture: Picture) -> str:
    """How a cluster is, in one sentence."""
    if not picture.is_complete:
        waiting = sum(node.state is NodeState.ASKED for node in picture.nodes)
        return f"asking: {len(picture.nodes) - waiting} of {len(picture.nodes)} nodes have answered"
    words = {State.HEALTHY: "healthy", State.DEGRADED: "degraded", State.UNKNOWN: "could not tell"}
    verdict = picture.verdict
    if not verdict.buckets:
        return f"{words[verdict.state]}: no node is known to run anything"
    return f"{words[verdict.state]}: {verdict.one} of {verdict.buckets} buckets have exactly one owner"


def _health(before: Picture, after: Picture) -> Iterator[Event]:
    if headline(before) != headline(after):
        is_bad = after.verdict.state is not State.HEALTHY
        yield Event(after.at_s, after.cluster, What.HEALTH, "", headline(after), is_bad=is_bad)


def _first(picture: Picture) -> Iterator[Event]:
    """What is found when somebody begins to watch."""
    text = f"{len(picture.nodes)} nodes, {headline(picture)}"
    is_bad = picture.verdict.state is not State.HEALTHY
    yield Event(picture.at_s, picture.cluster, What.BEGAN, "", text, is_bad=is_bad)
    for text in (*picture.verdict.faults, *picture.verdict.doubts):
        yield Event(picture.at_s, picture.cluster, What.FOUND, "", text, is_bad=True)
    for text in picture.verdict.notes:
        yield Event(picture.at_s, picture.cluster, What.FOUND, "", text)
