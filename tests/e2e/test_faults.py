"""What can be wrong with a node when `apply` comes: each fault is told, and nothing changes on any node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from trscaler_gen.lab.ssh import KNOWN_HOSTS, NODE_FILES
from trscaler_gen.lockfile import lock_path

from .faults import VICTIM, Change, Site, Undo, running_faulty_site, watched
from .test_status import NO_SSH

#: probes of a source, one each 100 ms: a lease long
UNTIL_REPLACED = 10


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_faulty_site(tmp_path_factory.mktemp("faults"), "faults") as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The site, whole again after whatever a test that failed did to it."""
    yield shared
    shared.mend()


def node_down(site: Site, change: Change) -> Undo:
    site.lab.cut(VICTIM)
    site.cluster.settle(tuple(node for node in site.lab.nodes if change.old[node] and node != VICTIM))
    return lambda: site.lab.mend(VICTIM)


def connection_refused(site: Site, change: Change) -> Undo:
    site.lab.exec(VICTIM, ["nft", "-f", "-"], input=NO_SSH)
    return lambda: site.sh(VICTIM, "nft delete table inet shut")


def host_key_changed(site: Site, change: Change) -> Undo:
    """What the operator remembers is not what the node has."""
    path = site.lab.directory / KNOWN_HOSTS
    text = path.read_text()
    keys = {line.split(",")[0]: line.split()[2] for line in text.splitlines()}
    path.write_text(text.replace(keys[VICTIM], keys["n1"]))
    return lambda: path.write_text(text)


def authentication_refused(site: Site, change: Change) -> Undo:
    path = f"{NODE_FILES}/authorized_keys"
    site.sh(VICTIM, f"mv {path} {path}.away")
    return lambda: site.sh(VICTIM, f"mv {path}.away {path}")


def sudo_wants_a_password(site: Site, change: Change) -> Undo:
    """The remedy is the line that the hint names."""
    site.sh(VICTIM, "useradd --no-create-home --home-dir / --shell /bin/sh --password '*' ops")
    allow(site, "ops ALL=(root) ALL")
    config = site.lab.ssh_config.read_text()
    entry = config.index(f"Host {VICTIM} ")
    site.lab.ssh_config.write_text(config[:entry] + config[entry:].replace("User root", "User ops", 1))
    return lambda: allow(site, "ops ALL=(root) NOPASSWD: ALL")


def allow(site: Site, rule: str) -> None:
    path = "/etc/sudoers.d/trscaler-gen"
    site.sh(VICTIM, f"cat >{path} && chmod 440 {path} && visudo -cq", input=f"{rule}\n")


def no_nft(site: Site, change: Change) -> Undo:
    """On a node that joins: from one that serves nft does not go without its rules."""
    site.sh(change.joins, "mount --bind /dev/null /usr/sbin/nft")
    return lambda: site.sh(change.joins, "umount /usr/sbin/nft")


def too_old(site: Site, change: Change) -> Undo:
    """All three at once: an old distribution."""
    release = "/proc/sys/kernel/osrelease"
    site.sh(VICTIM, f"echo 5.10.0-28-amd64 >/run/osrelease && mount --bind /run/osrelease {release}")
    undo = [
        site.replace_tool(VICTIM, name, f'[ "$*" != --version ] || exec echo "{says}"; exec "$REAL" "$@"')
        for name, says in (("nft", "nftables v0.9.8 (E.D.S.)"), ("keepalived", "Keepalived v2.0.20"))
    ]
    return lambda: (site.sh(VICTIM, f"umount {release}"), *(take_back() for take_back in undo))


def link_missing(site: Site, change: Change) -> Undo:
    site.set_node(change.joins, link="eth7")
    return lambda: site.set_node(change.joins)


def disk_full(site: Site, change: Change) -> Undo:
    """A small one, on a node that has nothing of the cluster yet."""
    site.sh(change.joins, "mkdir -p /etc/trscaler-gen && mount -t tmpfs -o size=64k tmpfs /etc/trscaler-gen")
    return lambda: site.sh(change.joins, "umount /etc/trscaler-gen && rmdir /etc/trscaler-gen")


@dataclass(frozen=True)
class Fault:
    """Something wrong on a node: the victim, or the one that joins; and what is said of it."""

    happens: Callable[[Site, Change], Undo]
    said: tuple[str, ...]
    of_joining: bool = False


FAULTS = [
    Fault(node_down, ("did not answer", "is the node powered on")),
    Fault(connection_refused, ("the ProxyCommand for 192.0.2.2 failed", "does sshd listen there")),
    Fault(host_key_changed, ("THE HOST KEY OF 192.0.2.2 HAS CHANGED", "ssh-keygen -R")),
    Fault(authentication_refused, ("1 key refused", "ssh-copy-id")),
    Fault(sudo_wants_a_password, ("sudo wants a password from ops", "line: ops ALL=(root) NOPASSWD: ALL")),
    Fault(no_nft, ("not installed: nft", "install it"), of_joining=True),
    Fault(
        too_old,
        (
            "nftables v0.9.8 (E.D.S.): at least 1.0.6 is needed",
            "Keepalived v2.0.20: at least 2.2.7 is needed",
            "kernel 5.10.0-28-amd64: at least 5.16 is needed",
            "install a newer keepalived",
        ),
    ),
    Fault(link_missing, ("it has no link eth7", "bring the link up"), of_joining=True),
    Fault(disk_full, ("64 KiB free below /etc/trscaler-gen", "free space there"), of_joining=True),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.happens.__name__)
def test_fault_that_is_there_already(site: Site, fault: Fault) -> None:
    change = site.change()
    node = change.joins if fault.of_joining else VICTIM
    before = lock_path(site.cluster.path).read_bytes(), lying_there(site)
    with watched(site, lost_per_source=UNTIL_REPLACED if fault.happens is node_down else 0):
        undo = fault.happens(site, change)
        try:
            done = site.apply()
        finally:
            undo()
        assert done.returncode == 1
        assert f"observe: {node} failed" in done.stderr.splitlines()
        assert "nothing was changed" in done.stderr.splitlines()
        for words in fault.said:
            assert words in " ".join(done.stdout.split())
        assert (lock_path(site.cluster.path).read_bytes(), lying_there(site)) == before
        assert set(site.become(change).values()) == {"old"}
        site.recover()


def lying_there(site: Site) -> dict[str, str]:
    """Node -> the generations that lie there."""
    look = "ls -A /etc/trscaler-gen/e2e/generations"
    return {node: site.sh(node, look, check=False) for node in site.lab.nodes}


def test_twin_a_node_that_is_neither_is_noticed(site: Site) -> None:
    unchanged = Change(site.wanted, site.wanted)
    site.become(unchanged)
    site.is_whole = False
    site.sh(VICTIM, "echo >>/etc/trscaler-gen/e2e/current/peers.nft")
    with pytest.raises(AssertionError):
        site.become(unchanged)
    site.recover()
