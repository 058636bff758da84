"""The manual page, made of what the commands say of themselves; man(7) and groff_man(7) tell its macros."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import click

from trscaler_gen.cli import NAME, examples, paragraphs, walk
from trscaler_gen.facts import ROOT, RUNTIME
from trscaler_gen.inventory.text import printable
from trscaler_gen.lab.state import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE

_DESCRIPTION = (
    "Several Linux hosts answer on one address, with no load balancer in front of them. A switch floods "
    "every packet for that address to all hosts; each host's nftables rules compute the same function, and "
    "exactly one of them accepts the packet.",
    f"{NAME} compiles one inventory (YAML) into nftables and keepalived configuration for every host, checks "
    "it with the real tools, says what a change would move, and deploys it over SSH; a host whose change is "
    "not confirmed goes back by itself.",
)
_STATUSES = (
    ("0", "Done, or all is well."),
    ("1", "The inventory, a node or the machine needs mending; or something could not be told."),
    (
        "2",
        "The command line makes no sense; a cluster is degraded (status, explain --live); or, with "
        "plan --detailed-exitcode, there is something to do.",
    ),
    ("3", "A bug of ours, with a traceback: please report it."),
    ("124", "Connections are left when the time of --timeout is over."),
    ("130", "Interrupted."),
)
_FILES = (
    ("NAME.yaml", "The inventory of a cluster; init writes one with comments."),
    (
        "NAME.lock",
        "Node ids, hash seed and preference orders, beside the inventory. Commit it and keep it private.",
    ),
    (f"{ROOT}/CLUSTER/", "On a node: what it runs, and what it ran before."),
    (f"{RUNTIME}/CLUSTER/", "On a node: what is known until it reboots."),
    ("~/.ssh/config, ~/.ssh/known_hosts", "How nodes are reached, and their host keys."),
    (f"{DEFAULT_DIRECTORY}/", "The lab."),
)
_ENVIRONMENT = (
    ("SSH_AUTH_SOCK", "The socket of the agent that holds the keys for the nodes."),
    (DIRECTORY_VARIABLE, f"Where the lab's files are, in place of {DEFAULT_DIRECTORY}."),
    ("NO_COLOR", "Where it is set and not empty, output has no colours."),
    (
        f"_{NAME.replace('-', '_').upper()}_COMPLETE",
        f"Set by the shells when they ask what a word may become; see {NAME} completion.",
    ),
)
_SEE_ALSO = ("nft(8)", "keepalived(8)", "keepalived.conf(5)", "ssh_config(5)", "conntrack(8)", "tcpdump(8)")


def manual(group: click.Group, version: str) -> str:
    """The page in roff; it depends on the version alone, not on where and when it is made."""
    context = click.Context(group, info_name=NAME)
    lines = [
        f'.TH {NAME.upper()} 1 "" "{NAME} {version}" "User Commands"',
        ".SH NAME",
        f"{_text(NAME)} \\- {_text(_first_sentence(group))}",
        ".SH SYNOPSIS",
        ".nh",
        *(f".B {_text(NAME)}\n.I {_text(usage)}\n.br" for usage in ("[OPTIONS] COMMAND [ARGS]...",)),
        ".hy",
        ".SH DESCRIPTION",
        *_prose(_DESCRIPTION),
        *_options(group, context),
        ".SH COMMANDS",
        *(line for path, command in walk(group) for line in _command(path, command)),
        ".SH EXIT STATUS",
        *_list(_STATUSES),
        ".SH FILES",
        *_list(_FILES),
        ".SH ENVIRONMENT",
        *_list(_ENVIRONMENT),
        ".SH EXAMPLES",
        *(line for example in _every_example(group) for line in _verbatim(example)),
        ".SH SEE ALSO",
        ",\n".join(f".BR {name} ({section}" for name, section in (one.split("(") for one in _SEE_ALSO)),
    ]
    return "\n".join(lines).replace(",\n.BR", " ,\n.BR") + "\n"


def _every_example(group: click.Group) -> tuple[str, ...]:
    """Each once: that of a group may be that of a command in it."""
    return tuple(dict.fromkeys(line for _, command in walk(group) for line in examples(command)))


def _command(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """A command's usage, what it does, and its options."""
    context = click.Context(command, info_name=path[-1])
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    yield f".SS {_text(' '.join(path))}"
    yield ".nh"
    yield f".B {_text(' '.join((NAME, *path)))}"
    yield f".I {_text(' '.join(('[OPTIONS]', *pieces)))}"
    yield ".hy"
    yield from _prose(paragraphs(command))
    if command.epilog:
        yield from _prose((command.epilog,))
    yield from _options(command, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = (param.get_help_record(context) for param in command.params if isinstance(param, click.Option))
    for record in records:
        if record is not None:
            yield from _list((record,))


def _list(pairs: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in pairs:
        yield ".TP"
        yield f".B {_text(term)}"
        yield _text(text)


def _prose(texts: tuple[str, ...]) -> Iterator[str]:
    for text in texts:
        yield ".PP"
        yield _text(text)


def _verbatim(line: str) -> Iterator[str]:
    """An example as it is typed, continued where a narrow terminal would cut it off."""
    yield ".PP"
    yield ".nf"
    broken = textwrap.wrap(line, 64, break_long_words=False, break_on_hyphens=False, subsequent_indent="    ")
    yield " \\e\n".join(_text(piece) for piece in broken)
    yield ".fi"


def _first_sentence(group: click.Group) -> str:
    return (group.help or "").partition("\n")[0].rstrip(".")


def _text(words: str) -> str:
    """Words as roff: nothing in them is a request, a hyphen that may be typed is one."""
    text = re.sub(r"\s+", " ", printable(words)) if "\n" in words else words
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text
