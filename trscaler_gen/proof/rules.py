"""A ruleset as the kernel lists it (libnftables-json(5)), read into types. Pure.

Whatever is not known here is an error that names it: rules that cannot be understood prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

from trscaler_gen.proof.words import META, NEEDS, TYPES, Place, UnknownWord, number_of, place_of

Json = Any
Number = int | str
Key = Number | tuple[Number, ...]


class UnknownRule(Exception):
    """Something in a ruleset that the evaluator does not know: it says where, and what."""


# Expressions


@dataclass(frozen=True)
class Payload:
    """Bits of the frame; ``needs`` is what must be so of the packet for the rule to go on."""

    place: Place
    needs: tuple[str, int] | None = None


@dataclass(frozen=True)
class Meta:
    """What the kernel knows of the packet."""

    key: str


@dataclass(frozen=True)
class State:
    """The state of the packet's connection, as bits."""


@dataclass(frozen=True)
class Constant:
    """A number, or the name of a link."""

    value: Number


@dataclass(frozen=True)
class Concat:
    """Several values side by side."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Hash:
    """``jhash``; the seed is always written, because the kernel would draw a random one."""

    of: Expression
    mod: int
    seed: int
    offset: int


@dataclass(frozen=True)
class Masked:
    """Bitwise and with a constant, then exclusive or with another one."""

    of: Expression
    mask: int
    flip: int = 0


@dataclass(frozen=True)
class Lookup:
    """What a map has for a key; without an element the rule ends here."""

    key: Expression
    map: str


Expression = Payload | Meta | State | Constant | Concat | Hash | Masked | Lookup


# Statements


@dataclass(frozen=True)
class Values:
    """Constants that a value is compared with; ranges include both ends."""

    single: frozenset[Number]
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class InSet:
    """Elements of a named set."""

    name: str


@dataclass(frozen=True)
class Match:
    """The rule goes on if the comparison holds; ``op`` is nft's word."""

    op: str
    left: Expression
    right: Values | InSet


@dataclass(frozen=True)
class Verdict:
    """accept, drop, return; goto and jump with the chain."""

    kind: str
    target: str = ""


@dataclass(frozen=True)
class VerdictMap:
    """The values that each verdict belongs to; none for another one. ``name`` is that of a map."""

    key: Expression
    verdicts: tuple[tuple[Verdict, tuple[Number, ...]], ...]
    name: str = ""


@dataclass(frozen=True)
class Mangle:
    """Sets a part of the frame, or what the kernel knows of the packet."""

    target: Payload | Meta
    value: Expression


@dataclass(frozen=True)
class SetWrite:
    """``add``, ``update``, ``delete`` of an element; ``limited``: the rule ends here until there are many.

    ``timeout_s``: None if it stays; nft 1.0.6 lists whole seconds, rounded down.
    """

    op: str
    key: Expression
    set: str
    limited: bool = False
    timeout_s: int | None = None


@dataclass(frozen=True)
class Untrack:
    """The packet's connection is not looked up."""


Statement = Match | Verdict | VerdictMap | Mangle | SetWrite | Untrack


@dataclass(frozen=True)
class Rule:
    """Statements in order; ``number`` counts the rules of a chain from 1."""

    number: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Chain:
    """Rules in order; ``hook`` is empty for a chain that only others lead to."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    priority: int = 0
    policy: str = ""


@dataclass(frozen=True)
class Set:
    """A named set or map with the elements that it was loaded with; a set's elements have value None."""

    name: str
    is_constant: bool
    is_map: bool
    elements: Mapping[Key, Number | None]


@dataclass(frozen=True)
class Table:
    """One table of a ruleset."""

    family: str
    name: str
    chains: Mapping[str, Chain]
    sets: Mapping[str, Set] = field(repr=False)

    @cached_property
    def turns(self) -> Mapping[str, int]:
        """A number for each chain, lower than those of all chains that it leads to."""
        found: dict[str, int] = {}

        def turn(name: str) -> int:
            if name not in found:
                found[name] = min((turn(target) for target in self.onward[name]), default=0) - 1
            return found[name]

        for name in self.chains:
            turn(name)
        return found

    @cached_property
    def onward(self) -> Mapping[str, frozenset[str]]:
        """The chains that each chain leads to."""
        return {
            name: frozenset(
                target for rule in chain.rules for one in rule.statements for target in targets(one)
            )
            for name, chain in self.chains.items()
        }

    def hooked(self, hook: str) -> tuple[Chain, ...]:
        """The chains of a hook, in the order in which packets meet them."""
        found = [chain for chain in self.chains.values() if chain.hook == hook]
        return tuple(sorted(found, key=lambda chain: chain.priority))


def read_tables(listing: Json) -> tuple[Table, ...]:
    """Read ``nft -j list ruleset``, as parsed JSON; raises UnknownRule."""
    items = [(kind, value) for item in listing["nftables"] for kind, value in item.items()]
    strange = {kind for kind, _ in items} - {"metainfo", "table", "chain", "rule", "set", "map", "counter"}
    if strange:
        raise UnknownRule(f"the ruleset has a {min(strange)}, which is not known here")
    return tuple(_table(items, value) for kind, value in items if kind == "table")


def _table(items: Sequence[tuple[str, Json]], table: Json) -> Table:
    family, name = table["family"], table["name"]
    mine = [
        (kind, value) for kind, value in items if value.get("table") == name and value["family"] == family
    ]
    rules: dict[str, list[Json]] = {}
    for kind, value in mine:
        if kind == "rule":
            rules.setdefault(value["chain"], []).append(value["expr"])
    chains = [
        _chain(f"{family} {name}", value, rules.get(value["name"], []))
        for kind, value in mine
        if kind == "chain"
    ]
    choices = {value["name"]: _choices(value) for kind, value in mine if _is_of_verdicts(kind, value)}
    chains = [_with_choices(chain, choices) for chain in chains]
    sets = [
        _set(kind, value)
        for kind, value in mine
        if kind in ("set", "map") and not _is_of_verdicts(kind, value)
    ]
    read = Table(family, name, {chain.name: chain for chain in chains}, {one.name: one for one in sets})
    _require_references(read)
    return read


def _is_of_verdicts(kind: str, value: Json) -> bool:
    return kind == "map" and value["map"] == "verdict"


def _choices(value: Json) -> tuple[tuple[Verdict, tuple[Number, ...]], ...]:
    """The elements of a named map of verdicts, which must not change."""
    where = f"map {value['name']}"
    if "constant" not in value.get("flags", []) or value["type"] not in TYPES:
        raise UnknownRule(f"{where}: it may change, or has keys of a type that is not known here")
    try:
        return _verdicts(value.get("elem", []), TYPES[value["type"]])
    except (UnknownWord, TypeError, ValueError) as error:
        raise UnknownRule(f"{where}: an element cannot be read ({error})") from None


def _with_choices(
    chain: Chain, choices: Mapping[str, tuple[tuple[Verdict, tuple[Number, ...]], ...]]
) -> Chain:
    """A chain that has the elements of maps of verdicts in place of their names."""

    def chosen(rule: Rule, statement: Statement) -> Statement:
        if not isinstance(statement, VerdictMap) or not statement.name:
            return statement
        if statement.name not in choices:
            raise UnknownRule(f"chain {chain.name}, rule {rule.number}: there is no {statement.name}")
        return replace(statement, verdicts=choices[statement.name])

    rules = tuple(
        replace(rule, statements=tuple(chosen(rule, statement) for statement in rule.statements))
        for rule in chain.rules
    )
    return replace(chain, rules=rules)


def _require_references(table: Table) -> None:
    """Every set and chain that a rule names has been read."""
    for chain in table.chains.values():
        for rule in chain.rules:
            for statement in rule.statements:
                missing = [name for name in _sets_of(statement) if name not in table.sets]
                missing += [target for target in targets(statement) if target not in table.chains]
                if missing:
                    raise UnknownRule(f"chain {chain.name}, rule {rule.number}: there is no {missing[0]}")


def _sets_of(statement: Statement) -> Iterator[str]:
    if isinstance(statement, SetWrite):
        yield statement.set
    if isinstance(statement, Match) and isinstance(statement.right, InSet):
        yield statement.right.name
    if isinstance(statement, Mangle) and isinstance(statement.value, Lookup):
        yield statement.value.map


def targets(statement: Statement) -> tuple[str, ...]:
    """The chains that a statement can lead to."""
    if isinstance(statement, Verdict):
        return (statement.target,) if statement.target else ()
    if isinstance(statement, VerdictMap):
        return tuple(verdict.target for verdict, _ in statement.verdicts if verdict.target)
    return ()


def _chain(table: str, value: Json, rules: Iterable[Json]) -> Chain:
    read = []
    for number, statements in enumerate(rules, 1):
        where = f"table {table}, chain {value['name']}, rule {number}"
        try:
            read.append(Rule(number, tuple(_statements(statements))))
        except UnknownWord as error:
            raise UnknownRule(f"{where}: {error} is not known to the evaluator") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnknownRule(f"{where}: cannot be read ({error!r})") from None
    hook, priority, policy = value.get("hook", ""), value.get("prio", 0), value.get("policy", "")
    return Chain(value["name"], tuple(read), hook, priority, policy)


def _set(kind: str, value: Json) -> Set:
    where = f"{kind} {value['name']}"
    types = value["type"] if isinstance(value["type"], list) else [value["type"]]
    if kind == "map":
        types = [*types, value["map"]]
    unknown = [word for word in types if word not in TYPES]
    if unknown:
        raise UnknownRule(f"{where}: the type {unknown[0]} is not known to the evaluator")
    kinds = [TYPES[word] for word in types]
    try:
        elements = _elements(kind == "map", kinds, value.get("elem", []))
    except (UnknownWord, TypeError, ValueError, KeyError) as error:
        raise UnknownRule(f"{where}: an element cannot be read ({error})") from None
    return Set(value["name"], "constant" in value.get("flags", []), kind == "map", elements)


def _elements(is_map: bool, kinds: Sequence[str], items: Sequence[Json]) -> dict[Key, Number | None]:
    if not is_map:
        return {_key(item, kinds): None for item in items}
    if len(kinds) == 2:  # half a million elements in a large cluster, of a few thousand different ones
        keys, values = _numbers(kinds[0]), _numbers(kinds[1])
        return {keys[key]: values[value] for key, value in items}
    return {_key(key, kinds[:-1]): number_of(value, kinds[-1]) for key, value in items}


class _Numbers(dict[Any, Number]):
    """The numbers that words of one kind stand for."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __missing__(self, word: Any) -> Number:
        number = self[word] = number_of(_plain(word), self.kind)
        return number


@cache
def _numbers(kind: str) -> _Numbers:
    return _Numbers(kind)


def _plain(item: Json) -> Json:
    """An element without its timeout."""
    return item["elem"]["val"] if isinstance(item, dict) and "elem" in item else item


def _key(item: Json, kinds: Sequence[str]) -> Key:
    item = _plain(item)
    if isinstance(item, dict) and "concat" in item:
        return tuple(number_of(part, kind) for part, kind in zip(item["concat"], kinds, strict=True))
    (kind,) = kinds
    return number_of(item, kind)


# Statements, as they are listed


def _statements(items: Iterable[Json]) -> Iterator[Statement]:
    for item in items:
        ((word, body),) = item.items()
        if word == "counter":
            continue  # it only counts
        if word not in _READERS:
            raise UnknownWord(f'the statement "{word}"')
        yield _READERS[word](body)


def _match(body: Json) -> Match:
    left, kind = _expression(body["left"])
    op, right = body["op"], body["right"]
    if op not in ("==", "!=", "<", ">", "<=", ">=", "in", "!"):
        raise UnknownWord(f'the comparison "{op}"')
    if isinstance(right, str) and right.startswith("@"):
        if op not in ("==", "!="):
            raise UnknownWord(f'the comparison "{op}" with a set')
        return Match(op, left, InSet(right[1:]))
    return Match(op, left, _values(right, kind))


def _values(right: Json, kind: str) -> Values:
    items = right["set"] if isinstance(right, dict) and "set" in right else [_flags(right, kind)]
    ranges = [item["range"] for item in items if isinstance(item, dict) and "range" in item]
    single = [item for item in items if not (isinstance(item, dict) and "range" in item)]
    return Values(
        frozenset(number_of(item, kind) for item in single),
        tuple((_int(first, kind), _int(last, kind)) for first, last in ranges),
    )


def _flags(right: Json, kind: str) -> Json:
    """Several flags are one number."""
    if not isinstance(right, list):
        return right
    together = 0
    for word in right:
        together |= _int(word, kind)
    return together


def _int(word: Json, kind: str) -> int:
    number = number_of(word, kind)
    if isinstance(number, str):
        raise UnknownWord(f'"{number}" as a number')
    return number


def _verdict(kind: str, body: Json) -> Verdict:
    return Verdict(kind, body["target"] if body else "")


def _verdict_map(body: Json) -> VerdictMap:
    key, kind = _expression(body["key"])
    if isinstance(body["data"], str):
        return VerdictMap(key, (), body["data"].removeprefix("@"))
    return VerdictMap(key, _verdicts(body["data"]["set"], kind))


def _verdicts(entries: Json, kind: str) -> tuple[tuple[Verdict, tuple[Number, ...]], ...]:
    found: dict[Verdict, list[Number]] = {}
    for value, verdict in entries:
        ((word, target),) = verdict.items()
        if word not in _VERDICTS:
            raise UnknownWord(f'the verdict "{word}"')
        found.setdefault(_verdict(word, target), []).append(number_of(value, kind))
    return tuple((verdict, tuple(values)) for verdict, values in found.items())


def _mangle(body: Json) -> Mangle:
    target, kind = _expression(body["key"])
    if not isinstance(target, (Payload, Meta)):
        raise UnknownWord("the target of a statement that sets something")
    value = body["value"]
    if isinstance(value, (int, str)):
        return Mangle(target, Constant(number_of(value, kind)))
    return Mangle(target, _expression(value)[0])


def _set_write(body: Json) -> SetWrite:
    if body["op"] not in ("add", "update", "delete"):
        raise UnknownWord(f'the operation "{body["op"]}" on a set')
    limits = body.get("stmt", [])
    if any(set(limit) != {"limit"} or not limit["limit"].get("inv") for limit in limits):
        raise UnknownWord("what a set keeps of its elements")
    element = body["elem"]
    key, _ = _expression(_plain(element))
    timeout_s = element["elem"].get("timeout") if isinstance(element, dict) and "elem" in element else None
    return SetWrite(body["op"], key, body["set"].removeprefix("@"), bool(limits), timeout_s)


_VERDICTS = ("accept", "drop", "return", "goto", "jump")
_READERS: dict[str, Callable[[Json], Statement]] = {
    "match": _match,
    "vmap": _verdict_map,
    "mangle": _mangle,
    "set": _set_write,
    "notrack": lambda body: Untrack(),
    **{word: partial(_verdict, word) for word in _VERDICTS},
}


# Expressions, as they are listed: each with the kind of its values


def _expression(item: Json) -> tuple[Expression, str]:
    if isinstance(item, (int, str)):
        return Constant(number_of(item, "number")), "number"
    ((word, body),) = item.items()
    match word:
        case "payload":
            return _payload(body)
        case "meta" if body["key"] in META:
            return Meta(body["key"]), META[body["key"]]
        case "ct" if body == {"key": "state"}:
            return State(), "ct state"
        case "concat":
            return Concat(tuple(_expression(part)[0] for part in body)), "concatenation"
        case "jhash":
            return _hash(body), "number"
        case "&" | "^":
            return _masked(word, body)
        case "map" if isinstance(body["data"], str):
            return Lookup(_expression(body["key"])[0], body["data"].removeprefix("@")), "number"
    raise UnknownWord(f'the expression "{word}" {body}')


def _masked(word: str, body: Json) -> tuple[Expression, str]:
    of, kind = _expression(body[0])
    number = _int(_flags(body[1], kind), kind)
    if word == "&":
        return Masked(of, number), kind
    if not isinstance(of, Masked) or of.flip:
        raise UnknownWord("an exclusive or of something else than masked bits")
    return replace(of, flip=number), kind


def _payload(body: Json) -> tuple[Payload, str]:
    if "base" in body:
        if body["base"] not in ("ll", "nh", "th"):
            raise UnknownWord(f'the header "{body["base"]}"')
        return Payload(Place(body["base"], body["offset"], body["len"])), "number"
    place, kind = place_of(body["protocol"], body["field"])
    return Payload(place, NEEDS[body["protocol"]]), kind


def _hash(body: Json) -> Hash:
    if "seed" not in body:
        raise UnknownWord("jhash without a seed (each rule would draw its own)")
    return Hash(_expression(body["expr"])[0], body["mod"], body["seed"], body.get("offset", 0))
