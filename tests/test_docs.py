"""What the documentation says is held against the product: links, examples, rules, verbs, settings.

A console block that follows ``<!-- run -->`` is run, command by command, in a folder of its page's own that
has the sample inventories in ``inventory/``. Its output must be what the page shows, where ``...`` stands for
anything. After ``<!-- run: fails -->`` the block's last command must fail.

A block after ``<!-- golden: NAME -->`` is part of ``tests/golden-plan/NAME.txt``; messages that the tables of
docs/operations.md quote stand in the sources. Blocks that need a cluster are run by ``test_docs_lab.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.dom.minidom
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import click
import pytest

from trscaler_gen.cli import VERBS, group
from trscaler_gen.deploy import Action
from trscaler_gen.errors import InputError
from trscaler_gen.inventory.load import load_inventory, parse_inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.mac import HardwareAddress
from trscaler_gen.nodeplan import leases, plan_nodes
from trscaler_gen.render import render_node

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
PICTURES = sorted((DOCS / "images").glob("*.svg"))
INDEX = DOCS / "README.md"

#: verbs that need no host: wherever README and guide show them being used, they are run
HOSTLESS = ("init", "schema", "check", "build")
SEED = 0x5EED
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND_TIMEOUT_S = 120

#: a fragment of an inventory is read with these keys before it
REST_OF_INVENTORY = "cluster: web\nlink: eth0\nvirtual_addresses: [203.0.113.80]\n"

#: RFC 5737, and addresses that belong to no network
EXAMPLE_NETWORKS = [
    IPv4Network(text)
    for text in (
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/24",
        "0.0.0.0/32",
    )
]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``marker`` is the text of the HTML comment on the line before it."""

    language: str
    marker: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Step:
    """A command of a console block, and the output that the page shows."""

    command: str
    shown: tuple[str, ...]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    before, inside = "", None
    collected: list[str] = []
    for line in text.splitlines():
        if inside is None and line.startswith("```"):
            inside, collected = line[3:].strip(), []
        elif inside is not None and line == "```":
            marker = re.fullmatch(r"<!-- (.*) -->", before)
            yield Block(inside, marker[1] if marker else "", tuple(collected))
            inside = None
        elif inside is not None:
            collected.append(line)
        if inside is None:
            before = line
    assert inside is None, "a fenced block has no end"


def prose(text: str) -> str:
    """A page without its fenced blocks and code spans: what looks like a link there is none."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", outside, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures, but for those to other hosts."""
    targets = LINK.findall(prose(page.read_text()))
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def broken_links(page: Path) -> list[str]:
    return [target for target in links(page) if not _resolves(page, target)]


def _resolves(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    if not file.exists():
        return False
    return not anchor or (file.suffix == ".md" and anchor in anchors(file.read_text()))


def reachable(start: Path) -> set[Path]:
    """Pages that can be reached by links from ``start``."""
    seen, waiting = set(), [start.resolve()]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
    return seen


# --- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](gone.md) [b](page.md) [c](#here) [d](#there) ![e](no.svg) `[f](code.md)`\n"
        "```\n# fenced\n```\n[g](page.md#fenced) [h](https://example.net/)\n"
    )
    assert broken_links(page) == ["gone.md", "#there", "no.svg", "page.md#fenced"]


def test_every_page_is_reachable_from_the_index() -> None:
    assert set(DOCS.rglob("*.md")) - reachable(INDEX) == set()


def test_an_orphan_is_seen(tmp_path: Path) -> None:
    for name, text in {"a.md": "[b](b.md)", "b.md": "[a](a.md#x)", "orphan.md": "[a](a.md)"}.items():
        (tmp_path / name).write_text(text)
    assert {page.name for page in reachable(tmp_path / "a.md")} == {"a.md", "b.md"}


@pytest.mark.parametrize("picture", PICTURES, ids=name_of)
def test_pictures_speak_to_everybody(picture: Path) -> None:
    """A title and a description for who cannot see them, and colours for dark pages."""
    document = xml.dom.minidom.parse(str(picture)).documentElement
    assert document is not None
    for tag in ("title", "desc"):
        found = document.getElementsByTagName(tag)
        assert found and found[0].firstChild is not None, f"no {tag}"
    text = picture.read_text()
    assert "currentColor" in text and "prefers-color-scheme: dark" in text
    assert any(
        picture.resolve() == (page.parent / target).resolve() for page in PAGES for target in links(page)
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_addresses_are_those_for_documentation(page: Path) -> None:
    strangers = {
        text
        for text in re.findall(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w.]*\d)", page.read_text())
        if not any(IPv4Address(text) in network for network in EXAMPLE_NETWORKS)
    }
    assert strangers == set()


# --- examples --------------------------------------------------------------------------------------


def steps(block: Block) -> list[Step]:
    """The commands of a console block; a line that begins with ``$`` is one, the others are output."""
    found: list[tuple[str, list[str]]] = []
    for line in block.lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            assert found, f"output before any command: {line}"
            found[-1][1].append(line)
    return [Step(command, tuple(shown)) for command, shown in found]


def is_as_shown(shown: tuple[str, ...], output: str) -> bool:
    """Whether output is what a page shows; ``...`` stands for anything, alone on a line for any lines."""
    pattern = "".join(".*" if line == "..." else _line_pattern(line) for line in shown)
    return re.fullmatch(pattern, output, flags=re.DOTALL) is not None


def _line_pattern(line: str) -> str:
    return r"[^\n]*".join(map(re.escape, line.split("..."))) + "\n"


def run_command(command: str, folder: Path, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader would, with ``more`` in its environment; both its outputs are in stdout."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "LC_ALL": "C", **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def run_example(block: Block, folder: Path) -> None:
    """Run a block's commands; raises AssertionError where the page is wrong."""
    every = steps(block)
    for step in every:
        done = run_command(step.command, folder, {})
        must_fail = block.marker == "run: fails" and step is every[-1]
        assert (done.returncode != 0) == must_fail, f"{step.command}: exit {done.returncode}\n{done.stdout}"
        assert is_as_shown(step.shown, done.stdout), f"{step.command} says:\n{done.stdout}"


def examples(text: str) -> list[Block]:
    return [block for block in blocks(text) if block.marker in ("run", "run: fails")]


def unproven_commands(text: str) -> list[str]:
    """Commands that need no host, shown in a block that is not run."""
    return [
        step.command
        for block in blocks(text)
        if block.language == "console" and not block.marker
        for step in (steps(block) if block.lines[0].startswith("$ ") else [])
        if step.command.startswith(tuple(f"trscaler-gen {verb} " for verb in HOSTLESS))
    ]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder as the examples expect it."""
    ignore = shutil.ignore_patterns("*.lock")
    shutil.copytree(ROOT / "inventory", tmp_path / "inventory", ignore=ignore)
    return tmp_path


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "guide.md", DOCS / "explain.md", DOCS / "simulate.md"], ids=name_of
)
def test_examples_do_what_they_show(page: Path, workplace: Path) -> None:
    found = examples(page.read_text())
    assert found, "no example is marked to be run"
    for block in found:
        run_example(block, workplace)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "guide.md", DOCS / "explain.md", DOCS / "simulate.md"], ids=name_of
)
def test_examples_that_can_run_are_run(page: Path) -> None:
    assert unproven_commands(page.read_text()) == []


def test_a_wrong_example_is_seen(workplace: Path) -> None:
    for lines in [
        ("$ echo one", "two"),
        ("$ false",),
        ("$ echo one", "one", "two"),
        ("$ printf 'a\\nb\\n'", "a"),
    ]:
        with pytest.raises(AssertionError):
            run_example(Block("console", "run", lines), workplace)
    with pytest.raises(AssertionError):
        run_example(Block("console", "run: fails", ("$ true",)), workplace)
    run_example(Block("console", "run", ("$ printf 'a\\nb 12 c\\nd\\n'", "a", "b ... c", "...")), workplace)
    assert unproven_commands("```console\n$ trscaler-gen check x.yaml\n```\n") == [
        "trscaler-gen check x.yaml"
    ]


def inventory_blocks(text: str) -> list[str]:
    """Inventories on a page; one that shows nodes alone is made whole."""
    texts = [block.text for block in blocks(text) if block.language == "yaml"]
    return [text if text.startswith("cluster:") else REST_OF_INVENTORY + text for text in texts]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_inventories_are_right(page: Path) -> None:
    for text in inventory_blocks(page.read_text()):
        parse_inventory(text.encode(), name_of(page))


def test_a_wrong_inventory_is_seen() -> None:
    (text,) = inventory_blocks("```yaml\nnodes:\n  n1: {adress: 192.0.2.1}\n```\n")
    with pytest.raises(InputError):
        parse_inventory(text.encode(), "page.md")


# --- what is generated -----------------------------------------------------------------------------


@cache
def generated(*, switching: bool = False) -> dict[str, str]:
    """The files of n1 of inventory/lab.yaml, made anew; ``switching``: with two placements."""
    inventory = load_inventory(ROOT / "inventory" / "lab.yaml")
    lock = reconcile(inventory, None, seed=SEED)
    if switching:
        lock = replace(lock, before=tuple(order[::-1] for order in lock.orders), switch=lock.serial)
    plan = plan_nodes(inventory, lock)[0]
    return {name: content.decode() for name, content in render_node(plan).items()}


def missing_rules(text: str) -> list[str]:
    """Lines quoted in a page's nft blocks that no fresh ruleset has; comments may be left out."""
    both = generated()["ruleset.nft"] + generated(switching=True)["ruleset.nft"]
    ruleset = re.sub(r"_[0-9a-f]{8}\b", "_TAG", both)
    ruleset = re.sub(rf"seed {SEED}\b", "seed SEED", ruleset)
    lines = {line.strip() for line in ruleset.splitlines()}
    lines |= {re.sub(r' comment "[^"]*"$', "", line) for line in lines}
    quoted = [line for block in blocks(text) if block.language == "nft" for line in block.lines]
    return [line for line in quoted if line.strip() not in lines]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quoted_rules_stand_in_a_generated_ruleset(page: Path) -> None:
    assert missing_rules(page.read_text()) == []


def test_packet_flow_quotes_rules() -> None:
    quoted = [block for block in blocks((DOCS / "packet-flow.md").read_text()) if block.language == "nft"]
    assert len(quoted) >= 10


def test_a_rule_that_is_gone_is_seen() -> None:
    rule = "meta mark set jhash ip saddr . ip daddr mod 1024 seed SEED map @first_TAG"
    assert missing_rules(f"```nft\n{rule}\n{rule.replace('saddr', 'sport')}\n```\n") == [
        rule.replace("saddr", "sport")
    ]


def declared_sets(ruleset: str) -> set[str]:
    """Names of the sets in which a ruleset remembers something; constant ones hold the inventory."""
    return set(re.findall(r"^    set (\w+) \{[^}]*flags dynamic", ruleset, flags=re.MULTILINE))


def test_every_set_is_explained() -> None:
    sets = declared_sets(generated(switching=True)["ruleset.nft"])
    assert {"alive", "hosted", "unanswered"} <= sets
    told = (DOCS / "packet-flow.md").read_text()
    assert {name for name in sets if f"`{name}`" not in told} == set()


def test_leases_are_drawn_as_they_are() -> None:
    made = leases(interval_ms=100, missed=3)
    picture = (DOCS / "images" / "leases.svg").read_text()
    assert f"own lease: {made.own_ms} ms" in picture
    assert f"peer lease: {made.peer_ms} ms" in picture
    assert f"nobody: {made.peer_ms - made.own_ms} ms" in picture


def test_the_worked_checksum_is_right() -> None:
    rows = re.findall(
        r"^\| (?:cluster|inner) MAC ([0-9a-f:]{17}) \| (\w+) \+ (\w+) \+ (\w+) \| (\w+) \|$",
        (DOCS / "packet-flow.md").read_text(),
        flags=re.MULTILINE,
    )
    assert len(rows) == 2
    for mac, *words, total in rows:
        assert tuple(int(word, 16) for word in words) == HardwareAddress.parse(mac).words
        assert one_complement_sum(*(int(word, 16) for word in words)) == int(total, 16)
        assert mac in generated()["ruleset.nft"]


def one_complement_sum(*words: int) -> int:
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def node_verbs() -> set[str]:
    found = re.search(
        r"^case \$verb:\$# in\n(.*?)^esac", generated()["node.sh"], flags=re.MULTILINE | re.DOTALL
    )
    assert found
    return set(re.findall(r"\b([a-z]+):", found[1]))


def table_keys(text: str) -> set[str]:
    """What stands in backquotes in the first column of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE))


def test_every_verb_of_node_sh_is_documented() -> None:
    assert "swap" in node_verbs()
    assert node_verbs() - table_keys((DOCS / "operations.md").read_text()) == set()


def test_every_line_of_state_is_documented() -> None:
    body = re.search(r"^state\(\) \{\n(.*?)^\}", generated()["node.sh"], flags=re.MULTILINE | re.DOTALL)
    assert body
    keys = set(re.findall(r"echo \"?(\w+)=", body[1]))
    assert "ruleset" in keys
    assert keys - table_keys((DOCS / "operations.md").read_text()) == set()


def test_every_setting_is_documented() -> None:
    made = set(re.findall(r"echo \"(ipv[46])/conf/\$\w+/(\w+) (\d+)\"", generated()["node.sh"]))
    assert len(made) >= 10
    told = set(
        re.findall(
            r"^\| `net\.(ipv[46])\.conf\.\*\.(\w+)` \| (\d+) \|",
            (DOCS / "guide.md").read_text(),
            flags=re.MULTILINE,
        )
    )
    assert made == told


# --- the command line ------------------------------------------------------------------------------


def test_every_verb_is_documented() -> None:
    told = (ROOT / "README.md").read_text()
    assert [verb for verb in VERBS if f"| `trscaler-gen {verb}" not in told] == []


def test_every_verb_of_the_lab_is_documented() -> None:
    lab = group.get_command(click.Context(group), "lab")
    assert isinstance(lab, click.Group)
    told = (DOCS / "lab.md").read_text()
    assert [verb for verb in lab.commands if f"| `lab {verb}" not in told] == []


def test_every_outcome_of_apply_is_documented() -> None:
    assert set(Action) - table_keys((DOCS / "guide.md").read_text()) == set()


def commands() -> dict[str, click.Command]:
    """Every verb but the lab's, by the words that call it."""
    context = click.Context(group)
    found = {verb: group.get_command(context, verb) for verb in VERBS if verb != "lab"}
    lock = found.pop("lock")
    assert isinstance(lock, click.Group)
    found |= {f"lock {verb}": command for verb, command in lock.commands.items()}
    return {words: command for words, command in found.items() if command is not None}


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_option_is_documented(words: str) -> None:
    told = "".join(
        path.read_text()
        for path in (
            ROOT / "README.md",
            DOCS / "guide.md",
            DOCS / "operations.md",
            DOCS / "explain.md",
            DOCS / "simulate.md",
            DOCS / "watch.md",
        )
    )
    options = [option for option in commands()[words].params if isinstance(option, click.Option)]
    names = [max(option.opts, key=len) for option in options]
    # Of -o and --output the short one will do.
    names = ["-o " if name == "--output" else name for name in names]
    assert [name for name in names if name not in told] == []


def test_every_exit_status_is_documented() -> None:
    (table,) = re.findall(
        r"^\| verb \| 0 .*?\n(?=\n)", (DOCS / "operations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines())))
    assert set(VERBS) - named == set()


# --- messages and views that are quoted ------------------------------------------------------------


@cache
def sources() -> str:
    """All code that talks; a text that is split over lines is in one piece."""
    paths = [*(ROOT / "trscaler_gen").rglob("*.py"), *(ROOT / "trscaler_gen").rglob("*.sh")]
    text = "\n".join(path.read_text() for path in [*paths, ROOT / "templates" / "node.sh.j2"])
    return re.sub(r"[\"']\s*\\?\n\s*f?[\"']", "", text)


def quoted_messages(text: str, heading: str, column: int) -> list[str]:
    """What stands in backquotes in one column of the first table below a heading."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [message for row in rows[1:] for message in re.findall(r"`([^`]+)`", row.split(" | ")[column])]


def strange_fragments(messages: list[str], said: str) -> list[str]:
    """Pieces of messages, between ``...``, that nothing says."""
    fragments = [piece.strip() for message in messages for piece in message.split("...")]
    return [piece for piece in fragments if piece and piece not in said]


@pytest.mark.parametrize(
    ("heading", "column", "least"),
    [
        ("A node is half dead: ask status", 0, 25),
        ("What plan and apply say", 1, 35),
        ("What a node does by itself", 2, 8),
    ],
)
def test_quoted_messages_are_said(heading: str, column: int, least: int) -> None:
    messages = quoted_messages((DOCS / "operations.md").read_text(), heading, column)
    assert len(messages) >= least
    assert strange_fragments(messages, sources()) == []


def test_a_message_that_nobody_says_is_seen() -> None:
    row = "| x | `host key of ... is not known`, `it is fine` |"
    page = f"# P\n\n## H\n\n| a | b |\n|---|---|\n{row}\n\n## I\n| c | d |\n"
    messages = quoted_messages(page, "H", 1)
    assert messages == ["host key of ... is not known", "it is fine"]
    assert strange_fragments(messages, sources()) == ["it is fine"]


def misquoted_views(text: str) -> list[str]:
    """Names of golden views of which a page shows something else."""
    shown = [block for block in blocks(text) if block.marker.startswith("golden: ")]
    return [
        name
        for block in shown
        for name in [block.marker.removeprefix("golden: ")]
        if not is_as_shown(
            ("...", *block.lines, "..."), (ROOT / "tests" / "golden-plan" / f"{name}.txt").read_text()
        )
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quoted_views_are_golden(page: Path) -> None:
    assert misquoted_views(page.read_text()) == []


def test_a_view_that_is_gone_is_seen() -> None:
    block = "<!-- golden: disruptive -->\n```\n{}\n```\n"
    assert misquoted_views(block.format("Disruption (needs --allow-disruption)")) == []
    assert misquoted_views(block.format("Disruption (needs courage)")) == ["disruptive"]
