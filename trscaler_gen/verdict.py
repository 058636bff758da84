"""Which node answers for which bucket now, told from what every node says of itself. Pure.

Each node decides alone: it accepts a bucket if it is itself the first node of the bucket's order, in the
tables that it runs, that is in its own ``alive`` set. So the owners of every bucket can be counted from all
nodes' tables and sets, and where a bucket has none or two, the nodes that differ can be named.

What a node accepts cannot be told where it could not be asked but is heard, where its ruleset is not what was
applied, or where the tables that it runs could not be read. Such a node is taken to see its peers as they are
seen by the others: what would be its own then is unknown; where another accepts that already, too.
A node that could not be asked, and that nobody hears who should, counts as dead.

A drained node is none of the faults: it takes no new connections because somebody has told it to. It owns no
bucket, and its peers have to hear that it drains, or they would answer for the connections that it holds.

A node that others' tables know and that is not among those given counts as one that could not be asked.

Nodes of different seeds, inputs or numbers of buckets do not mean the same packets by a bucket. Buckets are
then those of the largest group, and one counts as having two owners, or none, if this is true for some of its
packets.

A fault that is certain outweighs a doubt: a cluster with one is degraded, whatever else could not be told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from ipaddress import IPv4Address

from trscaler_gen.drift import drift_of
from trscaler_gen.facts import Facts, deploying
from trscaler_gen.lock import Lock
from trscaler_gen.placement import Order, owners
from trscaler_gen.sight import hears

#: how many nodes a sentence names before it counts the others
MAX_NAMED = 6
#: from this share on a connection table is told to be full
_FULL = 0.9


class State(IntEnum):
    """How a cluster is; the number is the exit status of ``status``."""

    HEALTHY = 0
    UNKNOWN = 1
    DEGRADED = 2


@dataclass(frozen=True)
class Member:
    """A node, and what it said; ``facts`` is None if it could not be asked.

    ``lock`` is the one that it runs: None if it runs nothing, or if that could not be read. ``wanted`` is the
    generation that the inventory wants there (empty: none, or not known).
    """

    name: str
    address: IPv4Address
    facts: Facts | None
    lock: Lock | None = None
    wanted: str = ""
    has_left: bool = False


@dataclass(frozen=True)
class Sight:
    """The other nodes of a node's own tables: those that it holds for alive, those that it does not hear.

    ``draining`` are those that it hears to be drained, ``hosting`` those whose connections it may hold.
    """

    alive: tuple[str, ...]
    missing: tuple[str, ...]
    draining: tuple[str, ...] = ()
    hosting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Who owns what, and why not everything is owned once.

    ``buckets`` counts all, ``one`` those with exactly one owner; ``none`` and ``unknown`` list buckets, as
    does ``several``, by their owners' names. ``owned`` counts every node's buckets, None where that cannot be
    told. ``faults`` and ``doubts`` are sentences that name nodes; ``notes`` are what an operator should know
    of a cluster that is well. ``ill`` are the nodes with a fault or a doubt of their own, and what it is;
    ``disagreements`` those of the faults that lie between nodes. ``accepted`` are the buckets of the nodes of
    which that can be told.
    """

    state: State
    buckets: int
    one: int
    none: tuple[int, ...] = ()
    several: Mapping[tuple[str, ...], tuple[int, ...]] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()
    owned: Mapping[str, int | None] = field(default_factory=dict)
    sights: Mapping[str, Sight] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ill: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    disagreements: tuple[str, ...] = ()
    accepted: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def all_owned_once(self) -> bool:
        """Whether every bucket has exactly one owner."""
        return self.one == self.buckets > 0


def judge(members: Sequence[Member]) -> Verdict:
    """Count every bucket's owners and say what is wrong; linear in buckets and nodes."""
    scene = _Scene(_with_orders_in_use(members))
    count = _count(scene)
    members = scene.members
    disagreements = (*_differences(scene), *_deafness(scene), *_deaf_to_draining(scene))
    faults = (*_grouped(members, scene.faults_of), *disagreements)
    doubts = _grouped(members, scene.doubts_of)
    own = {member.name: (*scene.faults_of(member), *scene.doubts_of(member)) for member in members}
    is_certain = bool(faults or count.none or count.several)
    is_doubtful = bool(doubts or count.unknown or not count.buckets)
    return Verdict(
        state=State.DEGRADED if is_certain else State.UNKNOWN if is_doubtful else State.HEALTHY,
        buckets=count.buckets,
        one=count.one,
        none=tuple(count.none),
        several={names: tuple(buckets) for names, buckets in count.several.items()},
        unknown=tuple(count.unknown),
        owned={member.name: scene.owned_by(member) for member in members},
        sights={member.name: scene.sight(member) for member in members if member.lock and member.facts},
        faults=faults,
        doubts=doubts,
        notes=_grouped(members, scene.notes_of),
        ill={name: texts for name, texts in own.items() if texts},
        disagreements=disagreements,
        accepted={member.name: scene.accepted[member.name] for member in members},
    )


def using(members: Sequence[Member]) -> tuple[tuple[Member, bool | None], ...]:
    """Every node with those orders alone that it uses, and whether it accepts what they give it.

    None: that cannot be told. Nodes that others' tables know, and that are not among those given, are added.
    """
    scene = _Scene(_with_orders_in_use(members))
    accepts = {_Answers.BY_TABLES: True, _Answers.NOTHING: False, _Answers.UNKNOWN: None}
    return tuple((member, accepts[scene.answers[member.name]]) for member in scene.members)


def named(names: Iterable[str]) -> str:
    """Names for a sentence: the first few, and how many more."""
    every = list(names)
    more = len(every) - MAX_NAMED
    return ", ".join(every) if more <= 1 else f"{', '.join(every[:MAX_NAMED])} and {more} more"


# --- what every node accepts ---------------------------------------------------------------------------


class _Answers(Enum):
    """How much of what a node accepts can be told."""

    NOTHING = "nothing"
    BY_TABLES = "by its tables"
    UNKNOWN = "unknown"


class _Scene:
    """All nodes of one cluster, and what follows from each one's own state."""

    def __init__(self, members: Sequence[Member]) -> None:
        members = _sharing_locks(members)
        self.members = members = [*members, *_strangers(members)]
        #: the nodes that have rules, and tables that could be read
        self.running = [m for m in members if m.facts and m.lock and m.facts.ruleset != "missing"]
        self.witnesses = {m.name: self._witnesses(m) for m in members if m.facts is None}
        self.hearers = {
            m.name: [by.name for by in self.running if by.name != m.name and self.hears(by, m)]
            for m in members
            if m.facts is None
        }
        self.drain_hearers = {
            m.name: [by.name for by in self.running if by.name != m.name and self.hears_draining(by, m)]
            for m in members
            if m.facts is None
        }
        self.answers = {m.name: self._answers(m) for m in members}
        self.accepted = _accepted([m for m in members if self.answers[m.name] is _Answers.BY_TABLES])

    def id_of(self, member: Member, by: Member) -> int:
        """What ``by``'s tables call a node; 0: they do not know it."""
        return by.lock.ids.get(member.address, 0) if by.lock else 0

    def hears(self, by: Member, member: Member) -> bool:
        """Whether ``by`` holds a node for alive."""
        return by.facts is not None and by.lock is not None and hears(by.facts, by.lock, member.address)

    def hears_draining(self, by: Member, member: Member) -> bool:
        """Whether ``by`` hears that a node is drained."""
        return by.facts is not None and self.id_of(member, by) in by.facts.peers_draining

    def _witnesses(self, member: Member) -> list[Member]:
        """Who can tell that a node is silent: not a fenced one, which may stand aside for this very node."""
        others = (w for w in self.running if w.name != member.name and w.facts and not w.facts.fenced)
        return [w for w in others if self.id_of(member, w)]

    def _answers(self, member: Member) -> _Answers:
        facts = member.facts
        if facts is None:
            is_dead = not self.hearers[member.name] and bool(self.witnesses[member.name])
            return _Answers.NOTHING if is_dead else _Answers.UNKNOWN
        if facts.ruleset == "missing":
            return _Answers.NOTHING
        if facts.ruleset != "intact" or _is_mute(facts):
            return _Answers.UNKNOWN
        if not facts.attached or facts.node_id not in facts.alive:
            return _Answers.NOTHING
        return _Answers.BY_TABLES if member.lock else _Answers.UNKNOWN

    @property
    def unknown(self) -> list[Member]:
        """The nodes of which it cannot be told what they accept."""
        return [m for m in self.members if self.answers[m.name] is _Answers.UNKNOWN]

    def accepting(self, condition: Callable[[Lock], bool]) -> tuple[str, ...]:
        """Nodes that accept anything, and whose lock is such."""
        return tuple(m.name for m in self.members if m.lock and self.accepted[m.name] and condition(m.lock))

    def owned_by(self, member: Member) -> int | None:
        """How many buckets a node accepts; None: it cannot be told."""
        return None if self.answers[member.name] is _Answers.UNKNOWN else len(self.accepted[member.name])

    def sight(self, member: Member) -> Sight:
        """Whom a node sees of those that its tables know."""
        assert member.lock is not None and member.facts is not None
        alive = member.facts.alive
        names = {m.address: m.name for m in self.members}
        draining = member.facts.peers_draining - alive
        others = {n.node_id: names.get(n.address, n.name) for n in member.lock.nodes}
        others.pop(member.facts.node_id, None)
        hosting = member.facts.hosting
        return Sight(
            tuple(name for node_id, name in others.items() if node_id in alive),
            tuple(name for node_id, name in others.items() if node_id not in alive | draining),
            tuple(name for node_id, name in others.items() if node_id in draining),
            tuple(name for node_id, name in others.items() if node_id in hosting),
        )

    def faults_of(self, member: Member) -> Iterator[str]:
        """What is wrong with a node for certain."""
        facts = member.facts
        if member.has_left:
            return
        if facts is None:
            if self.answers[member.name] is _Answers.NOTHING and not self.drain_hearers[member.name]:
                yield "could not be asked, and no other node hears it"
        elif not facts.runs and facts.ruleset == "missing":
            if self.is_expected(member):
                yield "runs nothing"
        else:
            yield from _troubles(facts)

    def is_expected(self, member: Member) -> bool:
        """Whether a node should run: the others' tables know it, or nobody runs anything yet."""
        return not self.running or any(self.id_of(member, by) for by in self.running)

    def doubts_of(self, member: Member) -> Iterator[str]:
        """Why it cannot be told what a node accepts, where that is no fault."""
        facts = member.facts
        if facts is None:
            if self.hearers[member.name]:
                yield f"could not be asked, but is heard by {named(self.hearers[member.name])}"
            elif self.drain_hearers[member.name]:
                ears = named(self.drain_hearers[member.name])
                yield f"could not be asked, but is heard by {ears}, as a drained node"
            elif not self.witnesses[member.name] and not member.has_left:
                yield "could not be asked, and no node could tell whether it lives"
        elif _is_mute(facts):
            yield "runs files of an earlier release that do not say whom it sees: apply"
        elif facts.ruleset == "intact" and facts.node_id in facts.alive and member.lock is None:
            yield "the lock of what it runs could not be read"
        elif member.has_left and self.answers[member.name] is _Answers.UNKNOWN:
            yield f"has left the inventory; its ruleset is {facts.ruleset}"

    def notes_of(self, member: Member) -> Iterator[str]:
        """What an operator should know of a node that does no harm."""
        facts = member.facts
        if member.has_left:
            yield _departure(member, self.hearers.get(member.name, []))
        if facts is None:
            return
        if (
            not facts.runs
            and not member.has_left
            and facts.ruleset == "missing"
            and not self.is_expected(member)
        ):
            yield "in the inventory, but not applied yet"
        elif facts.runs and member.wanted and facts.generation != member.wanted:
            yield "another generation is wanted there"
        if facts.way_back == "returning":
            yield "is going back to what it ran before"
        elif facts.unconfirmed and facts.way_back != "stuck":
            yield "goes back to what it ran before, unless its change is confirmed in time"
        if facts.deployer:
            yield deploying(facts.deployer, facts.since)
        if facts.draining:
            yield _drained(facts)
        if facts.most_tracked and facts.tracked >= _FULL * facts.most_tracked:
            yield (
                f"its connection table is nearly full ({facts.tracked} of {facts.most_tracked} entries): "
                "raise net.netfilter.nf_conntrack_max there"
            )


def _with_orders_in_use(members: Iterable[Member]) -> list[Member]:
    """Of a lock that holds two placements, only the one that the node uses counts."""
    return [
        replace(m, lock=m.lock.with_orders(_orders_in_use(m.lock, m.facts)))
        if m.lock and m.lock.before and m.facts
        else m
        for m in members
    ]


def _orders_in_use(lock: Lock, facts: Facts) -> tuple[Order, ...]:
    return lock.before if facts.placement == "before" else lock.orders


def _sharing_locks(members: Iterable[Member]) -> list[Member]:
    """Give equal locks one identity, by which they are told apart from here on."""
    known: list[Lock] = []
    shared = []
    for member in members:
        lock = next((lock for lock in known if lock is member.lock or lock == member.lock), member.lock)
        if lock is not None and not any(lock is one for one in known):
            known.append(lock)
        shared.append(member if lock is member.lock else replace(member, lock=lock))
    return shared


def _strangers(members: Sequence[Member]) -> list[Member]:
    """Nodes that somebody's tables know, and nobody has asked."""
    known, names = {m.address for m in members}, {m.name for m in members}
    found: dict[IPv4Address, str] = {}
    for lock in {id(m.lock): m.lock for m in members if m.lock and m.facts and m.facts.runs}.values():
        found |= {node.address: node.name for node in lock.nodes if node.address not in known}
    return [
        Member(f"{name}@{address}" if name in names else name, address, None, has_left=True)
        for address, name in found.items()
    ]


def _is_mute(facts: Facts) -> bool:
    return facts.serving and facts.node_id == 0


def _departure(member: Member, hearers: Sequence[str]) -> str:
    if member.facts is not None:
        stops = "still runs, and waits to be stopped: apply" if member.facts.runs else "runs nothing any more"
        return f"has left the inventory; {stops}"
    if hearers:
        return "has left the inventory, but was not stopped"
    return "has left the inventory and could not be asked: power it off for good, then apply with --forget"


def _drained(facts: Facts) -> str:
    """What it still has to do, and whether it could come back."""
    holds = "holds no connection" if facts.held == 0 else "holds connections, nobody knows how many"
    if facts.held > 0:
        holds = f"still holds {facts.held} connection{'s' if facts.held != 1 else ''}"
    is_ready = facts.heartbeat == "MASTER" or not facts.runs
    end = "" if is_ready else f"; keepalived says {facts.heartbeat or 'nothing'}, so it could not serve now"
    return f"drained: takes no new connections, and {holds}{end}"


def _troubles(facts: Facts) -> Iterator[str]:
    """What is not as it should be on a node that runs."""
    should_send = facts.keepalived == "running" and facts.ruleset != "missing" and not _is_mute(facts)
    if facts.fenced:
        yield "stands aside, for its peers have a newer epoch or newer tables"
    elif should_send and facts.node_id not in facts.alive and not facts.draining:
        yield f"sends no heartbeats (keepalived says {facts.heartbeat or 'nothing'})"
    yield from drift_of(facts)


def _grouped(members: Iterable[Member], texts_of: Callable[[Member], Iterable[str]]) -> tuple[str, ...]:
    """One sentence per text, with the names of all nodes that it is true of."""
    names: dict[str, list[str]] = {}
    for member in members:
        for text in texts_of(member):
            names.setdefault(text, []).append(member.name)
    return tuple(f"{named(nodes)}: {text}" for text, nodes in names.items())


# --- buckets ---------------------------------------------------------------------------------------------


def _accepted(members: Iterable[Member]) -> Mapping[str, Sequence[int]]:
    """The buckets that every node accepts, by name; those that are not named accept none."""
    by_sight: dict[tuple[int, frozenset[int]], Mapping[int | None, list[int]]] = {}
    found: defaultdict[str, Sequence[int]] = defaultdict(tuple)
    for member in members:
        assert member.lock is not None and member.facts is not None
        key = (id(member.lock), member.facts.alive)
        if key not in by_sight:
            by_sight[key] = _by_owner(owners(member.lock.placement, member.facts.alive))
        found[member.name] = by_sight[key].get(member.facts.node_id, ())
    return found


def _by_owner(first: Sequence[int | None]) -> Mapping[int | None, list[int]]:
    buckets: dict[int | None, list[int]] = {}
    for bucket, owner in enumerate(first):
        buckets.setdefault(owner, []).append(bucket)
    return buckets


@dataclass
class _Count:
    """Buckets by the number of their owners."""

    buckets: int = 0
    one: int = 0
    none: list[int] = field(default_factory=list)
    several: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)


def _count(scene: _Scene) -> _Count:
    reference = _reference(scene)
    if reference is None:
        return _Count()
    count = _Count(buckets=reference.buckets)
    foreign = scene.accepting(lambda lock: lock.hashing != reference.hashing)
    least, most = _owners_anywhere(scene, foreign)
    doubtful = _doubtful(scene, reference)
    for bucket, names in enumerate(_owner_names(scene, reference)):
        if len(names) + most > 1:
            count.several.setdefault((*names, *foreign), []).append(bucket)
        elif bucket in doubtful:
            count.unknown.append(bucket)
        elif len(names) + least == 1:
            count.one += 1
        else:
            count.none.append(bucket)
    return count


def _reference(scene: _Scene) -> Lock | None:
    """The lock that most nodes run, of those whose hashing most nodes share; None if none is known."""
    locks = [m.lock for m in scene.running if m.lock] or [m.lock for m in scene.members if m.lock]
    if not locks:
        return None
    hashing = Counter(lock.hashing for lock in locks).most_common(1)[0][0]
    by_id = {id(lock): lock for lock in locks}
    commonest = Counter(id(lock) for lock in locks if lock.hashing == hashing).most_common(1)[0][0]
    return by_id[commonest]


def _owner_names(scene: _Scene, reference: Lock) -> list[tuple[str, ...]]:
    """Who accepts every bucket, of the nodes that hash as the reference says."""
    names: list[tuple[str, ...]] = [()] * reference.buckets
    for name in scene.accepting(lambda lock: lock.hashing == reference.hashing):
        for bucket in scene.accepted[name]:
            names[bucket] = (*names[bucket], name)
    return names


def _owners_anywhere(scene: _Scene, foreign: Sequence[str]) -> tuple[int, int]:
    """How many of the nodes that hash otherwise accept a packet: at least, and at most.

    Every combination of their buckets occurs, for their hashes have nothing to do with each other.
    """
    least = most = 0
    groups: dict[tuple[object, ...], Counter[int]] = {}
    for member in scene.members:
        if member.name in foreign and member.lock:
            groups.setdefault(member.lock.hashing, Counter()).update(scene.accepted[member.name])
    buckets = {m.lock.hashing: m.lock.buckets for m in scene.members if m.lock}
    for hashing, counts in groups.items():
        least += min(counts.values()) if len(counts) == buckets[hashing] else 0
        most += max(counts.values(), default=0)
    return least, most


def _doubtful(scene: _Scene, reference: Lock) -> frozenset[int]:
    """The buckets of nodes that cannot tell what they accept, if they see what the others see."""
    ids = reference.ids
    unknown = {ids[m.address] for m in scene.unknown if m.address in ids}
    if not unknown:
        return frozenset()
    alike = [m for m in scene.running if m.lock and m.lock.hashing == reference.hashing]
    seen = frozenset[int]().union(*(m.facts.alive for m in alike if m.facts))
    unseen = {ids[m.address] for m in scene.unknown if m.facts is None and m.address in ids}
    first = owners(reference.placement, seen | unseen)
    return frozenset(bucket for bucket, owner in enumerate(first) if owner in unknown)


# --- why nodes disagree ----------------------------------------------------------------------------------


def _differences(scene: _Scene) -> tuple[str, ...]:
    """Say who runs other tables than most nodes do."""
    reference = _reference(scene)
    judged = [m for m in scene.running if not m.has_left]
    usual = [m for m in judged if m.lock is reference]
    if reference is None or not usual:
        return ()
    texts: dict[str, list[str]] = {}
    for member in judged:
        text = _difference(member, usual[0])
        if text:
            texts.setdefault(text, []).append(member.name)
    others = named(member.name for member in usual)
    verb = "runs" if len(usual) == 1 else "run"
    return tuple(f"{named(names)}: {text.format(others=others, verb=verb)}" for text, names in texts.items())


def _difference(member: Member, usual: Member) -> str:
    """The first thing in which two nodes' tables differ; the seed itself is never told."""
    assert member.lock and member.facts and usual.lock and usual.facts
    mine, theirs = member.lock, usual.lock
    if member.facts.epoch != usual.facts.epoch:
        return f"epoch {member.facts.epoch}, where {{others}} {{verb}} epoch {usual.facts.epoch}"
    if mine.seed != theirs.seed:
        return "another seed than {others}: the same packets have other owners"
    if mine.hashing != theirs.hashing:
        return "another hash contract than {others} in the same epoch"
    if member.facts.serial != usual.facts.serial:
        return f"tables of serial {member.facts.serial}, where {{others}} {{verb}} {usual.facts.serial}"
    if member.facts.placement != usual.facts.placement and mine.orders != theirs.orders:
        return f"uses the placement {member.facts.placement} the switch, where {{others}} do not"
    if mine is not theirs and (mine.nodes, mine.orders) != (theirs.nodes, theirs.orders):
        return "other tables than {others}, of the same serial"
    return ""


def _deafness(scene: _Scene) -> tuple[str, ...]:
    """Say who does not hear a node that sends heartbeats."""
    serving = [m for m in scene.running if m.facts and m.facts.node_id in m.facts.alive]
    should = {m.name: [s.name for s in serving if _should_hear(scene, m, s)] for m in scene.running}
    unheard = {
        by.name: [s.name for s in serving if s.name in should[by.name] and not scene.hears(by, s)]
        for by in scene.running
    }
    deaf = [by for by, names in unheard.items() if len(names) == len(should[by]) > 1]
    hearers = {s.name: [by for by, names in should.items() if s.name in names] for s in serving}
    silent = [
        name for name, all_ in hearers.items() if len(all_) > 1 and all(name in unheard[by] for by in all_)
    ]
    lines = [*_isolated(deaf, silent)]
    pairs: dict[tuple[str, ...], list[str]] = {}
    for by, names in unheard.items():
        rest = tuple(name for name in names if name not in silent)
        if rest and by not in deaf:
            pairs.setdefault(rest, []).append(by)
    return (*lines, *(_deaf_to(by, names) for names, by in pairs.items()))


def _isolated(deaf: Sequence[str], silent: Sequence[str]) -> Iterator[str]:
    """Nodes that hear nobody, and nodes that nobody hears, though they send heartbeats."""
    both = [name for name in deaf if name in silent]
    for names, what in (
        (both, "no heartbeats pass between it and any other node"),
        ([name for name in deaf if name not in both], "hears none of the other nodes"),
        ([name for name in silent if name not in both], "sends heartbeats, but no other node hears it"),
    ):
        if names:
            yield f"{named(names)}: {what}"


def _deaf_to_draining(scene: _Scene) -> Iterator[str]:
    """Say who does not hear that a node is drained: he would answer for the connections that it holds."""
    for member in scene.running:
        if not member.facts or not member.facts.draining or member.facts.heartbeat != "MASTER":
            continue
        should = [by for by in scene.running if _should_hear(scene, by, member) and _knows_draining(by)]
        deaf = [by.name for by in should if not scene.hears_draining(by, member)]
        if deaf:
            yield f"{_deaf_to(deaf, [member.name])}, which is drained"


def _knows_draining(member: Member) -> bool:
    return member.facts is not None and member.facts.can_drain and not member.facts.fenced


def _should_hear(scene: _Scene, by: Member, sender: Member) -> bool:
    """Nodes of one epoch hear each other, as far as their tables know each other."""
    assert by.facts and sender.facts
    is_known = by.name != sender.name and scene.id_of(sender, by) != 0
    return is_known and by.facts.epoch == sender.facts.epoch


def _deaf_to(by: Sequence[str], names: Sequence[str]) -> str:
    return f"{named(by)} {'does' if len(by) == 1 else 'do'} not hear {named(names)}"
