"""The kinds of words an inventory is written in: names, paths, addresses.

Names and paths reach shell scripts, nft rulesets and keepalived.conf. They are quoted there, and yet none may
hold a character that any of these languages gives a meaning to: what needs no quoting is never misquoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from trscaler_gen.inventory.text import kind_of, quoted
from trscaler_gen.mac import HardwareAddress

Address = IPv4Address | IPv6Address
T = TypeVar("T")


def refusal(code: str, message: str, hint: str = "") -> PydanticCustomError:
    """Make the error that carries a problem's code, message and hint through pydantic."""
    # pydantic would read braces in the text as placeholders, so the text travels in the context
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


@dataclass(frozen=True)
class Words:
    """Text of one shape; a pydantic annotation that also puts the pattern into the JSON Schema."""

    what: str
    pattern: str
    max_length: int
    hint: str
    code: str = "bad-name"
    reserved: tuple[str, ...] = ()

    def check(self, value: str) -> str:
        """Return the text; raises a pydantic error that says what is wrong with it."""
        if len(value) > self.max_length:
            message = (
                f"{self.what} {quoted(value)} has {len(value)} characters; {self.max_length} is the limit"
            )
            raise refusal(self.code, message, self.hint)
        if not re.fullmatch(self.pattern, value):
            raise refusal(self.code, f"{quoted(value)} cannot be {article(self.what)}", self.hint)
        if value in self.reserved:
            raise refusal(
                self.code, f"{quoted(value)} is reserved and cannot be {article(self.what)}", self.hint
            )
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after pydantic has made sure that it is text."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say the same to editors."""
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$", "maxLength": self.max_length}


def article(noun: str) -> str:
    """Put ``a`` or ``an`` before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


ClusterName = Annotated[
    str,
    Words(
        "cluster name",
        # "web-watch" would have the name of a systemd unit of the cluster "web".
        r"(?!.*-(watch|heartbeat)$)[a-z]([a-z0-9-]*[a-z0-9])?",
        32,
        'use lower-case letters, digits and "-"; begin with a letter, do not end with "-", "-watch" or '
        '"-heartbeat"',
    ),
]
NodeName = Annotated[
    str,
    Words(
        "node name",
        r"[A-Za-z0-9][A-Za-z0-9.-]*",
        63,
        'use letters, digits, "." and "-"; begin with a letter or digit; "client" is the lab\'s own',
        reserved=("client",),
    ),
]
# IFNAMSIZ is 16 with the final zero; `all` and `default` are directories of /proc/sys/net/ipv4/conf.
InterfaceName = Annotated[
    str,
    Words(
        "interface name",
        r"[A-Za-z0-9_][A-Za-z0-9_.-]*",
        15,
        'as `ip link` shows it: up to 15 letters, digits, "_", "." and "-", for example eth0 or bond0.120',
        reserved=("all", "default", "lo"),
    ),
]
_PATH_WORD = r"[A-Za-z0-9_./+@:,=-]+"
CommandPath = Words(
    "command",
    rf"/{_PATH_WORD}",
    4096,
    "write the program's absolute path, in letters, digits and _./+@:,=-; arguments are items of their own",
    code="bad-path",
)
LocalPath = Annotated[
    str,
    Words(
        "path",
        rf"(~/|/){_PATH_WORD}",
        4096,
        'write a path that begins with "/" or "~/", in letters, digits and _./+@:,=-',
        code="bad-path",
    ),
]
TextfileDirectory = Annotated[
    str,
    Words(
        "folder for metrics",
        # The unit that writes there has no home directories, devices, or kernel settings of its own to write.
        r"(?!/(home|root|run/user|dev|proc|sys)(/|$))(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+",
        1024,
        'write an absolute path in letters, digits and "_.-", like /var/lib/prometheus/node-exporter; '
        "not below /home, /root, /run/user, /dev, /proc or /sys",
        code="bad-path",
    ),
]
InventoryPath = Annotated[
    str,
    Words(
        "path",
        r"[A-Za-z0-9_./][A-Za-z0-9_./+@:,=-]*",
        4096,
        "write the other inventory's path as seen from this file's folder, for example inside.yaml",
        code="bad-path",
    ),
]
HOST = Words(
    "host",
    r"[A-Za-z0-9:][A-Za-z0-9._:-]*",
    253,
    "write an address, a host name or a Host of the ssh config",
)
HostName = Annotated[str, HOST]
UserName = Annotated[
    str,
    Words("account name", r"[A-Za-z_][A-Za-z0-9_.-]*", 32, "write the name of an account, for example root"),
]


def _argument(value: object) -> str:
    """Take a program's argument as it was written: in a command, 80 and true are text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise refusal("wrong-type", f"an item of a command must be text, not {kind_of(value)}")
    if len(value) > 1024:
        raise refusal("bad-argument", f"argument has {len(value)} characters; 1024 is the limit")
    if not value.isprintable():
        hint = "write a script on the node, and name it here"
        raise refusal("bad-argument", f"argument {quoted(value)} holds a control character", hint)
    return value


Argument = Annotated[
    str,
    PlainValidator(_argument),
    WithJsonSchema({"type": ["string", "number", "boolean"], "maxLength": 1024}),
]


def check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Make sure that a command names a program by its absolute path."""
    CommandPath.check(command[0])
    return command


def _address(value: object, what: str) -> Address:
    """Read an address, and say what else a wrong one looks like."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str):
        raise refusal("bad-address", f"{what} must be an IP address, not {kind_of(value)}")
    try:
        return ip_address(value)
    except (AddressValueError, ValueError):
        hint = 'write the address alone, without "/" and prefix length' if "/" in value else ""
        raise refusal("bad-address", f"{quoted(value)} is not an address", hint) from None


_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_UNICAST6 = (IPv6Network("2000::/3"), IPv6Network("fc00::/7"))


def _misuse(address: Address) -> str:
    """Say why no host can serve from this address, or nothing."""
    kinds = {
        "the unspecified address": address.is_unspecified,
        "a loopback address": address.is_loopback,
        "a multicast address": address.is_multicast,
        "an address with a scope": isinstance(address, IPv6Address) and address.scope_id is not None,
        "an IPv4 address in IPv6 form": isinstance(address, IPv6Address) and address.ipv4_mapped is not None,
        "a reserved address": isinstance(address, IPv4Address)
        and (address.is_reserved or address in _THIS_NETWORK),
    }
    return next((kind for kind, applies in kinds.items() if applies), "")


def read_virtual_address(value: object) -> Address:
    """Read an address that the cluster can share: unicast, and not bound to one link or host."""
    address = _address(value, "a virtual address")
    misuse = _misuse(address) or ("a link-local address" if address.is_link_local else "")
    if not misuse and isinstance(address, IPv6Address) and not any(address in net for net in _UNICAST6):
        misuse = "no unicast address (2000::/3 or fc00::/7)"
    if misuse:
        raise refusal("bad-address", f"{quoted(str(value))} is {misuse} and cannot be shared")
    return address


def read_node_address(value: object) -> IPv4Address:
    """Read the IPv4 address that a node's heartbeats come from; link-local is enough."""
    address = _address(value, "address")
    if isinstance(address, IPv6Address):
        hint = "give every node an IPv4 address on the link; one of 169.254.0.0/16 is enough"
        raise refusal("bad-address", f"{quoted(str(value))} is IPv6, but heartbeats are VRRP over IPv4", hint)
    if misuse := _misuse(address):
        raise refusal("bad-address", f"{quoted(str(value))} is {misuse} and cannot be a node's")
    return address


VirtualAddress = Annotated[
    Address,
    PlainValidator(read_virtual_address),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
NodeAddress = Annotated[
    IPv4Address,
    PlainValidator(read_node_address),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "ipv4"}),
]

MacMode = Literal["multicast", "stealth", "unicast"]
_PRUNED = {"01:00:5e": "an IPv4 multicast group", "33:33": "an IPv6 multicast group"}


def read_mac(value: object) -> HardwareAddress | Literal["auto"]:
    """Read a cluster MAC address, or ``auto``."""
    if isinstance(value, HardwareAddress):
        return value
    if value == "auto":
        return "auto"
    try:
        address = HardwareAddress.parse(value if isinstance(value, str) else "")
    except ValueError:
        shown = quoted(str(value))
        hint = "write six bytes like 03:00:5e:00:01:01, or auto"
        raise refusal("bad-mac", f"{shown} is not a hardware address", hint) from None
    if address.value in (0, (1 << 48) - 1):
        what = "broadcast" if address.value else "all-zero"
        raise refusal(
            "bad-mac", f"the {what} address cannot be the cluster's", "write auto, or another address"
        )
    return address


def mac_trouble(mode: str, address: HardwareAddress) -> str:
    """Say why an address does not serve in a MAC mode, or nothing."""
    if mode != "multicast":
        return (
            f"{address} is a multicast address, {mode} mode needs a unicast one" if address.is_group else ""
        )
    if not address.is_group:
        return f"{address} is a unicast address, multicast mode needs a multicast one"
    # IEEE 802.1Q, table 8-1: bridges keep these to themselves
    kinds = {**_PRUNED, "01:80:c2": "an address that bridges do not forward"}
    what = next((kind for prefix, kind in kinds.items() if str(address).startswith(prefix)), "")
    snooping = "; a switch that snoops prunes it" if what in _PRUNED.values() else ""
    return f"{address} is {what}{snooping}" if what else ""


MacAddress = Annotated[
    HardwareAddress | Literal["auto"],
    PlainValidator(read_mac),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^(auto|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5})$"}),
]


def attempt(reader: Callable[[Any], T], value: object) -> T | None:
    """Read a value, or return None when it is wrong: for checks that look past what is reported elsewhere."""
    try:
        return reader(value)
    except PydanticCustomError:
        return None
