"""The kernel's jhash, bit for bit: which bucket a packet falls into.

This is lookup3 as in the kernel's include/linux/jhash.h (``jhash``), and the scaling of nft's
``jhash ... mod N seed S``, which is no modulo but ``reciprocal_scale`` (net/netfilter/nft_hash.c).
Words are loaded little-endian: a big-endian kernel puts IPv6 packets into other buckets.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

HashInput = Literal["source-destination", "source", "destination-source", "destination"]

#: what is hashed of a flow's other direction, so that both fall into the same bucket
MIRRORED: Mapping[HashInput, HashInput] = {
    "source-destination": "destination-source",
    "source": "destination",
    "destination-source": "source-destination",
    "destination": "source",
}

_INITVAL = 0xDEADBEEF
_MASK = 0xFFFFFFFF
_BLOCK_BYTES = 12


def jhash(data: bytes, seed: int) -> int:
    """Hash ``data`` of any length to 32 bits; ``seed`` is the kernel's ``initval`` (32 bits)."""
    a = b = c = (_INITVAL + len(data) + seed) & _MASK
    start = 0
    while len(data) - start > _BLOCK_BYTES:
        x, y, z = struct.unpack_from("<III", data, start)
        a, b, c = _mix(a + x & _MASK, b + y & _MASK, c + z & _MASK)
        start += _BLOCK_BYTES
    if start == len(data):
        return c
    x, y, z = struct.unpack("<III", data[start:].ljust(_BLOCK_BYTES, b"\0"))
    return _final(a + x & _MASK, b + y & _MASK, c + z & _MASK)


def bucket(data: bytes, seed: int, buckets: int) -> int:
    """Scale the hash of ``data`` to 0..buckets-1, as nft's ``jhash ... mod BUCKETS seed SEED`` does."""
    return jhash(data, seed) * buckets >> 32


def bucket_of(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    *,
    hash_input: HashInput,
    seed: int,
    buckets: int,
) -> int:
    """Find the bucket of a packet; raises ValueError when the addresses are of two families."""
    if source.version != destination.version:
        raise ValueError(f"{source} and {destination} are of different families")
    packed = {"source": source.packed, "destination": destination.packed}
    data = b"".join(packed[word] for word in hash_input.split("-"))
    return bucket(data, seed, buckets)


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """Stir one block in (``__jhash_mix``)."""
    a, c = (a - c & _MASK) ^ _rotate(c, 4), c + b & _MASK
    b, a = (b - a & _MASK) ^ _rotate(a, 6), a + c & _MASK
    c, b = (c - b & _MASK) ^ _rotate(b, 8), b + a & _MASK
    a, c = (a - c & _MASK) ^ _rotate(c, 16), c + b & _MASK
    b, a = (b - a & _MASK) ^ _rotate(a, 19), a + c & _MASK
    c, b = (c - b & _MASK) ^ _rotate(b, 4), b + a & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    """Spread the last block over the whole word (``__jhash_final``)."""
    c = (c ^ b) - _rotate(b, 14) & _MASK
    a = (a ^ c) - _rotate(c, 11) & _MASK
    b = (b ^ a) - _rotate(a, 25) & _MASK
    c = (c ^ b) - _rotate(b, 16) & _MASK
    a = (a ^ c) - _rotate(c, 4) & _MASK
    b = (b ^ a) - _rotate(a, 14) & _MASK
    return (c ^ b) - _rotate(b, 24) & _MASK
