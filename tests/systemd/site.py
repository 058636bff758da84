"""A cluster of three nodes: one is a host with systemd, two are the lab's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from e2e.by_hand import CHANGE, HOME, RUN, TOKEN, WHO, answer, asked, deploy_script, end
from e2e.cluster import eventually, inventory_text

from trscaler_gen.bundle import MANIFEST, Bundle
from trscaler_gen.deploy.node import archive
from trscaler_gen.facts import Facts
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.network import lab_network, node_batch, seat_sysctls
from trscaler_gen.lockfile import lock_path

from .host import LINK, PATIENCE_S, Host, plugged_in

NODE = "n1"
PEERS = ("n2", "n3")
UNIT = "trscaler-gen-e2e"
DATAPATH, HEARTBEAT, WATCH = f"{UNIT}.service", f"{UNIT}-heartbeat.service", f"{UNIT}-watch.service"
UNITS = (DATAPATH, HEARTBEAT, WATCH)
TABLE = "trscaler_e2e"
#: what the host's own keepalived holds
OWN_ADDRESS = "192.0.2.50"
HEALTH = "/usr/local/bin/well"
_RESPONDER = Path(__file__).parents[2] / "trscaler_gen" / "lab" / "responder.py"

# A host like many: its own firewall, its own keepalived, a service, and a link that is set up by a unit.
_NFTABLES = """\
#!/usr/sbin/nft -f
flush ruleset
table inet host {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 23 drop comment "the host's own"
    }
}
"""
_KEEPALIVED = f"""\
vrrp_instance own {{
    state MASTER
    interface {LINK}
    virtual_router_id 9
    priority 100
    advert_int 1
    virtual_ipaddress {{
        {OWN_ADDRESS}/24
    }}
}}
"""
_LINK_UNIT = """\
[Unit]
Wants=network-pre.target
After=network-pre.target
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -e /etc/host/link.sh
[Install]
WantedBy=network-online.target
"""
_LINK_SCRIPT = f"""\
[ -d /sys/class/net/{LINK} ] || exit 0
while read -r key value; do echo "$value" >"/proc/sys/$key"; done </etc/host/sysctl
ip -batch /etc/host/link.batch
"""
_APP_UNIT = f"""\
[Service]
ExecStart=/usr/bin/python3 -I -S -E /etc/host/responder.py {NODE}
Restart=always
[Install]
WantedBy=multi-user.target
"""


@dataclass
class Site:
    """The host, its peers and two rollouts that differ in their rules; the peers run the first."""

    lab: Lab
    host: Host
    first: Mapping[str, Bundle]
    second: Mapping[str, Bundle]
    sessions: list[subprocess.Popen[str]] = field(default_factory=list)

    def stage(self, bundle: Bundle) -> None:
        """Put a generation beside the others, as `apply` does."""
        argv = ("sh", "-c", deploy_script("stage"), "sh", f"{HOME}/generations", bundle.generation)
        self.host.run(*argv, input=archive(bundle))

    def call(self, bundle: Bundle, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run a verb of a generation's script."""
        path = f"{HOME}/generations/{bundle.generation}/node.sh"
        return self.host.run("sh", path, *words, check=check)

    def facts(self) -> Facts:
        """What the host says of itself, as `apply` asks."""
        argv = ("sh", "-c", deploy_script("observe"), "sh", HOME, LINK, "", "nft", "keepalived")
        return asked(lambda: self.host.run(*argv).stdout.decode())

    def runs(self, bundle: Bundle) -> bool:
        """Whether the host is wholly as this generation has it, with its units, and serves."""
        facts = self.facts()
        is_well = facts.running == bundle.generation and facts.is_whole and facts.serving
        return is_well and all(self.host.is_active(unit) for unit in UNITS)

    def await_running(self, bundle: Bundle) -> None:
        """Wait until it does, and hears its peers."""
        eventually(lambda: self.runs(bundle), f"the host serves: {self.facts()}", PATIENCE_S)
        eventually(lambda: len(self.facts().alive) == 3, "the host hears its peers", PATIENCE_S)

    def await_peers(self, count: int) -> None:
        """Wait until the peers hold so many nodes for alive."""
        eventually(lambda: self._peers_see(count), f"the peers see {count} alive", PATIENCE_S)

    def _peers_see(self, count: int) -> bool:
        argv = ["nft", "list", "set", "netdev", TABLE, "alive"]
        return all(self.lab.exec(peer, argv).stdout.count("expires") == count for peer in PEERS)

    def start(self) -> None:
        """Let the host run the first generation, recorded, with the second staged."""
        self.stage(self.first[NODE])
        self.stage(self.second[NODE])
        self.call(self.first[NODE], "check")
        self.call(self.first[NODE], "up")
        self.call(self.first[NODE], "record", CHANGE, WHO)
        self.await_running(self.first[NODE])

    def reset(self) -> None:
        """Bring the host back to the first generation; from nothing, unless the test before left it whole."""
        self.hang_up()
        if self.host.pid and self.runs(self.first[NODE]) and not self.facts().unconfirmed:
            return self.await_peers(3)
        self.host.power_off()
        self.wipe()
        self.host.boot()
        self.start()
        return self.await_peers(3)

    def wipe(self) -> None:
        """Remove what the cluster has on the disk of a host that is off."""
        shutil.rmtree(self.host.disk(HOME), ignore_errors=True)
        units = self.host.disk("/etc/systemd/system")
        for path in (*units.glob(f"*.wants/{UNIT}*"), *units.glob(f"{UNIT}*.service")):
            path.unlink()

    def open_session(self, command: str, *words: str) -> subprocess.Popen[str]:
        """Run a shell command in a scope of its own, as a login is one to logind."""
        unit = f"--unit=session-{len(self.sessions) + 1}"
        argv = ("systemd-run", "--quiet", "--scope", unit, "sh", "-c", command, "sh", *words)
        pipe = subprocess.PIPE
        session = subprocess.Popen(self.host.command(*argv), stdin=pipe, stdout=pipe, text=True)
        self.sessions.append(session)
        return session

    def hold_lock(self) -> subprocess.Popen[str]:
        """Take the deployment lock, in a session, until `hang_up`."""
        holder = self.open_session(deploy_script("hold"), RUN, TOKEN, WHO, "900")
        assert answer(holder) == "held"
        return holder

    def hang_up(self) -> None:
        """End all sessions, from the other end."""
        while self.sessions:
            end(self.sessions.pop())


def _write_host_files(host: Host, batch: str, sysctls: str) -> None:
    host.write("/etc/nftables.conf", _NFTABLES)
    host.write("/etc/keepalived/keepalived.conf", _KEEPALIVED)
    host.write("/etc/host/link.sh", _LINK_SCRIPT)
    host.write("/etc/host/link.batch", batch)
    host.write("/etc/host/sysctl", sysctls)
    host.write("/etc/host/responder.py", _RESPONDER.read_text())
    host.write(HEALTH, "#!/bin/sh\n[ ! -e /run/unhealthy ]\n", 0o755)
    host.write("/etc/systemd/system/host-link.service", _LINK_UNIT)
    host.write("/etc/systemd/system/host-app.service", _APP_UNIT)
    _enable(host, "host-link.service", "network-online.target")
    _enable(host, "host-app.service", "multi-user.target")
    _enable(host, "nftables.service", "sysinit.target", "/lib/systemd/system")
    _enable(host, "keepalived.service", "multi-user.target", "/lib/systemd/system")


def _enable(host: Host, unit: str, target: str, folder: str = "/etc/systemd/system") -> None:
    link = host.disk(f"/etc/systemd/system/{target}.wants/{unit}")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(f"{folder}/{unit}")


def built(path: Path, output: Path) -> dict[str, Bundle]:
    """What `trscaler-gen build` writes, by node."""
    argv = [sys.executable, "-m", "trscaler_gen", "build", str(path), "-o", str(output)]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return {folder.name: _read_bundle(folder) for folder in output.iterdir() if folder.is_dir()}


def _read_bundle(folder: Path) -> Bundle:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    generation = hashlib.sha256(files[MANIFEST]).hexdigest()[:12]
    return Bundle("e2e", folder.name, generation, files)


def _start_peer(lab: Lab, bundle: Bundle) -> None:
    base = f"{HOME}/generations"
    stage = lab.command(bundle.node, ["sh", "-c", deploy_script("stage"), "sh", base, bundle.generation])
    subprocess.run(
        stage, env=lab.environment(bundle.node), input=archive(bundle), check=True, timeout=PATIENCE_S
    )
    lab.exec(bundle.node, ["sh", f"{base}/{bundle.generation}/node.sh", "up"], timeout_s=PATIENCE_S)


@contextmanager
def running_site(folder: Path, name: str) -> Iterator[Site]:
    """Bring up the lab, its two nodes and the host, which is off; all is gone at the end."""
    name = f"test-{name}-{os.getpid()}"
    directory = Path("/run/trscaler-gen") / name
    path = folder / "cluster.yaml"
    path.write_text(inventory_text(directory, nodes=3, health={"command": [HEALTH], "interval_s": 1}))
    second = folder / "second.yaml"
    shutil.copy(path, second)  # a ruleset names its file
    first_bundles = built(path, folder / "first")
    shutil.copy(lock_path(path), lock_path(second))
    second_bundles = built(second, folder / "second")
    others = yaml.safe_load(path.read_text())
    seats = lab_network(load_inventory(path))
    del others["nodes"][NODE]
    lab_path = folder / "lab.yaml"
    lab_path.write_text(yaml.safe_dump(others))
    with Lab.up(load_inventory(lab_path), directory) as lab, plugged_in(lab, name) as host:
        _write_host_files(host, node_batch(seats.nodes[0], seats.client), seat_sysctls(seats.nodes[0]))
        for peer in PEERS:
            lab.exec(peer, ["sh", "-c", f"printf '#!/bin/sh\\n' >{HEALTH} && chmod 755 {HEALTH}"])
            _start_peer(lab, first_bundles[peer])
        yield Site(lab, host, first_bundles, second_bundles)
