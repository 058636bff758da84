"""What a diff says in words: it says that something differs when it does, and only then."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trscaler_gen.plan.comparable import comparable

RULESET = (Path(__file__).parent.parent / "golden/alpha/ruleset.nft").read_text()


@pytest.mark.parametrize(
    ("pattern", "other", "article"),
    [
        (r"typeof ct zone", "typeof symhash mod 64", "the"),
        (r"(set own_\w+ \{[^}]*elements = \{\n +)0, ", r"\g<1>", "other"),
    ],
    ids=["as other rules declare them", "one less"],
)
def test_buckets_of_this_node(pattern: str, other: str, article: str) -> None:
    changed, count = re.subn(pattern, other, RULESET)
    assert count == 1
    texts = comparable(RULESET.encode(), changed.encode(), full=False)
    said = [line.strip() for text in texts for line in text if "buckets of this node" in line]
    assert said == ["(the buckets of this node)", f"({article} buckets of this node)"]
