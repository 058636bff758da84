"""The twin of the kernel's jhash: published vectors, every length, and how addresses become bytes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.jhash import MIRRORED, HashInput, bucket, bucket_of, jhash

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("text", "initval", "expected"),
    [
        # The self-test of lookup3.c (driver5) by Bob Jenkins, public domain.
        (b"", 0, 0xDEADBEEF),
        (b"", 0xDEADBEEF, 0xBD5B7DDE),
        (b"Four score and seven years ago", 0, 0x17770551),
        (b"Four score and seven years ago", 1, 0xCD628161),
    ],
)
def test_published_vectors(text: bytes, initval: int, expected: int) -> None:
    assert jhash(text, initval) == expected


@given(st.binary(max_size=64), SEEDS)
def test_hash_is_32_bits(data: bytes, seed: int) -> None:
    assert 0 <= jhash(data, seed) < 2**32


@given(st.binary(min_size=1, max_size=64), SEEDS)
def test_every_byte_counts(data: bytes, seed: int) -> None:
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        assert jhash(bytes(changed), seed) != jhash(data, seed)


@given(st.binary(max_size=32), SEEDS, st.integers(1, 16384))
def test_bucket_is_in_range(data: bytes, seed: int, buckets: int) -> None:
    assert 0 <= bucket(data, seed, buckets) < buckets


def test_bucket_scales_and_does_not_divide() -> None:
    assert bucket(b"", 0, 1024) == 0xDEADBEEF >> 22


@pytest.mark.parametrize(
    ("source", "destination", "length"),
    [("198.51.100.1", "192.0.2.100", 4), ("2001:db8:100::1", "2001:db8::100", 16)],
)
def test_addresses_are_hashed_in_network_order(source: str, destination: str, length: int) -> None:
    pair = (ip_address(source), ip_address(destination))
    both = pair[0].packed + pair[1].packed
    assert len(both) == 2 * length
    assert bucket_of(*pair, hash_input="source-destination", seed=7, buckets=999) == bucket(both, 7, 999)
    assert bucket_of(*pair, hash_input="source", seed=7, buckets=999) == bucket(both[:length], 7, 999)


@given(st.sampled_from(sorted(MIRRORED)), st.ip_addresses(v=4), st.ip_addresses(v=4), SEEDS)
def test_mirrored_inputs_put_both_directions_into_one_bucket(
    hash_input: HashInput, client: IPv4Address, server: IPv4Address, seed: int
) -> None:
    there = bucket_of(client, server, hash_input=hash_input, seed=seed, buckets=1024)
    assert there == bucket_of(server, client, hash_input=MIRRORED[hash_input], seed=seed, buckets=1024)
    assert MIRRORED[MIRRORED[hash_input]] == hash_input


def test_two_families_have_no_bucket() -> None:
    with pytest.raises(ValueError, match="different families"):
        bucket_of(
            IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"), hash_input="source", seed=1, buckets=64
        )
