"""No word of an inventory becomes a command, an nft statement, a key of keepalived's or of systemd's.

What has a meaning to any of these languages is refused with its place. What is accepted changes one word in
the files, and no structure: that is asked of sh, nft and keepalived themselves.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen import render
from trscaler_gen.bundle import Bundle, make_bundles
from trscaler_gen.check import check_bundles
from trscaler_gen.errors import InputError
from trscaler_gen.inventory.load import parse_inventory, provenance
from trscaler_gen.inventory.model import Inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.nodeplan import plan_nodes

#: what ends a word, a line, a string or a comment in sh, nft, keepalived.conf, systemd units or a terminal
META = "\"'`$\\;&|<>(){}[]*?!~#%@^, \t\n\r\0\x07\x1b\x7f\x85\x9b\u2028\u202e"
STATEMENTS = (
    *(
        "; touch /tmp/owned",
        "$(touch /tmp/owned)",
        "`id`",
        "x\ntouch /tmp/owned",
        "' ; id ; '",
        '" ; id ; "',
        "${IFS}",
    ),
    *(
        "}\nflush ruleset\n",
        '" accept; policy accept; #',
        "\n}\ntable inet x {",
        "@alive",
        'eth0" priority 0; #',
    ),
    *(
        "}\nvrrp_script x {\n",
        "!",
        "include /etc/shadow",
        "$_VAR",
        "\nExecStart=/bin/id",
        "%n",
        "%%",
        "x\nUser=nobody",
    ),
    *(
        "../../etc/passwd",
        "-oProxyCommand=id",
        "--",
        "-",
        ".",
        "..",
        "/",
        "\x1b[2J",
        "{{ 7 * 7 }}",
        "{% raw %}",
    ),
)
#: a word that none of it can be found in
PLAIN = "plain"
WORDS = st.one_of(
    st.sampled_from(STATEMENTS),
    st.tuples(st.sampled_from(("a", "eth0", "/bin/true", "192.0.2.1")), st.sampled_from(STATEMENTS)).map(
        "".join
    ),
    st.text(st.sampled_from("ab1." + META), min_size=1, max_size=12),
)

#: every key of an inventory that holds text, as a way to set it
KEYS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "cluster": lambda d, w: d.update(cluster=w),
    "link": lambda d, w: d.update(link=w),
    "virtual_addresses": lambda d, w: d.update(virtual_addresses=[w]),
    "forwards_to": lambda d, w: d.update(forwards_to=w),
    "mac.mode": lambda d, w: d.update(mac={"mode": w}),
    "mac.address": lambda d, w: d.update(mac={"address": w}),
    "hash.input": lambda d, w: d.update(hash={"input": w}),
    "hash.like": lambda d, w: d.update(hash={"like": w}),
    "health.command[0]": lambda d, w: d.update(health={"command": [w]}),
    "connections": lambda d, w: d.update(connections=w),
    "ssh.user": lambda d, w: d.update(ssh={"user": w}),
    "ssh.host": lambda d, w: d["nodes"]["n1"].update(ssh={"host": w}),
    "ssh.identity_file": lambda d, w: d.update(ssh={"identity_file": w}),
    "ssh.config": lambda d, w: d.update(ssh={"config": w}),
    "nodes": lambda d, w: d["nodes"].update({w: {"address": "192.0.2.9"}}),
    "nodes.address": lambda d, w: d["nodes"]["n1"].update(address=w),
    "nodes.link": lambda d, w: d["nodes"]["n1"].update(link=w),
    "nodes.forwards_to": lambda d, w: d["nodes"]["n1"].update(forwards_to=w),
    "nodes.health.command[0]": lambda d, w: d["nodes"]["n1"].update(health={"command": [w]}),
    "a key": lambda d, w: d.update({w: 1}),
}
#: what a word that is accepted may be made of: none of it means anything to any of the languages
HARMLESS = re.compile(r"[A-Za-z0-9_.:/+@=~-][A-Za-z0-9_./+@:,=-]*")


def document() -> dict[str, Any]:
    return {
        "cluster": "web",
        "link": "eth0",
        "virtual_addresses": ["192.0.2.100"],
        "hash": {"buckets": 64},
        "nodes": {"n1": {"address": "192.0.2.1"}, "n2": {"address": "192.0.2.2"}},
    }


def parsed(change: Callable[[dict[str, Any]], object], source: str = "web.yaml") -> Inventory:
    changed = document()
    change(changed)
    return parse_inventory(yaml.safe_dump(changed, allow_unicode=True).encode(), source)


def bundles_of(inventory: Inventory) -> Mapping[str, Bundle]:
    lock = reconcile(inventory, None, seed=1)
    return make_bundles(plan_nodes(inventory, lock), lock)


@pytest.mark.parametrize("key", KEYS)
@settings(max_examples=40)
@given(word=WORDS)
def test_a_word_is_refused_with_its_place_or_harmless(key: str, word: str) -> None:
    try:
        parsed(lambda d: KEYS[key](d, word))
    except InputError as error:
        for problem in error.problems:
            assert problem.line >= 1 or problem.code in ("control-character", "yaml-syntax", "encoding"), (
                problem
            )
            assert problem.column >= 1 or not problem.line, problem
    else:
        assert HARMLESS.fullmatch(word), (key, word)


@settings(max_examples=200)
@given(WORDS)
def test_the_inventorys_own_name_is_written_harmlessly(name: str) -> None:
    """It stands in comments of every generated file."""
    assert re.fullmatch(r"[A-Za-z0-9_.,+@-]*", provenance(f"/x/{name}.yaml"))


# --- the health command's arguments: any text of one line -----------------------------------------------

ARGUMENTS = st.lists(
    WORDS.map(lambda word: "".join(char for char in word if char.isprintable())), min_size=1, max_size=4
)


def health_argv(arguments: list[str]) -> list[str]:
    """What a program gets that the rendered script calls with these arguments."""
    command = ["/usr/bin/printf", "%s\\0", *arguments]
    bundle = bundles_of(parsed(lambda d: d.update(health={"command": command})))["n1"]
    script = bundle.files["node.sh"].decode()
    found = re.search(r"^service_is_well\(\) \{\n.*?^\}", script, re.S | re.M)
    assert found
    done = subprocess.run(
        ["sh", "-c", f"{found[0]}\nservice_is_well"], capture_output=True, timeout=60, cwd="/", check=False
    )
    return done.stdout.decode(errors="replace").split("\0")[:-1]


@settings(max_examples=30)
@given(ARGUMENTS)
def test_arguments_reach_the_program_as_they_are(arguments: list[str]) -> None:
    assert health_argv(arguments) == arguments


def test_twin_without_quotes_they_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    argument = "$(printf owned)"
    assert health_argv([argument]) == [argument]
    monkeypatch.setitem(render._environment().filters, "sh_words", " ".join)
    render._environment().cache.clear()  # type: ignore[union-attr]
    try:
        assert health_argv([argument]) != [argument]
    finally:
        monkeypatch.undo()
        render._environment().cache.clear()  # type: ignore[union-attr]


# --- the oddest words that are accepted, before the real tools --------------------------------------------

ODDEST: dict[str, Callable[[dict[str, Any]], object]] = {
    "names": lambda d: d.update(
        cluster="x-" + "y" * 30,
        link="_a.b-c_d.e-f_g1",
        nodes={"0.-": {"address": "192.0.2.1"}, "A" * 63: {"address": "192.0.2.2"}},
    ),
    "command": lambda d: d.update(
        health={"command": ["/usr/bin/test,=+@:./-_", "; id", "%n $PATH", "\"'`\\", "}"]}
    ),
    "paths": lambda d: d.update(ssh={"config": "~/a+@:,=-", "identity_file": "/..//.", "user": "_-."}),
}


def structure(bundle: Bundle) -> dict[str, list[str]]:
    """The files without what stands in quotes, names and numbers: their brackets, keys and ends of lines."""
    texts = {name: data.decode() for name, data in bundle.files.items() if name.endswith((".nft", ".conf"))}
    return {name: re.findall(r"^\s*([a-z_]+|[{}])", text, re.M) for name, text in texts.items()}


@pytest.mark.parametrize("name", ODDEST)
def test_the_tools_find_in_them_what_they_find_in_plain_ones(name: str) -> None:
    inventory = parsed(ODDEST[name], 'it\'s a $(file) "name"; #.yaml')
    plain = parsed(lambda d: d.update(health={"command": ["/bin/true"]}) if "command" in name else None)
    odd, usual = bundles_of(inventory), bundles_of(plain)
    links = {node: inventory.link_of(node) for node in odd}
    assert check_bundles(odd, links) == ()
    for mine, others in zip(odd.values(), usual.values(), strict=True):
        assert structure(mine) == structure(others)


def test_twin_a_link_that_ends_its_string_is_found() -> None:
    """Past the reader, a word with quotes in it changes the structure of a ruleset."""
    plain = parsed(lambda d: None)
    hostile = plain.model_copy(update={"link": 'eth0" priority 0; policy accept;\n}\nchain evil {\n#'})
    assert structure(bundles_of(hostile)["n1"]) != structure(bundles_of(plain)["n1"])
