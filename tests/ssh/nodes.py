"""Real sshds to deploy to: each in mount and process namespaces of its own, with an /etc it may write to.

The bundles hold a node.sh that keeps a journal of its verbs and can be told to fail or to wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trscaler_gen.bundle import LOCK, MANIFEST, SCRIPT, Bundle
from trscaler_gen.deploy import Goal, Job, Phase, Report, Work, carry_out
from trscaler_gen.deploy.fleet import Fleet
from trscaler_gen.deploy.node import observe
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import RUNTIME, Facts
from trscaler_gen.inventory.model import Ssh
from trscaler_gen.transport import Connection, Target, connect, resolve

CLUSTER = "web"
LINK = "eth0"
ROOT = f"/etc/trscaler-gen/{CLUSTER}"
DEADLINE_S = 20.0

# Arguments: FOLDER SIZE (of the file system below /etc/trscaler-gen; "" for the overlay's)
# Of nodes that hear each other, what lies there lasts, and what ran runs again.
_BOOT = """\
set -e
mount -t tmpfs tmpfs "$1/etc"
mkdir "$1/etc/upper" "$1/etc/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc/upper,workdir=$1/etc/work" /etc
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
mount -t tmpfs tmpfs /root  # bash reads ~/.bashrc for every command over ssh: not the developer's
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount -t tmpfs tmpfs /sys/class/net  # the one link that these nodes have
mkdir /sys/class/net/eth0
if [ -n "$2" ]; then
    mkdir /etc/trscaler-gen
    mount -t tmpfs -o "size=$2" tmpfs /etc/trscaler-gen
fi
if [ -e "$1/../they-talk" ]; then
    mkdir -p "$1/lasts" /etc/trscaler-gen
    mount --bind "$1/lasts" /etc/trscaler-gen
    if [ -e "$1/enabled" ]; then echo up >/run/up && : >"$1/sends"; fi
fi
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""

_SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {keys}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups {startups}
{extra}
"""

#: speaks as the product's script does, and changes nothing but files
_NODE_SCRIPT = """\
#!/bin/sh
# {text}
set -eu
folder={folder}
here=$(dirname -- "$(readlink -f -- "$0")")
verb=$1 token=${{2:-}}
[ "$verb" = state ] || echo "{node} $verb ${{here##*/}}" >>{journal}
if [ -e "$folder/wait-$verb" ]; then
    : >"$folder/waiting-$verb"
    while [ -e "$folder/wait-$verb" ]; do sleep 0.02; done
fi
if [ -e "$folder/fail-$verb" ]; then
    echo "told to fail" >&2
    exit "$(cat "$folder/fail-$verb")"
fi
become() {{
    ln -sfn "$1" {root}/.new
    mv -T {root}/.new {root}/current
}}
arm() {{
    [ -n "$token" ] || return 0
    grep -q "^$token " {runtime}/deploy-holder || exit 77
    before=$(readlink {root}/current || echo -)
    [ -e {root}/armed ] || echo "$token $before $(cat /run/up 2>/dev/null)" >{root}/armed
}}
write_history() {{
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >>{root}/history
}}
# Of a generation, or the last.
change_of() {{
    grep -s " applied .* ${{1:-[^ ]*}} [^ ]*$" {root}/history | tail -n 1 | cut -d ' ' -f 3
}}
talks() {{ [ -e "$folder/../they-talk" ]; }}
# Who serves, or who is drained, of the nodes that send heartbeats: the numbers in their names.
heard() {{
    for sends in "$folder"/../n*/sends; do
        other=${{sends%/sends}}
        [ -e "$sends" ] || continue
        if [ -e "$other/lasts/{cluster}/drained" ]; then word=drained; else word=serving; fi
        [ "$word" != "$1" ] || printf '%s ' "${{other##*/n}}"
    done
}}
say_whom_it_hears() {{
    number={node}
    printf 'node_id=%s\\nheartbeat=MASTER\\n' "${{number#n}}"
    printf 'alive=%s\\npeers_draining=%s\\n' "$(heard serving)" "$(heard drained)"
    if [ -e {root}/drained ]; then printf 'draining=yes\\nserving=no\\n'; else echo draining=no; fi
    echo "held=$(cat "$folder/held" 2>/dev/null || echo 0)"
}}
case $verb in
    check) ;;
    up)
        arm && become "generations/${{here##*/}}" && echo up >/run/up
        ! talks || touch "$folder/sends" "$folder/enabled"
        ;;
    swap) arm && become "generations/${{here##*/}}" ;;
    down) arm && rm -f /run/up "$folder/sends" "$folder/enabled" ;;
    drain) : >{root}/drained && echo "lan: drained" ;;
    undrain) rm -f {root}/drained && echo "lan: serving" ;;
    held) cat "$folder/held" 2>/dev/null || echo 0 ;;
    confirm)
        grep -q "^$token " {root}/armed || {{ echo "it has gone back" >&2 && exit 1; }}
        rm {root}/armed
        ;;
    revert)
        grep -qs "^$token " {root}/armed || exit 66
        read -r _ before was <{root}/armed
        if [ "$before" = - ]; then rm -f {root}/current; else become "$before"; fi
        if [ -n "$was" ]; then echo up >/run/up; else rm -f /run/up; fi
        rm {root}/armed
        came_to=- of=-
        [ -z "$was" ] || {{ came_to=${{before##*/}} && of=$(change_of "$came_to"); }}
        write_history went-back "${{of:--}}" "$came_to" operator
        echo "lan: went back"
        ;;
    record)
        now=$(readlink {root}/current || echo -)
        case "$(tail -n 1 {root}/history 2>/dev/null) " in
            *" applied $2 ${{now##*/}} "*) ;;
            *) write_history applied "$2" "${{now##*/}}" "$3" ;;
        esac
        ;;
    erase) rm -rf {root} ;;
    state)
        now=$(readlink {root}/current)
        echo "generation=${{now##*/}}"
        echo "loaded=${{now##*/}}"
        echo epoch=1
        printf 'ruleset=intact\\nkeepalived=running\\nattached=yes\\nunits=none\\n'
        if [ -e /run/up ]; then printf 'running=yes\\nserving=yes\\n'; else echo running=no; fi
        if [ -e {root}/armed ]; then read -r token _ <{root}/armed && echo "unconfirmed=$token"; fi
        echo "change=$(change_of)"
        ! talks || say_whom_it_hears
        [ -e {root}/drained ] || cat "$folder/state-undrained" 2>/dev/null || :
        cat "$folder/state" 2>/dev/null || :
        ;;
esac
"""


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fails the test when it has not come true in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s for: {what}"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_key(path: Path, passphrase: str = "") -> Path:
    """A new ed25519 key at ``path``, its public half beside it."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def public(path: Path) -> str:
    """The public half of a key, without a line end."""
    return Path(f"{path}.pub").read_text().strip()


def fingerprint(path: Path) -> str:
    """The fingerprint of a key as OpenSSH prints it."""
    done = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


@dataclass
class SshNode:
    """One sshd with its own /etc and /run."""

    name: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self, keys: Path, *, size: str = "", extra: str = "", startups: int = 100) -> None:
        """Boot, and return when the sshd answers."""
        (self.folder / "etc").mkdir(exist_ok=True)
        config = _SSHD_CONFIG.format(
            port=self.port, folder=self.folder, keys=keys, startups=startups, extra=extra
        )
        (self.folder / "sshd_config").write_text(config)
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        with (self.folder / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*unshare, "sh", "-c", _BOOT, "sh", str(self.folder), size],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        await_true(self._answers, f"the sshd of {self.name}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            return sock.recv(4) == b"SSH-"
        return False

    def kill(self) -> None:
        """As if the power had failed: every process is gone at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            (self.folder / "sends").unlink(missing_ok=True)
            # The kernel ends the other processes of the namespace a moment later.
            await_true(self._is_deaf, f"the end of {self.name}")

    def _is_deaf(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return False
        return True

    def tell(self, name: str, text: str = "") -> None:
        """Leave word for the node's script: ``fail-VERB`` (exit status), ``wait-VERB``, ``state``."""
        (self.folder / name).write_text(text)

    def hold(self, connections: int) -> None:
        """Let so many TCP connections be there."""
        new = self.folder / "held.new"
        new.write_text(f"{connections}\n")
        new.rename(self.folder / "held")

    def forget(self, name: str) -> None:
        """Take the word back."""
        (self.folder / name).unlink()


@dataclass
class Lan:
    """Some nodes, and the client's side: key, known_hosts, ssh_config."""

    folder: Path
    nodes: dict[str, SshNode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_key(self.folder / "id")
        (self.folder / "authorized_keys").write_text(public(self.folder / "id") + "\n")
        self.known_hosts.touch()

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def journal(self) -> tuple[str, ...]:
        """Every verb asked for on any node, in order: ``NODE VERB``."""
        path = self.folder / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return tuple(line.rpartition(" ")[0] for line in lines)

    def let_talk(self) -> None:
        """Nodes that are booted from now on hear each other, and what lies on them outlasts a reboot."""
        (self.folder / "they-talk").touch()

    def reboot(self, name: str) -> None:
        """Power off and on."""
        self.nodes[name].kill()
        self.nodes[name].start(self.folder / "authorized_keys")

    def forget_journal(self) -> None:
        (self.folder / "journal").unlink(missing_ok=True)

    def boot(self, *names: str, size: str = "", extra: str = "", startups: int = 100) -> None:
        """Start nodes whose host keys the client knows."""
        for name in names:
            folder = self.folder / name
            folder.mkdir()
            make_key(folder / "host_key")
            self.nodes[name] = SshNode(name, folder, free_port())
            self.nodes[name].start(self.folder / "authorized_keys", size=size, extra=extra, startups=startups)
            with self.known_hosts.open("a") as file:
                file.write(f"[127.0.0.1]:{self.nodes[name].port} {public(folder / 'host_key')}\n")
        self.write_config()

    def write_config(self, extra: str = "") -> None:
        """ssh_config as a user would write it, one block a node."""
        blocks = [f"Host {n.name}\n  HostName 127.0.0.1\n  Port {n.port}\n" for n in self.nodes.values()]
        common = (
            f"Host *\n  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile none\n"
            f"  IdentityFile {self.folder / 'id'}\n  IdentitiesOnly yes\n"
        )
        (self.folder / "config").write_text("".join([extra, *blocks, common]))

    def target(self, name: str, timeout_s: int = 10) -> Target:
        ssh = Ssh(config=str(self.folder / "config"), connect_timeout_s=timeout_s)
        return resolve(name, "192.0.2.1", ssh)

    def connect(self, name: str) -> Connection:
        return connect(self.target(name))

    def run(self, name: str, command: str) -> str:
        """What a shell command on the node prints; it must succeed."""
        with self.connect(name) as connection:
            done = connection.run(("sh", "-c", command), timeout_s=DEADLINE_S)
        assert done.status == 0, done.stderr
        return done.stdout

    def bundle(self, name: str, text: str, padding_bytes: int = 0, lock: str = "") -> Bundle:
        """A generation for a node: another text is another generation."""
        script = _NODE_SCRIPT.format(
            text=text,
            node=name,
            root=ROOT,
            runtime=f"{RUNTIME}/{CLUSTER}",
            folder=self.folder / name,
            cluster=CLUSTER,
            journal=self.folder / "journal",
        )
        files = {SCRIPT: script.encode(), "ruleset.nft": b"#" * padding_bytes + b"\n"}
        if lock:
            files[LOCK] = lock.encode()
        digests = (f"{hashlib.sha256(data).hexdigest()}  {file}" for file, data in sorted(files.items()))
        manifest = ("\n".join(["# a manifest", *digests]) + "\n").encode()
        generation = hashlib.sha256(manifest).hexdigest()[:12]
        return Bundle(CLUSTER, name, generation, {**files, MANIFEST: manifest})

    def deploy(self, text: str, *names: str, leaving: tuple[str, ...] = (), **options: Any) -> Report:
        """Bring nodes (default: all that do not leave) to the generation of this text, as a plan would.

        ``options``: ``stopping_first``, ``on_event``, ``parallel``, ``connect``, ``before_change``,
        ``bundles``, ``still_as_planned`` and those of ``Work``.
        """
        wanted = names or tuple(name for name in self.nodes if name not in leaving)
        bundles = options.pop("bundles", {name: self.bundle(name, text) for name in wanted})
        connect = options.pop("connect", self.connect)
        tell = options.pop("on_event", lambda event: None)
        hooks = {key: options.pop(key) for key in ("before_change", "still_as_planned") if key in options}
        with (
            ThreadPoolExecutor(options.pop("parallel", 16), thread_name_prefix="deploy") as executor,
            Fleet(connect, executor=executor, on_event=tell) as fleet,
        ):
            jobs = {name: self._job(name, fleet, bundles.get(name)) for name in (*wanted, *leaving)}
            for name in options.pop("stopping_first", ()):
                jobs[name] = replace(jobs[name], goal=Goal.RESTART, stops_first=True)
            given: dict[str, Any] = {"who": "me@here", "change": "c" * 12, "settle_s": 2.0} | options
            work = Work(cluster=CLUSTER, token=secrets.token_hex(6), jobs=jobs, **given)
            return carry_out(work, fleet, **hooks)

    def _job(self, name: str, fleet: Fleet, bundle: Bundle | None) -> Job:
        """What a plan would decide for a node, from what it says of itself."""
        generation = bundle.generation if bundle else ""

        def look(node: str, connection: Connection) -> Facts:
            return observe(node, connection, cluster=CLUSTER, link=LINK, generation=generation)

        seen = fleet.each(Phase.OBSERVE, (name,), look)[name]
        facts = Facts() if isinstance(seen, NodeError) else seen
        if bundle is None:
            return Job(name, Goal.STOP, facts.generation, LINK, None, facts)
        if facts.generation == generation and facts.is_whole and facts.is_staged:
            goal = Goal.KEEP
        elif facts.runs:
            goal = Goal.SWAP if facts.keepalived == "running" else Goal.RESTART
        else:
            goal = Goal.START
        return Job(name, goal, generation, LINK, bundle, facts)

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()


@contextlib.contextmanager
def silent_listener() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])
