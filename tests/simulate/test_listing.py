"""Lists of traffic as text: columns in any order, and what is said of lines that cannot be read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .reads import reading

V4, V6 = "192.0.2.100", "2001:db8::100"
A, A6 = "198.51.100.7", "2001:db8::7"
FLOW = (A, V4)


@pytest.mark.parametrize(
    ("text", "has", "packets", "octets"),
    [
        (f"{A},{V4}\n", {"flows"}, 0, 0),
        (f"{A},{V4},3", {"flows", "packets"}, 3, 0),
        (f"{A},{V4},3,4711\n", {"flows", "packets", "bytes"}, 3, 4711),
        (f"source,destination,bytes\n{A},{V4},4711\n", {"flows", "bytes"}, 0, 4711),
        (f"Bytes;port;DST;src\r\n4711;80;{V4};{A}\r\n", {"flows", "bytes"}, 0, 4711),
        (f"\ufeffsource\tdestination\tpackets\n{A}\t{V4}\t3\n", {"flows", "packets"}, 3, 0),
        (f'"source", "destination"\n"{A}", "{V4}"\n', {"flows"}, 0, 0),
        (f"\n# made by hand\n\n{A} | {V4} | 3\n\n", {"flows", "packets"}, 3, 0),
    ],
)
def test_columns(text: str, has: set[str], packets: int, octets: int) -> None:
    found = reading(text.encode())
    assert (found.pairs, found.told, found.log.records) == ([FLOW], [], 1)
    assert (set(found.log.has), found.packets, found.octets) == (has, packets, octets)


def test_both_families_and_others_destinations() -> None:
    found = reading(f"{A},{V4}\n{A6},{V6}\n{A},203.0.113.1\n{V4},{A}\n".encode())
    assert Counter(found.pairs) == {FLOW: 1, (A6, V6): 1}
    assert found.log.skipped == {"for other destinations": 1, "sent by the cluster": 1}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (f"{A},{V4},1,2,3", "5 columns where 4 are expected"),
        (f"{A},{V4},1", "3 columns where 4 are expected"),
        (f"{A},{V6},1,1", "source and destination are of different families"),
        (f"{A}:80,{V4},1,1", '"198.51.100.7:80" is not an address'),
        (f"{A},{V4},-1,1", '"-1" is not a count'),
        (f"{A},{V4},1e3,1", '"1e3" is not a count'),
        (f"{A},{V4},1,{10**18}", '"1000000000000000000" is not a count'),
        (f"\x1b[2J,{V4},1,1", '"\\x1b[2J" is not an address'),
        (f'"{A},{V4},1,1', "1 columns where 4 are expected"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_the_others_count(line: str, text: str) -> None:
    found = reading(f"{A},{V4},1,1\n{line}\n{A},{V4},1,1\n".encode())
    assert (found.pairs, found.told) == ([FLOW] * 2, [("line 2", text)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("source,bytes\n", "the header has no source and destination"),
        (f"{A}\n", "1 columns and no header"),
        (f"{A},{V4},1,1,1\n", "5 columns and no header"),
        ("hello\n", "neither addresses nor a header"),
    ],
)
def test_wrong_columns(text: str, says: str) -> None:
    ((place, told),) = reading(("\n" + text).encode()).told
    assert place == "line 2"
    assert says in told
    assert "expected source,destination[,packets][,bytes]" in told


def test_the_problems_of_a_long_file_are_counted_and_twenty_shown() -> None:
    found = reading((f"{A},{V4}\n" + "what,ever\n" * 5000).encode())
    assert (len(found.log.problems), found.log.problem_count) == (20, 5000)


def test_a_line_without_end_is_passed_over() -> None:
    found = reading(f"{A},{V4}\n{'x' * 200_000}\n{A},{V4}\n".encode(), piece=4096)
    assert (found.pairs, found.told) == ([FLOW] * 2, [("line 2", "longer than 65536 bytes")])


def test_counts_that_cannot_be_are_not_added_up() -> None:
    found = reading(f"{A},{V4},1,{2**48}\n".encode() * 40_000, piece=100_000)
    ((_, text),) = found.told
    assert "more than any traffic" in text
    assert 0 < found.octets <= 2**62


@pytest.mark.parametrize("piece", [1, 13, 500])
def test_the_size_of_the_pieces_makes_no_difference(piece: int) -> None:
    lines = "".join(f"198.51.100.{number},{V4},{number}\n" for number in range(256))
    assert reading(lines.encode(), piece=piece).pairs == reading(lines.encode()).pairs


@given(st.binary(max_size=2000))
def test_any_bytes_come_to_an_end(data: bytes) -> None:
    reading(data)
    reading(f"{A},{V4},1\n".encode() + data)
    reading(f"{A},{V4},1\n".encode() + data, piece=17)


@given(st.text(alphabet=f'{A},"\n\r;\t:x', max_size=300))
def test_text_that_is_nearly_right_comes_to_an_end(text: str) -> None:
    reading(text.encode())
    reading((f"{A},{V4}\n" + text).encode())
