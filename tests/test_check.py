"""The two verbs that work on this machine alone.

`check` sees every kind of damage, and what could not be checked is no success; `build` writes all or nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from trscaler_gen import files
from trscaler_gen.bundle import Bundle
from trscaler_gen.check import check_bundles
from trscaler_gen.cli import main
from trscaler_gen.cli.init import sample
from trscaler_gen.errors import OperationError
from trscaler_gen.pipeline import compile_inventory

ROOT = Path(__file__).parent.parent
INVENTORY = ROOT / "tests" / "golden" / "cluster.yaml"
SAMPLES = sorted((ROOT / "inventory").glob("*.yaml"))
NODES = {"alpha", "beta", "gamma"}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A cluster of three, without a lock."""
    return Path(shutil.copy(INVENTORY, tmp_path / "cluster.yaml"))


def cli(*argv: str | Path, tree: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "trscaler_gen", *map(str, argv)], cwd=tree, **environment)


def run(argv: list[str], cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def in_mount_namespace(prepare: str, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run trscaler-gen where ``prepare`` has changed what is mounted; the host sees nothing of it."""
    script = f'{prepare} && exec "$@"'
    command = [sys.executable, "-m", "trscaler_gen", *map(str, argv)]
    return run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command])


def refused_in_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) <= 2
    for word in words:
        assert word in done.stderr


# What is right is accepted


@pytest.mark.parametrize("path", [INVENTORY, *SAMPLES], ids=lambda path: path.name)
def test_samples_are_accepted(tmp_path: Path, path: Path) -> None:
    if other := yaml.safe_load(path.read_text()).get("hash", {}).get("like"):
        first = shutil.copy(path.parent / other, tmp_path)
        assert cli("build", first, "-o", tmp_path / "bundles").returncode == 0
    done = cli("check", shutil.copy(path, tmp_path))
    assert done.returncode == 0, done.stderr
    nodes = len(yaml.safe_load(path.read_text())["nodes"])
    assert f"{nodes} nodes, every file accepted by nft, keepalived and sh" in done.stdout


def test_new_inventory_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(sample("web", "eth0"))
    assert cli("check", tmp_path / "new.yaml").returncode == 0


def test_check_writes_no_lock_and_no_file(inventory: Path) -> None:
    assert cli("check", inventory).returncode == 0
    assert list(inventory.parent.iterdir()) == [inventory]


# What is wrong is refused, and by the tool that can tell


@dataclass(frozen=True)
class OpenBundle(Bundle):
    """A bundle in which one file has got the wrong permissions."""

    wrong: str = ""

    def mode(self, name: str) -> int:
        """As a build that forgot to mind it."""
        return 0o777 if name == self.wrong else super().mode(name)


def sealed(bundle: Bundle, **changes: bytes | None) -> Bundle:
    """Change files (None: leave out) and make the manifest fit, as a faulty template would."""
    names = {name.replace("_", "."): content for name, content in changes.items()}
    content = {name: names.get(name, data) for name, data in bundle.files.items() if name != "MANIFEST"}
    kept = {name: data for name, data in content.items() if data is not None}
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in kept.items()]
    return replace(bundle, files={**kept, "MANIFEST": "".join(lines).encode()})


def edited(file: str, edit: Callable[[bytes], bytes]) -> Callable[[Bundle], Bundle]:
    def damage(bundle: Bundle) -> Bundle:
        changed = edit(bundle.files[file])
        assert changed != bundle.files[file]
        return sealed(bundle, **{file.replace(".", "_"): changed})

    return damage


LOOP = b"""
table netdev trscaler_golden {
    chain loop1 {
        goto loop2
    }
    chain loop2 {
        goto loop1
    }
    chain every_node {
        goto loop1
    }
}
"""

DAMAGE: dict[str, tuple[Callable[[Bundle], Bundle], set[tuple[str, str]]]] = {
    "nft syntax": (
        edited("ruleset.nft", lambda text: text.replace(b"priority -100", b"priorty -100")),
        {("ruleset.nft", "nft"), ("boot.nft", "nft")},
    ),
    "nft syntax of the boot ruleset alone": (
        edited("boot.nft", lambda text: text + b"add elmeent\n"),
        {("boot.nft", "nft")},
    ),
    "a rule that no netdev chain may hold": (
        edited("ruleset.nft", lambda text: text.replace(b"ether type != ip accept", b"ct state new accept")),
        {("ruleset.nft", "nft"), ("boot.nft", "nft")},
    ),
    "a loop, which `nft -c` does not see": (
        edited(
            "ruleset.nft", lambda text: text.replace(b"meta mark set 0 accept", b"meta mark set 0") + LOOP
        ),
        {("ruleset.nft", "nft"), ("boot.nft", "nft")},
    ),
    "keepalived keyword": (
        edited("keepalived.conf", lambda text: text.replace(b"advert_int", b"advert_itn")),
        {("keepalived.conf", "keepalived")},
    ),
    "keepalived value": (
        edited("keepalived.conf", lambda text: text.replace(b"virtual_router_id ", b"virtual_router_id 7")),
        {("keepalived.conf", "keepalived")},
    ),
    "keepalived.conf missing": (
        lambda bundle: sealed(bundle, keepalived_conf=None),
        {("keepalived.conf", "keepalived")},
    ),
    "keepalived.conf empty": (
        lambda bundle: sealed(bundle, keepalived_conf=b""),
        {("keepalived.conf", "keepalived")},
    ),
    "script missing": (
        lambda bundle: sealed(bundle, node_sh=None),
        {("keepalived.conf", "keepalived"), ("node.sh", "sh")},
    ),
    "script writable by others": (
        lambda bundle: OpenBundle(**vars(bundle), wrong="node.sh"),
        {("keepalived.conf", "keepalived")},
    ),
    "keepalived.conf executable, which `keepalived -t` skips and accepts": (
        lambda bundle: OpenBundle(**vars(bundle), wrong="keepalived.conf"),
        {("keepalived.conf", "keepalived")},
    ),
    "script syntax": (
        edited("node.sh", lambda text: text + b"if true; then\n"),
        {("node.sh", "sh")},
    ),
    "manifest": (
        lambda bundle: replace(bundle, files={**bundle.files, "boot.nft": bundle.files["boot.nft"] + b"\n"}),
        {("MANIFEST", "sha256sum")},
    ),
}


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_seen_by_the_tool_that_can_tell(inventory: Path, kind: str) -> None:
    damage, expected = DAMAGE[kind]
    compiled = compile_inventory(inventory)
    bundles = {**compiled.bundles, "beta": damage(compiled.bundles["beta"])}
    findings = check_bundles(bundles, {node: compiled.inventory.link_of(node) for node in bundles})
    assert {finding.node for finding in findings} == {"beta"}
    assert {(finding.file, finding.tool) for finding in findings} == expected
    assert all(finding.output.strip() for finding in findings)


def test_link_that_a_file_forgot_is_seen(inventory: Path) -> None:
    """The sandbox has the link that the inventory names and no other: keepalived misses it."""
    bundles = compile_inventory(inventory).bundles
    findings = check_bundles(bundles, dict.fromkeys(bundles, "eth5"))
    assert {finding.node for finding in findings} == NODES


def test_faulty_template_is_reported_with_the_tools_own_words(inventory: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("trscaler_gen", "templates"):
        shutil.copytree(ROOT / folder, tree / folder)
    assert cli("check", inventory, tree=tree).returncode == 0
    template = tree / "templates" / "keepalived.conf.j2"
    template.write_text(template.read_text().replace("advert_int", "advert_itn"))
    done = cli("check", inventory, tree=tree)
    assert done.returncode == 1
    assert "alpha/keepalived.conf: keepalived refuses it" in done.stderr
    assert "advert_itn" in done.stderr
    assert "and files of 2 more nodes: beta, gamma" in done.stderr
    assert "error: 3 generated files are refused" in done.stderr


# A check that cannot be made is no success


@pytest.mark.parametrize(
    ("tool", "package"), [("keepalived", "keepalived"), ("ip", "iproute2"), ("unshare", "util-linux")]
)
def test_missing_tool_is_named_with_its_package(inventory: Path, tool: str, package: str) -> None:
    path = shutil.which(tool)
    assert path
    hidden = f"mount --bind /dev/null {Path(path).resolve()}"
    refused_in_one_line(in_mount_namespace(hidden, "check", inventory), tool, f"apt-get install {package}")


def test_missing_libnftables_is_named_with_its_package(
    inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = compile_inventory(inventory).bundles
    monkeypatch.setitem(sys.modules, "nftables", None)
    with pytest.raises(OperationError) as caught:
        check_bundles(bundles, dict.fromkeys(bundles, "eth0"))
    assert "nftables" in caught.value.message and "python3-nftables" in caught.value.hint


def test_kernel_without_namespaces_is_no_success(inventory: Path) -> None:
    """A user namespace that may hold no network namespace: what a locked-down host or container says."""
    script = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    command = [sys.executable, "-m", "trscaler_gen", "check", str(inventory)]
    done = run(["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *command])
    refused_in_one_line(done, "the check could not be made", "namespaces")


def test_full_disk_is_no_success(inventory: Path, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    prepare = f"mount -t tmpfs -o size=16k none {tiny} && export TMPDIR={tiny}"
    refused_in_one_line(in_mount_namespace(prepare, "check", inventory), "cannot check in", "No space left")


# The host is left alone


def host_network() -> str:
    looks = (["ip", "-o", "link"], ["ip", "-o", "addr"], ["nft", "list", "ruleset"], ["ls", "-A", "/run"])
    return "\n".join(run(argv).stdout for argv in looks) + Path("/proc/self/mounts").read_text()


def processes_that_name(path: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # ended meanwhile
            found += [command] if str(path) in command else []
    return found


def test_the_host_is_left_as_it_was(inventory: Path, tmp_path: Path) -> None:
    """Namespaces live through processes and mounts alone: without any of ours left there is none."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = host_network()
    assert cli("check", inventory, TMPDIR=str(temporary)).returncode == 0
    assert host_network() == before
    assert list(temporary.iterdir()) == []
    assert processes_that_name(temporary) == []


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody can read: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="trscaler-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_ordinary_user_can_check(public_folder: Path, broken: bool) -> None:
    """The real thing as nobody; /mnt is the working tree, which may stand where only root can go."""
    shutil.copy(INVENTORY, public_folder)
    for folder in ("trscaler_gen", "templates"):
        shutil.copytree(ROOT / folder, public_folder / folder)
    template = public_folder / "templates" / "ruleset.nft.j2"
    if broken:
        template.write_text(template.read_text().replace("policy accept", "polcy accept"))
    script = (
        f"mount --bind {ROOT} /mnt && cd {public_folder} &&"
        " exec setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs"
        f" env HOME=/ PATH=/usr/bin:/bin PYTHONPATH={public_folder} PYTHONDONTWRITEBYTECODE=1 "
        f"/mnt/.venv/bin/python -m trscaler_gen check {public_folder}/cluster.yaml"
    )
    done = run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
    if broken:
        assert (done.returncode, "ruleset.nft: nft refuses it" in done.stderr) == (1, True)
    else:
        assert (done.returncode, done.stderr) == (0, "")


# build


def folders(output: Path) -> set[str]:
    return {path.name for path in output.iterdir()}


def contents(output: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_build_writes_the_nodes_and_a_secret_lock(inventory: Path, tmp_path: Path) -> None:
    done = cli("build", inventory, "-o", tmp_path / "deep" / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert folders(tmp_path / "deep" / "out") == NODES
    assert (tmp_path / "cluster.lock").stat().st_mode & 0o777 == 0o600


def test_build_removes_the_folders_of_nodes_that_left(inventory: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert cli("build", inventory, "-o", output).returncode == 0
    (output / "notes").mkdir()
    (output / "README").write_text("mine")
    other = tmp_path / "other.yaml"
    other.write_text(INVENTORY.read_text().replace("golden", "other").replace("alpha", "delta"))
    assert cli("build", other, "-o", tmp_path / "theirs").returncode == 0
    shutil.copytree(tmp_path / "theirs" / "delta", output / "delta")

    document = yaml.safe_load(inventory.read_text())
    del document["nodes"]["gamma"]
    inventory.write_text(yaml.safe_dump(document))
    done = cli("build", inventory, "-o", output)
    assert done.returncode == 0
    assert "removed the bundles of gamma" in done.stdout
    assert folders(output) == {"alpha", "beta", "delta", "notes", "README"}


def test_build_of_a_bad_inventory_writes_nothing(inventory: Path, tmp_path: Path) -> None:
    inventory.write_text(inventory.read_text().replace("weight: 2", "weigth: 2"))
    done = cli("build", inventory, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert 'cluster.yaml:10:32: error[unknown-key]: "weigth" is not a key of a node' in done.stderr
    assert list(tmp_path.iterdir()) == [inventory]


def a_file(place: Path) -> None:
    place.write_text("mine")


def a_folder_with_files(place: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("mine")


def a_manifest_of_somebody_else(place: Path) -> None:
    place.mkdir()
    (place / "MANIFEST").write_text("mine")


def a_link(place: Path) -> None:
    target = place.parent.parent / "elsewhere"
    target.mkdir()
    (target / "thesis.tex").write_text("mine")
    place.symlink_to(target)


@pytest.mark.parametrize(
    "put", [a_file, a_folder_with_files, a_manifest_of_somebody_else, a_link], ids=lambda put: put.__name__
)
def test_build_touches_no_strangers_files(
    inventory: Path, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    put(output / "beta")
    before = contents(tmp_path)
    refused_in_one_line(cli("build", inventory, "-o", output), "out/beta is no bundle of cluster golden")
    assert contents(tmp_path) == before
    assert folders(output) == {"beta"}


def test_build_refuses_the_bundles_of_another_cluster(inventory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(INVENTORY.read_text().replace("golden", "other"))
    assert cli("build", other, "-o", tmp_path / "out").returncode == 0
    before = contents(tmp_path)
    done = cli("build", inventory, "-o", tmp_path / "out")
    refused_in_one_line(done, "out/alpha is no bundle of cluster golden")
    assert contents(tmp_path) == before


def test_build_onto_a_full_disk_leaves_what_was_there(inventory: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    seen = tmp_path / "seen"
    build = f"{sys.executable} -m trscaler_gen build {inventory} -o {output}"
    prepare = (
        f"mount -t tmpfs -o size=420k none {output} && {build} && sha256sum {output}/*/* >{seen}.sums &&"
        f" ! {build} 2>{seen}.err && sha256sum --quiet -c {seen}.sums && find {output} -type f >{seen}"
    )
    done = run(["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left on device" in (tmp_path / "seen.err").read_text()
    assert len(seen.read_text().splitlines()) == len((tmp_path / "seen.sums").read_text().splitlines())


def test_first_build_onto_a_full_disk_leaves_nothing(inventory: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    done = in_mount_namespace(
        f"mount -t tmpfs -o size=64k none {output}", "build", inventory, "-o", output / "deep"
    )
    refused_in_one_line(done, "cannot write", "No space left on device")
    assert not (tmp_path / "cluster.lock").exists()


def test_build_into_a_place_that_cannot_be_written(inventory: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    read_only = f"mount --bind {output} {output} && mount -o remount,bind,ro {output}"
    done = in_mount_namespace(read_only, "build", inventory, "-o", output / "deep")
    refused_in_one_line(done, "cannot write", "Read-only file system")
    assert not (tmp_path / "cluster.lock").exists()
    (tmp_path / "file").write_text("mine")
    refused_in_one_line(cli("build", inventory, "-o", tmp_path / "file" / "out"), "cannot write", "Not a dir")


def test_lock_that_cannot_be_written_stops_the_build(inventory: Path, tmp_path: Path) -> None:
    """Bundles without their lock would be another cluster's at the next build."""
    home = tmp_path / "home"
    home.mkdir()
    moved = inventory.rename(home / "cluster.yaml")
    read_only = f"mount --bind {home} {home} && mount -o remount,bind,ro {home}"
    done = in_mount_namespace(read_only, "build", moved, "-o", tmp_path / "out")
    refused_in_one_line(done, "cannot write", "cluster.lock")
    assert not (tmp_path / "out").exists()


def build_here(monkeypatch: pytest.MonkeyPatch, inventory: Path, output: Path) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["trscaler-gen", "build", str(inventory), "-o", str(output)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_ctrl_c_while_files_are_written_leaves_nothing(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = files.write_bundle

    def interrupted(folder: Path, bundle: Bundle) -> None:
        written(folder, bundle)
        if bundle.node == "beta":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(files, "write_bundle", interrupted)
    assert build_here(monkeypatch, inventory, tmp_path / "out") == 130
    assert capsys.readouterr().err.strip() == "interrupted"
    assert list(tmp_path.iterdir()) == [inventory]


def test_ctrl_c_between_two_renames_waits_for_the_last(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = files.StagedBundles._replace

    def interrupted(staged: files.StagedBundles, name: str) -> None:
        replaced(staged, name)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(files.StagedBundles, "_replace", interrupted)
    assert build_here(monkeypatch, inventory, tmp_path / "out") == 130
    assert folders(tmp_path / "out") == NODES
