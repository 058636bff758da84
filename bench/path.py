"""What a packet costs where it arrives: nanoseconds that rules add to a bare drop, or to a bare delivery.

A TAP device in a network namespace of its own for each competitor; writing to it runs the receive path before
it returns (tap.c). All take turns in one run, forwards and backwards: what disturbs one disturbs all.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path

from e2e.wire import UDP, Address, Packet, ethernet

from bench.inventories import write_inventory
from trscaler_gen.files import write_bundle
from trscaler_gen.jhash import bucket_of
from trscaler_gen.lock import Lock
from trscaler_gen.mac import HardwareAddress, inner_address
from trscaler_gen.pipeline import compile_inventory

NODE, NODE_ID = "n1", 1
SIZES = (2, 8, 32)
BATCH = 400
#: different packets, taken in turn: what they look up is not always the same line of the cache
FLOWS = 254
HARDWARE_ADDRESS = HardwareAddress.parse("02:00:00:00:00:01")
SENDER = HardwareAddress.parse("02:00:00:00:00:99")
#: of -m cluster: the first of so many nodes
CLUSTER_NODES = 32
#: a datagram to port 9, where nobody reads
DATAGRAM = bytes.fromhex("1267 0009 0008 0000")
JUMPS = 50
STATIC_SEED = 4711

#: before connections are looked up, as everything that changes packets
_PACKET_TYPE = """table ip bench {
    chain c {
        type filter hook prerouting priority raw
        meta pkttype set host
    }
}
"""

Setup = Callable[[str], None]


@dataclass(frozen=True)
class Competitor:
    """Frames, and what makes a namespace ready for them; ``base`` names what it is compared with."""

    name: str
    what: str
    base: str
    frames: Sequence[bytes]
    setup: Setup


@dataclass(frozen=True)
class PathRow:
    """Nanoseconds per packet over all rounds, and what that is above the base's (medians and minima)."""

    name: str
    what: str
    median_ns: float
    quartiles_ns: tuple[float, float]
    least_ns: float
    added_ns: float
    least_added_ns: float


@dataclass(frozen=True)
class Expression:
    """One expression of the rule that rejects most packets, and what it costs."""

    text: str
    ns: float


@dataclass(frozen=True)
class PacketPath:
    """Everything measured here."""

    rows: tuple[PathRow, ...]
    expressions: tuple[Expression, ...]


def measure(rounds: int, folder: Path) -> PacketPath:
    """All competitors in one run, and the parts of one rule in another."""
    clusters = {(nodes, word): cluster_of(nodes, word, folder) for nodes in SIZES for word in MODES}
    program = compile_program(folder)
    rows = take_turns(program, _competitors(clusters), rounds, folder)
    expressions = take_turns(program, _parts(clusters[32, "preserve"]), rounds, folder)
    return PacketPath(tuple(_rows(rows)), tuple(_expressions(expressions)))


MODES = ("preserve", "hash-only")


@dataclass(frozen=True)
class Measured:
    """A cluster's lock, and the ruleset of its first node."""

    nodes: int
    mode: str
    lock: Lock
    table: str
    ruleset: Path
    virtual: Mapping[int, Address]

    def frames(self, version: int, *, own: bool, alive: frozenset[int]) -> list[bytes]:
        """Frames that the first node takes for its own, or for another's."""
        packets = (Packet(source, self.virtual[version], UDP, DATAGRAM) for source in _sources(version))
        wanted = (packet for packet in packets if (self._owner(packet, alive) == NODE_ID) == own)
        return [ethernet(self.lock.cluster_mac, SENDER, packet) for packet in islice(wanted, FLOWS)]

    def _owner(self, packet: Packet, alive: frozenset[int]) -> int:
        lock = self.lock
        bucket = bucket_of(
            packet.source,
            packet.destination,
            hash_input=lock.hash_input,
            seed=lock.seed,
            buckets=lock.buckets,
        )
        return next(node_id for node_id in lock.orders[bucket] if node_id in alive)


def _sources(version: int) -> Iterator[Address]:
    """Addresses that are there to measure with (RFC 2544, appendix C.2.2; RFC 5180, 8)."""
    if version == 4:
        return (IPv4Address("198.18.0.1") + number for number in range(100_000))
    return (IPv6Address("2001:2::1") + number for number in range(100_000))


def cluster_of(nodes: int, mode: str, folder: Path) -> Measured:
    path = write_inventory(folder / f"path-{nodes}-{mode}.yaml", nodes)
    path.write_text(f"{path.read_text()}connections: {mode}\n")
    compiled = compile_inventory(path)
    write_bundle(folder / f"path-{nodes}-{mode}", compiled.bundles[NODE])
    virtual: dict[int, Address] = {
        address.version: address for address in compiled.inventory.virtual_addresses
    }
    ruleset = folder / f"path-{nodes}-{mode}" / "ruleset.nft"
    return Measured(nodes, mode, compiled.lock, "trscaler_bench", ruleset, virtual)


def _competitors(clusters: Mapping[tuple[int, str], Measured]) -> Iterator[Competitor]:
    """The first of each kind is what the others are compared with."""
    largest = clusters[32, "preserve"]
    everybody = frozenset(range(1, 33))
    for version in (4, 6):
        frames = largest.frames(version, own=False, alive=everybody)
        yield Competitor("drop", f"rejected, IPv{version}", "drop", frames, partial(load_one_rule, "drop"))
        static = partial(load_one_rule, f"{static_rule(largest.lock, version)} != 1023 drop")
        yield Competitor("static rule", f"rejected, IPv{version}", "drop", frames, static)
    yield from (_product(cluster, what, 4) for cluster in clusters.values() for what in ("all alive",))
    yield _product(largest, "all alive", 6)
    yield _product(clusters[32, "hash-only"], "all alive", 6)
    for nodes in SIZES[1:]:
        yield _product(clusters[nodes, "preserve"], "one dead", 4)
        yield _product(clusters[nodes, "preserve"], "half dead", 4)
    frames = largest.frames(4, own=False, alive=everybody)
    yield Competitor(CLUSTER, "rejected, IPv4", "drop", frames, partial(_recipe, largest, rejects=True))
    yield from _accepting(clusters)


CLUSTER = "iptables -m cluster"


def _accepting(clusters: Mapping[tuple[int, str], Measured]) -> Iterator[Competitor]:
    largest = clusters[32, "preserve"]
    frames = largest.frames(4, own=True, alive=frozenset(range(1, 33)))
    yield Competitor("delivered", "accepted, IPv4", "delivered", frames, partial(_deliver, largest, ""))
    rule = f"{static_rule(largest.lock, 4)} != 1023 meta pkttype set host accept"
    yield Competitor("static rule", "accepted, IPv4", "delivered", frames, partial(_deliver, largest, rule))
    for (nodes, _), cluster in clusters.items():
        own = cluster.frames(4, own=True, alive=frozenset(range(1, nodes + 1)))
        name = _name(cluster, "all alive")
        setup = partial(_deliver_ours, cluster)
        yield Competitor(name, "accepted, IPv4", "delivered", own, setup)
    recipe = partial(_recipe, largest, rejects=False)
    yield Competitor(CLUSTER, "accepted, IPv4", "delivered", frames, recipe)


def _name(cluster: Measured, state: str) -> str:
    return f"{cluster.nodes} nodes, {state}, {cluster.mode}"


def _product(cluster: Measured, state: str, version: int) -> Competitor:
    dead = {"all alive": 0, "one dead": 1, "half dead": cluster.nodes // 2}[state]
    alive = frozenset({NODE_ID, *range(2 + dead, cluster.nodes + 1)})
    frames = cluster.frames(version, own=False, alive=alive)
    name = _name(cluster, state)
    return Competitor(name, f"rejected, IPv{version}", "drop", frames, partial(load_ruleset, cluster, alive))


def static_rule(lock: Lock, version: int) -> str:
    """The hash as one rule would have it that knows no failure: the least that this approach costs."""
    ip = {4: "ip", 6: "ip6"}[version]
    return f"ether daddr {lock.cluster_mac} jhash {ip} saddr . {ip} daddr mod 1024 seed {STATIC_SEED}"


def load_one_rule(rule: str, namespace: str) -> None:
    _nft(namespace, _base_chain(rule))


def _base_chain(rules: str) -> str:
    hook = 'type filter hook ingress device "eth0" priority -100; policy accept;'
    return f"table netdev bench {{\n chain c {{\n {hook}\n {rules}\n }}\n}}\n"


def load_ruleset(cluster: Measured, alive: frozenset[int], namespace: str) -> None:
    """The rules as a node loads them, with leases that last: what heartbeats would have written."""
    _inside(namespace, "nft", "-D", f"hwaddr={HARDWARE_ADDRESS}", "-f", str(cluster.ruleset))
    table = cluster.table
    leases = ", ".join(f"{node_id} timeout 1h" for node_id in sorted(alive))
    sets = ["alive", "fresh", "settled"]
    elements = [f"add element netdev {table} {name} {{ {leases} }}" for name in sets]
    elements.append(f"add element netdev {table} company {{ {NODE_ID} timeout 1h }}")
    if len(alive) == cluster.nodes:
        elements.append(f"add element netdev {table} calm {{ 0x0 timeout 1h }}")
    _nft(namespace, "\n".join(elements) + "\n")


def _deliver(cluster: Measured, rule: str, namespace: str) -> None:
    """The shared address on the link itself; frames to a multicast MAC reach a UDP socket."""
    _address(cluster, "eth0", namespace)
    if rule:
        _nft(namespace, _base_chain(rule))


def _deliver_ours(cluster: Measured, namespace: str) -> None:
    load_ruleset(cluster, frozenset(range(1, cluster.nodes + 1)), namespace)
    inner = str(inner_address(cluster.lock.cluster_mac))
    macvlan = ["type", "macvlan", "mode", "bridge"]
    _inside(namespace, "ip", "link", "add", "shared", "link", "eth0", "address", inner, *macvlan)
    _address(cluster, "shared", namespace)


def _address(cluster: Measured, link: str, namespace: str) -> None:
    _inside(namespace, "ip", "address", "add", f"{cluster.virtual[4]}/32", "dev", link)
    _inside(namespace, "ip", "link", "set", link, "up")
    _inside(namespace, "ip", "route", "add", "default", "dev", link)
    for name in ("all", "default", "eth0", link):
        _inside(namespace, "sysctl", "-q", f"net.ipv4.conf.{name}.rp_filter=0")


def _recipe(cluster: Measured, namespace: str, *, rejects: bool) -> None:
    """As in iptables-extensions(8), "cluster": mark what is this node's, drop the rest, and mangle ARP.

    Whether the extension's own hash takes a packet is up to its seed: what is to be accepted is accepted
    after the same work.
    """
    _address(cluster, "eth0", namespace)
    prerouting = ["iptables", "-t", "mangle", "-A", "PREROUTING", "-i", "eth0"]
    match = ["-m", "cluster", "--cluster-total-nodes", str(CLUSTER_NODES), "--cluster-local-node", "1"]
    marked = ["--cluster-hash-seed", "0xdeadbeef", "-j", "MARK", "--set-mark", "0xffff"]
    _inside(namespace, *prerouting, *match, *marked)
    unmarked = ["-m", "mark", "!", "--mark", "0xffff"] if rejects else ["-m", "mark", "--mark", "0xfffe"]
    _inside(namespace, *prerouting, *unmarked, "-j", "DROP")
    mangle = ["-j", "mangle", "--mangle-mac-s", str(cluster.lock.cluster_mac)]
    # TCP takes no packet that came by multicast.
    _nft(namespace, _PACKET_TYPE)
    _inside(namespace, "arptables", "-A", "OUTPUT", "-o", "eth0", "--h-length", "6", *mangle)


# --- what one rule is made of -----------------------------------------------------------------------


def _parts(cluster: Measured) -> Iterator[Competitor]:
    """The rule of the short way, an expression more each time; each is evaluated 50 times for a packet."""
    frames = cluster.frames(4, own=False, alive=frozenset(range(1, cluster.nodes + 1)))
    texts = ["", *_expressions_of(cluster)]
    for number in range(len(texts)):
        rule = " ".join(texts[: number + 1])
        setup = partial(_magnified, cluster, rule)
        yield Competitor(texts[number] or "jump", "parts", "jump", frames, setup)


def _expressions_of(cluster: Measured) -> list[str]:
    """Cut the rule as it was rendered before each expression; without the drop, it goes on."""
    text = cluster.ruleset.read_text()
    (rule,) = re.findall(r"^ +(meta protocol ip @ll,.*) counter drop comment", text, re.MULTILINE)
    *parts, last = re.split(r" (?=@ll|ip protocol|jhash )", rule)
    hashed, _, own = last.partition(" != @")
    return [*parts, f"{hashed} != {cluster.lock.buckets - 1}", f"!= @{own}", "counter"]


def _magnified(cluster: Measured, rule: str, namespace: str) -> None:
    """In the table of the ruleset, so that its sets are there."""
    load_ruleset(cluster, frozenset(range(1, cluster.nodes + 1)), namespace)
    rule = rule.replace(f"!= {cluster.lock.buckets - 1} != @", "!= @")
    jumps = "\n ".join(["jump magnified"] * JUMPS)
    hook = 'type filter hook ingress device "eth0" priority -200; policy drop;'
    chains = f"chain magnified {{\n {rule}\n }}\n chain first {{\n {hook}\n {jumps}\n }}"
    _nft(namespace, f"table netdev {cluster.table} {{\n {chains}\n }}\n")


def _expressions(rows: Sequence[tuple[Competitor, Sequence[float]]]) -> Iterator[Expression]:
    """What each adds to those before it; the first row is a jump to an empty chain."""
    least = [min(times) / JUMPS for _, times in rows]
    for (competitor, _), before, now in zip(rows[1:], least, least[1:], strict=False):
        yield Expression(competitor.name, now - before)


# --- how it is measured -----------------------------------------------------------------------------


def compile_program(folder: Path) -> Path:
    program = folder / "tap"
    source = Path(__file__).with_name("tap.c")
    subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True, timeout=60)
    return program


def take_turns(
    program: Path,
    wanted: Iterator[Competitor],
    rounds: int,
    folder: Path,
    look: Callable[[str], object] = len,
) -> list[tuple[Competitor, list[float]]]:
    """Every competitor with its nanoseconds per frame, by rounds; ``look`` sees its namespace at the end."""
    competitors = list(wanted)
    with ExitStack() as stack:
        names = [stack.enter_context(_namespace(number)) for number in range(len(competitors))]
        files = [_write_frames(folder / name, each) for name, each in zip(names, competitors, strict=True)]
        links = [f"{name}={file}" for name, file in zip(names, files, strict=True)]
        argv = ["taskset", "--cpu-list", "0", str(program), str(BATCH), str(rounds), *links]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for name, competitor in zip(names, competitors, strict=True):
                _inside(name, "ip", "link", "set", "eth0", "up")
                competitor.setup(name)
            output, _ = process.communicate("\n", timeout=1800)
        assert process.returncode == 0, f"{program} ended with {process.returncode}"
        for name in names:
            look(name)
    times: list[list[float]] = [[] for _ in competitors]
    for line in output.splitlines():
        number, ns = line.split()
        times[int(number)].append(float(ns))
    return list(zip(competitors, times, strict=True))


def _write_frames(path: Path, competitor: Competitor) -> Path:
    path.write_text("".join(f"{frame.hex()}\n" for frame in competitor.frames))
    return path


@contextmanager
def _namespace(number: int) -> Iterator[str]:
    name = f"trscaler-bench-{os.getpid()}-{number}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=30)


def _inside(namespace: str, *argv: str) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, *argv], check=True, timeout=60)


def _nft(namespace: str, text: str) -> None:
    argv = ["ip", "netns", "exec", namespace, "nft", "-f", "-"]
    subprocess.run(argv, input=text, text=True, check=True, timeout=60)


def _rows(measured: Sequence[tuple[Competitor, Sequence[float]]]) -> Iterator[PathRow]:
    """Compare each competitor with its base, of the same kind of packet, round by round."""
    times = {(competitor.name, competitor.what): values for competitor, values in measured}
    for competitor, values in measured:
        base = times[competitor.base, competitor.what]
        added = [one - other for one, other in zip(values, base, strict=True)]
        first, median, third = statistics.quantiles(values, n=4)
        yield PathRow(
            competitor.name,
            competitor.what,
            median,
            (first, third),
            min(values),
            statistics.median(added),
            min(values) - min(base),
        )
