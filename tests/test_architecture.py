"""Which module may import what: the pure core stays pure, and each foreign tool has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "trscaler_gen"

#: modules that compute and touch nothing; inventory/load.py reads the one file it is given, by pathlib
PURE = [
    "bundle.py",
    "chart.py",
    "claims.py",
    "drift.py",
    "errors.py",
    "explain.py",
    "facts.py",
    "glance.py",
    "jhash.py",
    "lineage.py",
    "mac.py",
    "nodeplan.py",
    "page.py",
    "packetlines.py",
    "placement.py",
    "reweigh.py",
    "render.py",
    "secret.py",
    "history.py",
    "sight.py",
    "verdict.py",
    "watching.py",
    "deploy/preflight.py",
    "deploy/unpack.py",
    "transport/known_hosts.py",
    *(f"lock/{path.name}" for path in (PACKAGE / "lock").glob("*.py")),
    *(f"inventory/{path.name}" for path in (PACKAGE / "inventory").glob("*.py")),
    *(f"plan/{path.name}" for path in (PACKAGE / "plan").glob("*.py")),
    *(f"proof/{path.name}" for path in (PACKAGE / "proof").glob("*.py")),
    *(
        f"simulate/{name}.py"
        for name in ("blocks", "decode", "hashing", "judge", "pcap", "pcapng", "tally", "whatif")
    ),
    "simulate/picture.py",
    "simulate/result.py",
    "simulate/tell.py",
]
IMPURE_IMPORTS = {"os", "subprocess", "socket", "time", "random", "secrets", "tempfile", "paramiko", "rich"}

#: a foreign package -> the one module or folder that may import it
DOORS = {
    "jinja2": "render.py",
    "paramiko": "transport/",
    "rich": "console/",
    "nftables": "check/",
    "click": "cli/",
    "yaml": "inventory/",
}

#: from the bottom up; a module imports only from its own layer and those below
LAYERS = [
    {"errors", "facts", "secret"},
    {"drift", "glance"},
    {"mac", "jhash", "placement", "reweigh", "chart", "page"},
    {"inventory"},
    {"packetlines"},
    {"lock"},
    {"lineage", "sight"},
    {"nodeplan"},
    {"render"},
    {"bundle"},
    {"plan", "verdict", "history", "explain", "claims"},
    {"files", "lockfile"},
    {"simulate", "proof"},
    {"watching"},
    {"pipeline", "check", "transport", "lab"},
    {"deploy"},
    {"console"},
    {"cli"},
]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of every module that a file imports, at any depth of the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def layer_of(name: str) -> int | None:
    return next((level for level, layer in enumerate(LAYERS) if name in layer), None)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_touch_nothing(name: str) -> None:
    tops = {imported.partition(".")[0] for imported in imports(PACKAGE / name)}
    assert not tops & IMPURE_IMPORTS


def test_modules_that_say_so_are_held_to_be_pure() -> None:
    told = {str(path.relative_to(PACKAGE)) for path in modules() if "Pure." in _docstring(path)}
    assert told >= {"verdict.py", "deploy/preflight.py"}
    assert told - set(PURE) == set()


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_foreign_package_has_one_door(path: Path) -> None:
    here = str(path.relative_to(PACKAGE))
    for imported in imports(path):
        door = DOORS.get(imported.partition(".")[0])
        assert door is None or here.startswith(door), f"{here} imports {imported}, which belongs to {door}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_one_way(path: Path) -> None:
    own = layer_of(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    if own is None:
        assert path.name in ("__init__.py", "__main__.py"), f"{path} stands in no layer: name its place"
        return
    for imported in imports(path):
        parts = imported.split(".")
        level = layer_of(parts[1]) if parts[0] == "trscaler_gen" and len(parts) > 1 else None
        assert level is None or level <= own, f"{path.name} imports {imported} from above"


def test_the_rules_can_fail(tmp_path: Path) -> None:
    guilty = tmp_path / "guilty.py"
    guilty.write_text("def f():\n    import paramiko\n    from trscaler_gen.cli import main\n")
    assert imports(guilty) == {"paramiko", "trscaler_gen.cli"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= 50, f"{path.name}: {node.name} has {length} lines"
