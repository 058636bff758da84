"""The kernel's jhash over many packets at once: ``trscaler_gen.jhash`` in arrays. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

_INITVAL = 0xDEADBEEF
_BLOCK_BYTES = 12


def bucket_rows(data: Bytes, seed: int, buckets: int) -> npt.NDArray[np.uint64]:
    """Scale the hash of each row to 0..buckets-1, as nft's ``jhash ... mod BUCKETS seed SEED`` does."""
    return jhash_rows(data, seed).astype(np.uint64) * np.uint64(buckets) >> np.uint64(32)


def jhash_rows(data: Bytes, seed: int) -> Words:
    """Hash each row of ``data`` (all of one length) to 32 bits."""
    rows, length = data.shape
    blocks = max(1, -(-length // _BLOCK_BYTES))
    padded = np.zeros((rows, blocks * _BLOCK_BYTES), np.uint8)
    padded[:, :length] = data
    words = padded.view("<u4").astype(np.uint32)
    start = np.full(rows, (_INITVAL + length + seed) & 0xFFFFFFFF, np.uint32)
    a, b, c = start.copy(), start.copy(), start.copy()
    for block in range(blocks):
        a += words[:, 3 * block]
        b += words[:, 3 * block + 1]
        c += words[:, 3 * block + 2]
        if block < blocks - 1:
            a, b, c = _mix(a, b, c)
    return _final(a, b, c) if length else start


def _rotate(word: Words, bits: int) -> Words:
    return word << np.uint32(bits) | word >> np.uint32(32 - bits)


def _mix(a: Words, b: Words, c: Words) -> tuple[Words, Words, Words]:
    a, c = (a - c) ^ _rotate(c, 4), c + b
    b, a = (b - a) ^ _rotate(a, 6), a + c
    c, b = (c - b) ^ _rotate(b, 8), b + a
    a, c = (a - c) ^ _rotate(c, 16), c + b
    b, a = (b - a) ^ _rotate(a, 19), a + c
    c, b = (c - b) ^ _rotate(b, 4), b + a
    return a, b, c


def _final(a: Words, b: Words, c: Words) -> Words:
    c = (c ^ b) - _rotate(b, 14)
    a = (a ^ c) - _rotate(c, 11)
    b = (b ^ a) - _rotate(a, 25)
    c = (c ^ b) - _rotate(b, 16)
    a = (a ^ c) - _rotate(c, 4)
    b = (b ^ a) - _rotate(a, 14)
    return (c ^ b) - _rotate(b, 24)
