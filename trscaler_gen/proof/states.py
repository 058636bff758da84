"""The states of a cluster in which its rules are judged: what the sets hold, and who is to answer. Pure.

Which nodes are alive stays open in all of them. What a set holds in a state is said here by its name; a set
that is not named here and whose elements may change is an error (see ``evaluate``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trscaler_gen.placement import Order
from trscaler_gen.proof.evaluate import ALIVE, EVERYTHING, NOT_ALIVE, NOTHING, Members
from trscaler_gen.proof.regions import Regions, alive, bit, nobody_up_to, owned

_OWN = "its own id"
_LINK = "the link"
_AS_LOADED = "as loaded"

Content = Members | str

#: the sets of the rules, while nothing happens and everybody hears the others
_QUIET: Mapping[str, Content] = {
    "alive": ALIVE,
    "fenced": NOTHING,
    "announcing": NOTHING,
    "abreast": _OWN,
    "behind": NOTHING,
    "drained": NOTHING,
    "draining": NOTHING,
    "settled": ALIVE,
    "joining": NOTHING,
    "hosting": NOTHING,
    "hosted": NOTHING,
    "inherited": NOTHING,
    "absent": NOTHING,
    "company": _OWN,
    "lately": _OWN,
    "reached": NOTHING,
    "unsure": NOTHING,
    "moving": NOTHING,
    "switched": NOTHING,
    "pending": NOTHING,
    "fresh": NOTHING,
    "calm": NOTHING,
    "unanswered": NOTHING,
}


@dataclass(frozen=True)
class Orders:
    """Preference orders: those that are used, and those that were used before a switch to them."""

    used: tuple[Order, ...]
    before: tuple[Order, ...] = ()


@dataclass(frozen=True)
class Claim:
    """When a node is to let a packet through.

    ``required``: in all of these regions; ``allowed``: nowhere but in these.
    """

    allowed: tuple[Regions, ...]
    required: tuple[Regions, ...]

    def at(self, living: int, everybody: int) -> Claim:
        """The same claim about one set of living nodes alone."""
        return Claim(
            tuple(regions.at(living, everybody) for regions in self.allowed),
            tuple(regions.at(living, everybody) for regions in self.required),
        )


@dataclass(frozen=True)
class Claims:
    """What is claimed of a node: for new packets, for TCP that it does not know, for TCP that it knows."""

    new: Claim
    unknown: Claim
    known: Claim


@dataclass(frozen=True)
class State:
    """A state of the cluster.

    ``is_switched``: whether the newer of two placements is used. A state ``is_alone`` is judged only for a
    node that is the only one alive, and one that ``is_full`` only for all nodes alive.
    """

    label: str
    sets: Mapping[str, Content] = field(repr=False)
    claims: Callable[[Orders, int], Claims] = field(repr=False)
    is_switched: bool = True
    is_alone: bool = False
    is_full: bool = False

    def living(self, node_id: int, everybody: int) -> int | None:
        """The one set of living nodes that it is judged for; None if it is every set."""
        if self.is_alone:
            return bit(node_id)
        return everybody if self.is_full else None

    def members(
        self, node_id: int, link: str, loaded: Mapping[str, Members], *, has_peers: bool
    ) -> dict[str, Members]:
        """What each set of a node holds."""
        quiet_sets = quiet(node_id, link, has_peers=has_peers)
        said = {name: _content(content, node_id, link) for name, content in self.sets.items()}
        as_loaded = {name: loaded.get(name, NOTHING) for name, content in said.items() if content is None}
        return {**quiet_sets, **{name: content for name, content in said.items() if content}, **as_loaded}


def quiet(node_id: int, link: str, *, has_peers: bool) -> dict[str, Members]:
    """What each set of a node holds while nothing happens."""
    contents = {name: _content(content, node_id, link) or NOTHING for name, content in _QUIET.items()}
    if not has_peers:
        contents |= {"company": NOTHING, "lately": NOTHING, "abreast": NOTHING}
    return contents


def _content(content: Content, node_id: int, link: str) -> Members | None:
    """None is what the set was loaded with."""
    if isinstance(content, Members):
        return content
    return {_OWN: Members(frozenset([node_id])), _LINK: Members(frozenset([link])), _AS_LOADED: None}[content]


def states(
    *, preserves: bool, has_peers: bool, has_switch: bool, has_calm: bool = False
) -> tuple[State, ...]:
    """List the states in which a cluster is judged."""
    found = _UNDISTURBED if preserves else _UNDISTURBED[:1]
    if has_calm:
        found = (*found, _CALM)
    if preserves and has_peers:
        found = (*found, *_ALONE)
    if not has_switch:
        return found
    before = tuple(
        replace(state, label=f"{state.label}, before the switch", is_switched=False)
        for state in found
        if state is not _CALM  # with two placements @calm is written for the newer one alone
    )
    after = tuple(
        replace(state, label=f"{state.label}, switched", sets={**state.sets, "switched": _LINK})
        for state in found
    )
    return (*before, *after, *((_MOVING,) if preserves else ()))


# Claims


def _only_owner(orders: Orders, node_id: int) -> Claims:
    """The owner answers everything, and nobody else anything."""
    claim = _exactly(owned(orders.used, node_id))
    return Claims(claim, claim, claim)


def _exactly(*regions: Regions) -> Claim:
    return Claim(regions, regions)


def _everybody_keeps(orders: Orders, node_id: int) -> Claims:
    """Whoever knows a connection keeps it; the first choice lets others' connections be."""
    own, keeps = owned(orders.used, node_id), alive(len(orders.used), node_id)
    unknown = Claim((own.without(_leads(orders.used, node_id)),), ())
    return Claims(_exactly(own), unknown, _exactly(keeps))


def _drainers_keep(orders: Orders, node_id: int) -> Claims:
    """The first in the order that drains keeps what it has, and its substitute lets that be."""
    own, drains = owned(orders.used, node_id), nobody_up_to(orders.used, node_id)
    unknown = own.without(~_leads(orders.used, node_id))
    return Claims(_exactly(own), _exactly(unknown), _exactly(own, drains))


def _owner_before_keeps(orders: Orders, node_id: int) -> Claims:
    """Who owned a bucket before the switch keeps what it has; as long as that one lives, it is let be."""
    own, kept = owned(orders.used, node_id), owned(orders.before, node_id)
    others = [0 if order[0] == node_id else bit(order[0]) for order in orders.before]
    unknown = Claim((own.within_dead(np.array(others, np.uint64)),), ())
    return Claims(_exactly(own), unknown, _exactly(own, kept))


def _leads(orders: Sequence[Order], node_id: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([order[0] == node_id for order in orders])


_UNDISTURBED = (
    State("settled", {}, _only_owner),
    State("not settled", {"settled": NOTHING}, _only_owner),
    State(
        "all back lately",
        {"settled": NOTHING, "joining": _OWN, "hosting": EVERYTHING, "hosted": EVERYTHING},
        _everybody_keeps,
    ),
    State("who is not alive drains", {"draining": NOT_ALIVE}, _drainers_keep),
    State("who is not alive was away already", {"settled": NOTHING, "absent": NOT_ALIVE}, _only_owner),
)
#: the set has 0: a frame to the cluster MAC does not differ from one
_CALM = State("calm", {"calm": Members(frozenset([0]))}, _only_owner, is_full=True)
_ALONE = (
    State("heard others lately", {"settled": NOTHING, "company": NOTHING}, _only_owner, is_alone=True),
    State(
        "alone for long",
        {"settled": NOTHING, "company": NOTHING, "lately": NOTHING, "reached": _LINK},
        _only_owner,
        is_alone=True,
    ),
)
_MOVING = State(
    "just switched",
    {
        "settled": NOTHING,
        "switched": _LINK,
        "moving": _LINK,
        "hosted": _AS_LOADED,
        "inherited": _AS_LOADED,
    },
    _owner_before_keeps,
)
