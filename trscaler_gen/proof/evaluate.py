"""nftables' rules, evaluated for many packets at once. Pure.

It follows nft(8) and the kernel's nf_tables_core.c: a rule ends at the first statement that does not match or
has nothing to work on; a chain ends with a verdict, or its packets go on where the last jump came from.
Who is alive stays open: what comes out are packets with the conditions under which they came out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trscaler_gen.proof.hashing import bucket_rows
from trscaler_gen.proof.lanes import Groups, Lanes, Wrote, different, in_order, merge, side_by_side, start
from trscaler_gen.proof.packets import Bytes, Flags, Frames, Indices, Numbers
from trscaler_gen.proof.rules import (
    Chain,
    Concat,
    Constant,
    Expression,
    Hash,
    InSet,
    Lookup,
    Mangle,
    Masked,
    Match,
    Meta,
    Number,
    Payload,
    Rule,
    SetWrite,
    State,
    Statement,
    Table,
    UnknownRule,
    Untrack,
    Values,
    Verdict,
    VerdictMap,
)
from trscaler_gen.proof.words import Place

_UNTRACKED = 64
#: the highest id, so that conditions fit into 64 bits
MAX_ID = 64
#: a map with keys below this is kept as an array
_DENSE = 1 << 20
#: fewer packets are not worth looking for those that can be looked at together
_MANY_LANES = 2048
_LARGE_BLOCK = 8192
#: nor is the way through fewer rules
_MANY_RULES = 6
#: np.isin takes longer than so many comparisons
_COMPARED_ONE_BY_ONE = 8

#: what the kernel knows of a packet from its frame alone
_OF_THE_FRAME = ("protocol", "l4proto", "length")

Found = tuple[Numbers, Flags]
Reads = Payload | Meta | Match | Hash | Masked

#: stands for all numbers that do not fit into 64 bits
TOO_WIDE = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Members:
    """What a set holds.

    ``alive`` True: the ids of the nodes that are alive; False: those of the cluster that are not. Otherwise
    ``keys``, or with ``everything`` whatever is asked for.
    """

    keys: frozenset[Number] = frozenset()
    everything: bool = False
    alive: bool | None = None


NOTHING = Members()
EVERYTHING = Members(everything=True)
ALIVE = Members(alive=True)
NOT_ALIVE = Members(alive=False)


@dataclass(frozen=True)
class Surroundings:
    """What the rules are told beside the packet.

    ``members``: for each state that is looked at (at most 64), what the sets hold that change; those that are
    constant have what they were loaded with. ``ids``: a bit for each node of the cluster. ``link``: the name
    of the device that packets come in on.
    """

    members: Sequence[Mapping[str, Members]]
    ids: int
    link: str


@dataclass(frozen=True)
class Outcome:
    """What became of packets: a row for each packet and condition.

    ``daddr`` and ``mark`` are those with which it goes on.
    """

    accepted: Lanes
    dropped: list[Lanes]


@dataclass
class Memory:
    """What follows from a table alone, so that it need not be found out in every state.

    ``maps``: as arrays; ``reads``: what of the frame chains read, by their names, with all that they lead to;
    ``own_reads``: without.
    """

    maps: dict[str, Indices] = field(default_factory=dict)
    own_reads: dict[str, frozenset[Reads]] = field(default_factory=dict)
    reads: dict[tuple[str, ...], frozenset[Reads]] = field(default_factory=dict)


@dataclass
class Machine:
    """One table of one node, with what its sets hold."""

    table: Table
    frames: Frames
    surroundings: Surroundings
    memory: Memory = field(default_factory=Memory)
    groups: Groups = field(default_factory=Groups)
    contents: dict[str, list[tuple[Members, np.uint64]]] = field(default_factory=dict)

    def run(self, hook: str, lanes: Lanes) -> Outcome:
        """Take packets through the chains of a hook; raises UnknownRule."""
        blocks, dropped = [lanes], [lanes.none]
        chains = self.table.hooked(hook)
        for number, chain in enumerate(chains, 1):
            later = tuple(other.name for other in chains[number:])
            ended, left = self._run(chain.name, blocks, later=later)
            dropped += [some for verdict, some in ended if verdict == "drop"]
            blocks = [some for verdict, some in ended if verdict == "accept"]
            if chain.policy == "accept":
                blocks += left
            else:
                dropped += left
        return Outcome(merge([lanes.none, *blocks]), dropped)

    # Chains

    def _run(
        self, name: str, blocks: list[Lanes], *, later: tuple[str, ...] | None = None
    ) -> tuple[list[tuple[str, Lanes]], list[Lanes]]:
        """Take packets through a chain and all that it goes to: (verdict, packets), and who has none.

        ``later`` are the chains that they can meet after it; None where they come back to the middle of one.
        """
        waiting: dict[str, list[Lanes]] = {name: blocks}
        turns = [(self.table.turns[name], name)]
        ended: list[tuple[str, Lanes]] = []
        left: list[Lanes] = []
        while turns:
            _, name = heapq.heappop(turns)
            if name not in waiting:
                continue
            here = _few(waiting.pop(name))
            if later is not None:
                here = self._together((name, *later), here)
            for verdict, some in self._chain(self.table.chains[name], here):
                if verdict.kind == "goto":
                    waiting.setdefault(verdict.target, []).append(some)
                    heapq.heappush(turns, (self.table.turns[verdict.target], verdict.target))
                elif verdict.kind == "return":
                    left.append(some)
                else:
                    ended.append((verdict.kind, some))
        return ended, left

    def _chain(self, chain: Chain, blocks: list[Lanes]) -> Iterator[tuple[Verdict, Lanes]]:
        """Yield verdicts with the packets that they are for; the last ones are for those without."""
        for rule in chain.rules:
            onward: list[Lanes] = []
            for block in blocks:
                try:
                    passed, verdicts = self._rule(rule, block)
                except UnknownRule as error:
                    raise self._located(error, chain, rule) from None
                onward += passed
                yield from verdicts
            blocks = _few(onward)
        yield from ((Verdict("return"), block) for block in blocks)

    def _located(self, error: UnknownRule, chain: Chain, rule: Rule) -> UnknownRule:
        """The same error with the place of the rule, unless it has that of one that this one jumped to."""
        if str(error).startswith("table "):
            return error
        where = f"table {self.table.family} {self.table.name}, chain {chain.name}, rule {rule.number}"
        return UnknownRule(f"{where}: {error}")

    def _rule(self, rule: Rule, lanes: Lanes) -> tuple[list[Lanes], list[tuple[Verdict, Lanes]]]:
        """Apply one rule: the packets that go on to the next one, and verdicts."""
        passed: list[Lanes] = []
        verdicts: list[tuple[Verdict, Lanes]] = []
        for statement in rule.statements:
            if isinstance(statement, Verdict):
                passed += self._decide(statement, lanes, verdicts)
                return passed, verdicts
            if isinstance(statement, VerdictMap):
                passed += self._decide_by_map(statement, lanes, verdicts)
                return passed, verdicts
            lanes, over = self._apply(statement, lanes)
            passed += over
            if not lanes.count:
                return passed, verdicts
        return [*passed, lanes], verdicts

    def _decide(self, verdict: Verdict, lanes: Lanes, verdicts: list[tuple[Verdict, Lanes]]) -> list[Lanes]:
        """Note a verdict; only from a jump packets may come back."""
        if verdict.kind != "jump":
            verdicts.append((verdict, lanes))
            return []
        ended, left = self._run(verdict.target, [lanes])
        verdicts += [(Verdict(kind), some) for kind, some in ended]
        return left

    def _decide_by_map(
        self, statement: VerdictMap, lanes: Lanes, verdicts: list[tuple[Verdict, Lanes]]
    ) -> list[Lanes]:
        values, valid = self._value(statement.key, lanes)
        back: list[Lanes] = []
        for verdict, numbers in statement.verdicts:
            is_it = valid & _among(values, [self._number(number) for number in numbers])
            some, lanes = lanes.divide(is_it)
            values, valid = values[~is_it], valid[~is_it]
            if some.count:
                back += self._decide(verdict, some, verdicts)
        return [*back, lanes]

    # Statements

    def _apply(self, statement: Statement, lanes: Lanes) -> tuple[Lanes, list[Lanes]]:
        """Apply a statement without a verdict: for whom the rule goes on, and for whom it ends."""
        match statement:
            case Match():
                return self._match(statement, lanes)
            case Mangle():
                return self._mangle(statement, lanes)
            case SetWrite():
                return self._write(statement, lanes)
            case Untrack():
                return replace(lanes, state=np.full(lanes.count, _UNTRACKED, np.uint64)), []
        raise UnknownRule(f"{type(statement).__name__} cannot be evaluated")

    def _mangle(self, statement: Mangle, lanes: Lanes) -> tuple[Lanes, list[Lanes]]:
        values, valid = self._value(statement.value, lanes)
        if isinstance(statement.target, Payload):
            valid = valid & self._payload(statement.target, lanes)[1]
        on, over = lanes.divide(valid)
        values = values[valid]
        match statement.target:
            case Meta("mark"):
                return replace(on, mark=values), [over]
            case Meta("priority"):
                return replace(on, priority=values), [over]
            case Payload(place, _):
                return on.traced(place, values), [over]
        raise UnknownRule(f"meta {statement.target.key} set")

    def _write(self, statement: SetWrite, lanes: Lanes) -> tuple[Lanes, list[Lanes]]:
        keys, valid = self._value(statement.key, lanes)
        on, over = lanes.divide(valid)
        turns = [key.turn for key in on.traces if isinstance(key, Wrote) and key.set == statement.set]
        wrote = Wrote(statement.set, max(turns, default=0) + 1, statement.op != "delete")
        on = on.traced(wrote, keys[valid])
        return (on.none, [on, over]) if statement.limited else (on, [over])

    def _match(self, statement: Match, lanes: Lanes) -> tuple[Lanes, list[Lanes]]:
        if isinstance(statement.right, InSet):
            return self._match_set(statement.left, statement.right.name, lanes, wanted=statement.op == "==")
        left = statement.left.of if isinstance(statement.left, Masked) else statement.left
        if isinstance(left, Payload) and left.place.bits > 64:
            holds, valid = self._compare_wide(left, statement.left, statement.right, lanes)
        else:
            values, valid = self._value(statement.left, lanes)
            holds = self._compare("==" if statement.op == "!=" else statement.op, values, statement.right)
        on, over = lanes.divide(valid & (holds != (statement.op == "!=")))
        return on, [over]

    def _compare(self, op: str, values: Numbers, right: Values) -> Flags:
        if op == "==":
            holds = _among(values, [self._number(value) for value in right.single])
            for first, last in right.ranges:
                holds |= (values >= np.uint64(first)) & (values <= np.uint64(last))
            return holds
        if right.ranges or len(right.single) != 1:
            raise UnknownRule(f'the comparison "{op}" with several values')
        value = np.uint64(self._number(next(iter(right.single))))
        if op in ("in", "!"):
            has_any: Flags = (values & value) != 0
            return has_any if op == "in" else ~has_any
        compare = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal}[op]
        result: Flags = compare(values, value)
        return result

    def _compare_wide(
        self, payload: Payload, left: Expression, right: Values, lanes: Lanes
    ) -> tuple[Flags, Flags]:
        """Compare more than 64 bits, for which there are no arrays of numbers."""
        if right.ranges:
            raise UnknownRule("more than 64 bits, of a range")
        _require_unchanged(payload, lanes)
        if (left, right) not in self.frames.kept_flags:
            rows, valid = self._wide_rows(payload, left)
            holds = np.zeros(self.frames.count, bool)
            for value in right.single:
                holds |= (rows == _octets(self._number(value), rows.shape[1])).all(axis=1)
            self.frames.kept_flags[left, right] = holds, valid
        holds, valid = self.frames.kept_flags[left, right]
        return holds[lanes.frame], valid[lanes.frame]

    def _wide_rows(self, payload: Payload, whole: Expression) -> tuple[Bytes, Flags]:
        """The bytes of every frame, with what ``whole`` does to them."""
        rows, valid = self.frames.bytes_at(payload.place)
        if payload.needs is not None:
            valid = valid & self._fulfilled(payload.needs)
        if isinstance(whole, Masked):
            size = payload.place.bits // 8
            rows = rows & _octets(whole.mask, size) ^ _octets(whole.flip, size)
        return rows, valid

    def _wide_value(self, payload: Payload, whole: Expression, lanes: Lanes) -> Found:
        """The value of more than 64 bits: TOO_WIDE where they are needed."""
        _require_unchanged(payload, lanes)
        if whole not in self.frames.kept:
            rows, valid = self._wide_rows(payload, whole)
            low = np.ascontiguousarray(rows[:, -8:]).view(">u8").reshape(-1).astype(np.uint64)
            self.frames.kept[whole] = np.where(rows[:, :-8].any(axis=1), TOO_WIDE, low), valid
        values, valid = self.frames.kept[whole]
        return values[lanes.frame], valid[lanes.frame]

    # Sets

    def _match_set(
        self, left: Expression, name: str, lanes: Lanes, *, wanted: bool
    ) -> tuple[Lanes, list[Lanes]]:
        """Ask whether a set holds a value; packets are split where that is open."""
        keys, valid = self._value(left, lanes)
        if isinstance(left, Payload):
            # Part of a byte is looked up where it stands in it: nft shifts only constants.
            keys = keys << np.uint64(-(left.place.offset + left.place.bits) % 8)
        on, over = lanes.divide(valid)
        asked = self._by_content(name, keys if on is lanes else keys[valid], on)
        found = [self._ask(name, members, some, some_keys) for members, some_keys, some in asked]
        inside = [one for one, _ in found] or [on.none]
        outside = [other for _, other in found] or [on.none]
        return (merge(inside), [*outside, over]) if wanted else (merge(outside), [*inside, over])

    def _by_content(self, name: str, keys: Numbers, lanes: Lanes) -> Iterator[tuple[Members, Numbers, Lanes]]:
        """What a set holds, in all states in which it holds that, with the packets in these states."""
        contents = self._contents(name)
        if len(contents) == 1:
            yield contents[0][0], keys, lanes
            return
        for members, states in contents:
            both = lanes.states & states
            some, _ = lanes.divide(both != 0)
            if some.count:
                yield members, keys[both != 0], replace(some, states=some.states & states)

    def _ask(self, name: str, members: Members, lanes: Lanes, keys: Numbers) -> tuple[Lanes, Lanes]:
        """The packets whose key a set holds, and those whose key it does not hold."""
        held, split = self._held(name, members, keys, lanes)
        if not split.any():
            return lanes.divide(held)
        yes = np.flatnonzero(held | split)
        no = np.flatnonzero(~held)
        bits = np.where(split, _bit(keys, self.surroundings.ids), np.uint64(0))
        inside, outside = lanes.take(yes), lanes.take(no)
        if members.alive:
            return (
                replace(inside, yes=inside.yes | bits[yes]),
                replace(outside, no=outside.no | bits[no]),
            )
        return replace(inside, no=inside.no | bits[yes]), replace(outside, yes=outside.yes | bits[no])

    def _held(self, name: str, members: Members, keys: Numbers, lanes: Lanes) -> tuple[Flags, Flags]:
        """Which keys a set holds, and for which both is possible."""
        bits = _bit(keys, self.surroundings.ids)
        split = np.zeros(lanes.count, bool)
        if members.alive is not None:
            sure = (lanes.yes if members.alive else lanes.no) & bits != 0
            never = ((lanes.no if members.alive else lanes.yes) & bits != 0) | (bits == 0)
            held, split = sure, ~sure & ~never
        elif members.everything:
            held = np.ones(lanes.count, bool)
        else:
            held = _among(keys, [self._number(key) for key in members.keys])
        for wrote, (written, has) in self._writes(name, lanes):
            same = has & (written == keys)
            held = np.where(same, wrote.present, held)
            split &= ~same
        return held, split

    def _writes(self, name: str, lanes: Lanes) -> list[tuple[Wrote, Found]]:
        """What the rules did to a set before, in order."""
        found = [(key, t) for key, t in lanes.traces.items() if isinstance(key, Wrote) and key.set == name]
        return sorted(found, key=lambda item: item[0].turn)

    def _contents(self, name: str) -> list[tuple[Members, np.uint64]]:
        """Everything that a set holds in any state, with the states in which it does."""
        if name not in self.contents:
            found: dict[Members, int] = {}
            for number, members in enumerate(self.surroundings.members):
                held = members[name] if name in members else self._loaded(name)
                found[held] = found.get(held, 0) | 1 << number
            self.contents[name] = [(held, np.uint64(states)) for held, states in found.items()]
        return self.contents[name]

    def _loaded(self, name: str) -> Members:
        """What a set was loaded with that never changes."""
        found = self.table.sets[name]
        if not found.is_constant:
            raise UnknownRule(f"the set {name}: it is not known here what it holds when")
        if any(isinstance(key, tuple) for key in found.elements):
            raise UnknownRule(f"the set {name}: a set of several values side by side")
        return Members(frozenset(key for key in found.elements if not isinstance(key, tuple)))

    # Expressions

    def _value(self, expression: Expression, lanes: Lanes) -> Found:
        """The value of an expression for every packet, and where it has one."""
        sure = np.ones(lanes.count, bool)
        match expression:
            case Masked(of=Payload() as wide) | (Payload() as wide) if wide.place.bits > 64:
                return self._wide_value(wide, expression, lanes)
            case Constant(value):
                return np.full(lanes.count, self._number(value), np.uint64), sure
            case Meta():
                return self._meta(expression, lanes)
            case State():
                return lanes.state, sure
            case Payload():
                return self._payload(expression, lanes)
            case Masked(of, mask, flip):
                values, valid = self._value(of, lanes)
                return values & np.uint64(mask) ^ np.uint64(flip), valid
            case Hash():
                return self._hash(expression, lanes)
            case Lookup():
                return self._lookup(expression, lanes)
        raise UnknownRule(f"{type(expression).__name__} cannot be evaluated here")

    def _meta(self, meta: Meta, lanes: Lanes) -> Found:
        sure = np.ones(lanes.count, bool)
        match meta.key:
            case "mark":
                return lanes.mark, sure
            case "priority":
                return lanes.priority, sure
            case "iif" | "oif" | "iifname":
                return np.full(lanes.count, self._number(self.surroundings.link), np.uint64), sure
            case "protocol":
                return self.frames.protocol[lanes.frame], sure
            case "length":
                length = self.frames.length - self.frames.network
                return length[lanes.frame].astype(np.uint64), sure
            case "l4proto":
                number = self.frames.l4proto[lanes.frame]
                return np.maximum(number, 0).astype(np.uint64), number >= 0
        raise UnknownRule(f"meta {meta.key}")

    def _payload(self, payload: Payload, lanes: Lanes) -> Found:
        values, valid = self.frames.bits(payload.place)
        values, valid = values[lanes.frame], valid[lanes.frame]
        if payload.needs is not None:
            valid = valid & self._fulfilled(payload.needs)[lanes.frame]
        for place, (changed, has) in lanes.traces.items():
            if place == payload.place:
                values = np.where(has, changed, values)
            elif isinstance(place, Place) and _overlap(place, payload.place) and has.any():
                raise UnknownRule("a part of the frame is read that was changed as part of another one")
        return values, valid

    def _fulfilled(self, needs: tuple[str, int]) -> Flags:
        what, value = needs
        if what == "ether type":
            return np.equal(self.frames.bits(Place("ll", 96, 16))[0], np.uint64(value))
        if what == "protocol":
            return np.equal(self.frames.protocol, np.uint64(value))
        return np.equal(self.frames.l4proto, value)

    def _hash(self, expression: Hash, lanes: Lanes) -> Found:
        """Hash what the frames say; it is the same for all nodes, so it is kept with the frames."""
        changed = [key for key in lanes.traces if isinstance(key, Place)]
        parts = _parts(expression.of)
        if any(
            _overlap(place, part.place) for part in parts if isinstance(part, Payload) for place in changed
        ):
            raise UnknownRule("a part of the frame is hashed that was changed before")
        kept = self.frames.kept
        if expression not in kept:
            rows, valid = zip(*(self._hash_input(part) for part in parts), strict=True)
            bucket = bucket_rows(np.concatenate(rows, axis=1), expression.seed, expression.mod)
            kept[expression] = (bucket + np.uint64(expression.offset), np.logical_and.reduce(valid))
        values, there = kept[expression]
        return values[lanes.frame], there[lanes.frame]

    def _hash_input(self, part: Expression) -> tuple[Bytes, Flags]:
        """The bytes of a field, filled up to whole registers of 4 bytes, as the kernel hashes them."""
        if not isinstance(part, Payload) or part.place.bits % 8 or part.place.offset % 8:
            raise UnknownRule("the hash of something else than whole bytes of the frame")
        rows, valid = self.frames.bytes_at(part.place)
        if part.needs is not None:
            valid = valid & self._fulfilled(part.needs)
        return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))), valid

    def _lookup(self, expression: Lookup, lanes: Lanes) -> Found:
        found = self.table.sets[expression.map]
        if not found.is_map or not found.is_constant:
            raise UnknownRule(f"the map {expression.map}: its elements may change")
        if isinstance(expression.key, Concat):
            return self._lookup_many(expression.key, expression.map, lanes)
        keys, valid = self._value(expression.key, lanes)
        table = self._table_of(expression.map)
        values = table[np.minimum(keys, np.uint64(len(table) - 1)).astype(np.int64)]
        return np.maximum(values, 0).astype(np.uint64), valid & (values >= 0)

    def _table_of(self, name: str) -> Indices:
        """A map as an array, -1 where it has no element; the last place never has one."""
        if name not in self.memory.maps:
            found = self.table.sets[name].elements
            if any(isinstance(key, tuple) for key in found) or None in found.values():
                raise UnknownRule(f"the map {name}: its keys are not what it is asked for")
            keys = self._numbers(key for key in found if not isinstance(key, tuple))
            highest = max(keys, default=0)
            if highest >= _DENSE:
                raise UnknownRule(f"the map {name} has a key above {_DENSE}")
            table = np.full(highest + 2, -1, np.int64)
            table[keys] = self._numbers(value for value in found.values() if value is not None)
            self.memory.maps[name] = table
        return self.memory.maps[name]

    def _lookup_many(self, key: Concat, name: str, lanes: Lanes) -> Found:
        """A map of several values side by side."""
        elements = self.table.sets[name].elements
        columns = [self._value(part, lanes) for part in key.parts]
        rows = zip(*(values.tolist() for values, _ in columns), strict=True)
        found = [elements.get(row) for row in rows]
        values = np.array([0 if value is None else self._number(value) for value in found], np.uint64)
        there = np.array([value is not None for value in found], bool)
        return values, np.logical_and.reduce([there, *(valid for _, valid in columns)])

    def _numbers(self, values: Iterable[Number]) -> list[int]:
        return [value if isinstance(value, int) else self._number(value) for value in values]

    def _number(self, value: Number) -> int:
        """A link has the number 1 if it is the one that packets come in on, and 0 if it is another."""
        return int(value == self.surroundings.link) if isinstance(value, str) else value

    # Packets that take the same way

    def _together(self, names: tuple[str, ...], blocks: list[Lanes]) -> list[Lanes]:
        """Let one packet stand for all that these chains, and what they lead to, cannot tell apart."""
        is_long = len(self.table.chains[names[0]].rules) >= _MANY_RULES
        if not is_long or sum(block.count for block in blocks) < _MANY_LANES:
            return blocks
        kinds = self._kinds_from(names)
        lanes = merge(blocks)
        columns: list[npt.NDArray[Any]] = [lanes.mark, lanes.priority, lanes.state]
        columns += [lanes.states, lanes.yes, lanes.no]
        columns += [column for trace in lanes.traces.values() for column in trace]
        first, inverse = different(side_by_side(kinds[lanes.frame], columns))
        if len(first) * 2 > lanes.count:
            return [lanes]
        frame, lane = self.groups.spread(lanes)
        group = inverse[lane]
        members = frame[in_order(group, len(first))]
        return [replace(lanes.take(first), group=self.groups.add(members, np.bincount(group)))]

    def _kinds_from(self, names: tuple[str, ...]) -> Indices:
        """A number for each frame, the same for those that these chains cannot tell apart."""
        reads = self._reads_from(names)
        key = ("kinds", reads)
        if key not in self.frames.kept_codes:
            for read in reads - self.frames.kept_codes.keys():
                self.frames.kept_codes[read] = self._codes(read)
            columns = [self.frames.kept_codes[read] for read in reads]
            self.frames.kept_codes[key] = side_by_side(np.zeros(self.frames.count, np.int64), columns)
        return self.frames.kept_codes[key]

    def _reads_from(self, names: tuple[str, ...]) -> frozenset[Reads]:
        if names not in self.memory.reads:
            chains = _chains_from(self.table, names)
            self.memory.reads[names] = frozenset().union(*(self._own_reads(chain) for chain in chains))
        return self.memory.reads[names]

    def _own_reads(self, name: str) -> frozenset[Reads]:
        if name not in self.memory.own_reads:
            self.memory.own_reads[name] = frozenset(_frame_parts(self.table.chains[name].rules))
        return self.memory.own_reads[name]

    def _codes(self, read: Reads) -> Indices:
        """A number for each frame, the same for those of which a rule reads the same."""
        try:
            return self._codes_of(read)
        except UnknownRule:  # the rule says so where it is met, with its place
            return np.arange(self.frames.count)

    def _codes_of(self, read: Reads) -> Indices:
        every = start(self.frames, np.arange(self.frames.count))
        if isinstance(read, Match):
            passed, _ = self._match(read, every)
            outcome = np.zeros(self.frames.count, np.int64)
            outcome[passed.frame] = 1
            return outcome
        if isinstance(read, (Hash, Masked)):
            values, valid = self._value(read, every)
            return np.where(valid, different(values)[1] + 1, 0)
        if isinstance(read, Meta):
            columns = {"protocol": self.frames.protocol, "l4proto": self.frames.l4proto}
            column = columns.get(read.key, self.frames.length - self.frames.network)
            return different(column)[1]
        if read.place.bits > 64:
            return np.arange(self.frames.count)
        values, valid = self.frames.bits(read.place)
        if read.needs is not None:
            valid = valid & self._fulfilled(read.needs)
        return np.where(valid, different(values)[1] + 1, 0)


def _chains_from(table: Table, names: tuple[str, ...]) -> set[str]:
    """Chains, and all that they lead to."""
    waiting, found = list(names), set()
    while waiting:
        chain = waiting.pop()
        if chain not in found:
            found.add(chain)
            waiting += table.onward[chain]
    return found


def _frame_parts(item: object) -> Iterator[Reads]:
    """What of the frame stands anywhere in a statement; of what is only compared, the comparison."""
    match item:
        case Match(_, left, Values()) if _is_frames(left):
            yield item
        case Payload():
            yield item
        case Hash(of) if all(isinstance(part, Payload) for part in _parts(of)):
            yield item
        case Masked(of) if _is_frames(of):
            yield item
        case Meta():
            yield from (item,) if _is_frames(item) else ()
        case tuple():
            for part in item:
                yield from _frame_parts(part)
        case _:
            for name in getattr(item, "__dataclass_fields__", ()):
                yield from _frame_parts(getattr(item, name))


def _parts(item: Expression) -> tuple[Expression, ...]:
    return item.parts if isinstance(item, Concat) else (item,)


def _is_frames(item: Expression) -> bool:
    """Whether it is the same for all packets of the same bytes."""
    if isinstance(item, Masked):
        return _is_frames(item.of)
    return isinstance(item, Payload) or (isinstance(item, Meta) and item.key in _OF_THE_FRAME)


def _few(blocks: list[Lanes]) -> list[Lanes]:
    """Put small blocks together; large ones are left alone: most rules are for all of a block or for none."""
    large = [block for block in blocks if block.count >= _LARGE_BLOCK]
    small = [block for block in blocks if 0 < block.count < _LARGE_BLOCK]
    return [*large, merge(small)] if small else large


def _among(values: Numbers, few: list[int]) -> Flags:
    if len(few) > _COMPARED_ONE_BY_ONE:
        return np.isin(values, np.array(few, np.uint64))
    found = np.zeros(len(values), bool)
    for value in few:
        found |= values == np.uint64(value)
    return found


def _octets(number: int, size: int) -> Bytes:
    return np.frombuffer(number.to_bytes(size, "big"), np.uint8)


def _require_unchanged(payload: Payload, lanes: Lanes) -> None:
    if any(isinstance(key, Place) and _overlap(key, payload.place) for key in lanes.traces):
        raise UnknownRule("more than 64 bits of which some were changed")


def _overlap(one: Place, other: Place) -> bool:
    return (
        one.base == other.base
        and one.offset < other.offset + other.bits
        and other.offset < one.offset + one.bits
    )


def _bit(ids: Numbers, known: int) -> Numbers:
    """The bit of each id; none for what is no node of the cluster."""
    return _bits(known).take(np.minimum(ids, np.uint64(MAX_ID + 1)).astype(np.int64))


@lru_cache(maxsize=8)
def _bits(known: int) -> Numbers:
    """The bit of every id from 0 on, and none at the end for all that are too high."""
    return np.array([0, *(1 << number & known for number in range(MAX_ID)), 0], np.uint64)
