"""What a node's cluster link can be: a wire, a VLAN on it, or a bond of two."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lab.lab import Lab
from trscaler_gen.lab.members import run_in_network
from trscaler_gen.lab.network import CLIENT, SWITCH, LabNetwork, Seat, lab_network, node_batch, seat_sysctls

_WIRE = "eth0"
_SECOND_WIRE = "eth1"
_VLAN = 5


@dataclass(frozen=True)
class Link:
    """A kind of link: the device's name on the nodes, and how it is made there, beneath the addresses."""

    kind: str
    device: str
    made_by: tuple[str, ...]


WIRE = Link("wire", _WIRE, ())
VLAN = Link(
    "vlan",
    f"{_WIRE}.{_VLAN}",
    (f"link set {_WIRE} up", f"link add link {_WIRE} name {_WIRE}.{_VLAN} type vlan id {_VLAN}"),
)
BOND = Link(
    "bond",
    "bond0",
    (
        "link add bond0 type bond mode active-backup miimon 50",
        *(f"link set {wire} {words}" for wire in (_WIRE, _SECOND_WIRE) for words in ("down", "master bond0")),
    ),
)
LINKS = {link.kind: link for link in (WIRE, VLAN, BOND)}


@dataclass(frozen=True)
class Wiring:
    """The nodes of a lab, on links of one kind."""

    lab: Lab
    network: LabNetwork
    link: Link

    @classmethod
    def lay(cls, lab: Lab, inventory: Inventory, link: Link) -> Wiring:
        """Let the nodes of a lab that is up have this link in the place of their wire."""
        wiring = cls(lab, lab_network(inventory), link)
        if link == VLAN:
            wiring._tag_at_the_switch()
        for seat in wiring.network.nodes if link != WIRE else ():
            if link == BOND:
                wiring._plug(seat.name, f"q-{seat.name}", _SECOND_WIRE)
            lab.exec(seat.name, ["ip", "addr", "flush", "dev", _WIRE])
            lab.exec(seat.name, ["ip", "link", "set", _WIRE, "down"])  # IPv6 routes outlive their addresses
            wiring.make(seat.name)
        return wiring

    def delete(self, node: str) -> None:
        """Delete the link of a node, with all that lies on it."""
        self.lab.exec(node, ["ip", "link", "del", self.link.device])

    def make(self, node: str) -> None:
        """Make the link of a node, or make it again, with the host's own addresses and routes.

        A device that is made again has another number, and another address unless it lies on a wire.
        """
        seat = replace(self._seat(node), link=self.link.device)
        if self.link == WIRE:
            self._plug(node, seat.port, _WIRE)
        self._batch(node, "".join(f"{line}\n" for line in self.link.made_by))
        settings = "".join(
            f"echo {line.split()[1]} >/proc/sys/{line.split()[0]}\n" for line in _settings(seat)
        )
        self.lab.exec(node, ["sh", "-e"], input=settings)
        self._batch(node, node_batch(seat, self.network.client))
        # Who resolved the host before would ask it by an address that it has no more.
        self.lab.exec(CLIENT, ["ip", "neigh", "flush", "all"])

    def active_wire(self, node: str) -> str:
        """The wire that a bond uses now."""
        return self.lab.exec(node, ["cat", "/sys/class/net/bond0/bonding/active_slave"]).stdout.strip()

    def _tag_at_the_switch(self) -> None:
        """Nodes have trunks, the client has an access port of the VLAN."""
        lines = [f"vlan add dev {seat.port} vid {_VLAN}" for seat in self.network.nodes]
        lines.append(f"vlan add dev {self.network.client.port} vid {_VLAN} pvid untagged")
        self.lab.exec(SWITCH, ["ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1"])
        self.lab.exec(SWITCH, ["bridge", "-batch", "-"], input="".join(f"{line}\n" for line in lines))

    def _plug(self, node: str, port: str, wire: str) -> None:
        member = self.lab.state.members[node].process
        assert member is not None
        lines = (
            f"link add {port} type veth peer name {wire} netns {member.pid}\nlink set {port} master br0 up\n"
        )
        switch = self.lab.state.members[SWITCH].process
        assert switch is not None
        run_in_network(switch.pid, ["ip", "-batch", "-"], lines)

    def _batch(self, member: str, lines: str) -> None:
        self.lab.exec(member, ["ip", "-batch", "-"], input=lines)

    def _seat(self, node: str) -> Seat:
        return next(seat for seat in self.network.nodes if seat.name == node)


def _settings(seat: Seat) -> list[str]:
    return seat_sysctls(seat).splitlines()
