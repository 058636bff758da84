"""What kind of traffic a source has, and its packets for the cluster."""

from __future__ import annotations

from collections.abc import Iterator

from trscaler_gen.simulate.blocks import Block, ReadLog
from trscaler_gen.simulate.decode import Wanted, decode
from trscaler_gen.simulate.listing import EXPECTED, read_listing
from trscaler_gen.simulate.pcap import MAGICS, read_pcap
from trscaler_gen.simulate.pcapng import MAGIC, read_pcapng
from trscaler_gen.simulate.source import Read, Source, unpacked

_GZIP = b"\x1f\x8b"
#: other packers' first octets -> the command that unpacks
_PACKED = {b"\xfd7zXZ\0": "xz -dc", b"\x28\xb5\x2f\xfd": "zstd -dc", b"BZh": "bzip2 -dc"}
_LOOK = 512


def read_traffic(read: Read, wanted: Wanted, log: ReadLog) -> Iterator[Block]:
    """The cluster's packets in whatever ``read`` gives: pcap, pcapng or CSV, also packed by gzip."""
    source = Source(read)
    if source.peek(2) == _GZIP:
        source = Source(unpacked(source.more_of, log))
    start = source.peek(_LOOK)
    if not start:
        if not log.problem_count:
            log.problem("byte 0", "the file is empty")
    elif start[:4] in MAGICS or start[:4] == MAGIC:
        frames = read_pcapng(source, log) if start[:4] == MAGIC else read_pcap(source, log)
        for block in frames:
            yield from decode(block, wanted, log)
    elif trouble := _not_text(start):
        log.problem("byte 0", trouble)
    else:
        yield from read_listing(source, wanted, log)


def _not_text(start: bytes) -> str:
    for magic, command in _PACKED.items():
        if start.startswith(magic):
            return (
                f"packed: unpack it on the way, {command} FILE | trscaler-gen simulate INVENTORY --traffic -"
            )
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "text in UTF-16: save it as UTF-8"
    if b"\0" in start:
        return f"neither pcap nor pcapng, and no text like {EXPECTED}"
    return ""
