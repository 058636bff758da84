"""What lines of tcpdump and conntrack show, and what is said of those that show nothing."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.packetlines import MAX_LINE, LineError, Seen, parse_line, records

CLIENT, VIP = ip_address("203.0.113.9"), ip_address("192.0.2.100")
CLIENT6, VIP6 = ip_address("2001:db8::9"), ip_address("2001:db8::100")

LINES = [
    "IP 203.0.113.9.40000 > 192.0.2.100.80: Flags [S], seq 1, win 64240, length 0",
    "12:34:56.789012 IP 203.0.113.9.40000 > 192.0.2.100.http-alt: Flags [.], ack 1, length 0",
    "2026-11-23 12:34:56.789012 IP 203.0.113.9 > 192.0.2.100: ICMP echo request, id 1, seq 1, length 64",
    "1795000000.000001 eth0  In  IP 203.0.113.9.53 > 192.0.2.100.53: 1+ A? example.net. (29)",
    "    1  00:00:00.000001 IP 203.0.113.9 > 192.0.2.100: udp",
    "IP truncated-ip - 20 bytes missing! 203.0.113.9.1 > 192.0.2.100.2: UDP, length 99",
    "    203.0.113.9.40000 > 192.0.2.100.7: Flags [S], cksum 0x1234 (correct), seq 1, win 1, length 0",
    "IP 203.0.113.9 > 192.0.2.100: GREv0, length 88: IP 198.51.100.1 > 198.51.100.2: ICMP echo request",
]
LINES6 = [
    "IP6 2001:db8::9.40000 > 2001:db8::100.80: Flags [S], seq 1, win 64800, length 0",
    "12:34:56.789012 IP6 2001:db8::9 > 2001:db8::100: ICMP6, echo request, id 1, seq 1, length 64",
    "IP6 2001:db8::9 > 2001:db8::100: frag (0|1448) 40000 > 7: UDP, bad length 3000 > 1440",
    "IP6 (flowlabel 0x1, hlim 64, next-header TCP (6) payload length: 40) 2001:db8::9.1 > 2001:db8::100.7: F",
]
WITH_E = (
    "12:00:00.000001 02:00:00:00:00:FE > 03:53:C0:00:02:64, ethertype IPv4 (0x0800), length 74: "
    "203.0.113.9.40000 > 192.0.2.100.7: Flags [S], length 0"
)
WITH_VLAN = (
    "02:00:00:00:00:fe > 03:53:c0:00:02:64, ethertype 802.1Q (0x8100), length 78: vlan 5, p 0, "
    "ethertype IPv4 (0x0800), 203.0.113.9.40000 > 192.0.2.100.7: Flags [S], length 0"
)
TUPLES = (
    "src=203.0.113.9 dst=192.0.2.100 sport=40000 dport=7 src=192.0.2.100 dst=203.0.113.9 sport=7 dport=40000"
)
FLOWS = [
    f"tcp      6 431999 ESTABLISHED {TUPLES} [ASSURED] mark=0 use=1",
    f"ipv4     2 tcp      6 431999 ESTABLISHED {TUPLES} [ASSURED] mark=0 zone=0 use=2",
    f"[1795000000.123456]\t    [NEW] tcp      6 120 SYN_SENT {TUPLES} [UNREPLIED]",
    f" [UPDATE] tcp      6 60 SYN_RECV {TUPLES}",
]


@pytest.mark.parametrize("line", LINES)
def test_ipv4(line: str) -> None:
    assert parse_line(line) == Seen(((CLIENT, VIP),))


@pytest.mark.parametrize("line", LINES6)
def test_ipv6(line: str) -> None:
    assert parse_line(line) == Seen(((CLIENT6, VIP6),))


@pytest.mark.parametrize("line", [WITH_E, WITH_VLAN])
def test_hardware_addresses_are_no_hosts(line: str) -> None:
    assert parse_line(line) == Seen(((CLIENT, VIP),), hardware="03:53:c0:00:02:64")


@pytest.mark.parametrize("line", FLOWS)
def test_a_connection_has_two_directions(line: str) -> None:
    assert parse_line(line) == Seen(((CLIENT, VIP), (VIP, CLIENT)))


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("ICMP 203.0.113.9 unreachable - need to frag (mtu 1400), length 556", CLIENT),
        ("ICMP host 203.0.113.9 unreachable, length 36", CLIENT),
        ("ICMP 203.0.113.9 udp port 40000 unreachable, length 36", CLIENT),
        ("ICMP time exceeded in-transit, length 36", None),
        ("ICMP parameter problem - octet 20, length 36", None),
        ("ICMP6, destination unreachable, unreachable route 2001:db8::9, length 60", CLIENT6),
        ("[icmp6 sum ok] ICMP6, destination unreachable, unreachable port, 2001:db8::9 udp port 7", CLIENT6),
        ("ICMP6, packet too big, mtu 1400, length 1240", None),
        ("ICMP6, time exceeded in-transit for 2001:db8::9, length 60", CLIENT6),
    ],
)
def test_icmp_errors(words: str, about: object) -> None:
    seen = parse_line(f"IP 198.51.100.1 > 192.0.2.100: {words}")
    assert (seen.is_error, seen.about) == (True, about)


@pytest.mark.parametrize(
    "words", ["ICMP echo request, id 1", "ICMP redirect 192.0.2.1 to host 192.0.2.2", "udp"]
)
def test_what_is_no_icmp_error(words: str) -> None:
    assert not parse_line(f"IP 198.51.100.1 > 192.0.2.100: {words}").is_error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "no addresses"),
        ("listening on eth0, link-type EN10MB (Ethernet)", "no addresses"),
        (
            "IP client.example.net.4000 > 192.0.2.100.80: Flags [S]",
            '"client.example.net.4000" is not an address',
        ),
        ("IP 192.0.2.100.80 > client.http: Flags [S]", '"client.http" is not an address'),
        ("tcp 6 1 SYN_SENT src=here dst=192.0.2.100 sport=1", '"here" is not an address'),
        ("ARP, Request who-has 192.0.2.100 tell 192.0.2.250, length 28", "every node receives it"),
        ("02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype ARP (0x0806), length 60: Reply", "every node"),
        (
            "IP6 fe80::1 > ff02::1: ICMP6, neighbor solicitation, who has 2001:db8::100",
            "every node receives it",
        ),
        ("IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 60)", "on the next one"),
        ("02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype Unknown (0x88b5), length 60:", "no addresses"),
        ("a \x1b[2J > b", r'"\x1b[2J" is not an address'),
    ],
)
def test_lines_that_show_no_packet(line: str, says: str) -> None:
    with pytest.raises(LineError) as refused:
        parse_line(line)
    assert says in refused.value.message


@given(st.text(max_size=200) | st.text(alphabet=" >.:,0123456789abcdefICMPsrcdt=[]()", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert parse_line(text).pairs
    except LineError as refused:
        assert refused.message


def test_a_line_without_end_is_cut() -> None:
    with pytest.raises(LineError):
        parse_line("x" * 10 * MAX_LINE + LINES[0])


def test_what_tcpdump_writes_on_two_lines() -> None:
    head = "12:00:00.1 IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 60)"
    lines = [head, f"    {LINES[0]}", "", "\t0x0000:  4500 003c 0001 4000", "foo\n", "\t  option (1)"]
    assert list(records(lines)) == [(2, f"{head}     {LINES[0]}"), (5, "foo")]
    assert parse_line(next(records(lines))[1]).pairs == ((CLIENT, VIP),)
