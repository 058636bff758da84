"""What a node found set on its link before a cluster changed it, and keeps to put it back."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from nodescript import functions
from verify.world import cluster

NAME, MISSING = "ipv4/conf/lo/arp_announce", "ipv4/conf/gone0/arp_announce"
OURS, THEIRS = f"{NAME} 0", f"{NAME} 1"


def saved(folder: Path, before: Mapping[str, str], words: str = "save_link_settings") -> list[str]:
    """The lines that a node writes down where clusters, ``us`` and others, have these: the kernel has 2."""
    for name, text in before.items():
        (folder / name).mkdir()
        (folder / name / "settings-before").write_text(text)
    (folder / "us").mkdir(exist_ok=True)
    (folder / "node.sh").write_bytes(cluster(folder).bundles["n1"].files["node.sh"])
    script = f"""
        set -eu
        RUN={folder}/us
        {functions(folder / "node.sh", ("find_others", "save_link_settings"))}
        link_settings() {{ echo "{NAME} 2" && echo "{MISSING} 2"; }}
        echo 2 >/proc/sys/net/{NAME}
        {words}"""
    argv = ["unshare", "--net", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / "us" / "settings-before").read_text().splitlines()


KERNEL = f"{NAME} 2"


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ({}, [KERNEL]),
        ({"us": f"{OURS}\n"}, [OURS]),
        ({"us": "ipv4/conf/old0/arp_ignore 1\n"}, ["ipv4/conf/old0/arp_ignore 1", KERNEL]),
        ({"they": f"{THEIRS}\n"}, [THEIRS]),
        ({"they": f"{THEIRS}\n", "zeta": f"{NAME} 7\n"}, [THEIRS]),
        ({"us": f"{OURS}\n", "they": f"{THEIRS}\n"}, [OURS]),
        ({"they": f"{NAME} \n"}, [KERNEL]),
    ],
    ids=["nothing", "ours", "fewer", "theirs", "two others", "both", "no value"],
)
def test_what_was_there_before_any_cluster_is_kept(
    tmp_path: Path, before: Mapping[str, str], wanted: list[str]
) -> None:
    assert saved(tmp_path, before) == wanted


def test_another_cluster_goes_meanwhile(tmp_path: Path) -> None:
    gone = "find_others() { OTHERS=/nowhere/settings-before; }\n        save_link_settings"
    assert saved(tmp_path, {}, gone) == [KERNEL]


def test_twice_is_once(tmp_path: Path) -> None:
    assert saved(tmp_path, {}, f"save_link_settings; echo 0 >/proc/sys/net/{NAME}; save_link_settings") == [
        KERNEL
    ]
