"""What an inventory says, as immutable values.

Defaults are the product's; anything per node that is ``None`` means "as in the cluster".
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from trscaler_gen.inventory.words import (
    Address,
    Argument,
    ClusterName,
    HostName,
    InterfaceName,
    InventoryPath,
    LocalPath,
    MacAddress,
    MacMode,
    NodeAddress,
    NodeName,
    TextfileDirectory,
    UserName,
    VirtualAddress,
    check_command,
    mac_trouble,
    refusal,
)
from trscaler_gen.jhash import HashInput
from trscaler_gen.mac import HardwareAddress

MAX_NODES = 32
MAX_VIRTUAL_ADDRESSES = 64

__all__ = [
    "Address",
    "Hash",
    "Health",
    "Heartbeat",
    "Inventory",
    "Mac",
    "Metrics",
    "Model",
    "Node",
    "Ssh",
    "MAX_NODES",
    "MAX_VIRTUAL_ADDRESSES",
]


class Model(BaseModel):
    """Immutable, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Mac(Model):
    """Which hardware address the neighbours learn, and how the switch is kept flooding it."""

    mode: Annotated[
        MacMode,
        Field(
            description="multicast: a multicast MAC, flooded by most switches. stealth: a unicast MAC that "
            "no switch ever learns, for routers that refuse a multicast MAC. unicast: a unicast MAC that is "
            "also the source, for hubs and mirrored ports."
        ),
    ] = "multicast"
    address: Annotated[
        MacAddress,
        Field(description="The cluster MAC, for example 03:00:5d:00:01:01; auto: derived."),
    ] = "auto"

    @model_validator(mode="after")
    def _mode_and_address_agree(self) -> Self:
        if isinstance(self.address, HardwareAddress) and (trouble := mac_trouble(self.mode, self.address)):
            raise refusal("mac-mode", trouble)
        return self


class Hash(Model):
    """What is hashed into how many buckets."""

    input: Annotated[
        HashInput,
        Field(
            description="source-destination: a client may meet another node at each virtual address. "
            "source: a client meets one node at all of them. destination-source and destination: the same "
            "of a flow's other direction, for the second link of nodes that forward."
        ),
    ] = "source-destination"
    like: Annotated[
        InventoryPath | None,
        Field(
            description="The inventory of another cluster of the same nodes, as seen from this file's "
            "folder: seed, buckets, node ids, weights and orders are its own here too."
        ),
    ] = None
    buckets: Annotated[
        int,
        Field(
            ge=64,
            le=16384,  # rules look up two bytes of one
            strict=True,
            description="Parts that the traffic is dealt out in; more make shares finer and rulesets longer.",
        ),
    ] = 1024


class Heartbeat(Model):
    """How often a node says that it is alive, and how many misses make it dead."""

    interval_ms: Annotated[
        int,
        Field(
            ge=10,
            le=10_000,
            multiple_of=10,
            strict=True,
            description="Milliseconds between two heartbeats, in steps of 10 (VRRPv3 counts centiseconds).",
        ),
    ] = 100
    missed: Annotated[
        int,
        Field(
            ge=2,
            le=20,
            strict=True,
            description="A node is dead after (missed + 0.5) intervals without a heartbeat.",
        ),
    ] = 3
    first_vrid: Annotated[
        int,
        Field(
            ge=1,
            le=192,
            strict=True,
            description="The first of 64 VRRP router ids that are this cluster's; other VRRP users of the "
            "link must stay clear of them.",
        ),
    ] = 1


class Health(Model):
    """A command on the node; exit status 0 means healthy."""

    command: Annotated[
        tuple[Argument, ...],
        Field(
            min_length=1,
            max_length=64,
            description="The program's absolute path, then its arguments; no shell reads them.",
        ),
        AfterValidator(check_command),
    ]
    interval_s: Annotated[
        int, Field(ge=1, le=3600, strict=True, description="Seconds from one run to the next.")
    ] = 1
    timeout_s: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            strict=True,
            description="Seconds after which a run counts as failed; while one runs no other begins.",
        ),
    ] = 5


class Metrics(Model):
    """Prometheus metrics that each node writes for node_exporter's textfile collector."""

    textfile_directory: Annotated[
        TextfileDirectory,
        Field(description="The folder that node_exporter reads (--collector.textfile.directory)."),
    ]
    interval_s: Annotated[
        int, Field(ge=5, le=3600, strict=True, description="Seconds from one writing to the next.")
    ] = 15


class Ssh(Model):
    """How to reach the nodes."""

    user: Annotated[
        UserName | None,
        Field(description="Log in as; without it what the ssh config says, else root."),
    ] = None
    sudo: Annotated[
        bool | None,
        Field(
            strict=True,
            description="Whether commands go through `sudo -n`; without it exactly if the user is not root.",
        ),
    ] = None
    port: Annotated[
        int | None,
        Field(
            ge=1, le=65535, strict=True, description="TCP port; without it what the ssh config says, else 22."
        ),
    ] = None
    host: Annotated[
        HostName | None,
        Field(description="Address or name to connect to; without it the node's address."),
    ] = None
    identity_file: Annotated[
        LocalPath | None, Field(description="Private key on this machine; begins with / or ~/.")
    ] = None
    config: Annotated[
        LocalPath | None,
        Field(description="OpenSSH client configuration on this machine; begins with / or ~/."),
    ] = None
    connect_timeout_s: Annotated[
        int, Field(ge=1, le=300, strict=True, description="Seconds to wait for a connection.")
    ] = 10


class Node(Model):
    """One host of the cluster; ``address`` is the IPv4 address that its heartbeats come from."""

    address: Annotated[
        NodeAddress,
        Field(
            description="The node's own IPv4 address on the link: heartbeats come from it, SSH goes to it."
        ),
    ]
    weight: Annotated[
        int,
        Field(ge=1, le=100, strict=True, description="Share of the buckets, relative to the other nodes."),
    ] = 1
    link: Annotated[
        InterfaceName | None, Field(description="Interface, where it differs from the cluster's.")
    ] = None
    forwards_to: Annotated[
        InterfaceName | None, Field(description="The other link, where it differs from the cluster's.")
    ] = None
    health: Annotated[
        Health | None,
        Field(description="Health check in place of the cluster's (as a whole, not key by key)."),
    ] = None
    ssh: Annotated[
        Ssh | None, Field(description="SSH settings that differ from the cluster's, key by key.")
    ] = None


class Inventory(Model):
    """One cluster, as written by its user. ``source`` is the file's name, for messages and provenance."""

    source: str
    cluster: Annotated[ClusterName, Field(description="The cluster's name.")]
    link: Annotated[
        InterfaceName, Field(description="The interface on which the cluster serves, on every node.")
    ]
    virtual_addresses: Annotated[
        tuple[VirtualAddress, ...],
        Field(
            min_length=1,
            description="The shared addresses, IPv4 and IPv6, without prefix length.",
            json_schema_extra={"maxItems": MAX_VIRTUAL_ADDRESSES, "uniqueItems": True},
        ),
    ]
    forwards_to: Annotated[
        InterfaceName | None,
        Field(
            description="Nodes forward packets between the link and this one: all connections are tracked, "
            "and a node without carrier there stands aside."
        ),
    ] = None
    mac: Annotated[Mac, Field(description="The hardware address that the neighbours learn.")] = Mac()
    hash: Annotated[Hash, Field(description="How a packet finds its bucket.")] = Hash()
    heartbeat: Annotated[Heartbeat, Field(description="How nodes know of each other.")] = Heartbeat()
    health: Annotated[
        Health | None,
        Field(description="A check that takes a node out while it fails; without it only the node's own."),
    ] = None
    connections: Annotated[
        Literal["preserve", "hash-only"],
        Field(
            description="preserve: a TCP connection stays with its node when a change moves its bucket. "
            "hash-only: it breaks; no connection is tracked."
        ),
    ] = "preserve"
    keep_connections_s: Annotated[
        int,
        Field(
            ge=10,
            le=86_400,
            strict=True,
            description="Seconds for which a connection stays with its node after its bucket has moved.",
        ),
    ] = 3600
    drain_before_stop_s: Annotated[
        int,
        Field(
            ge=0,
            le=3600,
            strict=True,
            description="Seconds that a node which is stopped waits for its connections to end.",
        ),
    ] = 30
    metrics: Annotated[
        Metrics | None,
        Field(description="Metrics for Prometheus; without it none are written."),
    ] = None
    ssh: Annotated[Ssh, Field(description="How to reach the nodes.")] = Ssh()
    nodes: Annotated[
        dict[NodeName, Node],
        Field(
            description="The hosts, by name.",
            json_schema_extra={"minProperties": 1, "maxProperties": MAX_NODES},
        ),
    ]

    def link_of(self, name: str) -> str:
        """The interface that a node serves on."""
        return self.nodes[name].link or self.link

    def forwards_to_of(self, name: str) -> str | None:
        """The interface that a node forwards to; None where it only serves."""
        return self.nodes[name].forwards_to or self.forwards_to

    def health_of(self, name: str) -> Health | None:
        """The health check of a node: its own, else the cluster's, as a whole."""
        return self.nodes[name].health or self.health

    def ssh_of(self, name: str) -> Ssh:
        """How to reach a node: its own settings over the cluster's, key by key.

        ``host`` is always set (default: the node's address). ``user`` and ``port`` stay None when the
        inventory does not say: then the ssh config decides, else root and 22.
        """
        node = self.nodes[name]
        own = node.ssh.model_dump(exclude_unset=True, exclude_none=True) if node.ssh else {}
        merged = self.ssh.model_copy(update=own)
        return merged if merged.host else merged.model_copy(update={"host": str(node.address)})
