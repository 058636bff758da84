"""What an inventory says, as immutable values.

Defaults are the product's; anything per node that is ``None`` means "as in the cluster".
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trscaler_gen.mac import HardwareAddress

MAX_NODES = 32

Address = IPv4Address | IPv6Address


class Model(BaseModel):
    """Immutable, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Mac(Model):
    """Which hardware address the neighbours learn, and how the switch is kept flooding it."""

    mode: Literal["multicast", "stealth", "unicast"] = "multicast"
    address: HardwareAddress | Literal["auto"] = "auto"


class Hash(Model):
    """What is hashed into how many buckets."""

    input: Literal["source-destination", "source"] = "source-destination"
    buckets: Annotated[int, Field(ge=64, le=16384)] = 1024


class Heartbeat(Model):
    """How often a node says that it is alive, and how many misses make it dead."""

    interval_ms: Annotated[int, Field(ge=10, le=10_000, multiple_of=10)] = 100
    missed: Annotated[int, Field(ge=2, le=20)] = 3
    first_vrid: Annotated[int, Field(ge=1, le=192)] = 1


class Health(Model):
    """A command on the node; exit status 0 means healthy."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    interval_s: Annotated[int, Field(ge=1, le=3600)] = 1
    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 5


class Ssh(Model):
    """How to reach the nodes."""

    user: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    host: str | None = None
    identity_file: str | None = None
    config: str | None = None
    connect_timeout_s: Annotated[int, Field(ge=1, le=300)] = 10


class Node(Model):
    """One host of the cluster; ``address`` is the IPv4 address that its heartbeats come from."""

    address: IPv4Address
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    link: str | None = None
    health: Health | None = None
    ssh: Ssh | None = None


class Inventory(Model):
    """One cluster, as written by its user. ``source`` is the file's name, for messages and provenance."""

    source: str
    cluster: str
    link: str
    virtual_addresses: tuple[Address, ...]
    mac: Mac = Mac()
    hash: Hash = Hash()
    heartbeat: Heartbeat = Heartbeat()
    health: Health | None = None
    ssh: Ssh = Ssh()
    nodes: dict[str, Node]
