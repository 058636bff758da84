"""No seed may be read in anything that is shown."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.bundle import make_bundles
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lock import reconcile, render_lock
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.secret import redact

INVENTORY = parse_inventory(
    b"""\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100, "2001:db8::100"]
hash: {buckets: 64}
nodes:
  n1: {address: 192.0.2.1}
  n2: {address: 192.0.2.2}
""",
    "web.yaml",
)
LOCK = reconcile(INVENTORY, None, seed=1)

#: long enough that no other number looks like it
SEEDS = st.integers(2**24, 2**32 - 1)


def everything(seed: int) -> str:
    """Every file of every node, and the lock, in one text."""
    lock = replace(LOCK, seed=seed)
    bundles = make_bundles(plan_nodes(INVENTORY, lock), lock).values()
    files = [content.decode() for bundle in bundles for content in bundle.files.values()]
    return "\n".join([render_lock(lock), *files])


def shows(seed: int, text: str) -> bool:
    numbers = (int(word, 0) for word in re.findall(r"0x[0-9a-f]+|(?<![0-9a-z])[1-9][0-9]*", text.lower()))
    return seed in numbers


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_no_rendered_file_shows_the_seed(seed: int) -> None:
    text = everything(seed)
    assert shows(seed, text)
    assert not shows(seed, redact(text))


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_no_saved_or_quoted_text_shows_the_seed(seed: int) -> None:
    text = json.dumps({"lock": render_lock(replace(LOCK, seed=seed))})
    assert f"{seed:08x}" in text
    assert f"{seed:08x}" not in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jhash ip saddr mod 1024 seed 123 map @rank0", "jhash ip saddr mod 1024 seed ... map @rank0"),
        ("jhash ip saddr mod 1024 seed 0x7B map", "jhash ip saddr mod 1024 seed ... map"),
        ("-seed: 0x00c0ffee", "-seed: ..."),
        ('"seed": 123,', '"seed": ...,'),
        ("seed=0", "seed=..."),
        ("random per cluster: a public seed lets", "random per cluster: a public seed lets"),
        ("seed ...", "seed ..."),
        ("", ""),
    ],
)
def test_words_around_the_seed_stay(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown
