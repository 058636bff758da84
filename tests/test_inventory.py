"""The inventory reader: what it accepts, how it refuses, and that nothing else ever comes out of it."""

from __future__ import annotations

import json
import os
import re
import stat
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from trscaler_gen.cli.init import command as init_command
from trscaler_gen.cli.init import sample
from trscaler_gen.cli.schema import command as schema_command
from trscaler_gen.errors import InputError, OperationError, Problem
from trscaler_gen.inventory import Health, Inventory, Node, Ssh, load_inventory, parse_inventory
from trscaler_gen.inventory import document as document_module
from trscaler_gen.inventory.document import MAX_BYTES, read_document, resolve
from trscaler_gen.inventory.report import EXCERPT_WIDTH, format_problem
from trscaler_gen.inventory.schema import json_schema
from trscaler_gen.mac import HardwareAddress

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "inventory").glob("*.yaml"))
BAD = sorted((Path(__file__).parent / "errors").glob("*.yaml"))
LAB = (ROOT / "inventory" / "lab.yaml").read_bytes()

MINIMAL = """\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100]
nodes:
  n1: {address: 192.0.2.1}
  n2: {address: 192.0.2.2}
"""


def parse(text: str) -> Inventory:
    return parse_inventory(text.encode(), "test.yaml")


def problems_of(data: bytes, source: str = "test.yaml") -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        parse_inventory(data, source)
    return caught.value.problems


def report_of(path: Path) -> str:
    return "".join(format_problem(problem) + "\n" for problem in problems_of(path.read_bytes(), path.name))


# --- bad input, golden


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_inventory_is_reported_as_written_beside_it(path: Path) -> None:
    assert report_of(path) == path.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_problems_come_in_the_order_of_the_file_with_their_own_line(path: Path) -> None:
    found = problems_of(path.read_bytes(), path.name)
    places = [(problem.line, problem.column) for problem in found]
    assert places == sorted(places)
    lines = re.split("\r\n|\r|\n", path.read_bytes().decode("utf-8", "replace"))
    assert all(problem.excerpt == lines[problem.line - 1] for problem in found)


def test_every_bad_inventory_has_its_text_and_every_text_its_inventory() -> None:
    texts = {path.stem for path in (Path(__file__).parent / "errors").glob("*.txt")}
    assert len(BAD) > 80
    assert texts == {path.stem for path in BAD}


def test_the_reference_names_every_error_code() -> None:
    reference = (ROOT / "docs" / "inventory.md").read_text(encoding="utf-8")
    errors = reference.split("## Errors")[1]
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", errors, re.MULTILINE))
    golden = {problem.code for path in BAD for problem in problems_of(path.read_bytes())}
    assert golden | {"too-large", "unreadable"} == documented


def test_the_reference_describes_every_key() -> None:
    reference = (ROOT / "docs" / "inventory.md").read_text(encoding="utf-8")
    keys = set(json_schema()["properties"])
    for definition in json_schema()["$defs"].values():
        keys |= set(definition["properties"])
    assert {key for key in keys if f"`{key}`" not in reference} == set()


def test_a_file_that_is_too_large_is_not_read() -> None:
    [problem] = problems_of(b"#" * (MAX_BYTES + 1))
    assert problem.code == "too-large"


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_an_unreadable_file_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_inventory(tmp_path / name)
    [problem] = caught.value.problems
    assert (problem.code, problem.line) == ("unreadable", 0)
    assert format_problem(problem).startswith(f"{tmp_path / name}: error[unreadable]: cannot read")


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    bomb = "".join(f"k{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 9) + "]\n" for n in range(1, 100))
    [problem] = problems_of(b"k0: &a0 [x]\n" + bomb.encode())
    assert problem.code == "yaml-limit"


# --- good input


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_inventories(path: Path) -> None:
    assert load_inventory(path).source == path.name


def test_samples_use_documentation_addresses_alone() -> None:
    allowed = r"192\.0\.2\.\d+|198\.51\.100\.\d+|203\.0\.113\.\d+"
    for path in SAMPLES:
        text = path.read_text(encoding="utf-8")
        assert [
            word for word in re.findall(r"\d+\.\d+\.\d+\.\d+", text) if not re.fullmatch(allowed, word)
        ] == []
        assert all(
            str(address).startswith("2001:db8:")
            for address in load_inventory(path).virtual_addresses
            if isinstance(address, IPv6Address)
        )


def test_lab_32_has_thirty_two_nodes_and_is_reached_through_the_lab() -> None:
    inventory = load_inventory(ROOT / "inventory" / "lab-32.yaml")
    expected = {f"n{k}": IPv4Address(f"192.0.2.{k}") for k in range(1, 33)}
    assert {name: node.address for name, node in inventory.nodes.items()} == expected
    assert inventory.ssh.config == "/run/trscaler-gen/lab/ssh_config"


def test_defaults() -> None:
    inventory = parse(MINIMAL)
    assert (inventory.mac.mode, inventory.mac.address) == ("multicast", "auto")
    assert (inventory.hash.input, inventory.hash.buckets) == ("source-destination", 1024)
    assert (inventory.heartbeat.interval_ms, inventory.heartbeat.missed) == (100, 3)
    assert (inventory.connections, inventory.keep_connections_s) == ("preserve", 3600)
    assert inventory.drain_before_stop_s == 30
    assert inventory.health is None
    assert inventory.nodes["n1"].weight == 1


def test_equal_content_makes_equal_inventories_whatever_the_layout() -> None:
    spaced = "# a comment\n\n" + MINIMAL.replace("[192.0.2.100]", "\n  - 192.0.2.100  # shared\n")
    assert parse(spaced) == parse(MINIMAL)
    assert parse_inventory(MINIMAL.encode(), "/elsewhere/test.yaml") == parse(MINIMAL)


def test_a_byte_order_mark_is_no_error() -> None:
    assert parse_inventory(b"\xef\xbb\xbf" + MINIMAL.encode(), "test.yaml") == parse(MINIMAL)


@pytest.mark.parametrize("mac", ["02:00:10:20:30:40", "'02:00:10:20:30:40'", "12:34:50:10:20:30"])
def test_a_mac_address_needs_no_quotes(mac: str) -> None:
    inventory = parse(MINIMAL + f"mac: {{mode: stealth, address: {mac}}}\n")
    assert inventory.mac.address == HardwareAddress.parse(mac.strip("'"))


def test_an_ipv6_address_needs_no_quotes() -> None:
    inventory = parse(MINIMAL.replace("[192.0.2.100]", "[2001:db8::100, 2001:db8:1:2:3:4:5:6]"))
    assert inventory.virtual_addresses[0] == IPv6Address("2001:db8::100")


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.1.1", "100.64.0.1", "203.0.113.7"])
def test_a_node_may_have_any_unicast_address(address: str) -> None:
    assert parse(MINIMAL.replace("192.0.2.1}", address + "}")).nodes["n1"].address == IPv4Address(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "203.0.113.7", "fd00::1", "2001:DB8:0::1"])
def test_a_virtual_address_may_be_private(address: str) -> None:
    shared = parse(MINIMAL.replace("[192.0.2.100]", f"[{address}]")).virtual_addresses
    assert [str(one) for one in shared] == [address.lower().replace(":0::", "::")]


def test_limits_are_within() -> None:
    text = MINIMAL.replace("web", "w" * 32).replace("eth0", "e" * 15).replace("n1", "n" * 63)
    inventory = parse(
        text.replace("192.0.2.2}", "192.0.2.2, weight: 100}")
        + "heartbeat: {interval_ms: 10000, missed: 20, first_vrid: 192}\nhash: {buckets: 16384}\n"
    )
    assert inventory.heartbeat.first_vrid == 192
    assert parse(MINIMAL + "heartbeat: {interval_ms: 10, missed: 2}\nhash: {buckets: 64}\n")
    assert parse(MINIMAL + "connections: hash-only\nkeep_connections_s: 10\ndrain_before_stop_s: 0\n")
    assert parse(MINIMAL + "keep_connections_s: 86400\ndrain_before_stop_s: 3600\n")


def test_names_that_yaml_1_1_takes_for_booleans_and_numbers_are_names() -> None:
    text = MINIMAL.replace("n1:", "on:").replace("n2:", "12:") + "  no: {address: 192.0.2.3}\n"
    text += "  true: {address: 192.0.2.4}\n"
    assert list(parse(text).nodes) == ["on", "12", "no", "true"]


def test_a_commands_arguments_are_what_was_written() -> None:
    arguments = '--port, 80, 1.50, 007, true, True, "", "a b", $HOME'
    inventory = parse(MINIMAL + f"health: {{command: [/usr/bin/app-ok, {arguments}]}}\n")
    assert inventory.health is not None
    assert inventory.health.command[1:] == (
        "--port", "80", "1.50", "007", "true", "True", "", "a b", "$HOME",
    )  # fmt: skip


def test_an_alias_stands_for_its_value() -> None:
    text = MINIMAL.replace("192.0.2.1}", "192.0.2.1, health: &h {command: [/usr/bin/true]}}")
    text = text.replace("192.0.2.2}", "192.0.2.2, health: *h}")
    assert parse(text).nodes["n2"].health == Health(command=("/usr/bin/true",))


@pytest.mark.parametrize(
    ("source", "shown"),
    [("a/b/lab.yaml", "lab.yaml"), ('my "lab"\n.yaml', "my__lab__.yaml"), ("$(id).yaml", "__id_.yaml")],
)
def test_the_name_that_generated_files_give_needs_no_quoting(source: str, shown: str) -> None:
    assert parse_inventory(MINIMAL.encode(), source).source == shown


# --- resolved settings

OVERRIDES = """\
cluster: web
link: eth0
virtual_addresses: [192.0.2.100]
health: {command: [/usr/bin/app-ok]}
ssh: {user: admin, sudo: true, port: 2222, identity_file: /root/key, connect_timeout_s: 5}
nodes:
  n1: {address: 192.0.2.1}
  n2:
    address: 192.0.2.2
    link: bond0
    health: {command: [/usr/bin/other-ok], interval_s: 7}
    ssh: {user: root, sudo: false, host: n2.example.net}
  n3: {address: 192.0.2.3, ssh: {connect_timeout_s: 10, port: null}}
"""


def test_a_node_without_settings_has_the_clusters() -> None:
    inventory = parse(OVERRIDES)
    assert inventory.link_of("n1") == "eth0"
    assert inventory.health_of("n1") == inventory.health
    assert inventory.ssh_of("n1") == inventory.ssh.model_copy(update={"host": "192.0.2.1"})


def test_a_nodes_link_and_health_replace_the_clusters() -> None:
    inventory = parse(OVERRIDES)
    assert inventory.link_of("n2") == "bond0"
    assert inventory.health_of("n2") == Health(command=("/usr/bin/other-ok",), interval_s=7)


def test_a_nodes_ssh_settings_go_over_the_clusters_key_by_key() -> None:
    inventory = parse(OVERRIDES)
    expected = Ssh(
        user="root",
        sudo=False,
        port=2222,
        host="n2.example.net",
        identity_file="/root/key",
        connect_timeout_s=5,
    )
    assert inventory.ssh_of("n2") == expected


def test_a_default_written_out_for_a_node_overrides_the_cluster_and_null_does_not() -> None:
    ssh = parse(OVERRIDES).ssh_of("n3")
    assert (ssh.connect_timeout_s, ssh.port) == (10, 2222)


def test_without_settings_the_user_and_port_are_left_to_the_ssh_config() -> None:
    inventory = parse(MINIMAL)
    assert inventory.health_of("n1") is None
    assert inventory.ssh_of("n1") == Ssh(host="192.0.2.1")


# --- scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("010", "010"),
        ("-0", "-0"),
        ("+1", "+1"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1.5", "1.5"),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("yes", "yes"),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ("", None),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    result = resolve(text)
    assert (type(result), result) == (type(value), value)


def test_a_quoted_number_is_text() -> None:
    assert read_document(b"a: '1'\nb: \"true\"\nc: |\n  1\n", "x").value == {
        "a": "1",
        "b": "true",
        "c": "1\n",
    }


def test_the_python_parser_reads_as_libyaml_does(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = [read_document(path.read_bytes(), path.name) for path in SAMPLES]
    monkeypatch.setattr(document_module, "_LOADER", yaml.SafeLoader)
    assert [read_document(path.read_bytes(), path.name) for path in SAMPLES] == fast


# --- the report


def test_a_problem_is_laid_out_as_a_compiler_does() -> None:
    problem = Problem("lab.yaml", 14, 9, "unknown-key", "no such key", "a hint", "        weigth: 2")
    assert format_problem(problem) == (
        "lab.yaml:14:9: error[unknown-key]: no such key\n        weigth: 2\n        ^\n  hint: a hint"
    )


def test_a_problem_without_a_place_has_no_excerpt() -> None:
    assert format_problem(Problem("x", 0, 0, "code", "why", "", "")) == "x: error[code]: why"


@given(st.text(), st.text(), st.text(), st.text(), st.integers(0, 300))
def test_a_report_never_holds_control_characters(
    source: str, message: str, hint: str, excerpt: str, column: int
) -> None:
    text = format_problem(Problem(source, 3, column, "code", message, hint, excerpt))
    assert text.replace("\n", "").isprintable()
    assert len(text.split("\n")) <= 4


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=500), st.data())
def test_the_caret_stands_below_the_character(line: str, data: st.DataObject) -> None:
    column = data.draw(st.integers(1, len(line)))
    shown, caret = format_problem(Problem("x", 1, column, "code", "why", "", line)).split("\n")[1:3]
    assert shown[len(caret) - 1] == line[column - 1]
    assert len(shown) <= EXCERPT_WIDTH + len("......")


# --- nothing but InputError


def only_input_errors(data: bytes) -> None:
    try:
        parse_inventory(data, "fuzz.yaml")
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            assert format_problem(problem).replace("\n", "").isprintable()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_input_errors(data: bytes) -> None:
    only_input_errors(data)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("abn1:-? {}[],&*!|>'\"%@#\n\t~.<é\\0"), max_size=60))
def test_random_yaml_raises_nothing_but_input_errors(text: str) -> None:
    only_input_errors(text.encode())


EDITS = st.tuples(
    st.integers(0, len(LAB)),
    st.integers(0, 12),
    st.one_of(
        st.binary(max_size=4),
        st.sampled_from([b"{", b"}", b"- ", b": ", b"&a ", b"*a", b"!!x ", b"~", b"\n", b"-1"]),
    ),
)


@settings(max_examples=800, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=4))
def test_mutations_of_the_lab_raise_nothing_but_input_errors(edits: list[tuple[int, int, bytes]]) -> None:
    data = LAB
    for start, length, replacement in edits:
        data = data[:start] + replacement + data[start + length :]
    only_input_errors(data)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["192.0.2.1", "auto", "n1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(inner for key, item in items for inner in _paths(item, (*path, key)))]


def _replaced(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


@settings(max_examples=500, deadline=None)
@given(st.data(), VALUES)
def test_any_value_in_any_place_raises_nothing_but_input_errors(data: st.DataObject, new: object) -> None:
    lab = read_document(LAB, "lab.yaml").value
    path = data.draw(st.sampled_from(_paths(lab)))
    only_input_errors(json.dumps(_replaced(lab, path, new)).encode())


# --- JSON Schema


def test_the_schema_is_what_the_command_prints() -> None:
    result = CliRunner().invoke(schema_command)
    assert json.loads(result.output) == json_schema()


def test_the_schema_says_what_it_is_and_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] and schema["title"] and schema["description"]
    assert "source" not in schema["properties"]
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False
        for name, key in part["properties"].items():
            assert key.get("description") or "$ref" in key, name


def _matches(value: object, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Check the keywords of JSON Schema that ours uses for structure."""
    if "$ref" in schema:
        return _matches(value, root["$defs"][schema["$ref"].rsplit("/")[-1]], root)
    if "anyOf" in schema and not all("format" in option for option in schema["anyOf"]):
        return any(_matches(value, option, root) for option in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    return _has_type(value, schema) and _is_bounded(value, schema) and _members_match(value, schema, root)


def _has_type(value: object, schema: dict[str, Any]) -> bool:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    names = {"string": str, "integer": int, "number": int, "boolean": bool, "object": dict, "array": list}
    return any(value is None if name == "null" else type(value) is names[name] for name in types)


def _is_bounded(value: object, schema: dict[str, Any]) -> bool:
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if type(value) is int and "minimum" in schema:
        fits: bool = schema["minimum"] <= value <= schema["maximum"]
        return fits and value % schema.get("multipleOf", 1) == 0
    return True


def _members_match(value: object, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if isinstance(value, list):
        return schema["minItems"] <= len(value) and all(
            _matches(item, schema["items"], root) for item in value
        )
    if not isinstance(value, dict):
        return True
    known, other = schema.get("properties", {}), schema["additionalProperties"]
    if not all(key in known or other for key in value) or not set(schema.get("required", [])) <= set(value):
        return False
    return all(_matches(item, known.get(key, other), root) for key, item in value.items())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_match_the_schema(path: Path) -> None:
    schema = json_schema()
    assert _matches(read_document(path.read_bytes(), path.name).value, schema, schema)


@pytest.mark.parametrize(
    "name",
    [
        "weight",
        "key-unknown",
        "key-missing",
        "buckets-few",
        "interval-step",
        "mac-mode-unknown",
        "link-shell",
        "metrics-quoting",
        "metrics-dots",
        "metrics-hidden",
    ],
)
def test_what_one_key_shows_to_be_wrong_does_not_match_the_schema(name: str) -> None:
    schema = json_schema()
    data = (Path(__file__).parent / "errors" / f"{name}.yaml").read_bytes()
    assert not _matches(read_document(data, name).value, schema, schema)


def test_model_and_schema_agree_on_defaults() -> None:
    node = json_schema()["$defs"]["Node"]["properties"]
    assert node["weight"]["default"] == Node(address=IPv4Address("192.0.2.1")).weight


# --- init


def test_init_writes_an_inventory(tmp_path: Path) -> None:
    path = tmp_path / "Front End.yaml"
    result = CliRunner().invoke(init_command, [str(path), "--link", "bond0"])
    assert result.exit_code == 0
    inventory = load_inventory(path)
    assert (inventory.cluster, inventory.link) == ("front-end", "bond0")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_init_never_touches_a_file_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text("mine")
    result = CliRunner().invoke(init_command, [str(path)])
    assert isinstance(result.exception, OperationError)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_init_does_not_follow_a_dangling_link(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.symlink_to(tmp_path / "elsewhere")
    result = CliRunner().invoke(init_command, [str(path)])
    assert isinstance(result.exception, OperationError)
    assert not (tmp_path / "elsewhere").exists()


def test_init_says_so_when_it_cannot_write(tmp_path: Path) -> None:
    result = CliRunner().invoke(init_command, [str(tmp_path / "none" / "web.yaml")])
    assert isinstance(result.exception, OperationError)
    assert "cannot write" in result.exception.message


def test_init_prints_to_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(init_command, ["-"])
    assert parse(result.output).cluster == "web"
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize(("cluster", "link"), [("Web", "eth0"), ("web", "eth0;id"), ("web", "a\nmac: {}")])
def test_init_refuses_what_is_no_name(cluster: str, link: str) -> None:
    with pytest.raises((InputError, click.UsageError)):
        sample(cluster, link)


def test_what_the_sample_comments_out_is_right_once_the_comment_sign_is_gone() -> None:
    text = sample("web", "eth0")
    uncommented = re.sub(r"^( *)# ( *\w+:( |$))", r"\1\2", text, flags=re.MULTILINE)
    inventory = parse(uncommented)
    assert inventory.health and inventory.metrics and inventory.ssh.port == 22
    assert (inventory.nodes["n3"].link, inventory.ssh_of("n3").port) == ("bond0", 2222)
    defaults = parse(text)
    assert "keep_connections_s" in inventory.model_fields_set
    for key in ("mac", "hash", "heartbeat", "connections", "keep_connections_s", "drain_before_stop_s"):
        assert getattr(inventory, key) == getattr(defaults, key)
