"""One valid sample of everything that is read."""

from __future__ import annotations

import io
import struct
import tarfile
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from plan.test_saved import saved

from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lock import reconcile, render_lock
from trscaler_gen.plan import save

ROOT = Path(__file__).parents[2]
INVENTORY = (ROOT / "inventory" / "production.yaml").read_bytes()
CLIENT, SHARED = ip_address("192.0.2.9"), ip_address("192.0.2.100")
CLIENT6, SHARED6 = ip_address("2001:db8::9"), ip_address("2001:db8::100")
_MACS = bytes.fromhex("0353c0000264 020000000001")

FACTS = f"""\
uid=0
kernel=6.1.0
nft_version=nftables v1.0.6
staged=no
generation=abcdefabcdef
loaded=abcdefabcdef
ruleset=intact
keepalived=running
heartbeat=MASTER
serving=yes
fenced=no
attached=yes
units=intact
running=yes
node_id=2
alive=1 2 3
epoch=1
serial=3
accepted=12
dropped=34
draining=no
held=12
joining=no
hosting=1 3
peers_draining=4
placement=only
tracked=14
most_tracked=262144
change=c0ffeec0ffee
holder=ann@desk 2026-11-23T00:05:45Z
digest={"a" * 64}  node.sh
listed={"a" * 64}  node.sh
""".encode()

HISTORY = b"""\
current=abcdefabcdef
generation=abcdefabcdef
line=2026-11-23T00:05:45Z applied c0ffeec0ffee abcdefabcdef ann@desk
line=2026-11-23T00:06:45Z went-back c0ffeec0ffee - timer
"""

LISTING = b"""\
source,destination,packets,bytes
192.0.2.9,192.0.2.100,3,400
2001:db8::9,2001:db8::100,1,60
"""


@cache
def lock() -> bytes:
    inventory = parse_inventory((ROOT / "tests" / "golden" / "cluster.yaml").read_bytes(), "cluster.yaml")
    return render_lock(reconcile(inventory, None, seed=1)).encode()


@cache
def plan() -> bytes:
    return save(saved()).encode()


def archive() -> bytes:
    """Two files of a node's generation."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("lock", "node.sh"):
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"hello"))
    return buffer.getvalue()


def _ipv4(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    return head + CLIENT.packed + SHARED.packed + payload


def _frames() -> list[bytes]:
    quoted = _ipv4(6, bytes(8))
    ipv6 = struct.pack("!IHBB", 6 << 28, 24, 0, 64) + CLIENT6.packed + SHARED6.packed + b"\x06" + bytes(23)
    return [
        _MACS + b"\x08\x00" + _ipv4(17, bytes(20)),
        _MACS + b"\x81\x00\x00\x05\x08\x00" + _ipv4(1, b"\x03\x04" + bytes(6) + quoted),
        _MACS + b"\x86\xdd" + ipv6,
    ]


def pcap() -> bytes:
    """A capture of an IPv4 packet, a tagged ICMP error and an IPv6 packet with a header in between."""
    records = b"".join(struct.pack("<IIII", 1, 2, len(f), len(f)) + f for f in _frames())
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1) + records


def pcapng() -> bytes:
    """The same with a clock's resolution, and once more without a time."""
    interface = struct.pack("<HHIHHB3xI", 1, 0, 0, 9, 1, 6, 0)
    packets = [_block(6, struct.pack("<IIIII", 0, 0, 5, len(f), len(f)) + f) for f in _frames()]
    simple = [_block(3, struct.pack("<I", len(f)) + f) for f in _frames()]
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return b"".join([_block(0x0A0D0D0A, section), _block(1, interface), *packets, *simple])


def _block(kind: int, body: bytes) -> bytes:
    padded = body + bytes(-len(body) % 4)
    length = 12 + len(padded)
    return struct.pack("<II", kind, length) + padded + struct.pack("<I", length)
