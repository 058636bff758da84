"""Where ssh_config and the inventory send us; OpenSSH's own `ssh -G` is the judge where both can be asked."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from trscaler_gen.errors import NodeError
from trscaler_gen.inventory.model import Ssh
from trscaler_gen.transport import Target, resolve
from trscaler_gen.transport import known_hosts as known

ADDRESS = "192.0.2.1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def target(home: Path, text: str, **ssh: object) -> Target:
    config = home / "config"
    config.write_text(text)
    return resolve("n1", ADDRESS, Ssh.model_validate({"config": str(config), **ssh}))


def openssh(home: Path, host: str) -> dict[str, str]:
    done = subprocess.run(
        ["ssh", "-G", "-F", str(home / "config"), host], check=True, capture_output=True, text=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_defaults_without_any_configuration() -> None:
    found = resolve("n1", ADDRESS, Ssh())
    assert (found.host, found.port, found.user, found.known_as) == (ADDRESS, 22, "root", ADDRESS)
    assert found.proxy_command is None
    assert found.identity_files == ()


def test_the_inventory_outweighs_ssh_config_and_that_the_defaults(home: Path) -> None:
    text = "Host n1\n  User admin\n  Port 2222\n"
    assert (target(home, text).user, target(home, text).port) == ("admin", 2222)
    explicit = target(home, text, user="root", port=22)
    assert (explicit.user, explicit.port) == ("root", 22)


def test_a_host_line_for_the_name_comes_before_one_for_the_address(home: Path) -> None:
    both = f"Host {ADDRESS}\n  User address\nHost n1\n  User name\nHost *\n  User all\n"
    assert target(home, both).user == "name"
    assert target(home, both).host == ADDRESS
    only_address = f"Host {ADDRESS}\n  User address\nHost *\n  User all\n"
    assert target(home, only_address).user == "address"
    assert target(home, "Host *\n  User all\n").user == "all"


def test_host_patterns_count_as_naming(home: Path) -> None:
    assert target(home, "Host n? other\n  User pattern\n").user == "pattern"


def test_a_host_of_the_inventory_may_be_an_alias(home: Path) -> None:
    text = "Host frankfurt-1\n  HostName 192.0.2.77\n"
    assert target(home, text, host="frankfurt-1").host == "192.0.2.77"
    assert target(home, "Host n1\n  HostName 192.0.2.77\n", host="192.0.2.88").host == "192.0.2.88"


def test_tokens_see_what_the_inventory_says(home: Path) -> None:
    found = target(home, "Host n1\n  ProxyCommand nc %h %p as %r\n", port=2200, user="ops")
    assert found.proxy_command == f"nc {ADDRESS} 2200 as ops"
    assert found.known_as == f"[{ADDRESS}]:2200"


def test_include_is_followed_and_the_block_goes_on(home: Path) -> None:
    (home / ".ssh" / "extra").write_text("Host n1\n  Port 2222\n")
    text = "Host n1\n  Include extra\n  User inside\nHost n2\n  User other\n"
    found, judge = target(home, text), openssh(home, "n1")
    assert (found.port, found.user) == (2222, "inside") == (int(judge["port"]), judge["user"])


@pytest.mark.parametrize(
    "text",
    [
        "Host n1\n  HostName 192.0.2.9\n  Port 2022\n  User ops\n",
        "Host *\n  User all\n  Port 99\n",
        "Host n* !n1\n  User wrong\nHost n1\n  User right\n  HostName %h.example.net\n",
        'Host=n1\n  User = "quoted"\n  HostName 192.0.2.3\n',
        'Port 2200\nHost "n1" "other"\n  User quoted\nHost n2\n  User other\n  Port 22\n',
        "Host n2\n  Port 24\n  HostName 192.0.2.2\nhost ?1\n  User late\n",
        "Host n2\n  Port 24\nMatch host n?\n  Port 25\n  User matched\nHost n1\n  User other\n",
        "Match host n1\n  User matched\n  HostName 192.0.2.3\nHost n1\n  Port 23\n",
    ],
)
def test_openssh_reads_it_the_same_way(home: Path, text: str) -> None:
    found, judge = target(home, text), openssh(home, "n1")
    assert (found.user, found.port) == (judge["user"], int(judge["port"]))
    assert found.host == judge["hostname"] or (judge["hostname"] == "n1" and found.host == ADDRESS)


def test_a_fleets_configuration_is_as_good_as_one_for_the_node_alone(home: Path) -> None:
    others = "".join(f"Host n{i}\n  HostName 192.0.2.{i}\n  User other\n" for i in range(2, 200))
    own = "Host n1\n  Port 2222\nHost n?\n  User ops\nHost *\n  HostKeyAlias %h-key\n"
    alone, among = target(home, own), target(home, f"{others}{own}{others}")
    assert alone == among
    assert (among.port, among.user) == (2222, "ops")


def test_new_host_keys_go_to_the_users_own_file(home: Path) -> None:
    first = home / ".ssh" / "known_hosts"
    assert resolve("n1", ADDRESS, Ssh()).new_hosts == first
    assert target(home, "UserKnownHostsFile /tmp/a /tmp/b\n").new_hosts == Path("/tmp/a")
    nobody = target(home, "UserKnownHostsFile none\nGlobalKnownHostsFile /tmp/c\n")
    assert (nobody.new_hosts, nobody.known_hosts) == (None, (Path("/tmp/c"),))


def test_a_jump_becomes_the_command_that_openssh_makes(home: Path) -> None:
    found = target(home, "Host n1\n  ProxyJump first,ops@second:2200\n")
    assert found.proxy_command is not None
    words = shlex.split(found.proxy_command)
    assert words[-1] == "ssh://ops@second:2200"
    assert words[words.index("-J") + 1] == "first"
    assert words[words.index("-W") + 1] == f"[{ADDRESS}]:22"


def test_a_configuration_that_is_named_must_exist(home: Path) -> None:
    with pytest.raises(NodeError, match="no such ssh configuration") as caught:
        resolve("n1", ADDRESS, Ssh(config=str(home / "nowhere")))
    assert "lab up" in caught.value.hint


def test_a_configuration_that_cannot_be_read_is_an_error_of_the_node(home: Path) -> None:
    with pytest.raises(NodeError, match="ssh_config cannot be used"):
        target(home, "Host n1\n  Port many\n")


# --- known_hosts -------------------------------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfLzlgkJt5wlKa4xvKRZzXzHJ0h0kqQ1bT1p1jX0m5p"


@pytest.mark.parametrize(
    ("names", "asked", "matches"),
    [
        ("n1", "n1", True),
        ("n1,192.0.2.1", "192.0.2.1", True),
        ("n1", "n11", False),
        ("*.example.net", "n1.example.net", True),
        ("*.example.net,!n1.example.net", "n1.example.net", False),
        ("[192.0.2.1]:2222", "[192.0.2.1]:2222", True),
        ("192.0.2.1", "[192.0.2.1]:2222", False),
        ("[192.0.2.*]:2222", "[192.0.2.1]:2222", True),
        ("N1.Example.net", "n1.example.NET", True),
    ],
)
def test_names_match_as_openssh_matches_them(tmp_path: Path, names: str, asked: str, matches: bool) -> None:
    text = f"{names} {KEY}\n"
    assert bool(known.about(known.parse(text, "file"), asked)) is matches
    (tmp_path / "known_hosts").write_text(text)
    done = subprocess.run(
        ["ssh-keygen", "-F", asked, "-f", str(tmp_path / "known_hosts")], capture_output=True, check=False
    )
    assert (done.returncode == 0) is matches


def test_lines_that_make_no_sense_are_passed_over() -> None:
    text = f"# comment\n\nn1\nn1 ssh-ed25519 ***\n|1|broken {KEY}\nn1 {KEY}\n"
    hosts = known.parse(text, "file")
    assert [host.line for host in known.about(hosts, "n1")] == [6]


def test_an_authority_is_no_key_of_the_host() -> None:
    hosts = known.parse(f"@cert-authority * {KEY}\n", "file")
    assert known.about(hosts, "n1") == ()
