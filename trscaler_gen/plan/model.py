"""What goes into a plan, and the plan itself, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from trscaler_gen.bundle import Bundle
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import Lock, RetiredNode

Kind = Literal["create", "change", "delete"]
#: what a node's condition was when it was observed; values are what JSON can hold
Condition = Mapping[str, object]


@dataclass(frozen=True)
class Wanted:
    """What the inventory asks for.

    ``bundles`` are in the inventory's order. ``departed`` are the nodes that left it and were not stopped
    yet, by the name that they are reached under. ``lock_before`` is the lock on disk, None if there was none.
    ``is_rollback``: what is wanted was there before, so its lock has to be an ancestor of what runs.
    """

    inventory: Inventory
    lock: Lock
    bundles: Mapping[str, Bundle]
    departed: Mapping[str, RetiredNode]
    lock_before: Lock | None
    is_rollback: bool = False


@dataclass(frozen=True)
class Seen:
    """What a node was found to be.

    ``files`` are those of its current generation whose digest is not that of the wanted bundle's; all of them
    where the node leaves.
    """

    facts: Facts
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


class UnfitNode(NodeError):
    """A node that was reached, but cannot take its bundle: its kernel is too old, its link is missing."""


class StepAction(StrEnum):
    """What is to become of a node."""

    START = "start"
    SWAP = "swap"
    RESTART = "restart"
    #: it has left: it goes silent, and its traces are erased
    STOP = "stop"
    NONE = "none"
    #: it has left, cannot be reached, and nobody hears it
    ABSENT = "absent"
    UNREACHABLE = "unreachable"
    UNFIT = "unfit"


#: nothing is done on these nodes
IDLE = frozenset({StepAction.NONE, StepAction.ABSENT})
#: nothing can be done on these
BLOCKED = frozenset({StepAction.UNREACHABLE, StepAction.UNFIT})


@dataclass(frozen=True)
class FileChange:
    """One file of a node, as it lies there and as it is to be; the one that does not exist is empty."""

    name: str
    kind: Kind
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)


@dataclass(frozen=True)
class Step:
    """What is to be done on one node.

    ``before`` and ``after`` are generations, empty where nothing is; ``services`` says what of the host is
    touched, ``drift`` what is not as it was applied. ``stops_first``: the node was removed and added again
    since, so it has to be silent before any other changes, and to start when all have changed.
    ``is_drained``: it takes no new connections, and will not after the change either.
    """

    node: str
    action: StepAction
    before: str = ""
    after: str = ""
    files: tuple[FileChange, ...] = ()
    services: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    problem: NodeError | None = None
    stops_first: bool = False
    is_drained: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a plan cannot be carried out, and what to do about it."""

    message: str
    hint: str


@dataclass(frozen=True)
class Move:
    """A number of buckets that go from one node to another."""

    giver: str
    taker: str
    buckets: int


@dataclass(frozen=True)
class WeightChange:
    """A node that gets another weight."""

    node: str
    before: int
    after: int


@dataclass(frozen=True)
class Switch:
    """All nodes go over to another placement at one moment, when all of them hold it.

    ``nodes`` still use the one before, or will once their tables are swapped; ``moved`` buckets change their
    owner between nodes that stay. ``keeps_connections``: their old owners keep what is open.
    """

    nodes: tuple[str, ...]
    moved: int
    keeps_connections: bool


@dataclass(frozen=True)
class Traffic:
    """Who owns how much, before and after, with all nodes alive.

    ``shares`` are buckets by node. ``moves`` is empty where buckets do not mean the same before and after:
    then ``kept`` is the fraction of source and destination pairs that keep their node, and ``is_exact`` says
    whether that is counted or expected. ``least`` is what had to move at least. ``is_disrupted``: any
    connection may break, whatever moves. ``weights`` are those that change. Where nodes serve and no lock of
    theirs can be read, the traffic before ``is_unknown``.
    """

    buckets: int
    shares_before: Mapping[str, int] = field(default_factory=dict)
    shares_after: Mapping[str, int] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    least: int = 0
    kept: float | None = None
    is_exact: bool = True
    is_disrupted: bool = False
    weights: tuple[WeightChange, ...] = ()
    is_unknown: bool = False

    @property
    def is_first(self) -> bool:
        """Whether nothing is served yet."""
        return not self.shares_before and not self.is_unknown

    @property
    def moved(self) -> int:
        """How many buckets change their owner."""
        return sum(move.buckets for move in self.moves)


@dataclass(frozen=True)
class Plan:
    """What ``apply`` would do: one step per node, in the inventory's order, the departed last; then a switch.

    ``change`` names the wanted state of the whole cluster. Epoch and serial are 0 where nothing is deployed.
    ``disruption`` says why connections break; ``refusals`` keep the plan from being carried out.
    ``conditions`` are of every node that was observed.
    """

    cluster: str
    source: str
    change: str
    epoch_before: int
    epoch_after: int
    serial_before: int
    serial_after: int
    steps: tuple[Step, ...]
    traffic: Traffic
    switch: Switch | None = None
    disruption: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict, repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do, and nothing that was asked for is left out."""
        return not self.refusals and not self.switch and all(step.action in IDLE for step in self.steps)

    @property
    def needs_disruption(self) -> bool:
        """Whether connections break that a change of membership would have kept."""
        return bool(self.disruption)

    @property
    def is_applicable(self) -> bool:
        """Whether ``apply`` may carry it out: no refusal, and every node of the inventory is fit for it."""
        return not self.refusals and not any(step.action in BLOCKED for step in self.steps)

    def steps_of(self, action: StepAction) -> tuple[Step, ...]:
        """The steps that are of one kind."""
        return tuple(step for step in self.steps if step.action is action)
