"""Which packet is meant, whose it is, and in which order nodes are asked."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address

import pytest
import yaml

from trscaler_gen.explain import Packet, bucket_in, explain, hardware_of, packet_between, packet_of
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.jhash import MIRRORED, bucket_of
from trscaler_gen.lock import Lock, reconcile
from trscaler_gen.packetlines import LineError, parse_line

SEED = 0x5EED0001
CLIENT, VIP, OTHER = (ip_address(text) for text in ("203.0.113.9", "192.0.2.100", "198.51.100.7"))
REQUEST = Packet(CLIENT, VIP)


def cluster(**keys: object) -> tuple[Inventory, Lock]:
    document = {
        "cluster": "web",
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100", "2001:db8::100"],
        "nodes": {f"n{n}": {"address": f"192.0.2.{n}", "weight": 1 + n % 2} for n in range(1, 5)},
        **keys,
    }
    inventory = parse_inventory(yaml.safe_dump(document, sort_keys=False).encode(), "web.yaml")
    return inventory, reconcile(inventory, None, seed=SEED)


WEB, LOCK = cluster()
ROUTERS, ROUTERS_LOCK = cluster(forwards_to="eth1")


def test_order_owner_and_who_is_next() -> None:
    told = explain(WEB, LOCK, REQUEST)
    bucket = bucket_of(CLIENT, VIP, hash_input="source-destination", seed=SEED, buckets=1024)
    names = {node.node_id: node.name for node in LOCK.nodes}
    order = [names[node_id] for node_id in LOCK.orders[bucket]]
    assert told.bucket == bucket
    assert [place.node for place in told.places] == order
    assert (told.owner, list(told.successors), told.down) == (order[0], order[1:], ())
    assert {place.node: place.weight for place in told.places} == {"n1": 2, "n2": 1, "n3": 2, "n4": 1}


def test_nodes_that_are_down_are_passed_over() -> None:
    order = [place.node for place in explain(WEB, LOCK, REQUEST).places]
    told = explain(WEB, LOCK, REQUEST, {order[0], order[2]})
    assert (told.owner, told.successors) == (order[1], (order[3],))
    assert told.down == (order[0], order[2])
    assert explain(WEB, LOCK, REQUEST, set(order)).owner is None


def test_a_switch_to_come_has_another_order() -> None:
    assert explain(WEB, LOCK, REQUEST).before == ()
    turned = replace(LOCK, orders=tuple(order[::-1] for order in LOCK.orders), before=LOCK.orders, switch=2)
    told = explain(WEB, turned, REQUEST)
    assert told.before == tuple(place.node for place in told.places[::-1])


@pytest.mark.parametrize("hash_input", MIRRORED)
def test_every_hash_input(hash_input: str) -> None:
    _, lock = cluster(hash={"input": hash_input})
    same = {bucket_in(lock, Packet(CLIENT, VIP)), bucket_in(lock, Packet(OTHER, VIP))}
    assert (len(same) == 1) == (hash_input == "destination")


@pytest.mark.parametrize(
    ("line", "packet"),
    [
        ("IP 203.0.113.9.4000 > 192.0.2.100.7: Flags [S]", (CLIENT, VIP)),
        ("IP 192.0.2.100.7 > 203.0.113.9.4000: Flags [S.]", (CLIENT, VIP)),
        (
            "IP 198.51.100.7 > 192.0.2.100: ICMP 203.0.113.9 unreachable - need to frag (mtu 1400)",
            (CLIENT, VIP),
        ),
        ("IP 192.0.2.100 > 203.0.113.9: ICMP 192.0.2.100 udp port 9 unreachable, length 36", (CLIENT, VIP)),
        (
            "tcp 6 9 ESTABLISHED src=203.0.113.9 dst=192.0.2.100 src=192.0.2.100 dst=203.0.113.9",
            (CLIENT, VIP),
        ),
        (
            "tcp 6 9 ESTABLISHED src=192.0.2.100 dst=203.0.113.9 src=203.0.113.9 dst=192.0.2.100",
            (CLIENT, VIP),
        ),
        ("tcp 6 9 SYN_SENT src=203.0.113.9 dst=198.51.100.7 src=192.0.2.100 dst=203.0.113.9", (CLIENT, VIP)),
    ],
)
def test_a_line_is_of_a_flow(line: str, packet: tuple[object, object]) -> None:
    found = packet_of(WEB, parse_line(line), hardware_of(LOCK))
    assert (found.source, found.destination) == packet


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("IP 203.0.113.9.4000 > 198.51.100.7.80: Flags [S]", "neither 203.0.113.9 nor 198.51.100.7"),
        ("IP 192.0.2.1 > 224.0.0.18: VRRPv3, Advertisement, vrid 1", "is a virtual address of web"),
        ("IP 198.51.100.7 > 192.0.2.100: ICMP time exceeded in-transit, length 36", "not on this line"),
    ],
)
def test_a_line_of_no_flow(line: str, says: str) -> None:
    with pytest.raises(LineError, match=re.escape(says)):
        packet_of(WEB, parse_line(line), hardware_of(LOCK))


def test_addresses_that_make_no_packet() -> None:
    with pytest.raises(LineError, match="different families"):
        packet_between(WEB, CLIENT, ip_address("2001:db8::100"))
    with pytest.raises(LineError, match="neither") as refused:
        packet_between(WEB, CLIENT, OTHER)
    assert refused.value.hint == "the virtual addresses are 192.0.2.100, 2001:db8::100"
    with pytest.raises(LineError, match="is an answer") as refused:
        packet_between(WEB, VIP, CLIENT)
    assert refused.value.hint.endswith("from 203.0.113.9 to 192.0.2.100")


def test_a_node_answers_itself() -> None:
    (note,) = explain(WEB, LOCK, Packet(ip_address("192.0.2.3"), VIP)).notes
    assert "192.0.2.3 is n3's own" in note


FORWARDED = "203.0.113.9.4000 > 198.51.100.7.80: Flags [S]"


def frame_to(mac: object) -> str:
    return f"02:00:00:00:00:fe > {mac}, ethertype IPv4 (0x0800), length 74: {FORWARDED}"


def test_nodes_that_forward_decide_what_comes_in_by_their_link() -> None:
    arriving = packet_of(ROUTERS, parse_line(frame_to(ROUTERS_LOCK.cluster_mac)), hardware_of(ROUTERS_LOCK))
    assert arriving == Packet(CLIENT, OTHER)
    leaving = packet_of(ROUTERS, parse_line(frame_to("02:00:00:00:00:07")), hardware_of(ROUTERS_LOCK))
    assert (leaving.source, leaving.destination) == (OTHER, CLIENT)
    unsure = packet_of(ROUTERS, parse_line(f"IP {FORWARDED}"), hardware_of(ROUTERS_LOCK))
    assert (unsure.source, unsure.destination) == (CLIENT, OTHER)
    assert "tcpdump -e would tell" in unsure.note
    (note,) = explain(ROUTERS, ROUTERS_LOCK, arriving).notes
    assert note.startswith("it is forwarded to eth1")


def test_nodes_that_forward_have_addresses_too() -> None:
    assert packet_between(ROUTERS, CLIENT, VIP) == REQUEST
    assert explain(ROUTERS, ROUTERS_LOCK, REQUEST).notes == ()
