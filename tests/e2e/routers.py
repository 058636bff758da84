"""Three routers between two networks, in namespaces that end with this process.

A client and the routers' ``eth0`` at one bridge, a server and their ``eth1`` at another. Each router runs
both of its clusters as it would anywhere: generated files, node.sh, keepalived.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from trscaler_gen.bundle import Bundle
from trscaler_gen.files import write_bundle

FLOWS = Path(__file__).with_name("flows.py")
SOURCES = 40
DEADLINE_S = 60
ROUTERS = ("fw1", "fw2", "fw3")

#: what a member's processes see: a network and mounts of their own; its first line is its pid
_MEMBER = """
read -r pid _ </proc/self/stat
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 none /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work none /etc
ip link set lo up
echo "$pid"
exec sleep infinity
"""

_FIREWALL = """
table inet firewall {
    chain dstnat {
        type nat hook prerouting priority dstnat;
        iifname "vip-inside" ip daddr 192.0.2.77 dnat ip to 203.0.113.200
        iifname "vip-inside" ip6 daddr 2001:db8:3::77 dnat ip6 to 2001:db8:2::200
    }

    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "vip-inside" ct state new accept
    }
}
"""


@dataclass
class Member:
    """One host: a process whose namespaces others enter."""

    name: str
    process: subprocess.Popen[str]
    pid: int

    def run(self, *words: str, check: bool = True, text: str = "") -> str:
        """Run a command there; answers what it says."""
        done = subprocess.run(
            self._entered(*words), input=text, capture_output=True, text=True, timeout=DEADLINE_S
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {shlex.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command there, with pipes to it."""
        return subprocess.Popen(
            self._entered(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def node_sh(self, cluster: str, *verb: str) -> str:
        """Call a verb of the newest generation's script."""
        generations = self.run("ls", "-t", f"/etc/trscaler-gen/{cluster}/generations").split()
        return self.run("sh", f"/etc/trscaler-gen/{cluster}/generations/{generations[0]}/node.sh", *verb)

    def place(self, bundle: Bundle, written: Path) -> None:
        """Put a bundle where deployment would."""
        place = f"/etc/trscaler-gen/{bundle.cluster}/generations"
        write_bundle(written, bundle)
        self.run("mkdir", "-p", place)
        self.run("cp", "-r", str(written), f"{place}/{bundle.generation}")

    def state(self, cluster: str) -> dict[str, str]:
        """What `node.sh state` says."""
        lines = self.node_sh(cluster, "state").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _entered(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", *words]


@dataclass
class Routers:
    """The whole arrangement."""

    members: dict[str, Member] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    def start(self, bundles: Mapping[str, Mapping[str, Bundle]], files: Path) -> None:
        """Bring both clusters up on every router; ``bundles`` are by cluster and node."""
        for name in ROUTERS:
            for cluster, of_cluster in bundles.items():
                self[name].place(of_cluster[name], files / f"{cluster}-{name}")
                self[name].node_sh(cluster, "check")
                self[name].node_sh(cluster, "up")
        await_that(lambda: self.serving() == dict.fromkeys(ROUTERS, (True, True)))

    def swap(self, bundles: Mapping[str, Mapping[str, Bundle]], files: Path) -> None:
        """Let other files replace those that run."""
        for name in ROUTERS:
            for cluster, of_cluster in bundles.items():
                self[name].place(of_cluster[name], files / f"new-{cluster}-{name}")
                self[name].node_sh(cluster, "swap")

    def held(self) -> int:
        """How many connections the routers say that they hold, all together."""
        return sum(int(self[name].state("inside")["held"]) for name in ROUTERS)

    def let_connections_last(self, seconds: int) -> None:
        """Set for how long conntrack remembers a connection after its next packet."""
        for name in ROUTERS:
            self[name].run("sysctl", "-qw", f"net.netfilter.nf_conntrack_tcp_timeout_established={seconds}")

    def serving(self) -> dict[str, tuple[bool, ...]]:
        """Whether each router serves inside, and outside, as all of them see it."""
        seen = {
            (name, cluster): self[name].state(cluster)
            for name in ROUTERS
            for cluster in ("inside", "outside")
        }
        return {
            name: tuple(
                seen[name, cluster]["serving"] == "yes"
                and all(
                    seen[name, cluster]["node_id"] in seen[other, cluster]["alive"].split()
                    for other in ROUTERS
                    if seen[other, cluster]["serving"] == "yes"
                )
                for cluster in ("inside", "outside")
            )
            for name in ROUTERS
        }

    def ask(self, **which: object) -> dict[str, int]:
        """Open flows of every kind from every source at once; how many of each kind are answered."""
        answer = json.loads(self["client"].run(sys.executable, str(FLOWS), "ask", json.dumps(which)))
        assert isinstance(answer, dict)
        return answer

    @contextlib.contextmanager
    def connections(self) -> Iterator[Conversation]:
        """TCP connections from every source, over IPv4 and IPv6, which stay open: how many answer."""
        with self._conversation("hold") as conversation:
            yield conversation

    @contextlib.contextmanager
    def pings(self) -> Iterator[Conversation]:
        """Echo requests from every IPv4 source, always the same flows: how many are answered, and answers."""
        with self._conversation("ping") as conversation:
            assert conversation.answers.readline() == "ready\n"
            yield conversation

    @contextlib.contextmanager
    def _conversation(self, word: str) -> Iterator[Conversation]:
        process = self["client"].start(sys.executable, str(FLOWS), word)
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Conversation(process.stdin, process.stdout)
        finally:
            process.stdin.close()
            process.wait(DEADLINE_S)
            process.stdout.close()


@dataclass
class Conversation:
    """Another process that is asked again and again."""

    requests: IO[str]
    answers: IO[str]

    def ask(self) -> tuple[int, ...]:
        """Let it try all that it has; what it counts."""
        print("ask", file=self.requests, flush=True)
        return tuple(map(int, self.answers.readline().split()))


def await_that(condition: Callable[[], bool]) -> None:
    """Wait until it holds; fails after a deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.1)


@contextlib.contextmanager
def routers() -> Iterator[Routers]:
    """Build networks, hosts and firewalls; everything ends with the context."""
    arrangement = Routers()
    with contextlib.ExitStack() as stack:
        for name in ("switch", "client", "server", *ROUTERS):
            arrangement.members[name] = stack.enter_context(_member(name))
        _wire(arrangement)
        for name in ROUTERS:
            arrangement[name].run("nft", "-f", "-", text=_FIREWALL)
        server = arrangement["server"].start(sys.executable, str(FLOWS), "serve")
        stack.callback(_end, server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield arrangement


@contextlib.contextmanager
def _member(name: str) -> Iterator[Member]:
    unshare = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen(
        [*unshare, "sh", "-euc", _MEMBER], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield Member(name, process, int(process.stdout.readline()))
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(DEADLINE_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _wire(arrangement: Routers) -> None:
    switch = arrangement["switch"]
    for bridge in ("inside", "outside"):
        switch.run("sh", "-euc", f"ip link add {bridge} type bridge; ip link set {bridge} up")
    for number, name in enumerate(ROUTERS, 11):
        _plug(arrangement, name, "eth0", "inside", [f"198.51.100.{number}/24", f"2001:db8:1::{number}/64"])
        _plug(arrangement, name, "eth1", "outside", [f"203.0.113.{number}/24", f"2001:db8:2::{number}/64"])
        _route(arrangement[name], "192.0.2.0/24", "203.0.113.200", "2001:db8:3::/64", "2001:db8:2::200")
        arrangement[name].run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    sources = [f"198.51.100.{100 + n}/24" for n in range(SOURCES)]
    sources += [f"2001:db8:1::{100 + n}/64" for n in range(SOURCES)]
    _plug(arrangement, "client", "eth0", "inside", sources)
    _route(arrangement["client"], "default", "198.51.100.1", "default", "2001:db8:1::1")
    server = arrangement["server"]
    _plug(arrangement, "server", "eth1", "outside", ["203.0.113.200/24", "2001:db8:2::200/64"])
    _route(server, "198.51.100.0/24", "203.0.113.1", "2001:db8:1::/64", "2001:db8:2::1")
    # Behind the server nothing is allowed: it says so from its own address, about another one.
    server.run("sh", "-euc", "ip route add prohibit 192.0.2.0/24; ip route add prohibit 2001:db8:3::/64")
    server.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    server.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")


def _plug(arrangement: Routers, name: str, link: str, bridge: str, addresses: list[str]) -> None:
    port, switch = f"{name}-{link}", arrangement["switch"]
    # From outside of the switch's pid namespace: who is meant by a pid depends on who asks.
    add = f"ip link add {port} type veth peer name {link} netns {arrangement[name].pid}"
    subprocess.run(["nsenter", "-t", str(switch.pid), "-n", *add.split()], check=True, timeout=DEADLINE_S)
    switch.run("sh", "-euc", f"ip link set {port} master {bridge}; ip link set {port} up")
    batch = [f"address add {address} dev {link} {'nodad' * (':' in address)}" for address in addresses]
    arrangement[name].run("ip", "-batch", "-", text="\n".join([*batch, f"link set {link} up"]) + "\n")


def _route(member: Member, to4: str, via4: str, to6: str, via6: str) -> None:
    member.run("ip", "route", "add", to4, "via", via4)
    member.run("ip", "-6", "route", "add", to6, "via", via6)
