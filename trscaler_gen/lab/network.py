"""The lab's network as values: who sits where, and the ip(8) batches that make it so.

One switch (a bridge in a namespace of its own), one port per node and one for the client. Node K of the
inventory is 192.0.2.K and 2001:db8::K (the same decimal digits); the client is number 201 and owns 250 more
source addresses in networks of their own, which the nodes route back to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Address, Inventory, Node

NETWORK_4 = IPv4Network("192.0.2.0/24")
NETWORK_6 = IPv6Network("2001:db8::/64")
SOURCES_4 = IPv4Network("198.51.100.0/24")
SOURCES_6 = IPv6Network("2001:db8:100::/64")
MAX_SOURCES = 250
MAX_NODE_NUMBER = 199
CLIENT_NUMBER = 201

CLIENT = "client"
SWITCH = "switch"
CLIENT_LINK = "eth0"
BRIDGE = "br0"
DEFAULT_SSH_PORT = 22
_MAX_INTERFACE_NAME = 15


@dataclass(frozen=True)
class Seat:
    """A node's or the client's place at the switch; ``aliases`` are its other names for SSH."""

    name: str
    link: str
    port: str
    address4: IPv4Address
    address6: IPv6Address
    ssh_port: int = DEFAULT_SSH_PORT
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabNetwork:
    """Everything that the lab's wires and addresses depend on."""

    cluster: str
    virtual_addresses: tuple[Address, ...]
    nodes: tuple[Seat, ...]
    client: Seat
    learning: bool
    connect_timeout_s: int = 10


def same_digits(prefix: str, number: int) -> IPv6Address:
    """The IPv6 address whose last group shows ``number`` in decimal digits: 201 becomes ...::201."""
    return IPv6Address(f"{prefix}{number}")


def source_addresses(family: int, count: int) -> tuple[Address, ...]:
    """The first ``count`` of the client's extra addresses; raises OperationError if it has not so many.

    ``family`` is 4 or 6.
    """
    if not 1 <= count <= MAX_SOURCES:
        raise OperationError(f"{count} sources: the client has 1 to {MAX_SOURCES}")
    if family == 4:
        return tuple(SOURCES_4[number] for number in range(1, count + 1))
    return tuple(same_digits("2001:db8:100::", number) for number in range(1, count + 1))


def lab_network(inventory: Inventory) -> LabNetwork:
    """Lay the inventory out on the lab's network; raises OperationError if it does not fit there."""
    client_port = _port_name(CLIENT, CLIENT_NUMBER)
    network = LabNetwork(
        cluster=inventory.cluster,
        virtual_addresses=inventory.virtual_addresses,
        nodes=tuple(_node_seat(inventory, name, node) for name, node in inventory.nodes.items()),
        client=Seat(CLIENT, CLIENT_LINK, client_port, NETWORK_4[CLIENT_NUMBER], _address6(CLIENT_NUMBER)),
        learning=inventory.mac.mode != "unicast",
        connect_timeout_s=inventory.ssh.connect_timeout_s,
    )
    _refuse_foreign_virtual_addresses(network)
    return network


def _node_seat(inventory: Inventory, name: str, node: Node) -> Seat:
    if name in (CLIENT, SWITCH):
        raise OperationError(
            f'the lab cannot have a node called "{name}": that is the name of its own {name}',
            "rename the node",
        )
    number = int(node.address) - int(NETWORK_4.network_address)
    if not 1 <= number <= MAX_NODE_NUMBER:
        raise OperationError(
            f"node {name} has the address {node.address}, but the lab's network is {NETWORK_4}, "
            f"nodes 192.0.2.1 to 192.0.2.{MAX_NODE_NUMBER}",
            "use inventory/lab.yaml, or a copy of your inventory with such addresses",
        )
    ssh = node.ssh or inventory.ssh
    user, port, host = ssh.user or inventory.ssh.user, ssh.port or inventory.ssh.port, ssh.host
    if user not in (None, "root"):
        raise OperationError(
            f'node {name} wants the SSH user "{user}", but the lab knows root only', "set ssh.user"
        )
    return Seat(
        name=name,
        link=node.link or inventory.link,
        port=_port_name(name, number),
        address4=node.address,
        address6=_address6(number),
        ssh_port=port or DEFAULT_SSH_PORT,
        aliases=tuple(alias for alias in (str(node.address), host) if alias and alias != name),
    )


def _address6(number: int) -> IPv6Address:
    return same_digits("2001:db8::", number)


def _port_name(name: str, number: int) -> str:
    port = f"p-{name}"
    return port if len(port) <= _MAX_INTERFACE_NAME else f"port{number}"


def _refuse_foreign_virtual_addresses(network: LabNetwork) -> None:
    taken: dict[Address, str] = {}
    for seat in (*network.nodes, network.client):
        taken |= {seat.address4: seat.name, seat.address6: seat.name}
    for address in network.virtual_addresses:
        if address not in NETWORK_4 and address not in NETWORK_6:
            raise OperationError(
                f"the virtual address {address} is outside the lab's networks, {NETWORK_4} and {NETWORK_6}",
                "use inventory/lab.yaml, or a copy of your inventory with such addresses",
            )
        if address in taken:
            raise OperationError(
                f"in the lab, {address} is the address of {taken[address]}", "choose another virtual address"
            )


def wires_batch(network: LabNetwork, pids: Mapping[str, int]) -> str:
    """The bridge and every veth pair, as ip(8) reads it inside the switch; ``pids`` name the namespaces.

    Multicast snooping stays on, as bridges have it: without a querier it floods every group, and with one it
    prunes only groups in 01:00:5e and 33:33, so the lab shows what a plain switch does. The switch itself has
    no address, not even a link-local one: it says nothing.
    """
    lines = [
        "link set lo up",
        f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0",
        f"link set {BRIDGE} addrgenmode none up",
    ]
    for seat in (*network.nodes, network.client):
        learning = "on" if network.learning else "off"
        lines += [
            f"link add {seat.port} type veth peer name {seat.link} netns {pids[seat.name]}",
            f"link set {seat.port} master {BRIDGE} addrgenmode none up",
            f"link set {seat.port} type bridge_slave learning {learning} flood on mcast_flood on",
        ]
    return _text(lines)


def node_batch(seat: Seat, client: Seat) -> str:
    """A node's own addresses and its way back to the client's sources, as ip(8) reads it."""
    return _text(
        [
            *_link_lines(seat),
            f"route add {SOURCES_4} via {client.address4}",
            f"route add {SOURCES_6} via {client.address6}",
        ]
    )


def client_batch(client: Seat) -> str:
    """The client's addresses; the sources lie on its loopback, as if they were networks behind a router."""
    return _text([*_link_lines(client), *_source_lines()])


def _link_lines(seat: Seat) -> list[str]:
    return [
        "link set lo up",
        f"address add {seat.address4}/{NETWORK_4.prefixlen} dev {seat.link}",
        f"address add {seat.address6}/{NETWORK_6.prefixlen} dev {seat.link} nodad",
        f"link set {seat.link} up",
    ]


def _source_lines() -> Iterator[str]:
    for family in (4, 6):
        for address in source_addresses(family, MAX_SOURCES):
            yield f"address add {address} dev lo nodad" if family == 6 else f"address add {address} dev lo"


def seat_sysctls(seat: Seat) -> str:
    """IPv6 on, even where the host's default is off; no waiting for duplicate address detection on the link.

    Only the link is told: devices that the product makes come up with the kernel's defaults, as on any host.
    """
    return _text(
        [
            "net/ipv6/conf/all/disable_ipv6 0",
            "net/ipv6/conf/default/disable_ipv6 0",
            f"net/ipv6/conf/{seat.link}/disable_ipv6 0",
            f"net/ipv6/conf/{seat.link}/accept_dad 0",
            f"net/ipv6/conf/{seat.link}/accept_ra 0",
        ]
    )


def client_sysctls(client: Seat) -> str:
    """As on a seat; and the client asks for neighbours as a router would, by its own address on the link."""
    return seat_sysctls(client) + _text([f"net/ipv4/conf/{client.link}/arp_announce 2"])


def hosts_file(network: LabNetwork, name: str) -> str:
    """An /etc/hosts for the node ``name`` that knows every seat."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for seat in (*network.nodes, network.client):
        lines += [f"{seat.address4} {seat.name}", f"{seat.address6} {seat.name}"]
    return _text([f"# the lab's {name}", *lines])


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
