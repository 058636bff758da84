"""Buckets of many packets at once, from the bytes that are hashed. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trscaler_gen.simulate.hashing import jhash


def bucket_rows(data: npt.NDArray[np.uint8], seed: int, buckets: int) -> npt.NDArray[np.uint64]:
    """Scale the hash of each row to 0..buckets-1, as nft's ``jhash ... mod BUCKETS seed SEED`` does.

    Rows are whole 32-bit words, as nft's registers are.
    """
    words = np.ascontiguousarray(data).view("<u4").astype(np.uint32)
    hashed = jhash([np.ascontiguousarray(column) for column in words.T], seed)
    return hashed.astype(np.uint64) * np.uint64(buckets) >> np.uint64(32)
