"""What happens to whom and when: a schedule, drawn from a seed. Pure: the same seed, the same schedule.

A node can have several faults at a time, but one of each kind, and its keepalived is stopped in one way at a
time. At least one node on the client's side always keeps out of it: otherwise there is nothing to find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

#: after its end a fault's nodes are left alone for so long: they return
REST_S = 1.5
MOST_NODES = 8
LONGEST_S = 3600
#: of how many nodes a fault is, if not of one
COUNTS = {"one-way": 2, "swap": 0, "ask": 0}
CONNECTIONS = ("preserve", "hash-only")
_FIRST_S = 0.5
_PAUSES_S = (1.6, 6.0)
_TRIES = 50


@dataclass(frozen=True)
class Kind:
    """A fault: what its begin and its end are called, how long it lasts, and how much of it there is.

    ``away``: its nodes may serve nobody meanwhile. ``halts``: it stops keepalived. ``costs``:
    packets may be lost when it begins or ends; of what happens to heartbeats only their absence costs any.
    """

    begin: str
    end: str
    longest_s: float = 0.0
    amounts: tuple[float, ...] = (0.0,)
    unit: str = ""
    away: bool = False
    halts: bool = False
    costs: bool = True
    weight: int = 2


KINDS: Mapping[str, Kind] = {
    "cut": Kind("cut", "mend", 5, (0, 1), away=True, weight=4),
    "freeze": Kind("freeze", "thaw", 5, away=True, halts=True, weight=3),
    "kill": Kind("kill -9", "restart", 3, away=True, halts=True, weight=3),
    "stop": Kind("stop", "start", 3, away=True, halts=True),
    "flush": Kind("flush ruleset", "", 0, away=True, weight=3),
    "drain": Kind("drain", "undrain", 4, away=True),
    "memory": Kind("memory pressure", "memory free", 5, (4, 8, 16, 32), "MiB", away=True),
    "clock": Kind("clock jumps", "clock back", 4, (-86400, -60, -1, 1, 60, 86400, 3e8), "s", costs=False),
    "table": Kind("connection table full", "connection table free", 4, costs=False, weight=1),
    "loss": Kind("heartbeats lost", "heartbeats not lost", 6, (1, 5, 10, 20, 30), "%", costs=False, weight=3),
    "delay": Kind(
        "heartbeats late",
        "heartbeats in time",
        6,
        (20, 100, 300, 600),
        "ms",
        costs=False,
        weight=3,
    ),
    "one-way": Kind("heartbeats one way", "heartbeats both ways", 5, costs=False, weight=3),
    "split": Kind("switch split", "switch whole", 4, away=True),
    "swap": Kind("swap", "", 0, costs=False, weight=1),
    "ask": Kind("status", "", 0, costs=False, weight=2),
}
#: how often the whole cluster is concerned, at least so far apart
_APART_S = {"swap": 12.0, "ask": 5.0, "split": 3.0, "table": 15.0}


@dataclass(frozen=True)
class Fault:
    """One fault. ``nodes``: whom it happens to; of "one-way", who is not heard and who does not hear."""

    kind: str
    start_s: float
    end_s: float
    nodes: tuple[str, ...]
    amount: float = 0.0

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        much = f" {self.amount:g} {kind.unit}" if kind.unit else " without a sign" if self.amount else ""
        return f"{kind.begin}{much} {' '.join(self.nodes)}".strip()

    @property
    def end(self) -> str:
        """What its end is called; "" if it has none."""
        word = KINDS[self.kind].end
        return word and f"{word} {' '.join(self.nodes)}"


@dataclass(frozen=True)
class Schedule:
    """All faults of a run, by their begin; against how many nodes; the probes' family (4 or 6).

    ``connections`` is the inventory's: with "hash-only" nodes that have returned are like all others at once.
    """

    seed: int
    seconds: float
    nodes: int
    family: int
    connections: str
    faults: tuple[Fault, ...]

    def prefix(self, until_s: float) -> Schedule:
        """What had begun by then; it ends two seconds later."""
        kept = tuple(fault for fault in self.faults if fault.start_s <= until_s)
        return replace(self, seconds=min(self.seconds, until_s + 2), faults=kept)

    def as_json(self) -> dict[str, Any]:
        """All of it, as json.dumps takes it."""
        return asdict(self)


def from_json(document: Any) -> Schedule:
    """The schedule of a file; raises ValueError if it is none."""
    try:
        faults = tuple(Fault(**{**item, "nodes": tuple(item["nodes"])}) for item in document["faults"])
        schedule = Schedule(**{**document, "faults": faults})
        _require(schedule)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a schedule: {type(error).__name__} {error}") from error
    return schedule


def _require(schedule: Schedule) -> None:
    if not (
        3 <= schedule.nodes <= MOST_NODES and schedule.family in (4, 6) and 0 < schedule.seconds <= LONGEST_S
    ):
        raise ValueError(f"not a schedule: 3 to {MOST_NODES} nodes, family 4 or 6, up to {LONGEST_S} s")
    if schedule.connections not in CONNECTIONS:
        raise ValueError(f"not a schedule: connections {schedule.connections}")
    names = set(node_names(schedule.nodes))
    for fault in schedule.faults:
        if fault.kind not in KINDS or not set(fault.nodes) <= names or not _is_count(fault):
            raise ValueError(f"not a schedule: {fault.kind} of {' '.join(fault.nodes) or 'nobody'}")
        if not 0 <= fault.start_s <= fault.end_s <= schedule.seconds or not abs(fault.amount) < 1e9:
            raise ValueError(f"not a schedule: {fault.kind} from {fault.start_s} to {fault.end_s} s")


def _is_count(fault: Fault) -> bool:
    """Whether it is about as many nodes as such faults are."""
    if fault.kind == "split":
        return len(fault.nodes) > 0
    return len(fault.nodes) == COUNTS.get(fault.kind, 1)


def node_names(count: int) -> tuple[str, ...]:
    """n1 to nN."""
    return tuple(f"n{number}" for number in range(1, count + 1))


def draw(seed: int, seconds: float, nodes: int, kinds: Iterable[str] = KINDS) -> Schedule:
    """A schedule of faults of these kinds: one every second or so, or with time to settle in between."""
    random = Random(seed)
    family, connections = random.choice((4, 6)), random.choice(CONNECTIONS)
    longest_pause_s = random.choice(_PAUSES_S)
    chosen = [name for name in KINDS if name in set(kinds)]
    faults: list[Fault] = []
    at_s = _FIRST_S
    while at_s < seconds - 1:
        fault = _drawn(random, chosen, node_names(nodes), at_s, seconds, faults)
        if fault:
            faults.append(fault)
        at_s += random.uniform(0.1, longest_pause_s)
    return Schedule(seed, seconds, nodes, family, connections, tuple(faults))


def _drawn(
    random: Random, kinds: list[str], names: tuple[str, ...], at_s: float, until_s: float, faults: list[Fault]
) -> Fault | None:
    """A fault that begins now and fits; None if none is found."""
    for _ in range(_TRIES):
        name = random.choices(kinds, [KINDS[each].weight for each in kinds])[0]
        kind = KINDS[name]
        lasts_s = random.uniform(0.2, kind.longest_s) if kind.longest_s else 0.0
        end_s = round(min(at_s + lasts_s, until_s - 0.3), 2)
        nodes = _whom(random, name, names)
        fault = Fault(name, round(at_s, 2), end_s, nodes, random.choice(kind.amounts))
        if _fits(fault, names, faults):
            return fault
    return None


def _whom(random: Random, kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
    count = random.randint(1, len(names) - 1) if kind == "split" else COUNTS.get(kind, 1)
    return tuple(random.sample(names, count))


def _fits(fault: Fault, names: tuple[str, ...], faults: list[Fault]) -> bool:
    apart_s = _APART_S.get(fault.kind, 0.0)
    if any(other.kind == fault.kind and fault.start_s - other.end_s < apart_s for other in faults):
        return False
    meanwhile = [other for other in faults if other.end_s + REST_S > fault.start_s]
    if any(_exclude(fault, other) for other in meanwhile):
        return False
    away = {node for other in (*meanwhile, fault) if KINDS[other.kind].away for node in other.nodes}
    return away < set(names)


def _exclude(one: Fault, other: Fault) -> bool:
    """Whether two faults at a time would be the same twice, or would stop the same keepalived twice."""
    both_halt = KINDS[one.kind].halts and KINDS[other.kind].halts
    return (both_halt or one.kind == other.kind) and bool(set(one.nodes) & set(other.nodes))


def moments(schedule: Schedule) -> Iterator[tuple[float, Fault, bool]]:
    """When which fault begins (True) or ends, in order."""
    begins = [(fault.start_s, fault, True) for fault in schedule.faults]
    ends = [(fault.end_s, fault, False) for fault in schedule.faults if fault.end]
    yield from sorted((*begins, *ends), key=lambda moment: moment[0])
