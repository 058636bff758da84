"""What a plan says of traffic and nodes, in sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from trscaler_gen.plan.model import Move, Plan, StepAction, Switch, Traffic, WeightChange
from trscaler_gen.plan.words import listed

#: more pairs than these are told as what each node gives and takes
MOST_PAIRS = 40


def traffic_sentences(traffic: Traffic, *, full: bool = False) -> Iterator[str]:
    """Say what the plan means for the traffic; with ``full`` every pair of nodes."""
    if traffic.is_unknown:
        yield "what moves cannot be told: the lock of no node that runs could be read"
    elif traffic.is_first:
        yield f"first deployment: {traffic.buckets} buckets, {_shares(traffic)}"
    elif traffic.kept is not None:
        yield _all_may_move(traffic)
    else:
        if traffic.weights:
            yield _weights(traffic.weights)
        if traffic.is_disrupted:
            yield (
                "every connection may break: nodes of the old epoch stand aside as soon as they hear one of "
                "the new one"
            )
        yield _moves(traffic, full=full)


def switch_sentences(switch: Switch | None, buckets: int) -> Iterator[str]:
    """Say what a switch does, and to whom."""
    if switch is None:
        return
    yield (
        f"when every node holds both placements, {listed(switch.nodes)} go over to the new one together, "
        "within one heartbeat"
    )
    if not switch.moved:
        yield "no bucket changes hands by it while all nodes live"
    elif switch.keeps_connections:
        share = _percent(switch.moved, buckets)
        yield f"{switch.moved} of {buckets} buckets ({share}) change hands; connections that are open stay"


def summary(plan: Plan) -> str:
    """The last line: how many nodes become what, or why there is nothing to do."""
    counts = Counter(step.action for step in plan.steps)
    if plan.is_empty:
        return _nothing_to_do(plan, counts)
    shown = [f"{counts[action]} to {action}" for action in _CHANGES]
    shown.append(f"{counts[StepAction.NONE]} unchanged")
    shown += [f"{counts[action]} {action}" for action in _TROUBLES if counts[action]]
    if plan.switch:
        shown.append(f"then {len(plan.switch.nodes)} to switch together")
    end = "" if plan.is_applicable else "; it cannot be applied"
    return f"Plan: {', '.join(shown)}{end}"


_CHANGES = (StepAction.START, StepAction.SWAP, StepAction.RESTART, StepAction.STOP)
_TROUBLES = (StepAction.ABSENT, StepAction.UNREACHABLE, StepAction.UNFIT)


def _nothing_to_do(plan: Plan, counts: Counter[StepAction]) -> str:
    nodes = counts[StepAction.NONE]
    all_run = "the only node runs" if nodes == 1 else f"all {nodes} nodes run"
    absent = listed([step.node for step in plan.steps_of(StepAction.ABSENT)])
    end = f"; {absent} left and could not be reached" if absent else ""
    return (
        f"Nothing to do: {all_run} what the inventory says "
        f"(change {plan.change}, epoch {plan.epoch_after}){end}"
    )


def _shares(traffic: Traffic) -> str:
    counts = traffic.shares_after.values()
    if len(counts) > 1 and max(counts) - min(counts) <= 1:
        return f"{' or '.join(map(str, sorted(set(counts))))} of them on each of {len(counts)} nodes"
    return ", ".join(
        f"{name} {count} ({_percent(count, traffic.buckets)})" for name, count in _after(traffic)
    )


def _after(traffic: Traffic) -> list[tuple[str, int]]:
    return list(traffic.shares_after.items())


def _all_may_move(traffic: Traffic) -> str:
    assert traffic.kept is not None
    how = "counted" if traffic.is_exact else "expected"
    return (
        f"every connection may move: {100 * traffic.kept:.1f} % of the pairs of source and destination keep "
        f"their node ({how})"
    )


def _moves(traffic: Traffic, *, full: bool) -> str:
    if not traffic.moved:
        return "no bucket moves"
    more = traffic.moved - traffic.least
    least = "the least possible" if more <= 0 else f"{more} more than the least possible"
    return (
        f"moves {traffic.moved} of {traffic.buckets} buckets "
        f"({_percent(traffic.moved, traffic.buckets)}, {least}): {_pairs(traffic.moves, full=full)}"
    )


def _pairs(moves: tuple[Move, ...], *, full: bool) -> str:
    if full or len(moves) <= MOST_PAIRS:
        return ", ".join(f"{move.giver}->{move.taker} {move.buckets}" for move in moves)
    net: Counter[str] = Counter()
    for move in moves:
        net[move.giver] -= move.buckets
        net[move.taker] += move.buckets
    return f"{len(moves)} pairs of nodes, in all " + ", ".join(
        f"{node} {count:+}" for node, count in net.items()
    )


def _weights(changes: tuple[WeightChange, ...]) -> str:
    return "weights: " + ", ".join(f"{each.node} {each.before} -> {each.after}" for each in changes)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
