"""Files and replies from strangers: mutations of valid ones are read, or refused in words; nothing else."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.deploy.node import read_files
from trscaler_gen.deploy.recover import read_locks
from trscaler_gen.deploy.rollback import _bundle
from trscaler_gen.errors import InputError, NodeError
from trscaler_gen.facts import Facts, parse_facts
from trscaler_gen.history import merge, parse_node
from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.inventory.report import format_problem
from trscaler_gen.lock import parse_lock, render_lock
from trscaler_gen.lock.text import DIGEST, digest
from trscaler_gen.plan import load, save
from trscaler_gen.simulate.blocks import ReadLog
from trscaler_gen.simulate.decode import Wanted
from trscaler_gen.simulate.reading import read_traffic
from trscaler_gen.verdict import Member, judge

from . import samples
from .mutate import mutated

EXAMPLES = settings(max_examples=150)


def refused_in_words(read: Callable[[], object]) -> None:
    """Whatever is wrong is told as problems that a terminal can show."""
    try:
        read()
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            assert format_problem(problem).replace("\n", "").isprintable()


def text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


# --- files --------------------------------------------------------------------------------------------


@EXAMPLES
@given(mutated(samples.INVENTORY))
def test_inventories(data: bytes) -> None:
    refused_in_words(lambda: parse_inventory(data, "fuzz.yaml"))


@EXAMPLES
@given(mutated(samples.lock()), st.booleans())
def test_locks(data: bytes, is_sealed: bool) -> None:
    """Also one whose digest fits what somebody made of it; and what is read is written as it was."""
    lines = text(data).splitlines()
    if is_sealed:
        kept = [line for line in lines if not line.startswith(DIGEST)]
        lines = [*kept, f"{DIGEST}{digest(kept)}"]

    def read() -> None:
        lock = parse_lock("\n".join(lines) + "\n", "fuzz.lock")
        assert parse_lock(render_lock(lock), "again.lock") == lock

    refused_in_words(read)


@EXAMPLES
@given(mutated(samples.plan()))
def test_saved_plans(data: bytes) -> None:
    def read() -> None:
        plan = load(text(data), "fuzz.plan")
        assert load(save(plan), "again.plan") == plan

    refused_in_words(read)


@EXAMPLES
@given(
    st.one_of(
        mutated(samples.pcap()),
        mutated(samples.pcapng()),
        mutated(samples.LISTING),
        mutated(gzip.compress(samples.pcap(), mtime=0)),
        mutated(samples.pcap()).map(gzip.compress),
    )
)
def test_captures(data: bytes) -> None:
    """In small pieces: a record may end anywhere in one."""
    log = ReadLog()
    source = io.BytesIO(data)
    wanted = Wanted([samples.SHARED, samples.SHARED6], [], everything=True)
    for block in read_traffic(lambda size: source.read(min(size, 61)), wanted, log):
        assert len(block.pairs) == len(block.packets) == len(block.octets)


def test_a_capture_whose_clock_ticks_too_slowly() -> None:
    """A time beyond what 64 bits hold of nanoseconds is the last that they hold."""
    data = samples.pcapng()
    at = data.index(b"\x09\x00\x01\x00\x06") + 4
    seconds = data[:at] + b"\x00" + data[at + 1 :]
    ticks = bytes(4) + (5).to_bytes(4, "little")
    log = ReadLog()
    source = io.BytesIO(seconds.replace(ticks, b"\xff" * 8))
    list(read_traffic(source.read, Wanted([samples.SHARED], []), log))
    assert log.last_ns is not None and log.last_ns < 1 << 63


# --- what nodes say ------------------------------------------------------------------------------------


@EXAMPLES
@given(mutated(samples.FACTS))
def test_facts(data: bytes) -> None:
    try:
        facts = parse_facts(text(data))
    except ValueError as error:
        assert "node.sh state" in str(error)
        return
    assert isinstance(facts, Facts)
    numbers = (facts.held, facts.tracked, facts.accepted, facts.epoch, facts.node_id, *facts.alive)
    assert all(-1 <= number < 10**20 for number in numbers)


@EXAMPLES
@given(st.lists(mutated(samples.FACTS), min_size=1, max_size=3), st.booleans())
def test_verdicts(said: list[bytes], has_lock: bool) -> None:
    """Whatever nodes say: every bucket is counted, and nobody fails."""
    lock = parse_lock(text(samples.lock()), "fuzz.lock") if has_lock else None
    members = []
    for number, data in enumerate(said, 1):
        with suppress(ValueError):
            facts = parse_facts(text(data))
            members.append(Member(f"n{number}", IPv4Address(f"192.0.2.{number}"), facts, lock))
    verdict = judge(members)
    wrong = len(verdict.none) + sum(map(len, verdict.several.values())) + len(verdict.unknown)
    assert verdict.one + wrong == verdict.buckets


def test_a_number_of_many_digits_is_not_known() -> None:
    facts = parse_facts(text(samples.FACTS).replace("held=12", "held=" + "9" * 5000))
    assert facts.held == -1


@EXAMPLES
@given(mutated(samples.HISTORY))
def test_histories(data: bytes) -> None:
    other = parse_node(text(samples.HISTORY))
    changes = merge({"n1": parse_node(text(data)), "n2": other})
    assert len(changes) >= 2 and all(change.entries for change in changes)


class Reply:
    """A node that answers every request for files with the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def fetch(self, argv: object, *, timeout_s: float) -> bytes:
        return self.data


def files_of(data: bytes) -> dict[str, bytes]:
    return read_files("n1", cast(Any, Reply(data)), "web", "abcdefabcdef", ("lock", "node.sh"))


@EXAMPLES
@given(mutated(samples.archive()))
def test_archives(data: bytes) -> None:
    try:
        files = files_of(data)
    except NodeError as error:
        assert error.node == "n1"
    else:
        assert sum(map(len, files.values())) <= len(data)


@EXAMPLES
@given(mutated(b"# MANIFEST\n" + b"a" * 64 + b"  lock\n"))
def test_manifests(data: bytes) -> None:
    """What a generation of a node consists of, as that node says: only what is there."""
    bundle = _bundle("n1", cast(Any, Reply(packed({"MANIFEST": data, "lock": b"x"}))), "web", "abcdefabcdef")
    assert set(bundle.files) <= {"MANIFEST", "lock"}


@EXAMPLES
@given(mutated(samples.lock()), mutated(samples.archive()), st.booleans())
def test_locks_of_nodes(lock: bytes, archive: bytes, is_archive_spoilt: bool) -> None:
    data = archive if is_archive_spoilt else packed({"generations/abcdefabcdef/lock": lock})
    with suppress(NodeError):
        read_locks("n1", cast(Any, Reply(data)), "golden")


def packed(files: dict[str, bytes]) -> bytes:
    """An archive of these files, and of the link that says which generation is current."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("current")
        link.type, link.linkname = tarfile.SYMTYPE, "generations/abcdefabcdef"
        tar.addfile(link)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress], ids=["gzip"])
def test_an_archive_that_is_packed_is_not_unpacked(pack: Callable[[bytes], bytes]) -> None:
    assert files_of(samples.archive()) == {"lock": b"hello", "node.sh": b"hello"}
    with pytest.raises(NodeError):
        files_of(pack(samples.archive()))


def test_a_file_that_says_it_is_larger_than_its_archive_is_left_out() -> None:
    """A sparse file (GNU tar) of a terabyte takes one block in an archive."""
    member = tarfile.TarInfo("lock")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert files_of(bytes(header) + bytes(1024)) == {}
