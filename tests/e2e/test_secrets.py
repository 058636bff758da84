"""The seed is a secret: no output and no log tells it, and what holds it is never anybody else's to read."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trscaler_gen.lockfile import lock_path, read_lock

from .cluster import VIPS
from .faults import STAYING, VICTIM, Site, running_faulty_site

#: as a user runs it, with all that Python and paramiko can say written down
LOUD = """\
import logging, sys
logging.basicConfig(level=1, filename=sys.argv.pop(1))
from trscaler_gen import cli
{spoil}
cli.main()
"""
#: what hides the seed from people does nothing any more
WITHOUT_REDACTION = """\
import re
from trscaler_gen import secret
from trscaler_gen.plan import comparable
secret._SEED = comparable._SEED = re.compile("(?!)()()")
"""

#: programs to which a secret could be given as a word
TOOLS = ("nft", "logger", "sed", "awk", "unshare", "ip", "tar", "timeout", "keepalived", "sync", "mv", "cat")
WRITE_DOWN = 'printf "%s\\n" "$0 $*" >>/run/said; exec "$REAL" "$@"'
#: nft refuses a rule of ours and quotes it, as it would one that a bug has spoilt
QUOTE = """\
case " $* " in *" -c -f - ")
    cat >/dev/null
    rule=$(grep -m 1 '^ *meta mark set jhash' "$2/ruleset.nft")
    echo "add rule netdev trscaler_e2e decide $rule bogus" | "$REAL" -f - 2>/run/quoted
    cat /run/quoted >&2
    exit 1 ;;
esac
"""
#: what anybody else could read of what is ours, at any moment; keepalived's numbers are no secret
LAX = """\
while :; do
    find /etc/trscaler-gen /run/trscaler-gen ! -type l ! -name '*.pid' -perm /077 -print 2>/dev/null
    : >/run/looked
    sleep 0.02
done
"""
NEW_FILES = "find /etc /root /run /tmp /var /home /srv /opt -newer /run/marker -type f"


@dataclass
class Witness:
    """Runs commands, keeps what they say, and knows all seeds that there have been."""

    site: Site
    folder: Path
    seeds: set[int] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)

    def learn_seed(self) -> None:
        """Remember the seed that the lock has now."""
        lock = read_lock(lock_path(self.site.cluster.path))
        assert lock is not None
        self.seeds.add(lock.seed)

    def tells(self, text: str) -> bool:
        """Whether a seed can be read in a text."""
        words = {word for seed in self.seeds for word in (str(seed), f"{seed:x}", f"{seed:08x}")}
        return any(word in text.lower() for word in words)

    def run(self, *argv: str, status: int = 0, spoil: str = "") -> str:
        """Run a verb on the inventory, with a log of everything."""
        log = self.folder / "log"
        loud = [sys.executable, "-W", "always", "-c", LOUD.format(spoil=spoil), str(log)]
        path = self.site.cluster.path
        done = subprocess.run(
            [*loud, *argv, str(path)],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            env={**os.environ, "HOME": str(self.folder)},
            umask=0,
        )
        output = done.stdout + done.stderr
        assert done.returncode == status, output
        if not spoil:
            self.said[" ".join(argv)] = output + log.read_text()
        log.unlink()
        self.learn_seed()
        return output


@contextmanager
def written_down(site: Site) -> Iterator[None]:
    """On every node: each word that is given to a tool, and a shell that would let others read its files."""
    undo = [site.replace_tool(node, tool, WRITE_DOWN) for node in site.lab.nodes for tool in TOOLS]
    quote = site.replace_tool(VICTIM, "nft", f"{QUOTE}{WRITE_DOWN}")
    for node in site.lab.nodes:
        site.sh(node, "touch -d '2 seconds ago' /run/marker; echo 'umask 000' >/root/.bashrc")
    yield
    quote()
    for take_back in undo:
        take_back()


@contextmanager
def watched_for_lax_files(witness: Witness) -> Iterator[None]:
    """Look all the time for what others could read on the nodes."""
    lab = witness.site.lab
    watching = {node: lab.popen(node, ["sh", "-c", LAX]) for node in lab.nodes}
    try:
        yield
    finally:
        for node, process in watching.items():
            process.terminate()
            witness.said[f"lax on {node}"] = process.communicate()[0]


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """Somebody who has used every verb, and seen every node while they ran."""
    folder = tmp_path_factory.mktemp("secrets")
    with running_faulty_site(folder, "secrets") as site:
        witness = Witness(site, folder)
        witness.learn_seed()
        with written_down(site), watched_for_lax_files(witness):
            use_everything(witness)
        yield witness


def use_everything(witness: Witness) -> None:
    """The verbs in an order that makes sense; the first change is refused by nft, which quotes a rule."""
    run, site = witness.run, witness.site
    site.change()
    run("check")
    run("build", "-o", str(witness.folder / "build"))
    run("plan")
    run("plan", "--full")
    run("plan", "--json")
    run("plan", "-o", str(witness.folder / "saved"))
    assert "seed ... " in run("apply", "--yes", status=1)
    run("apply", "--yes", "--json", status=1)
    site.sh(VICTIM, "mv /usr/local/sbin/nft /run/nft.away")
    run("apply", "--yes")
    site.write({**site.document, "virtual_addresses": list(VIPS)})
    run("apply", "--yes")
    run("rollback", "--yes", "--json")
    run("apply", "--yes", "--json")
    run("lock", "reseed", "--yes")
    run("plan", "--full")
    run("apply", "--yes", "--allow-disruption")
    lock_path(site.cluster.path).unlink()
    run("lock", "recover")
    run("lock", "recover", "--force")
    run("drain", VICTIM, "--wait", "--json", "--inventory")
    run("status")
    run("undrain", VICTIM, "--inventory")
    for verb in ("status", "history"):
        run(verb)
        run(verb, "--json")


def test_no_output_and_no_log_tells_a_seed(witness: Witness) -> None:
    assert len(witness.seeds) == 2
    assert [argv for argv, said in witness.said.items() if witness.tells(said)] == []
    assert "paramiko" in witness.said["plan --json"]  # its log is among them


def test_twin_without_redaction_a_plan_tells_it(witness: Witness) -> None:
    site = witness.site
    site.change()
    witness.run("lock", "reseed", "--yes")
    assert not witness.tells(witness.run("plan", "--full"))
    assert witness.tells(witness.run("plan", "--full", spoil=WITHOUT_REDACTION))


def test_nft_did_quote_a_seed(witness: Witness) -> None:
    """Or nothing would have been shown by its refusal."""
    assert witness.tells(witness.site.sh(VICTIM, "cat /run/quoted"))


def test_no_program_is_given_a_seed(witness: Witness) -> None:
    """Words are seen by everybody, in the list of processes; logger's are what the system's log is told."""
    words = {node: witness.site.sh(node, "cat /run/said") for node in witness.site.lab.nodes}
    assert all("/nft -" in said for said in words.values())
    assert any("/logger -t" in said for said in words.values())
    assert [node for node, said in words.items() if witness.tells(said)] == []


def test_only_files_of_ours_hold_it_and_nobody_else_reads_them(witness: Witness) -> None:
    for node in witness.site.lab.nodes:
        ours = re.compile(r"/(etc|run)/trscaler-gen/e2e/")
        holding = files_with(witness, node)
        assert [path for path in holding if not ours.match(path) and path != "/run/quoted"] == []
        assert holding or node not in STAYING
        assert witness.said[f"lax on {node}"] == ""


def files_with(witness: Witness, node: str) -> list[str]:
    """Files of a node, written since it was watched, in which there is a seed."""
    words = [word for seed in witness.seeds for word in ("-e", str(seed), "-e", f"{seed:x}")]
    found = witness.site.sh(node, f'{NEW_FILES} -print0 | xargs -0 grep -liaF "$@"', *words, check=False)
    return found.splitlines()


def test_twin_a_file_that_others_may_read_is_noticed(witness: Witness) -> None:
    site = witness.site
    with watched_for_lax_files(witness):
        lax, look = (
            "/etc/trscaler-gen/e2e/lax",
            "rm -f /run/looked; until [ -e /run/looked ]; do sleep 0.02; done",
        )
        site.sh("n1", f"umask 022; echo >{lax}; {look}; {look}; rm {lax}")
    assert "/etc/trscaler-gen/e2e/lax" in witness.said["lax on n1"]


def test_on_the_operators_disk_too(witness: Witness) -> None:
    """The umask was 0 all the time."""
    paths = [path for path in witness.folder.rglob("*") if path.is_file()]
    holding = [path for path in paths if witness.tells(path.read_text(errors="replace"))]
    assert {"saved", "lock", "ruleset.nft", lock_path(witness.site.cluster.path).name} <= {
        path.name for path in holding
    }
    for path in holding:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        folder = path.parent
        if folder != witness.folder:  # the user's own
            assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
