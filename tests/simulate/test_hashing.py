"""The hash over many packets is the hash over one, which tests/test_jhash_kernel.py holds to the kernel."""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trscaler_gen.jhash import HashInput, bucket_of, jhash
from trscaler_gen.simulate import hashing

INPUTS: list[HashInput] = ["source-destination", "source", "destination-source", "destination"]
NUMBERS = st.integers(0, 2**32 - 1)


@given(data=st.binary(min_size=16, max_size=512), width=st.sampled_from([2, 8]), seed=NUMBERS, at=st.data())
def test_each_row_has_the_bucket_that_its_packet_has(
    data: bytes, width: int, seed: int, at: st.DataObject
) -> None:
    hash_input = at.draw(st.sampled_from(INPUTS))
    buckets = at.draw(st.integers(1, 16384))
    octets = data.ljust(4 * width, b"\0")
    rows = np.frombuffer(octets[: len(octets) // (4 * width) * 4 * width], "<u4").reshape(-1, width)
    found = hashing.buckets_of(rows, hash_input=hash_input, seed=seed, buckets=buckets)
    for row, bucket in zip(rows, found, strict=True):
        source, destination = (ip_address(half.tobytes()) for half in np.split(row, 2))
        how = {"hash_input": hash_input, "seed": seed, "buckets": buckets}
        assert bucket == bucket_of(source, destination, **how)  # type: ignore[arg-type]


@given(words=st.lists(NUMBERS, min_size=1, max_size=9), seed=NUMBERS)
def test_any_number_of_words_is_hashed_as_bytes_are(words: list[int], seed: int) -> None:
    columns = [np.array([word], np.uint32) for word in words]
    assert int(hashing.jhash(columns, seed)[0]) == jhash(np.array(words, "<u4").tobytes(), seed)


@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 8193, 20000])
def test_chunks_leave_no_row_out(count: int) -> None:
    rows = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    whole = hashing.buckets_of(rows, hash_input="source", seed=7, buckets=1000)
    each = [
        hashing.buckets_of(rows[at : at + 1], hash_input="source", seed=7, buckets=1000)
        for at in range(count)
    ]
    assert whole.tolist() == [int(one[0]) for one in each]


def test_another_seed_is_seen() -> None:
    rows = np.arange(2000, dtype=np.uint32).reshape(-1, 2)
    one, other = (hashing.buckets_of(rows, hash_input="source", seed=seed, buckets=1024) for seed in (1, 2))
    assert (one != other).mean() > 0.95
