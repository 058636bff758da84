"""``trscaler-gen lock`` as a user runs it, against nodes that carry locks."""

from __future__ import annotations

import base64
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ssh.nodes import CLUSTER, LINK, ROOT, Lan
from trscaler_gen.cli import lock as lock_module
from trscaler_gen.errors import InputError, OperationError
from trscaler_gen.inventory.load import load_inventory
from trscaler_gen.lock import Lock, carried, forget_retired, parse_lock, reconcile, render_lock, reseed
from trscaler_gen.lockfile import read_lock, write_lock

SEED = 0x5EED0001


@dataclass
class User:
    """Somebody with an inventory, and nodes that carry what is put there."""

    lan: Lan

    @property
    def inventory(self) -> Path:
        return self.lan.folder / "web.yaml"

    @property
    def lock(self) -> Path:
        return self.inventory.with_suffix(".lock")

    def write(self, *nodes: str) -> None:
        lines = [
            f"cluster: {CLUSTER}",
            f"link: {LINK}",
            "virtual_addresses: [192.0.2.100]",
            "hash: {buckets: 64}",
            f"ssh: {{config: {self.lan.folder / 'config'}}}",
            "nodes:",
            *(f"  {name}: {{address: 192.0.2.{name.removeprefix('n')}}}" for name in nodes),
        ]
        self.inventory.write_text("\n".join(lines) + "\n")

    def next(self, before: Lock | None, *nodes: str, seed: int = SEED) -> Lock:
        """The lock of these nodes, whoever left was stopped."""
        self.write(*nodes)
        lock = reconcile(load_inventory(self.inventory), before, seed=seed)
        return forget_retired(lock, [node.node_id for node in lock.retired])

    def put(self, node: str, generation: str, content: bytes) -> None:
        """Make this the lock of a generation, and that the current one."""
        folder = f"{ROOT}/generations/{generation}"
        text = base64.b64encode(content).decode()
        link = f"ln -sfn generations/{generation} {ROOT}/current"
        self.lan.run(node, f"mkdir -p {folder} && echo {text} | base64 -d >{folder}/lock && {link}")

    def carry(self, lock: Lock, *nodes: str, generation: str = "0123456789ab") -> None:
        for node in nodes:
            self.put(node, generation, render_lock(carried(lock)).encode())

    def run(self, *argv: str) -> Result:
        verb, *options = argv
        return CliRunner().invoke(lock_module.command, [verb, str(self.inventory), *options])


@pytest.fixture
def user(lan: Lan) -> User:
    lan.boot("n1", "n2", "n3")
    return User(lan)


def refused(result: Result) -> OperationError:
    """What a command that did nothing said."""
    assert isinstance(result.exception, OperationError), result.output
    assert result.exception.hint
    return result.exception


# recover


def test_lost_lock_is_the_last_that_nodes_run(user: User) -> None:
    first = user.next(None, "n1", "n2")
    last = user.next(first, "n1", "n2", "n3")
    user.carry(first, "n1")
    user.carry(last, "n2", "n3")
    result = user.run("recover")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "n1: serial 1",
        "n2: serial 2",
        "n3: serial 2",
        f"wrote {user.lock}: serial 2, epoch 1, nodes n1, n2, n3",
        f"next: trscaler-gen plan {user.inventory}",
    ]
    assert read_lock(user.lock) == last
    assert stat.S_IMODE(user.lock.stat().st_mode) == 0o600
    assert reconcile(load_inventory(user.inventory), last, seed=1) == last


def test_lock_is_recovered_from_before_a_rollback(user: User) -> None:
    """A serial that was given out must not be given to another lock."""
    first = user.next(None, "n1", "n2")
    last = user.next(first, "n1", "n2", "n3")
    user.carry(last, "n1", "n2", generation="fedcba987654")
    user.carry(first, "n1", "n2", "n3")
    assert user.run("recover").exit_code == 0
    assert read_lock(user.lock) == last


def test_node_that_has_nothing_is_said(user: User) -> None:
    lock = user.next(None, "n1", "n2", "n3")
    user.carry(lock, "n1")
    result = user.run("recover")
    assert "n2: nothing of this cluster" in result.output
    assert read_lock(user.lock) == lock


def test_nothing_to_recover_is_said(user: User) -> None:
    user.write("n1", "n2")
    assert refused(user.run("recover")).message == "no node has a lock of this cluster"
    assert not user.lock.exists()


def test_node_that_cannot_be_reached_has_to_be_left_out(user: User) -> None:
    lock = user.next(None, "n1", "n2", "n3")
    user.carry(lock, "n1", "n2", "n3")
    user.lan.nodes["n2"].kill()
    assert "--without n2" in refused(user.run("recover")).hint
    assert not user.lock.exists()
    assert user.run("recover", "--without", "n2").exit_code == 0
    assert read_lock(user.lock) == lock


def test_only_nodes_can_be_left_out(user: User) -> None:
    user.write("n1")
    result = user.run("recover", "--without", "n7")
    assert result.exit_code == 2
    assert "not a node of web.yaml" in result.output


def spoilt(lock: Lock) -> bytes:
    return render_lock(lock).replace("serial: 1", "serial: 2").encode()


def of_another_cluster(lock: Lock) -> bytes:
    return render_lock(Lock(**{**vars(lock), "cluster": "mail"})).encode()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoilt, "its lock cannot be read: the lock was changed since it was written"),
        (of_another_cluster, "its lock cannot be read: it is of cluster mail"),
        (lambda lock: b"\xff", "its lock cannot be read: 'utf-8' codec can't decode"),
        (lambda lock: b"", "its lock cannot be read: the lock is empty"),
    ],
    ids=["edited", "of another cluster", "no text", "empty"],
)
def test_node_with_a_bad_lock_has_to_be_left_out(user: User, spoil: object, message: str) -> None:
    lock = user.next(None, "n1", "n2")
    user.carry(lock, "n1")
    user.put("n2", "0123456789ab", spoil(lock))  # type: ignore[operator]
    result = user.run("recover")
    assert "--without n2" in refused(result).hint
    assert f"n2: {message}" in result.output
    assert f"{SEED:x}" not in result.output
    assert user.run("recover", "--without", "n2").exit_code == 0


def test_node_whose_generation_carries_no_lock_has_to_be_left_out(user: User) -> None:
    lock = user.next(None, "n1", "n2")
    user.carry(lock, "n1", "n2")
    user.lan.run("n2", f"rm {ROOT}/generations/*/lock")
    assert "--without n2" in refused(user.run("recover")).hint


def test_two_locks_of_the_same_serial_are_refused(user: User) -> None:
    common = user.next(None, "n1", "n2")
    ours, theirs = user.next(common, "n1", "n2", "n3"), user.next(common, "n1", "n3")
    user.write("n1", "n2", "n3")
    user.carry(ours, "n1", "n2")
    user.carry(theirs, "n3")
    error = refused(user.run("recover"))
    assert "grown apart" in error.message
    assert error.hint == "leave out those that are wrong: --without n3"
    assert not user.lock.exists()
    assert user.run("recover", "--without", "n3").exit_code == 0
    assert read_lock(user.lock) == ours


def test_generations_of_a_cluster_that_was_made_anew_do_not_count(user: User) -> None:
    old = user.next(user.next(None, "n1", seed=7), "n1", "n2")
    new = user.next(None, "n1", "n2")
    user.carry(old, "n1", "n2", generation="fedcba987654")
    user.carry(new, "n1", "n2")
    assert user.run("recover").exit_code == 0
    assert read_lock(user.lock) == new


def test_of_two_prepared_changes_none_counts(user: User) -> None:
    common = user.next(None, "n1", "n2")
    user.carry(user.next(common, "n1", "n2", "n3"), "n1", generation="aaaaaaaaaaaa")
    user.carry(user.next(common, "n1"), "n2", generation="bbbbbbbbbbbb")
    user.carry(common, "n1", "n2")
    user.write("n1", "n2")
    assert user.run("recover").exit_code == 0
    assert read_lock(user.lock) == common


def test_lock_that_is_there_is_kept(user: User) -> None:
    lock = user.next(None, "n1")
    user.carry(lock, "n1")
    user.lock.write_text("something")
    assert "exists; nothing was written" in refused(user.run("recover")).message
    assert user.lock.read_text() == "something"
    result = user.run("recover", "--force")
    assert f"the lock before is {user.lock}.bak" in result.output
    assert read_lock(user.lock) == lock
    kept = Path(f"{user.lock}.bak")
    assert kept.read_text() == "something"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    user.lock.write_text("something else")
    assert "holds another lock" in refused(user.run("recover", "--force")).message
    assert (user.lock.read_text(), kept.read_text()) == ("something else", "something")


# reseed


def test_another_seed_is_another_epoch(user: User) -> None:
    lock = user.next(None, "n1", "n2")
    write_lock(user.lock, lock)
    result = user.run("reseed", "--yes")
    assert result.exit_code == 0, result.output
    renewed = read_lock(user.lock)
    assert renewed is not None
    assert renewed == reseed(lock, renewed.seed, "")
    assert renewed.seed != lock.seed
    assert "breaks connections" in result.stderr
    assert "--allow-disruption" in result.stdout
    assert "epoch 2, serial 2" in result.stdout
    assert f"{renewed.seed:x}" not in result.output and f"{renewed.seed}" not in result.output


def test_another_seed_is_asked_for(user: User) -> None:
    lock = user.next(None, "n1", "n2")
    write_lock(user.lock, lock)
    assert "--yes" in refused(user.run("reseed")).hint
    assert read_lock(user.lock) == lock


def test_no_lock_has_no_seed(user: User) -> None:
    user.write("n1")
    assert "does not exist" in refused(user.run("reseed", "--yes")).message


def test_lock_of_another_cluster_is_left_alone(user: User) -> None:
    lock = user.next(None, "n1")
    user.lock.write_bytes(of_another_cluster(lock))
    assert "is the lock of cluster mail" in refused(user.run("reseed", "--yes")).message
    assert parse_lock(user.lock.read_text(), "").seed == SEED


def test_spoilt_lock_is_left_alone(user: User) -> None:
    lock = user.next(None, "n1")
    user.lock.write_bytes(spoilt(lock))
    assert isinstance(user.run("reseed", "--yes").exception, InputError)
    assert user.lock.read_bytes() == spoilt(lock)
