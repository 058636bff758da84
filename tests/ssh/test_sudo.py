"""Logins that are not root: real sudo in the nodes, and everything that it may refuse."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import pytest

from ssh.nodes import Lan, await_true
from trscaler_gen.errors import NodeError
from trscaler_gen.inventory.model import Ssh
from trscaler_gen.transport import Connection, Target, connect, resolve

# sshd reads authorized_keys as the user, who may not enter the tests' folder.
_KEYS = "AuthorizedKeysCommand /bin/cat {keys}\nAuthorizedKeysCommandUser root\n"
_ALL = "ops ALL=(root) NOPASSWD: ALL"


def boot(lan: Lan, *sudoers: str) -> None:
    """A node with a user ``ops``, who may do what these lines say."""
    lan.boot("n1", extra=_KEYS.format(keys=lan.folder / "authorized_keys"))
    lan.run("n1", "useradd --no-create-home --home-dir / --shell /bin/sh --password '*' ops")
    write = "printf '%s\\n' \"$@\" >/etc/sudoers.d/test && chmod 440 /etc/sudoers.d/test && visudo -cq"
    with lan.connect("n1") as connection:
        done = connection.run(("sh", "-c", write, "sh", *sudoers), timeout_s=60)
    assert done.status == 0, done.stderr


def target(lan: Lan, *, sudo: bool = True) -> Target:
    return replace(lan.target("n1"), user="ops", sudo=sudo)


def login(lan: Lan) -> Connection:
    return connect(target(lan))


def refusal(lan: Lan) -> NodeError:
    with login(lan) as connection, pytest.raises(NodeError) as caught:
        connection.run(("id", "-u"), timeout_s=60)
    return caught.value


@pytest.mark.parametrize("user", ["root", "ops"])
@pytest.mark.parametrize("wish", [None, True, False])
def test_who_is_not_root_needs_sudo_unless_the_inventory_says_otherwise(user: str, wish: bool | None) -> None:
    found = resolve("n1", "192.0.2.1", Ssh(user=user, sudo=wish, config="/dev/null"))
    assert found.sudo is (user != "root" if wish is None else wish)


@pytest.mark.parametrize("pty", ["use_pty", "!use_pty"])
def test_everything_works_as_for_root(lan: Lan, pty: str) -> None:
    boot(lan, f"Defaults {pty}", _ALL)
    data = bytes(range(256)) * 8_000
    hostile = "$(touch /owned); `id` 'x' \"y\" * \\ \n~ -n --"
    with login(lan) as connection:
        assert connection.run(("id", "-u"), timeout_s=60).stdout == "0\n"
        done = connection.run(("sh", "-c", "sha256sum; echo oops >&2; exit 7"), stdin=data, timeout_s=60)
        assert (done.status, done.stdout.split()[0]) == (7, hashlib.sha256(data).hexdigest())
        assert done.stderr == "oops\n"
        assert connection.run(("printf", "%s", hostile), timeout_s=60).stdout == hostile
        assert connection.fetch(("head", "-c", "3000000", "/dev/zero"), timeout_s=60) == bytes(3_000_000)


def test_hanging_up_ends_a_session_behind_sudo(lan: Lan) -> None:
    boot(lan, "Defaults use_pty", _ALL)
    argv = ("sh", "-c", 'echo held; while read -r line; do echo "$line"; done; echo ended >/run/ended')
    with login(lan) as connection:
        session = connection.start(argv)
        assert session.read_line(10) == "held\n"
        session.send(b"x\n")
        assert session.read_line(10) == "x\n"
        session.close()
        await_true(lambda: connection.run(("cat", "/run/ended"), timeout_s=60).status == 0, "its end")


def test_what_a_command_starts_lives_on_behind_sudo(lan: Lan) -> None:
    boot(lan, "Defaults use_pty", _ALL)
    began = time.monotonic()
    with login(lan) as connection:
        done = connection.run(("sh", "-c", "setsid sleep 60 & echo $! >/run/pid; echo started"), timeout_s=60)
        assert done.stdout == "started\n"
        assert connection.run(("sh", "-c", "kill -0 $(cat /run/pid)"), timeout_s=60).status == 0
    assert time.monotonic() - began < 30


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["ops ALL=(root) ALL", "# nothing", "ops ALL=(root) NOPASSWD: /bin/true"])
def test_sudo_that_wants_a_password_is_told_with_the_line_to_add(lan: Lan, rule: str) -> None:
    boot(lan, rule)
    error = refusal(lan)
    assert error.message == "sudo wants a password from ops"
    assert "visudo -f /etc/sudoers.d/trscaler-gen" in error.hint
    assert error.hint.endswith(f": {_ALL}")
    assert error.stderr == "sudo: a password is required\n"


def test_the_line_of_the_hint_is_the_remedy(lan: Lan) -> None:
    boot(lan, "ops ALL=(root) ALL")
    line = refusal(lan).hint.rpartition("this line: ")[2]
    with lan.connect("n1") as connection:
        write = 'cd /etc/sudoers.d && echo "$1" >trscaler-gen && chmod 440 trscaler-gen && visudo -cq'
        argv = ("sh", "-c", write, "sh", line)
        assert connection.run(argv, timeout_s=60).status == 0
    with login(lan) as connection:
        assert connection.run(("id", "-u"), timeout_s=60).stdout == "0\n"


def test_a_user_whom_sudo_does_not_know(lan: Lan) -> None:
    boot(lan, "Defaults:ops !authenticate")
    error = refusal(lan)
    assert error.message == "sudo does not let ops run commands as root"
    assert error.hint.endswith(_ALL)


def test_sudo_that_wants_a_terminal(lan: Lan) -> None:
    boot(lan, "Defaults:ops requiretty", _ALL)
    error = refusal(lan)
    assert error.message == "sudo wants a terminal from ops (requiretty)"
    assert error.hint.endswith("Defaults:ops !requiretty")


def test_no_sudo_at_all(lan: Lan) -> None:
    boot(lan)
    lan.run("n1", "mount -t tmpfs -o mode=755 tmpfs /mnt && cp -a /usr/bin/. /mnt && rm /mnt/sudo")
    lan.run("n1", "mount --bind /mnt /usr/bin")
    error = refusal(lan)
    assert error.message == "ops is not root there, and there is no sudo"
    assert "ssh.user" in error.hint


def test_sudo_that_is_broken_says_itself_why(lan: Lan) -> None:
    boot(lan, _ALL)
    lan.run("n1", "chmod 666 /etc/sudoers")
    error = refusal(lan)
    assert error.message.startswith("sudo does not work for ops: ")
    assert "world writable" in error.stderr


def test_refusals_reach_those_who_fetch_and_those_who_start(lan: Lan) -> None:
    boot(lan, "ops ALL=(root) ALL")
    with login(lan) as connection:
        with pytest.raises(NodeError, match="wants a password"):
            connection.fetch(("id", "-u"), timeout_s=60)
        with pytest.raises(NodeError, match="wants a password"):
            connection.start(("id", "-u")).read_line(10)


def test_without_sudo_commands_run_as_the_user(lan: Lan) -> None:
    boot(lan, _ALL)
    with connect(target(lan, sudo=False)) as connection:
        assert connection.run(("id", "-un"), timeout_s=60).stdout == "ops\n"


# --- what is not sudo's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [1, 126, 127])
def test_a_commands_own_failure_is_not_taken_for_sudos(lan: Lan, status: int) -> None:
    boot(lan, _ALL)
    script = f"echo 'sudo: a password is required' >&2; exit {status}"
    with login(lan) as connection:
        done = connection.run(("sh", "-c", script), timeout_s=60)
    assert (done.status, done.stderr) == (status, "sudo: a password is required\n")


def test_a_command_that_is_not_there_is_told_as_it_is_without_sudo(lan: Lan) -> None:
    boot(lan, _ALL)
    with login(lan) as connection:
        done = connection.run(("no-such-command",), timeout_s=60)
    assert (done.status, done.stderr) == (127, "no-such-command: command not found\n")


def test_sudos_warning_about_names_is_not_the_commands(lan: Lan) -> None:
    boot(lan, _ALL)
    lan.run("n1", "mkdir /run/uts && echo >/etc/hosts && echo 'hosts: files' >/etc/nsswitch.conf")
    with login(lan) as connection:
        loud = connection.run(("sh", "-c", "echo mine >&2; exit 1"), timeout_s=60)
        quiet = connection.run(("false",), timeout_s=60)
    assert (loud.status, loud.stderr) == (1, "mine\n")
    assert (quiet.status, quiet.stderr) == (1, "")
