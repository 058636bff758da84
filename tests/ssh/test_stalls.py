"""Peers that fall silent: at every stage the wait ends in time, and the error names the stage."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from ssh.nodes import Lan, await_true, make_key
from trscaler_gen.errors import NodeError
from trscaler_gen.transport import Connection, Target, connect

#: what anything may take whose limit is one second, on a busy machine; without a limit it would be a minute
SOON_S = 30.0


@contextlib.contextmanager
def ends_soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON_S


def refusal(target: Target) -> NodeError:
    with ends_soon(), pytest.raises(NodeError) as caught:
        connect(target).close()
    return caught.value


@contextlib.contextmanager
def says_and_waits(data: bytes) -> Iterator[int]:
    """A server that greets one caller with these bytes and says no more; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as caller:
                caller.sendall(data)
                while caller.recv(1 << 16):
                    pass

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


def opening_of(port: int) -> bytes:
    """The first words of a real sshd: its banner and what it proposes for the key exchange."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"SSH-2.0-test\r\n")
        data = sock.recv(1 << 16)
        while len(data) < 500:
            data += sock.recv(1 << 16)
    return data


class Staller(paramiko.ServerInterface):
    """A server that goes along until the stage at which it stalls."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.go_on = threading.Event()

    def _reach(self, stage: str) -> None:
        if stage == self.stage:
            self.go_on.wait(60)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._reach("authentication")
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._reach("channel")
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._reach("exec")
        return True


@contextlib.contextmanager
def stalling_server(stage: str, lan: Lan) -> Iterator[Target]:
    """A server whose host key is known; what it is asked to run never says a word."""
    key = paramiko.PKey.from_path(make_key(lan.folder / "staller_key"))
    staller = Staller(stage)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        transports: list[paramiko.Transport] = []

        def serve() -> None:
            transport = paramiko.Transport(server.accept()[0])
            transports.append(transport)
            transport.add_server_key(key)
            transport.start_server(event=threading.Event(), server=staller)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        known = f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"
        lan.known_hosts.write_text(lan.known_hosts.read_text() + known)
        yield replace(lan.target("n1", timeout_s=1), port=port, known_as=f"[127.0.0.1]:{port}")
        staller.go_on.set()
        thread.join()
        for transport in transports:
            transport.close()


# --- on the way to the node --------------------------------------------------------------------------------


def test_a_name_server_that_does_not_answer(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    lan.boot("n1")
    target = replace(lan.target("n1", timeout_s=1), host="n1.example.net")
    real, go_on = socket.getaddrinfo, threading.Event()

    def stall(host: str, port: int, *args: int, **kwargs: int) -> object:
        if host != target.host or kwargs.get("flags"):
            return real(host, port, *args, **kwargs)
        go_on.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "late")

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    error = refusal(target)
    go_on.set()
    assert "nobody tells the address of this name" in error.message


def test_a_host_that_does_not_answer_at_all(lan: Lan) -> None:
    lan.boot("n1")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        place = server.getsockname()
        # Once nobody is let in any more the kernel drops what knocks: as an address where nobody lives.
        with socket.create_connection(place, 5):
            error = refusal(replace(lan.target("n1", timeout_s=1), port=place[1]))
    assert "no answer (timeout)" in error.message


def test_of_several_addresses_the_silent_ones_leave_time_for_the_others(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    lan.boot("n1")
    real = socket.getaddrinfo
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        place = silent.getsockname()

        def both(host: str, port: int, *args: int, **kwargs: int) -> object:
            if host != "n1.example.net":
                return real(host, port, *args, **kwargs)
            if kwargs.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "a name")
            tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*tcp, place), (*tcp, ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        with socket.create_connection(place, 5), ends_soon():
            connect(replace(lan.target("n1", timeout_s=2), host="n1.example.net")).close()


# --- until we are let in -----------------------------------------------------------------------------------


def test_a_server_that_stops_in_its_banner(lan: Lan) -> None:
    lan.boot("n1")
    with says_and_waits(b"SSH-2.0-Open") as port:
        error = refusal(replace(lan.target("n1", timeout_s=1), port=port))
    assert "did not speak SSH within 1 s" in error.message


@pytest.mark.parametrize("cut", [0, 300])
def test_a_server_that_stops_in_the_key_exchange(lan: Lan, cut: int) -> None:
    lan.boot("n1")
    opening = opening_of(lan.nodes["n1"].port)
    with says_and_waits(opening[: len(opening) - cut]) as port:
        error = refusal(replace(lan.target("n1", timeout_s=1), port=port))
    assert "began to speak SSH and then fell silent for 1 s" in error.message


def test_a_server_that_does_not_decide_on_a_key(lan: Lan) -> None:
    lan.boot("n1")
    with stalling_server("authentication", lan) as target:
        assert "did not decide on a key of root within 1 s" in refusal(target).message


def test_a_real_sshd_that_waits_for_its_directory_of_keys(lan: Lan) -> None:
    extra = "AuthorizedKeysCommand /bin/sleep 60\nAuthorizedKeysCommandUser root"
    lan.boot("n1", extra=extra)
    stranger = make_key(lan.folder / "stranger")
    error = refusal(replace(lan.target("n1", timeout_s=1), identity_files=(stranger,)))
    assert "did not decide on a key of root within 1 s" in error.message


# --- agents ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mute_agent(path: Path, answers: list[bytes]) -> Iterator[None]:
    """An agent that gives these answers, and then none."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as caller:
                for answer in answers:
                    caller.recv(1 << 16)
                    caller.sendall(answer)
                while caller.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_agent_that_never_answers_does_not_keep_a_key_file_from_use(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    lan.boot("n1")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(lan.folder / "agent"))
    with mute_agent(lan.folder / "agent", []), ends_soon():
        connect(lan.target("n1", timeout_s=1)).close()
    with mute_agent(lan.folder / "agent2", []):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(lan.folder / "agent2"))
        error = refusal(replace(lan.target("n1", timeout_s=1), identity_files=()))
    assert "the agent at SSH_AUTH_SOCK does not answer: timed out" in error.message


def test_an_agent_that_shows_a_key_and_does_not_sign(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    lan.boot("n1")
    blob = paramiko.PKey.from_path(lan.folder / "id").asbytes()
    identities = b"\x0c" + (1).to_bytes(4) + len(blob).to_bytes(4) + blob + (0).to_bytes(4)
    answer = len(identities).to_bytes(4) + identities
    monkeypatch.setenv("SSH_AUTH_SOCK", str(lan.folder / "agent"))
    with mute_agent(lan.folder / "agent", [answer]):
        target = replace(lan.target("n1", timeout_s=1), identity_files=(), identities_only=False)
        error = refusal(target)
    assert "does not sign in time" in error.message
    assert "touch" in error.hint


# --- commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["channel", "exec", "output"])
def test_a_server_that_stalls_when_it_is_to_run_something(lan: Lan, stage: str) -> None:
    lan.boot("n1")
    with stalling_server(stage, lan) as target, connect(target) as connection:
        for ask in (connection.run, connection.fetch):
            with ends_soon(), pytest.raises(NodeError, match="no answer within 1 s") as caught:
                ask(("true",), timeout_s=1)
            assert caught.value.command == "true"


@pytest.mark.parametrize("stage", ["channel", "exec"])
def test_a_server_that_stalls_when_it_is_to_hold_a_session(lan: Lan, stage: str) -> None:
    lan.boot("n1")
    silence = pytest.raises(NodeError, match="no answer within 1 s")
    with stalling_server(stage, lan) as target, connect(target) as connection, ends_soon(), silence:
        connection.start(("true",))


def test_output_that_stalls_halfway(lan: Lan) -> None:
    lan.boot("n1")
    argv = ("sh", "-c", "echo part; sleep 60")
    with lan.connect("n1") as connection:
        with ends_soon(), pytest.raises(NodeError, match="no answer within 1 s"):
            connection.run(argv, timeout_s=1)
        with ends_soon(), pytest.raises(NodeError, match="no answer within 1 s"):
            connection.fetch(argv, timeout_s=1)
        assert connection.run(("echo", "alive"), timeout_s=60).stdout == "alive\n"


def frozen_proxy(lan: Lan, connection: Connection) -> int:
    """Stop the process that carries the connection; answers its id."""
    pid = int((lan.folder / "pid").read_text())
    assert connection.run(("true",), timeout_s=60).status == 0
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_way_that_takes_no_more_bytes_is_given_up(lan: Lan) -> None:
    """The sender stands still within a packet; neither the time limit nor the closing waits for it."""
    lan.boot("n1")
    lan.write_config(f"Host n1\n  ProxyCommand sh -c 'echo $$ >{lan.folder / 'pid'}; exec nc %h %p'\n")
    with ends_soon(), lan.connect("n1") as connection:
        frozen_proxy(lan, connection)
        with pytest.raises(NodeError, match="no answer within 1 s"):
            connection.run(("cat",), stdin=bytes(8 << 20), timeout_s=1)
        with pytest.raises(NodeError):
            connection.run(("true",), timeout_s=1)


def test_a_session_over_a_way_that_is_stuck(lan: Lan) -> None:
    lan.boot("n1")
    lan.write_config(f"Host n1\n  ProxyCommand sh -c 'echo $$ >{lan.folder / 'pid'}; exec nc %h %p'\n")
    with ends_soon(), lan.connect("n1") as connection:
        session = connection.start(("cat",))
        frozen_proxy(lan, connection)
        with pytest.raises(NodeError, match=r"no answer within 0\.5 s"):
            session.read_line(0.5)
        session.close()


def test_a_command_that_does_not_read_its_input_is_left_after_its_time(lan: Lan) -> None:
    lan.boot("n1")
    with lan.connect("n1") as connection:
        with ends_soon(), pytest.raises(NodeError, match="no answer within 1 s"):
            connection.run(("sleep", "60"), stdin=bytes(8 << 20), timeout_s=1)
        assert connection.run(("echo", "alive"), timeout_s=60).stdout == "alive\n"


def test_no_thread_is_left_behind(lan: Lan) -> None:
    lan.boot("n1")
    before = threading.active_count()
    with lan.connect("n1") as connection:
        with pytest.raises(NodeError):
            connection.run(("sleep", "60"), stdin=bytes(8 << 20), timeout_s=0.2)
        connection.start(("cat",))
    await_true(lambda: threading.active_count() <= before, "the threads to end")
