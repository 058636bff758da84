from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from lab.world import inventory
from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Mac, Node, Ssh
from trscaler_gen.lab.network import lab_network, source_addresses, wires_batch


def one_node(address: str = "192.0.2.7", name: str = "n1", **keys: Any) -> dict[str, Node]:
    return {name: Node(address=IPv4Address(address), **keys)}


def test_a_node_has_the_same_digits_in_both_families() -> None:
    network = lab_network(inventory(nodes=one_node("192.0.2.199")))
    assert network.nodes[0].address6 == IPv6Address("2001:db8::199")
    assert network.client.address4 == IPv4Address("192.0.2.201")
    assert network.client.address6 == IPv6Address("2001:db8::201")


def test_the_last_sources_have_the_same_digits_too() -> None:
    assert source_addresses(4, 250)[-1] == IPv4Address("198.51.100.250")
    assert source_addresses(6, 250)[-1] == IPv6Address("2001:db8:100::250")


@pytest.mark.parametrize(("mode", "word"), [("multicast", "on"), ("stealth", "on"), ("unicast", "off")])
def test_the_switch_learns_unless_the_source_is_the_cluster_address(mode: Any, word: str) -> None:
    network = lab_network(inventory(1, mac=Mac(mode=mode)))
    batch = wires_batch(network, {"n1": 11, "client": 12})
    assert batch.count(f"learning {word}") == 2


def test_a_long_name_gets_a_port_name_that_fits() -> None:
    network = lab_network(inventory(nodes=one_node(name="a-name-of-19-letters")))
    assert network.nodes[0].port == "port7"


def test_link_port_and_host_of_a_node_win() -> None:
    ssh = Ssh(port=2022, host="web1.example")
    node = lab_network(inventory(nodes=one_node(link="lan0", ssh=ssh), ssh=Ssh(port=2222))).nodes[0]
    assert (node.link, node.ssh_port, node.aliases) == ("lan0", 2022, ("192.0.2.7", "web1.example"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"nodes": one_node("203.0.113.1")}, "lab's network is 192.0.2.0/24"),
        ({"nodes": one_node("192.0.2.200")}, "192.0.2.1 to 192.0.2.199"),
        ({"nodes": one_node(name="switch")}, 'a node called "switch"'),
        ({"virtual_addresses": (ip_address("203.0.113.5"),)}, "203.0.113.5 is outside the lab's networks"),
        ({"virtual_addresses": (ip_address("192.0.2.201"),)}, "192.0.2.201 is the address of client"),
        ({"virtual_addresses": (ip_address("2001:db8::1"),)}, "2001:db8::1 is the address of n1"),
        ({"ssh": Ssh(user="deploy")}, "root only"),
    ],
)
def test_an_inventory_that_does_not_fit_the_lab_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(OperationError, match=words) as refusal:
        lab_network(inventory(1, **keys))
    assert "\n" not in refusal.value.message
    assert refusal.value.hint
