"""Where and as whom to reach a node: the inventory first, then ssh_config, then root on port 22."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from paramiko import SSHConfig
from paramiko.config import SSHConfigDict
from paramiko.ssh_exception import ConfigParseError

from trscaler_gen.errors import NodeError
from trscaler_gen.inventory.model import Ssh
from trscaler_gen.transport.known_hosts import name_of

_DEFAULT_CONFIG = "~/.ssh/config"
_DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
_DEFAULT_GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
_DEFAULT_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_MAX_INCLUDE_DEPTH = 16
#: the parser then asks for a second name, which is not known before
_NEEDS_ALL = "canonicalizehostname"
_WILDCARD = re.compile(r"[*?[]")
_SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+?)\s*$")


@dataclass(frozen=True)
class Target:
    """Everything that a connection to one node needs to know.

    ``known_as`` is the node's name in known_hosts; ``alias`` is the name that was looked up in ssh_config;
    ``sudo`` says that commands go through sudo; ``new_hosts`` is the file for host keys that are accepted.
    ``jump`` names the jump hosts that ``proxy_command`` goes through, if ssh_config says so by ProxyJump.
    """

    node: str
    host: str
    port: int
    user: str
    sudo: bool
    alias: str
    known_as: str
    known_hosts: tuple[Path, ...]
    new_hosts: Path | None
    identity_files: tuple[Path, ...]
    identities_only: bool
    proxy_command: str | None
    jump: str
    config: Path | None
    connect_timeout_s: float

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.host} port {self.port}"


def resolve(node: str, address: str, ssh: Ssh) -> Target:
    """Resolve one node's target.

    ssh_config is looked up by the node's name if a ``Host`` line names it, then by ``ssh.host``, then by the
    node's address. Raises NodeError if a configuration that the inventory names cannot be read.
    """
    config = Path(ssh.config or _DEFAULT_CONFIG).expanduser()
    text = _read_config(node, config, required=ssh.config is not None)
    blocks = _blocks(text)
    host = ssh.host or address
    alias = next((name for name in (node, host) if _is_named(name, blocks)), address)
    try:
        relevant = text if _NEEDS_ALL in text.lower() else _about(alias, blocks)
        options = SSHConfig.from_text(_layered(relevant, alias, host, address, ssh)).lookup(alias)
        return _target(node, alias, ssh, options, config if text else None)
    except (ConfigParseError, ValueError, KeyError) as error:
        hint = f"this is how OpenSSH reads it: ssh -G {alias}"
        raise NodeError(node, f"ssh_config cannot be used: {error}", hint=hint) from error


def _target(node: str, alias: str, ssh: Ssh, options: SSHConfigDict, config: Path | None) -> Target:
    host, port, user = options["hostname"], int(options["port"]), options["user"]
    files = options.get("identityfile", _default_identities())
    own = _paths(options.get("userknownhostsfile", _DEFAULT_KNOWN_HOSTS))
    return Target(
        node=node,
        host=host,
        port=port,
        user=user,
        sudo=user != "root" if ssh.sudo is None else ssh.sudo,
        alias=alias,
        known_as=options.get("hostkeyalias") or name_of(host, port),
        known_hosts=(*own, *_paths(options.get("globalknownhostsfile", _DEFAULT_GLOBAL_KNOWN_HOSTS))),
        new_hosts=own[0] if own else None,
        identity_files=tuple(Path(name).expanduser() for name in files),
        identities_only=options.get("identitiesonly", "no").lower() == "yes",
        proxy_command=options.get("proxycommand") or _jump_command(options, config),
        jump="" if options.get("proxycommand") else ",".join(_jumps(options)),
        config=config,
        connect_timeout_s=ssh.connect_timeout_s,
    )


def _layered(text: str, alias: str, host: str, address: str, ssh: Ssh) -> str:
    """ssh_config takes the first value that it meets: so the inventory goes before it, the defaults behind.

    The whole precedence is said in the file's own language, and %h, %p and %r come out right in ProxyCommand.
    """
    explicit: dict[str, str | int | None] = {
        "User": ssh.user,
        "Port": ssh.port,
        "IdentityFile": ssh.identity_file,
        # A host that ssh_config knows by name is an alias: its HostName decides.
        "HostName": host if host not in (alias, address) else None,
    }
    defaults: dict[str, str | int | None] = {
        "User": "root",
        "Port": 22,
        "HostName": host if alias not in (host, address) else alias,
    }
    return "\n".join([_block(explicit), text, _block(defaults)])


def _block(settings: dict[str, str | int | None]) -> str:
    lines = [f"  {key} {value}" for key, value in settings.items() if value is not None]
    return "\n".join(["Host *", *lines])


@dataclass(frozen=True)
class _Block:
    """Some lines of a configuration; ``patterns`` are those of their ``Host`` line, None without one."""

    patterns: tuple[str, ...] | None
    lines: tuple[str, ...]

    def may_match(self, name: str) -> bool:
        """Whether the lines may count for a name; what a ``!pattern`` says is left to the parser."""
        return self.patterns is None or any(_matches(name, pattern) for pattern in self.patterns)


@cache
def _blocks(text: str) -> tuple[_Block, ...]:
    """The parts of a configuration. A fleet's may name hundreds of hosts: it is taken apart once for all."""
    blocks, patterns, lines = [], None, list[str]()
    for line in text.splitlines():
        keyword, value = _keyword(line)
        if keyword in ("host", "match"):
            blocks.append(_Block(patterns, tuple(lines)))
            patterns, lines = _words(value) if keyword == "host" else None, []
        lines.append(line)
    return (*blocks, _Block(patterns, tuple(lines)))


def _words(value: str) -> tuple[str, ...] | None:
    try:
        return tuple(shlex.split(value))
    except ValueError:  # the parser says what is wrong
        return None


def _about(name: str, blocks: tuple[_Block, ...]) -> str:
    """What a configuration may have to say about a name: most of a fleet's is about others."""
    return "\n".join(line for block in blocks if block.may_match(name) for line in block.lines)


def _is_named(name: str, blocks: tuple[_Block, ...]) -> bool:
    """Whether a ``Host`` line other than ``Host *`` is about this name."""
    patterns = {pattern for block in blocks for pattern in block.patterns or ()}
    return any(_matches(name, pattern) for pattern in patterns if pattern != "*")


def _matches(name: str, pattern: str) -> bool:
    # fnmatch remembers 256 patterns only; a fleet has more.
    return fnmatchcase(name, pattern) if _WILDCARD.search(pattern) else name == pattern


def _read_config(node: str, path: Path, *, required: bool) -> str:
    try:
        return "\n".join(_expand(path, depth=0))
    except FileNotFoundError:
        if not required:
            return ""
        hint = "the inventory names it as ssh.config; the lab's is written by `trscaler-gen lab up`"
        raise NodeError(node, f"no such ssh configuration: {path}", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NodeError(node, f"cannot read the ssh configuration {path}: {error}") from error


def _expand(path: Path, depth: int) -> Iterator[str]:
    """The lines of a configuration with ``Include`` carried out, which paramiko does not do."""
    header = "Host *"
    for keyword, value, line in _scan(path.read_text(encoding="utf-8")):
        if keyword == "include" and depth < _MAX_INCLUDE_DEPTH:
            for included in _included(value):
                yield from _expand(included, depth + 1)
            yield header  # the block that the Include stood in goes on
            continue
        header = line if keyword in ("host", "match") else header
        yield line


@cache
def _scan(text: str) -> tuple[tuple[str, str, str], ...]:
    """Keyword in small letters, value, and the line itself."""
    return tuple((*_keyword(line), line) for line in text.splitlines())


def _keyword(line: str) -> tuple[str, str]:
    match = _SETTING.match(line)
    return (match[1].lower(), match[2]) if match else ("", "")


def _included(patterns: str) -> Iterator[Path]:
    """The existing files that an ``Include`` names, in lexical order; relative names are below ~/.ssh."""
    for pattern in shlex.split(patterns):
        absolute = Path("~/.ssh").expanduser() / Path(pattern).expanduser()
        yield from sorted(Path("/").glob(str(absolute.relative_to("/"))))


def _paths(words: str) -> tuple[Path, ...]:
    return tuple(Path(word).expanduser() for word in shlex.split(words) if word.lower() != "none")


def _default_identities() -> list[str]:
    return [name for name in _DEFAULT_IDENTITIES if Path(name).expanduser().exists()]


def _jumps(options: SSHConfigDict) -> list[str]:
    jumps = [jump.strip() for jump in options.get("proxyjump", "none").split(",")]
    return [] if jumps == ["none"] else jumps


def _jump_command(options: SSHConfigDict, config: Path | None) -> str | None:
    """The ssh command that OpenSSH itself makes of the last hop of a ProxyJump."""
    jumps = _jumps(options)
    if not jumps:
        return None
    argv = ["ssh", "-o", "BatchMode=yes", "-W", f"[{options['hostname']}]:{options['port']}"]
    argv += ["-F", str(config)] if config else []
    argv += ["-J", ",".join(jumps[:-1])] if jumps[:-1] else []
    return shlex.join([*argv, "--", f"ssh://{jumps[-1].removeprefix('ssh://')}"])
