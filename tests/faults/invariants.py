"""What must hold whatever happens, held against what was seen. Pure.

- *One owner*: no packet is accepted by two nodes that hear each other's heartbeats.
- *Lease*: no node accepts a packet later than one lease after its last heartbeat.
- *Served*: every packet is accepted by a node, but for one lease and some slack after something happened to
  the node that had its source, or gets it.
- *Return*: once all faults are over every node serves again, and every packet has one answer.
- *Verdict*: `status` says what is there at any moment, and never that all is well while a node is silent.

Who hears whom is not taken from the schedule but from the heartbeats that arrived. A stall of the machine
excuses what it costs (see e2e/witness.py), and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, groupby
from typing import NamedTuple

from e2e.witness import Span

from .evidence import DRAINS, Evidence, Happened, Probe, Verdict, leases, span_at
from .schedule import KINDS

#: set timeouts are kept in jiffies, and a frame is on its way for a moment
_EXACT_S = 0.03
#: two nodes that begin to hear each other have it settled by then
_MEET_S = 0.05
#: over one lease: a frame that one node waits for after it was alone, and what a busy machine adds
_SLACK_S = 0.35


class Violation(NamedTuple):
    """What broke an invariant: when (s since the start), which one, and how."""

    at_s: float
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:7.2f} s  {self.rule}: {self.text}"


class Cause(NamedTuple):
    """Something after which packets of these nodes may be lost for a while."""

    name: str
    nodes: frozenset[str]
    span: Span


class Hole(NamedTuple):
    """Probes of a source in a row that nobody answered, and who did before and after.

    It began with the first lost one; ``asked_s`` are those that no stall excuses. ``is_open``: there was no
    answer before it, or none after it.
    """

    source: int
    began_s: float
    asked_s: tuple[float, ...]
    around: frozenset[str]
    is_open: bool


@dataclass(frozen=True)
class Judge:
    """The invariants, and one run's evidence."""

    seen: Evidence

    def violations(self) -> tuple[Violation, ...]:
        """Everything that broke an invariant, first things first."""
        found = [*self._two_owners(), *self._without_lease(), *self._unserved(), *self._calm()]
        found += [self._violation(self.seen.calm_s, "return", text) for text in self.seen.unreturned]
        said = ((verdict, self._wrong_with(verdict)) for verdict in self.seen.verdicts)
        found += [self._violation(verdict.at_s, "verdict", wrong) for verdict, wrong in said if wrong]
        return tuple(sorted(found))

    def _violation(self, at_s: float, rule: str, text: str) -> Violation:
        return Violation(round(at_s - self.seen.started_s, 3), rule, text)

    # --- who may answer -----------------------------------------------------------------------

    @cached_property
    def hearing(self) -> dict[tuple[str, str], list[Span]]:
        """(who hears, whom) -> when."""
        return {pair: leases(beats, self.seen.pace.lease_s) for pair, beats in self.seen.heard.items()}

    @cached_property
    def owning(self) -> dict[str, list[Span]]:
        """When each node has a lease of its own."""
        return {node: leases(beats, self.seen.pace.lease_s) for node, beats in self.seen.left.items()}

    def _hear_each_other(self, one: str, other: str, at_s: float) -> bool:
        for pair in ((one, other), (other, one)):
            span = span_at(self.hearing.get(pair, []), at_s)
            if span is None or at_s - span.start_s < _MEET_S or span.end_s - at_s < _EXACT_S:
                return False
        return True

    def _two_owners(self) -> Iterator[Violation]:
        for source, probe in self._probes():
            for one, other in combinations(sorted(set(probe.nodes)), 2):
                if self._hear_each_other(one, other, probe.asked_s):
                    text = f"source {source} was answered by {one} and {other}, which hear each other"
                    yield self._violation(probe.asked_s, "one owner", text)

    def _without_lease(self) -> Iterator[Violation]:
        for source, probe in self._probes():
            for node in set(probe.nodes):
                if not self._has_lease(node, probe.asked_s):
                    text = f"source {source} was answered by {node}, which has sent no heartbeat for a lease"
                    yield self._violation(probe.asked_s, "lease", text)

    def _has_lease(self, node: str, at_s: float) -> bool:
        moments = (at_s - _EXACT_S, at_s, at_s + _EXACT_S)
        return any(span_at(self.owning.get(node, []), moment) for moment in moments)

    # --- who must -----------------------------------------------------------------------------

    @cached_property
    def causes(self) -> tuple[Cause, ...]:
        """What happened that costs packets, and every change of who hears whom."""
        happened = [self._cause(item) for item in self.seen.happened if KINDS[item.fault.kind].costs]
        heard = [
            Cause(
                f"{hearer} {word} {sender}",
                frozenset((hearer, sender)),
                Span(at_s - _EXACT_S, at_s + _SLACK_S),
            )
            for (hearer, sender), spans in self.hearing.items()
            for span in spans
            for word, at_s in zip(("hears", "ceases to hear"), span, strict=True)
        ]
        return tuple(sorted((*happened, *heard), key=lambda cause: cause.span))

    def _cause(self, item: Happened) -> Cause:
        return Cause(item.word, frozenset(item.fault.nodes), self._after(item.at_s, item.done_s))

    def _after(self, at_s: float, done_s: float) -> Span:
        """From what happened until one lease later; heartbeats that are late then make it later."""
        late_s = max(
            (ms / 1000 for span, ms in self._lateness if span.start_s <= done_s <= span.end_s), default=0.0
        )
        return Span(at_s - _EXACT_S, done_s + late_s + self.seen.pace.lease_s + _SLACK_S)

    @cached_property
    def _lateness(self) -> list[tuple[Span, float]]:
        """When heartbeats can be late, and by how many ms at most."""
        delays = [item for item in self.seen.happened if item.fault.kind == "delay"]
        begun = {item.fault: item.at_s for item in delays if item.word == str(item.fault)}
        over = {item.fault: item.done_s for item in delays if item.word == item.fault.end}
        return [
            (Span(at_s, over.get(fault, self.seen.calm_s) + fault.amount / 1000), fault.amount)
            for fault, at_s in begun.items()
        ]

    def _unserved(self) -> Iterator[Violation]:
        for hole in self._holes():
            causes = self.causes_of(hole)
            if not causes:
                strange = "and nothing happened to its node"
                yield self._violation(hole.asked_s[0], "served", self._told(hole, strange))
                continue
            late = [
                at for at in hole.asked_s if not self._is_covered(at, causes) and not self._is_deserted(at)
            ]
            if late:
                why = f"also after a lease: {', '.join(dict.fromkeys(cause.name for cause in causes))}"
                yield self._violation(late[0], "served", self._told(hole, why))

    def _is_covered(self, at_s: float, causes: Iterable[Cause]) -> bool:
        """Whether one of these explains a loss: a machine that was busy in between makes the slack longer."""
        return any(
            cause.span.start_s <= at_s <= cause.span.end_s + self._busy_s(cause.span.start_s, at_s)
            for cause in causes
        )

    def _busy_s(self, begin_s: float, end_s: float) -> float:
        """For how long somebody waited for a CPU in this time, also for shorter than what is a stall."""
        waits = (Span(max(wait.start_s, begin_s), min(wait.end_s, end_s)) for wait in self._waits)
        return sum(wait.length_s for wait in waits if wait.length_s > 0)

    @cached_property
    def _waits(self) -> list[Span]:
        return merged(self.seen.stalls)

    def _is_deserted(self, at_s: float) -> bool:
        """Whether every node was away: a busy machine ends faults later than planned."""
        return bool(self.seen.left) and all(
            _within(at_s, self._away.get(node, ())) for node in self.seen.left
        )

    @cached_property
    def _away(self) -> dict[str, list[Span]]:
        """When each node may have served nobody."""
        over = {item.fault: item.done_s for item in self.seen.happened if item.word == item.fault.end}
        away: dict[str, list[Span]] = {}
        for item in self.seen.happened:
            if KINDS[item.fault.kind].away and item.word == str(item.fault):
                end_s = over.get(item.fault, self.seen.calm_s) if item.fault.end else item.done_s
                for node in item.fault.nodes:
                    away.setdefault(node, []).append(self._after(item.at_s, end_s))
        return away

    def _told(self, hole: Hole, why: str) -> str:
        first, last = hole.asked_s[0], hole.asked_s[-1]
        nodes = " and ".join(sorted(hole.around)) or "nobody"
        return f"source {hole.source} of {nodes} had no answer for {last - first:.2f} s, {why}"

    def causes_of(self, hole: Hole) -> tuple[Cause, ...]:
        """What may have made a hole: what happened meanwhile to nodes whose turn it can have been."""
        first, last = hole.began_s, hole.asked_s[-1]
        concerned = self._had_their_turn(hole)
        return tuple(
            cause
            for cause in self.causes
            if cause.span.start_s <= last and first <= cause.span.end_s
            if not cause.nodes or cause.nodes & concerned
        )

    def _had_their_turn(self, hole: Hole) -> frozenset[str]:
        """The nodes in the source's order, up to the last one that had it before the hole or after it.

        Who comes later is not asked while that one is there. An open hole can have been anybody's.
        """
        order = self.seen.orders[hole.source]
        if hole.is_open:
            return frozenset(order)
        last = max(order.index(node) for node in hole.around)
        return frozenset(order[: last + 1])

    def _holes(self) -> Iterator[Hole]:
        for source, probes in self.seen.sources.items():
            served: tuple[str, ...] = ()
            runs = [(lost, list(run)) for lost, run in groupby(probes, lambda probe: not probe.nodes)]
            for (lost, run), (_, following) in zip(runs, [*runs[1:], (False, [])], strict=True):
                if lost:
                    asked = tuple(probe.asked_s for probe in run if not self._is_excused(probe.asked_s))
                    after = following[0].nodes if following else ()
                    if asked:
                        around = frozenset((*served, *after))
                        yield Hole(source, run[0].asked_s, asked, around, not served or not after)
                else:
                    served = run[-1].nodes

    def _calm(self) -> Iterator[Violation]:
        for source, probe in self._probes():
            if probe.asked_s >= self.seen.calm_s and len(probe.nodes) != 1:
                text = f"source {source} had {len(probe.nodes)} answers when all was well again"
                yield self._violation(probe.asked_s, "return", text)

    # --- what was said ------------------------------------------------------------------------

    def _wrong_with(self, verdict: Verdict) -> str:
        """What is wrong with an answer of `status`: with itself, or with "all is well"; "" if nothing is."""
        silent = self._silent(verdict)
        if verdict.status or not silent:
            return verdict.wrong
        return f"all was well, and nobody heard {' '.join(silent)}"

    def _silent(self, verdict: Verdict) -> tuple[str, ...]:
        """The nodes of which nobody had a heartbeat while it was asked, nor a lease before."""
        span = Span(verdict.at_s - self.seen.pace.lease_s - _EXACT_S, verdict.done_s)
        heard = {
            sender
            for (_, sender), beats in self.seen.heard.items()
            if any(beat.priority >= DRAINS and span.start_s <= beat.at_s <= span.end_s for beat in beats)
        }
        return tuple(sorted(set(self.seen.left) - heard))

    # --- figures ------------------------------------------------------------------------------

    def longest_holes(self) -> dict[str, float]:
        """What happened last to the nodes of a hole before it began -> the longest such hole, in s."""
        worst: dict[str, float] = {}
        for hole in self._holes():
            before = [
                item
                for item in self.seen.happened
                if KINDS[item.fault.kind].costs
                and set(item.fault.nodes) & hole.around
                and item.at_s - _EXACT_S <= hole.asked_s[0]
            ]
            if before:
                last = max(before, key=lambda item: item.at_s)
                word = last.word.removesuffix(" ".join(last.fault.nodes)).strip()
                worst[word] = max(worst.get(word, 0.0), hole.asked_s[-1] - hole.asked_s[0])
        return worst

    def counts(self) -> tuple[int, int, int, int]:
        """Probes, lost ones, ones that several nodes answered, and those of both that a stall excuses."""
        probes = [probe for probes in self.seen.sources.values() for probe in probes]
        lost = [probe for probe in probes if not probe.nodes]
        doubled = [probe for probe in probes if len(probe.nodes) > 1]
        excused = sum(self._is_excused(probe.asked_s) for probe in (*lost, *doubled))
        return len(probes), len(lost), len(doubled), excused

    def too_little(self) -> str:
        """Why a run without a violation shows nothing; empty if it does."""
        sent, judged = sum(map(len, self.seen.sources.values())), sum(1 for _ in self._probes())
        if 2 * judged < sent or not judged:
            return f"{judged} of {sent} probes can be judged, for the machine stood still"
        failed = sum(bool(item.failed) for item in self.seen.happened)
        if 2 * failed > len(self.seen.happened):
            return f"{failed} of {len(self.seen.happened)} events could not be done"
        return ""

    def excused_s(self) -> float:
        """For how long whatever went wrong is excused."""
        return sum(span.length_s for span in self._excused)

    def _probes(self) -> Iterator[tuple[int, Probe]]:
        """Every probe since the start that no stall excuses, by source."""
        for source, probes in self.seen.sources.items():
            for probe in probes:
                if probe.asked_s >= self.seen.started_s and not self._is_excused(probe.asked_s):
                    yield source, probe

    @cached_property
    def _excused(self) -> list[Span]:
        return merged(self.seen.pace.excused(self.seen.stalls))

    def _is_excused(self, at_s: float) -> bool:
        return span_at(self._excused, at_s) is not None


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same times, in order and apart."""
    apart: list[Span] = []
    for span in sorted(spans):
        if apart and span.start_s <= apart[-1].end_s:
            apart[-1] = Span(apart[-1].start_s, max(apart[-1].end_s, span.end_s))
        else:
            apart.append(span)
    return apart


def _within(at_s: float, spans: Iterable[Span]) -> bool:
    return any(span.start_s <= at_s <= span.end_s for span in spans)
