"""A proof for a person: what was proven in plain words and what nodes carry at worst, or the first faults."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trscaler_gen.console.status_view import columns
from trscaler_gen.inventory.text import printable

if TYPE_CHECKING:  # numpy is imported by those who prove
    from trscaler_gen.proof.judge import Fault
    from trscaler_gen.proof.loads import Load
    from trscaler_gen.proof.prove import Proof

#: faults that are shown; all are counted
_MOST_FAULTS = 20
_MOST_NAMES = 4
_HEADING = ("dead", "sets", "worst load", "buckets", "of node", "when dead", "move", "least")


class Progress:
    """Says on a terminal what is being done; a pipe gets nothing."""

    def __init__(self, cluster: str, console: Console | None = None) -> None:
        self._cluster = cluster
        console = console or Console(stderr=True)
        self._status = console.status(cluster) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, what: str) -> None:
        """Say what is done now."""
        if self._status is not None:
            self._status.update(Text(f"{self._cluster}: {what}"))


def show_proof(proof: Proof, seconds: float, console: Console | None = None) -> None:
    """Print one cluster's proof."""
    console = console or Console()
    style = "bold green" if proof.is_proven else "bold red"
    word = "proven" if proof.is_proven else f"{proof.faulty} faults"
    _line(console, f"{proof.cluster}: {word}, in {seconds:.1f} s", style)
    for line in _said(proof) if proof.is_proven else _faults(proof):
        _line(console, f"  {line}")
    if not proof.is_proven:
        return
    _line(console, "")
    rows = [_row(proof, load) for load in proof.count.loads]
    if console.is_terminal:
        console.print(_table(rows))
    else:
        for text in columns([_HEADING, *rows]):
            _line(console, text)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text) if text else "", style), soft_wrap=not console.is_terminal)


def _said(proof: Proof) -> list[str]:
    nodes, every = len(proof.nodes), 2 ** len(proof.nodes) - 1
    said = [
        f"{_many(nodes, 'node')}, {proof.buckets} buckets, {_many(proof.rules, 'rule')} as kernels have them",
        f"whichever nodes are alive ({_many(every, 'set')}), every bucket has exactly one owner among them,"
        " and it is the one that the lock says",
        f"shown with a packet of every bucket, in {_many(len(proof.kinds), 'kind')}, "
        f"in {_many(len(proof.states), 'state')}: {'; '.join(proof.states)}",
        f"{_many(proof.heartbeats, 'heartbeat')} followed from node to node: each is taken for its sender's",
        "a bucket moves only when its owner dies",
    ]
    said += [
        f"{movement.what}: {movement.moved} buckets move, the least is {movement.least}"
        for movement in proof.movements
    ]
    return [*said, f"counted one by one for {_many(proof.count.sets, 'set')} of living nodes:"]


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _faults(proof: Proof) -> list[str]:
    lines = [_fault(proof, fault) for fault in proof.faults[:_MOST_FAULTS]]
    more = proof.faulty - len(lines)
    return [*lines, f"and {more} more"] if more > 0 else lines


def _fault(proof: Proof, fault: Fault) -> str:
    where = f"{fault.node}, bucket {fault.bucket}" if fault.bucket >= 0 else fault.node
    dead = f", {_names(proof, fault.dead)} dead" if fault.dead else ", all alive" if fault.bucket >= 0 else ""
    return f"{where}{dead}: {fault.what} ({fault.packets}; {fault.state})"


def _names(proof: Proof, ids: tuple[int, ...], most: int = 40) -> str:
    names = [proof.nodes[node_id] for node_id in ids]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _row(proof: Proof, load: Load) -> tuple[str, ...]:
    return (
        str(load.dead_count),
        f"{load.sets:,}",
        f"{load.excess:.3f}",
        str(load.buckets),
        proof.nodes[load.node_id],
        _names(proof, load.dead, _MOST_NAMES) or "nobody",
        str(load.moved),
        str(load.least),
    )


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in _HEADING:
        is_number = name not in ("of node", "when dead")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def as_document(proof: Proof, seconds: float) -> dict[str, object]:
    """The proof as one JSON document."""
    return {
        "cluster": proof.cluster,
        "proven": proof.is_proven,
        "nodes": list(proof.nodes.values()),
        "buckets": proof.buckets,
        "rules": proof.rules,
        "states": list(proof.states),
        "packets": list(proof.kinds),
        "heartbeats": proof.heartbeats,
        "sets_counted": proof.count.sets,
        "loads": [_load_document(proof, load) for load in proof.count.loads],
        "movements": [{"what": m.what, "moved": m.moved, "least": m.least} for m in proof.movements],
        "faults": proof.faulty,
        "first_faults": [_fault_document(proof, fault) for fault in proof.faults[:_MOST_FAULTS]],
        "seconds": round(seconds, 3),
    }


def _load_document(proof: Proof, load: Load) -> dict[str, object]:
    return {
        "dead": load.dead_count,
        "sets": load.sets,
        "worst": round(load.excess, 4),
        "buckets": load.buckets,
        "node": proof.nodes[load.node_id],
        "when_dead": [proof.nodes[node_id] for node_id in load.dead],
        "moved": load.moved,
        "least": load.least,
    }


def _fault_document(proof: Proof, fault: Fault) -> dict[str, object]:
    return {
        "node": fault.node,
        "bucket": None if fault.bucket < 0 else fault.bucket,
        "dead": [proof.nodes[node_id] for node_id in fault.dead],
        "what": fault.what,
        "packets": fault.packets,
        "state": fault.state,
    }
