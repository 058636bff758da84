"""Valid samples, spoilt: bytes replaced, cut, doubled or moved, and words that readers stumble over."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

#: what text readers stumble over: ends, escapes, numbers that are none or too large, brackets, YAML
WORDS = (
    *(b"\0", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x1b[2J", b"\x9b2J", b"\x85"),
    *(b"\xe2\x80\xae", b"\r", b"\n\n", b"\t", b"\x7f", b"\xe2\x80\xa8"),
    *(b"-1", b"0", b"1e400", b"9" * 400, b"9" * 5000, b"0x", b"1_000", b"NaN", b"-Infinity", "٣".encode()),
    *(
        b"[",
        b"{",
        b"[" * 200,
        b"{a: " * 200,
        b"- " * 200,
        b": ",
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
    ),
    *(b"<<: ", b"---\n", b"...", b"? ", b"|", b">", b'"', b"'", b"\\", b"%TAG", b"@", b"`", b"#"),
)
#: what binary readers stumble over: lengths and offsets at their limits
NUMBERS = tuple(
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, (1 << (8 * size - 1)) - 1, 1 << (8 * size - 1), (1 << 8 * size) - 1)
    for order in ("little", "big")
)


def mutated(sample: bytes, words: Sequence[bytes] = (*WORDS, *NUMBERS)) -> st.SearchStrategy[bytes]:
    """The sample after one to six edits."""
    place = st.integers(0, len(sample))
    insertion = st.sampled_from(words) | st.binary(max_size=6)
    edit = st.tuples(st.sampled_from(["replace", "insert", "cut", "double", "move"]), place, place, insertion)
    return st.lists(edit, min_size=1, max_size=6).map(lambda edits: _edited(sample, edits))


def _edited(data: bytes, edits: Sequence[tuple[str, int, int, bytes]]) -> bytes:
    for kind, one, other, word in edits:
        start, end = sorted((one % (len(data) + 1), other % (len(data) + 1)))
        part = data[start:end]
        if kind == "replace":
            data = data[:start] + word + data[start + len(word) :]
        elif kind == "insert":
            data = data[:start] + word + data[start:]
        elif kind == "cut":
            data = data[:start] + data[min(end, start + 40) :]
        elif kind == "double":
            data = data[:end] + part[:2000] + data[end:]
        else:
            data = data[:start] + data[end:] + part
    return data
