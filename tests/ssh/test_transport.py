"""Connections to real sshds: what is verified, how long anything may take, and what is said when it fails."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from ssh.nodes import Lan, await_true, fingerprint, free_port, make_key, public, silent_listener
from trscaler_gen.errors import NodeError
from trscaler_gen.transport import OUTPUT_LIMIT_BYTES, Target, connect, host_key


def refusal(target: Target) -> NodeError:
    """The error of a connection that must not come about."""
    with pytest.raises(NodeError) as caught:
        connect(target).close()
    return caught.value


@contextlib.contextmanager
def agent_with(key: Path, folder: Path) -> Iterator[str]:
    """An ssh-agent that holds one key (passphrase: secret); gives its socket."""
    path = str(folder / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        await_true(Path(path).exists, "the agent")
        askpass = folder / "askpass"
        askpass.write_text("#!/bin/sh\necho secret\n")
        askpass.chmod(0o700)
        env = os.environ | {
            "SSH_AUTH_SOCK": path,
            "SSH_ASKPASS": str(askpass),
            "SSH_ASKPASS_REQUIRE": "force",
        }
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, stdin=subprocess.DEVNULL)
        yield path
    finally:
        agent.kill()
        agent.wait()


# --- commands ----------------------------------------------------------------------------------------------


def test_a_command_has_input_outputs_and_a_status(lan: Lan) -> None:
    lan.boot("n1")
    data = bytes(range(32, 127)) * 30_000
    with lan.connect("n1") as connection:
        done = connection.run(("sh", "-c", "sha256sum; echo oops >&2; exit 7"), stdin=data, timeout_s=60)
        again = connection.run(("echo", "second"), timeout_s=60)
    assert (done.status, done.stdout.split()[0]) == (7, hashlib.sha256(data).hexdigest())
    assert done.stderr == "oops\n"
    assert again.stdout == "second\n"


def test_words_reach_the_node_as_they_are(lan: Lan) -> None:
    lan.boot("n1")
    hostile = "$(touch /root/owned); `id` 'x' \"y\" * \\ \n~"
    with lan.connect("n1") as connection:
        assert connection.run(("printf", "%s", hostile), timeout_s=60).stdout == hostile
    assert lan.run("n1", "ls -A /root") == ""


def test_a_command_that_does_not_end_is_left_after_its_time(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        began = time.monotonic()
        with pytest.raises(NodeError, match=r"no answer within 0\.5 s") as caught:
            connection.run(("sleep", "60"), timeout_s=0.5)
        assert time.monotonic() - began < 30
        assert caught.value.command == "sleep 60"
        assert connection.run(("echo", "alive"), timeout_s=60).stdout == "alive\n"


def test_a_daemon_that_keeps_the_pipes_open_does_not_hold_us_up(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        began = time.monotonic()
        done = connection.run(("sh", "-c", "sleep 60 & echo started; exit 3"), timeout_s=60)
    assert (done.status, done.stdout) == (3, "started\n")
    assert time.monotonic() - began < 30


def test_output_is_bounded_and_both_streams_are_read(lan: Lan) -> None:
    lan.boot("n1")
    flood = "head -c 5000000 /dev/zero | tr '\\0' e >&2; head -c 5000000 /dev/zero | tr '\\0' o"
    with lan.connect("n1") as connection:
        done = connection.run(("sh", "-c", flood), timeout_s=60)
    assert done.status == 0
    for text, letter in ((done.stdout, "o"), (done.stderr, "e")):
        assert text.startswith(letter * OUTPUT_LIMIT_BYTES)
        assert len(text) < OUTPUT_LIMIT_BYTES + 100
        assert text.endswith("cut off]")


def test_terminal_escapes_do_not_reach_the_terminal(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        done = connection.run(("printf", r"a\033[2Jb\r\n\007c\t\302\233d\342\200\256e\377"), timeout_s=60)
    assert done.stdout == "a[2Jb\nc\tde\N{REPLACEMENT CHARACTER}"


def test_a_node_that_dies_ends_its_command(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        lan.nodes["n1"].kill()
        with pytest.raises(NodeError, match="connection lost"):
            connection.run(("true",), timeout_s=60)


def test_a_closed_connection_says_so(lan: Lan) -> None:
    lan.boot("n1")
    connection = lan.connect("n1")
    connection.close()
    connection.close()
    with pytest.raises(NodeError, match="was closed"):
        connection.run(("true",), timeout_s=60)


# --- output as it is ---------------------------------------------------------------------------------------


def test_output_is_fetched_whole_and_as_it_is(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        everything = connection.fetch(("printf", r"a\r\n\000\033[2J\377"), timeout_s=60)
        zeros = connection.fetch(("head", "-c", "5000000", "/dev/zero"), timeout_s=60)
        nothing = connection.fetch(("true",), timeout_s=60)
    assert everything == b"a\r\n\0\x1b[2J\xff"
    assert zeros == bytes(5_000_000)
    assert nothing == b""


def test_output_that_comes_long_after_the_exit_is_fetched_too(lan: Lan) -> None:
    lan.boot("n1")
    late = ("sh", "-c", "(sleep 1.5; echo late) & echo early")
    with lan.connect("n1") as connection:
        assert connection.fetch(late, timeout_s=60) == b"early\nlate\n"
        with pytest.raises(NodeError, match=r"no answer within 0\.5 s"):
            connection.fetch(late, timeout_s=0.5)


def test_a_fetch_that_fails_says_why(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection, pytest.raises(NodeError) as caught:
        connection.fetch(("sh", "-c", "echo part; echo no such table >&2; exit 3"), timeout_s=60)
    error = caught.value
    assert error.message == "a command failed: no such table"
    assert (error.status, error.stderr) == (3, "no such table\n")
    assert error.command.startswith("sh -c")


def test_what_is_fetched_is_never_cut_in_silence(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        assert len(connection.fetch(("echo", "12345"), timeout_s=10, limit_bytes=6)) == 6
        for argv in (("echo", "123456"), ("cat", "/dev/zero")):
            with pytest.raises(NodeError, match="more than 6 bytes"):
                connection.fetch(argv, timeout_s=10, limit_bytes=6)
        assert connection.run(("echo", "alive"), timeout_s=60).stdout == "alive\n"


def test_a_fetch_from_a_node_that_dies_is_an_error(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        killer = threading.Timer(0.5, lan.nodes["n1"].kill)
        killer.start()
        with pytest.raises(NodeError, match="connection lost"):
            connection.fetch(("sh", "-c", "echo part; exec >&-; sleep 60"), timeout_s=60)
        killer.join()


# --- host keys ---------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_shown_and_refused(lan: Lan) -> None:
    lan.boot("n1")
    lan.known_hosts.write_text("")
    error = refusal(lan.target("n1"))
    port = lan.nodes["n1"].port
    assert "is not known" in error.message
    assert fingerprint(lan.nodes["n1"].folder / "host_key") in error.message
    assert f"ssh-keyscan -p {port} -t ed25519 127.0.0.1 >>{lan.known_hosts}" in error.hint


def test_the_hint_for_an_unknown_host_key_works(lan: Lan) -> None:
    lan.boot("n1")
    lan.known_hosts.write_text("")
    command = refusal(lan.target("n1")).hint.partition("or alone: ")[2]
    subprocess.run(["sh", "-c", command], check=True, stderr=subprocess.DEVNULL)
    connect(lan.target("n1")).close()


def test_a_changed_host_key_is_refused_loudly(lan: Lan) -> None:
    lan.boot("n1")
    port = lan.nodes["n1"].port
    old = make_key(lan.folder / "old_host_key")
    lan.known_hosts.write_text(f"# a comment\n[127.0.0.1]:{port} {public(old)}\n")
    error = refusal(lan.target("n1"))
    assert "HAS CHANGED" in error.message
    assert fingerprint(old) in error.message
    assert fingerprint(lan.nodes["n1"].folder / "host_key") in error.message
    assert f"{lan.known_hosts}:2" in error.message
    assert "ssh-keygen -R" in error.hint
    assert "listening in" in error.hint


def test_a_revoked_host_key_is_refused(lan: Lan) -> None:
    lan.boot("n1")
    line = lan.known_hosts.read_text()
    lan.known_hosts.write_text(f"{line}@revoked * {' '.join(line.split()[1:])}\n")
    assert "IS REVOKED" in refusal(lan.target("n1")).message


def test_hashed_names_are_found(lan: Lan) -> None:
    lan.boot("n1")
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", str(lan.known_hosts)], check=True, stderr=subprocess.DEVNULL
    )
    assert lan.known_hosts.read_text().startswith("|1|")
    connect(lan.target("n1")).close()


def test_the_known_type_of_key_is_asked_for(lan: Lan) -> None:
    rsa = lan.folder / "rsa_host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    lan.boot("n1", extra=f"HostKey {rsa}")
    lan.known_hosts.write_text(f"[127.0.0.1]:{lan.nodes['n1'].port} {public(rsa)}\n")
    connect(lan.target("n1")).close()


def test_openssh_too_takes_another_type_of_key_for_a_changed_one(lan: Lan) -> None:
    rsa = lan.folder / "rsa_host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    lan.boot("n1")
    known = f"[127.0.0.1]:{lan.nodes['n1'].port} {public(rsa)}\n"
    lan.known_hosts.write_text(known)
    with pytest.raises(NodeError, match="HAS CHANGED"):
        connect(lan.target("n1"), accept_new=True)
    options = [
        "-F",
        str(lan.folder / "config"),
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=accept-new",
    ]
    judge = subprocess.run(["ssh", *options, "n1", "true"], capture_output=True, text=True, check=False)
    assert judge.returncode == 255
    assert "HAS CHANGED" in judge.stderr
    assert lan.known_hosts.read_text() == known


# --- new host keys -----------------------------------------------------------------------------------------


def test_the_key_of_a_new_host_is_accepted_written_down_and_told(lan: Lan) -> None:
    lan.boot("n1")
    known = lan.known_hosts.read_text()
    lan.known_hosts.unlink()
    folder = lan.folder / "not" / "there"
    target = replace(
        lan.target("n1"), new_hosts=folder / "known_hosts", known_hosts=(folder / "known_hosts",)
    )
    said: list[str] = []
    connect(target, accept_new=True, on_accept=said.append).close()
    assert len(said) == 1
    assert said[0].startswith(f"n1: new host key of [127.0.0.1]:{lan.nodes['n1'].port} accepted: ssh-ed25519")
    assert said[0].endswith(fingerprint(lan.nodes["n1"].folder / "host_key"))
    assert (folder / "known_hosts").read_text() == known
    assert (folder.stat().st_mode & 0o777, (folder / "known_hosts").stat().st_mode & 0o777) == (0o700, 0o600)
    connect(target, accept_new=True, on_accept=said.append).close()
    connect(target).close()
    assert len(said) == 1


def test_a_last_line_without_an_end_stays_a_line_of_its_own(lan: Lan) -> None:
    lan.boot("n1")
    known = lan.known_hosts.read_text()
    other = f"other {public(lan.folder / 'id')}"
    lan.known_hosts.write_text(other)
    connect(lan.target("n1"), accept_new=True).close()
    assert lan.known_hosts.read_text() == f"{other}\n{known}"


def test_many_who_accept_at_once_write_whole_lines_and_each_key_once(lan: Lan) -> None:
    names = [f"n{number}" for number in range(1, 7)]
    lan.boot(*names)
    known = sorted(lan.known_hosts.read_text().splitlines())
    lan.known_hosts.write_text("")
    said: list[str] = []

    def accept(name: str) -> None:
        connect(lan.target(name), accept_new=True, on_accept=said.append).close()

    with ThreadPoolExecutor(18) as pool:
        list(pool.map(accept, names * 3))
    assert sorted(lan.known_hosts.read_text().splitlines()) == known
    assert len(said) == len(names)


@pytest.mark.parametrize("trouble", ["changed", "revoked"])
def test_a_key_that_is_not_merely_new_is_never_accepted(lan: Lan, trouble: str) -> None:
    lan.boot("n1")
    port, line = lan.nodes["n1"].port, lan.known_hosts.read_text()
    other = public(make_key(lan.folder / "other"))
    known = f"[127.0.0.1]:{port} {other}\n" if trouble == "changed" else f"@revoked {line}"
    lan.known_hosts.write_text(known)
    with pytest.raises(NodeError, match=trouble.upper()):
        connect(lan.target("n1"), accept_new=True)
    assert lan.known_hosts.read_text() == known


def test_a_key_that_somebody_else_has_just_written_down_counts(lan: Lan) -> None:
    """Between reading and locking the file another process may have learnt another key."""
    lan.boot("n1")
    target, port = lan.target("n1"), lan.nodes["n1"].port
    key = paramiko.PKey.from_path(lan.nodes["n1"].folder / "host_key")
    assert host_key.accept(target, (), key) == ""
    lan.known_hosts.write_text(f"[127.0.0.1]:{port} {public(lan.folder / 'id')}\n")
    with pytest.raises(NodeError, match="HAS CHANGED"):
        host_key.accept(target, (), key)


def test_a_full_disk_leaves_known_hosts_as_it_was(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    lan.boot("n1")
    lan.known_hosts.write_text("# mine\n")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NodeError, match="No space left"):
        connect(lan.target("n1"), accept_new=True)
    assert lan.known_hosts.read_text() == "# mine\n"


def test_without_a_file_for_it_no_key_is_accepted(lan: Lan) -> None:
    lan.boot("n1")
    lan.write_config("Host *\n  UserKnownHostsFile none\n")
    with pytest.raises(NodeError, match="no file to write the host key"):
        connect(lan.target("n1"), accept_new=True)


def test_dev_null_keeps_nothing_and_is_no_error(lan: Lan) -> None:
    lan.boot("n1")
    lan.write_config("Host *\n  UserKnownHostsFile /dev/null\n")
    said: list[str] = []
    for _ in range(2):
        connect(lan.target("n1"), accept_new=True, on_accept=said.append).close()
    assert len(said) == 2


def test_a_file_that_somebody_keeps_locked_is_not_awaited_for_ever(lan: Lan) -> None:
    lan.boot("n1")
    lan.known_hosts.write_text("")
    with lan.known_hosts.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(NodeError, match="somebody has locked it"):
            connect(lan.target("n1", timeout_s=1), accept_new=True)


# --- authentication ----------------------------------------------------------------------------------------


def test_a_key_that_the_node_does_not_know_is_refused(lan: Lan) -> None:
    lan.boot("n1")
    stranger = make_key(lan.folder / "stranger")
    error = refusal(replace(lan.target("n1"), identity_files=(stranger,)))
    assert "authentication as root" in error.message
    assert "1 key refused" in error.message
    assert "ssh-copy-id" in error.hint


def test_an_identity_file_that_is_not_there_is_named(lan: Lan) -> None:
    lan.boot("n1")
    error = refusal(replace(lan.target("n1"), identity_files=(lan.folder / "nowhere",)))
    assert "no key to offer" in error.message
    assert f"identity file {lan.folder / 'nowhere'} does not exist" in error.message


@pytest.mark.parametrize("form", [[], ["-m", "PEM"]])
def test_an_encrypted_key_needs_the_agent(lan: Lan, monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    lan.boot("n1")
    key = lan.folder / "encrypted"
    kind = ["-t", "rsa", "-b", "2048"]
    subprocess.run(["ssh-keygen", "-q", *kind, *form, "-N", "secret", "-f", str(key)], check=True)
    (lan.folder / "authorized_keys").write_text(public(key) + "\n")
    target = replace(lan.target("n1"), identity_files=(key,))
    error = refusal(target)
    assert f"identity file {key} is encrypted and no agent holds it" in error.message

    with agent_with(key, lan.folder) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        connect(target).close()


def test_identities_only_keeps_the_agents_other_keys_back(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    lan.boot("n1")
    stranger = make_key(lan.folder / "stranger")
    target = replace(lan.target("n1"), identity_files=(stranger,), identities_only=True)
    with agent_with(lan.folder / "id", lan.folder) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert "1 key refused" in refusal(target).message
        connect(replace(target, identities_only=False)).close()


def test_an_rsa_key_and_pem_files_work(lan: Lan) -> None:
    lan.boot("n1")
    key = lan.folder / "rsa"
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True)
    (lan.folder / "authorized_keys").write_text(public(key) + "\n")
    connect(replace(lan.target("n1"), identity_files=(key,))).close()


def test_a_server_without_key_authentication_says_what_it_takes(lan: Lan) -> None:
    lan.boot("n1", extra="Match all\n  PubkeyAuthentication no\n  PasswordAuthentication yes")
    assert "takes no keys for root, only: password" in refusal(lan.target("n1")).message


# --- networks ----------------------------------------------------------------------------------------------


def test_nobody_listens(lan: Lan) -> None:
    lan.boot("n1")
    error = refusal(replace(lan.target("n1"), port=free_port()))
    assert "connection refused" in error.message
    assert "sshd" in error.hint


def test_a_listener_that_never_speaks(lan: Lan) -> None:
    lan.boot("n1")
    with silent_listener() as port:
        began = time.monotonic()
        error = refusal(replace(lan.target("n1", timeout_s=1), port=port))
    assert "did not speak SSH within 1 s" in error.message
    assert time.monotonic() - began < 30


def test_a_name_that_does_not_resolve(lan: Lan) -> None:
    lan.boot("n1")
    error = refusal(replace(lan.target("n1"), host="n1.invalid"))
    assert "HostName" in error.hint


# --- proxies -----------------------------------------------------------------------------------------------


def proxied(lan: Lan, command: str) -> Target:
    lan.write_config(f"Host n1\n  ProxyCommand {command}\n")
    return lan.target("n1")


def test_a_proxy_command_carries_the_connection_and_is_reaped(lan: Lan) -> None:
    lan.boot("n1")
    pid = lan.folder / "pid"
    target = proxied(lan, f"sh -c 'echo $$ >{pid}; exec nc %h %p'")
    with connect(target) as connection:
        assert connection.run(("echo", "through"), timeout_s=60).stdout == "through\n"
        assert Path(f"/proc/{pid.read_text().strip()}").exists()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_proxy_command_that_fails_says_why(lan: Lan) -> None:
    lan.boot("n1")
    error = refusal(proxied(lan, "sh -c 'echo no such namespace >&2; exit 4'"))
    assert "ProxyCommand" in error.message
    assert error.stderr == "no such namespace\nexit status 4"
    assert error.command.startswith("sh -c")


def test_a_proxy_command_that_hangs_is_killed_with_its_children(lan: Lan) -> None:
    lan.boot("n1")
    pid = lan.folder / "pid"
    target = replace(proxied(lan, f"sh -c 'sleep 60 & echo $! >{pid}; wait'"), connect_timeout_s=1)
    assert "did not answer through the ProxyCommand within 1 s" in refusal(target).message
    child = Path(f"/proc/{pid.read_text().strip()}/cmdline")
    # The orphan is reaped by init, when that comes round to it; a zombie has no command line.
    await_true(lambda: not child.exists() or child.read_bytes() == b"", "the proxy's child to end")


def test_a_jump_host_leads_to_the_node(lan: Lan) -> None:
    lan.boot("jump", "n1")
    lan.write_config("Host n1\n  ProxyJump jump\n")
    with lan.connect("n1") as connection:
        assert connection.run(("echo", "through"), timeout_s=60).stdout == "through\n"


def test_a_jump_host_whose_key_is_not_known_is_named(lan: Lan) -> None:
    lan.boot("jump", "n1")
    lan.write_config("Host n1\n  ProxyJump jump\n")
    target = lan.target("n1")
    lan.known_hosts.write_text("")
    began = time.monotonic()
    error = refusal(target)
    assert "the key of the jump host is not known" in error.hint
    assert time.monotonic() - began < 30  # it is not asked again


# --- servers that are too busy -----------------------------------------------------------------------------


def test_a_server_that_refuses_many_at_once_is_asked_again(lan: Lan) -> None:
    lan.boot("busy", startups=1)
    with ThreadPoolExecutor(12) as pool:
        connections = list(pool.map(lambda _: lan.connect("busy"), range(12)))
    for connection in connections:
        connection.close()


def test_without_asking_again_some_would_be_refused(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trscaler_gen.transport.patience._pauses", lambda: iter(()))
    lan.boot("busy", startups=1)
    with ThreadPoolExecutor(12) as pool:
        tries = [pool.submit(lan.connect, "busy") for _ in range(12)]
    errors = [one.exception() for one in tries]
    for one in tries:
        if one.exception() is None:
            one.result().close()
    assert any(isinstance(error, NodeError) and "MaxStartups" in error.hint for error in errors)


def test_a_jump_host_that_refuses_many_at_once_is_asked_again(lan: Lan) -> None:
    lan.boot("n1")
    lan.boot("jump", startups=2)
    lan.write_config("Host n1\n  ProxyJump jump\n")
    target = lan.target("n1", timeout_s=60)
    with ThreadPoolExecutor(12) as pool:
        connections = list(pool.map(lambda _: connect(target), range(12)))
    for connection in connections:
        connection.close()


def test_a_server_that_always_hangs_up_is_not_asked_for_ever(lan: Lan) -> None:
    lan.boot("n1")
    asked = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            nonlocal asked
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
                    asked += 1

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        began = time.monotonic()
        error = refusal(replace(lan.target("n1", timeout_s=2), port=server.getsockname()[1]))
        took_s = time.monotonic() - began
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert error.message.startswith("no SSH session with")
    assert "MaxStartups" in error.hint
    assert asked > 2
    assert took_s < 30


def test_a_server_that_speaks_another_protocol_is_asked_once(lan: Lan) -> None:
    lan.boot("n1")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as sock:
                sock.sendall(b"SSH-1.5-old\r\n")
                sock.recv(1)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        error = refusal(replace(lan.target("n1"), port=server.getsockname()[1]))
        thread.join()
    assert "Incompatible version" in error.message


# --- nothing is left behind --------------------------------------------------------------------------------


def test_nothing_is_printed_and_no_descriptor_is_left(lan: Lan, capfd: pytest.CaptureFixture[str]) -> None:
    lan.boot("n1")

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with lan.connect("n1") as connection:
        connection.run(("true",), timeout_s=60)
    with silent_listener() as port:
        refusal(replace(lan.target("n1", timeout_s=1), port=port))
    refusal(proxied(lan, "false"))
    refusal(replace(lan.target("n1"), proxy_command=None, identity_files=()))
    assert descriptors() == before
    assert capfd.readouterr() == ("", "")
