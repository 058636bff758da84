"""Lay node plans out as the files of a node, and pictures as pages: the only module that knows jinja2.

Templates decide nothing: no arithmetic, no defaults, an undefined name is an error.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import compress
from pathlib import Path

import jinja2

from trscaler_gen import __version__
from trscaler_gen.chart import Figure
from trscaler_gen.mac import HardwareAddress
from trscaler_gen.nodeplan import Column, NodePlan, Rank
from trscaler_gen.page import Page
from trscaler_gen.placement import MAX_ID

_RULESET = "ruleset.nft.j2"
#: the other files of the bundle -> template
_FILES = {
    "boot.nft": "boot.nft.j2",
    "peers.nft": "peers.nft.j2",
    "keepalived.conf": "keepalived.conf.j2",
    "node.sh": "node.sh.j2",
    "{unit}.service": "datapath.service.j2",
    "{unit}-heartbeat.service": "heartbeat.service.j2",
    "{unit}-watch.service": "watch.service.j2",
}

_ELEMENTS_PER_LINE = 8
_INDENT = " " * 12

#: The maps of a ruleset are named after its content, for their elements never change in place: another
#: content brings maps of other names. Until the content is known this stands for the name.
_NO_TAG_YET = "\0"

#: What is hashed, in nft's words. An ICMP error quotes the packet that we sent, after 8 bytes of its own
#: header: the quoted destination is the source of the flow's packets, and the other way round. As a header's
#: bare bits, addresses cost no question for its version, and IPv6's two are read at once. Offsets in bits:
#: RFC 791 3.1, RFC 8200 3.
_HASHED = {
    "source-destination": {
        "ipv4": "ip saddr . ip daddr",
        "ipv6": "ip6 saddr . ip6 daddr",
        "quoted4": "@th,192,32 . @th,160,32",
        "quoted6": "@th,256,128 . @th,128,128",
        "header4": "@nh,96,32 . @nh,128,32",
        "header6": "@nh,64,256",
    },
    "source": {
        "ipv4": "ip saddr",
        "ipv6": "ip6 saddr",
        "quoted4": "@th,192,32",
        "quoted6": "@th,256,128",
        "header4": "@nh,96,32",
        "header6": "@nh,64,128",
    },
    "destination-source": {
        "ipv4": "ip daddr . ip saddr",
        "ipv6": "ip6 daddr . ip6 saddr",
        "quoted4": "@th,160,32 . @th,192,32",
        "quoted6": "@th,128,128 . @th,256,128",
        "header4": "@nh,128,32 . @nh,96,32",
        "header6": "@nh,192,128 . @nh,64,128",
    },
    "destination": {
        "ipv4": "ip daddr",
        "ipv6": "ip6 daddr",
        "quoted4": "@th,160,32",
        "quoted6": "@th,128,128",
        "header4": "@nh,128,32",
        "header6": "@nh,192,128",
    },
}


def template_folder() -> Path:
    """Find the templates: inside the installed package, or at the top of the repository."""
    package = Path(__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def render_node(plan: NodePlan) -> dict[str, bytes]:
    """Render every file of one node, by file name."""
    facts = {
        "plan": plan,
        "version": __version__,
        "hashed": _HASHED[plan.hash_input],
        "shared4": [address for address in plan.virtual_addresses if address.version == 4],
        "shared6": [address for address in plan.virtual_addresses if address.version == 6],
    }
    ruleset = _render(_RULESET, {**facts, "tag": _NO_TAG_YET})
    tag = hashlib.sha256(ruleset.encode()).hexdigest()[:8]
    texts = {"ruleset.nft": ruleset.replace(_NO_TAG_YET, tag)}
    for name, template in _FILES.items():
        texts[name.format(unit=plan.unit)] = _render(template, facts)
    return {name: text.encode() for name, text in texts.items()}


def render_page(page: Page) -> bytes:
    """Lay a page out as one HTML file that needs no other."""
    template = _environment(autoescape=True).get_template("page.html.j2")
    return template.render(page=page, version=__version__).encode()


def render_figure(figure: Figure) -> bytes:
    """Lay a figure out as an SVG file with colours for light and dark."""
    return _environment(autoescape=True).get_template("figure.svg.j2").render(figure=figure).encode()


def _render(template: str, facts: Mapping[str, object]) -> str:
    return _environment().get_template(template).render(facts)


@cache
def _environment(*, autoescape: bool = False) -> jinja2.Environment:
    """Shell and nft text is quoted by the filters below; HTML and SVG are escaped wholly."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "sh": lambda value: shlex.quote(str(value)),
        "sh_words": lambda words: shlex.join(words),
        "hex": lambda number: f"0x{number:08x}",
        "hex_range": lambda ends: f"0x{ends[0]:08x}-0x{ends[1]:08x}",
        "mac_number": lambda mac: f"0x{mac.value:012x}",
        "frame_header": _frame_header,
        "elements": _elements,
        "buckets": _buckets,
        "kept_buckets": _kept_buckets,
        "listed_buckets": _listed_buckets,
        "seconds": lambda milliseconds: f"{milliseconds / 1000:g}",
    }
    return environment


def _frame_header(destination: HardwareAddress | str, ether_type: int) -> str:
    """Write the first 14 bytes of a frame as a number, without the source."""
    mac = HardwareAddress.parse(str(destination))
    return f"0x{mac.value:012x}{0:012x}{ether_type:04x}"


@lru_cache(maxsize=2 * MAX_ID)
def _cells(column: Column) -> tuple[str, ...]:
    """A column's elements as text: the maps of all nodes are made of them."""
    return tuple(f"{bucket:>4} : {node_id:<2}, " for bucket, node_id in enumerate(column.node_ids))


def _elements(rank: Rank) -> str:
    """Lay a rank map's elements out, eight in a line; 32 nodes' maps have half a million."""
    cells = list(compress(_cells(rank.column), rank.needed))
    ends = slice(_ELEMENTS_PER_LINE - 1, None, _ELEMENTS_PER_LINE)
    cells[ends] = [f"{cell.rstrip(', ')},\n{_INDENT}" for cell in cells[ends]]
    return _INDENT + "".join(cells).rstrip(", \n")


def _buckets(buckets: Iterable[int]) -> str:
    """Lay out elements of a constant set of buckets."""
    return ",\n".join(_lines([f"{bucket:>4}" for bucket in buckets]))


def _listed_buckets(buckets: Iterable[int]) -> str:
    """Lay out buckets that a file names."""
    return ",\n".join(line[8:] for line in _lines([str(bucket) for bucket in buckets]))


def _kept_buckets(buckets: Iterable[int], keep_s: int) -> str:
    """Lay out elements of a set of buckets, with the time for which they stay."""
    return ",\n".join(line[8:] for line in _lines([f"{bucket} timeout {keep_s}s" for bucket in buckets]))


def _lines(cells: list[str]) -> Iterable[str]:
    for start in range(0, len(cells), _ELEMENTS_PER_LINE):
        yield _INDENT + ", ".join(cells[start : start + _ELEMENTS_PER_LINE]).rstrip()
