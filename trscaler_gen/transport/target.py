"""Where and as whom to reach a node: the inventory first, then ssh_config, then root on port 22."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
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
_SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+?)\s*$")


@dataclass(frozen=True)
class Target:
    """Everything that a connection to one node needs to know.

    ``known_as`` is the node's name in known_hosts; ``alias`` is the name that was looked up in ssh_config;
    ``sudo`` says that commands go through sudo.
    """

    node: str
    host: str
    port: int
    user: str
    sudo: bool
    alias: str
    known_as: str
    known_hosts: tuple[Path, ...]
    identity_files: tuple[Path, ...]
    identities_only: bool
    proxy_command: str | None
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
    host = ssh.host or address
    alias = next((name for name in (node, host) if _is_named(name, text)), address)
    try:
        options = SSHConfig.from_text(_layered(text, alias, host, address, ssh)).lookup(alias)
        return _target(node, alias, ssh, options, config if text else None)
    except (ConfigParseError, ValueError, KeyError) as error:
        hint = f"this is how OpenSSH reads it: ssh -G {alias}"
        raise NodeError(node, f"ssh_config cannot be used: {error}", hint=hint) from error


def _target(node: str, alias: str, ssh: Ssh, options: SSHConfigDict, config: Path | None) -> Target:
    host, port, user = options["hostname"], int(options["port"]), options["user"]
    files = options.get("identityfile", _default_identities())
    return Target(
        node=node,
        host=host,
        port=port,
        user=user,
        sudo=user != "root" if ssh.sudo is None else ssh.sudo,
        alias=alias,
        known_as=options.get("hostkeyalias") or name_of(host, port),
        known_hosts=_known_hosts(options),
        identity_files=tuple(Path(name).expanduser() for name in files),
        identities_only=options.get("identitiesonly", "no").lower() == "yes",
        proxy_command=_proxy_command(options, config),
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


def _is_named(name: str, text: str) -> bool:
    """Whether a ``Host`` line other than ``Host *`` is about this name."""
    return any(
        fnmatchcase(name, pattern)
        for match in map(_SETTING.match, text.splitlines())
        if match and match[1].lower() == "host"
        for pattern in match[2].split()
        if pattern != "*"
    )


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
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _SETTING.match(line)
        keyword = match[1].lower() if match else ""
        if match and keyword == "include" and depth < _MAX_INCLUDE_DEPTH:
            for included in _included(match[2]):
                yield from _expand(included, depth + 1)
            yield header  # the block that the Include stood in goes on
            continue
        header = line if keyword in ("host", "match") else header
        yield line


def _included(patterns: str) -> Iterator[Path]:
    """The existing files that an ``Include`` names, in lexical order; relative names are below ~/.ssh."""
    for pattern in shlex.split(patterns):
        absolute = Path("~/.ssh").expanduser() / Path(pattern).expanduser()
        yield from sorted(Path("/").glob(str(absolute.relative_to("/"))))


def _known_hosts(options: SSHConfigDict) -> tuple[Path, ...]:
    """The user's files first, then the host's."""
    own = options.get("userknownhostsfile", _DEFAULT_KNOWN_HOSTS)
    common = options.get("globalknownhostsfile", _DEFAULT_GLOBAL_KNOWN_HOSTS)
    words = shlex.split(f"{own} {common}")
    return tuple(Path(word).expanduser() for word in words if word.lower() != "none")


def _default_identities() -> list[str]:
    return [name for name in _DEFAULT_IDENTITIES if Path(name).expanduser().exists()]


def _proxy_command(options: SSHConfigDict, config: Path | None) -> str | None:
    """ProxyCommand, or the ssh command that OpenSSH itself makes of the last hop of a ProxyJump."""
    if options.get("proxycommand"):
        return str(options["proxycommand"])
    jumps = [jump.strip() for jump in options.get("proxyjump", "none").split(",")]
    if jumps == ["none"]:
        return None
    argv = ["ssh", "-o", "BatchMode=yes", "-W", f"[{options['hostname']}]:{options['port']}"]
    argv += ["-F", str(config)] if config else []
    argv += ["-J", ",".join(jumps[:-1])] if jumps[:-1] else []
    return shlex.join([*argv, "--", f"ssh://{jumps[-1].removeprefix('ssh://')}"])
