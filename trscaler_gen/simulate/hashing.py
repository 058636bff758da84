"""The kernel's jhash over many packets at once: the same function as ``trscaler_gen.jhash``, as numpy arrays.

Addresses are rows of 32-bit words as the kernel loads them, little-endian: a source and the destination after
it, so 2 words for IPv4 and 8 for IPv6. Work is done in chunks that stay in a core's second-level cache. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trscaler_gen.jhash import HashInput

Words = NDArray[np.uint32]
Buckets = NDArray[np.intp]

#: words of a pair of addresses, by family
PAIR_WORDS = {4: 2, 6: 8}

_INITVAL = 0xDEADBEEF
_BLOCK_WORDS = 3
#: three words of state, one for a rotation and the input: 8 kB x 4 to 12
_CHUNK = 8192


def buckets_of(pairs: Words, *, hash_input: HashInput, seed: int, buckets: int) -> Buckets:
    """The bucket of each row of ``pairs``, 0..buckets-1."""
    columns = _columns(pairs.shape[1], hash_input)
    found = np.empty(len(pairs), np.intp)
    scaled = np.empty(_CHUNK, np.uint64)
    for start in range(0, len(pairs), _CHUNK):
        words = [np.ascontiguousarray(pairs[start : start + _CHUNK, column]) for column in columns]
        part = scaled[: len(words[0])]
        np.multiply(jhash(words, seed), np.uint64(buckets), out=part, dtype=np.uint64)
        np.right_shift(part, np.uint64(32), out=part)
        found[start : start + _CHUNK] = part
    return found


def jhash(words: list[Words], seed: int) -> Words:
    """Hash rows whose words are given column by column; ``seed`` is the kernel's ``initval``."""
    initial = (_INITVAL + 4 * len(words) + seed) & 0xFFFFFFFF
    a, b, c = (np.full(len(words[0]), initial, np.uint32) for _ in range(_BLOCK_WORDS))
    spare = np.empty_like(a)
    at = 0
    while len(words) - at > _BLOCK_WORDS:
        for register, word in zip((a, b, c), words[at : at + _BLOCK_WORDS], strict=True):
            np.add(register, word, out=register)
        _mix(a, b, c, spare)
        at += _BLOCK_WORDS
    for register, word in zip((a, b, c), words[at:], strict=False):
        np.add(register, word, out=register)
    _final(a, b, c, spare)
    return c


def _columns(width: int, hash_input: HashInput) -> list[int]:
    half = width // 2
    start = {"source": 0, "destination": half}
    return [start[word] + at for word in hash_input.split("-") for at in range(half)]


def _rotated(word: Words, bits: int, spare: Words) -> Words:
    """``word`` rotated to the left, in ``spare``."""
    np.left_shift(word, np.uint32(bits), out=spare)
    np.bitwise_or(spare, word >> np.uint32(32 - bits), out=spare)
    return spare


def _mix(a: Words, b: Words, c: Words, spare: Words) -> None:
    """Stir one block in (``__jhash_mix``)."""
    turns = ((a, c, b, 4), (b, a, c, 6), (c, b, a, 8), (a, c, b, 16), (b, a, c, 19), (c, b, a, 4))
    for x, y, z, bits in turns:
        np.subtract(x, y, out=x)
        np.bitwise_xor(x, _rotated(y, bits, spare), out=x)
        np.add(y, z, out=y)


def _final(a: Words, b: Words, c: Words, spare: Words) -> None:
    """Spread the last block over the whole word (``__jhash_final``)."""
    turns = ((c, b, 14), (a, c, 11), (b, a, 25), (c, b, 16), (a, c, 4), (b, a, 14), (c, b, 24))
    for x, y, bits in turns:
        np.bitwise_xor(x, y, out=x)
        np.subtract(x, _rotated(y, bits, spare), out=x)
