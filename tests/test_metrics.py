"""Metrics: what is written where, and that alerts and dashboard are of what nodes tell.

That nodes tell it is shown by tests/e2e/test_metrics.py, on a cluster.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from exposition import documented, names_in

from trscaler_gen.inventory.load import parse_inventory
from trscaler_gen.lock import reconcile
from trscaler_gen.nodeplan import plan_nodes
from trscaler_gen.render import render_node

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "metrics.md"
ALERTS = ROOT / "docs" / "metrics" / "alerts.yaml"
ALERT_TESTS = ROOT / "tests" / "metrics" / "alerts.test.yaml"
DASHBOARD = ROOT / "docs" / "metrics" / "dashboard.json"
INVENTORY = ROOT / "tests" / "golden" / "cluster.yaml"
FOLDER = "/srv/node-exporter"
UNIT = "trscaler-gen-golden"


def bundle(**keys: object) -> dict[str, str]:
    """The files of the first golden node, with these keys in its inventory."""
    document = {**yaml.safe_load(INVENTORY.read_text()), **keys}
    inventory = parse_inventory(yaml.safe_dump(document).encode(), "cluster.yaml")
    plan = plan_nodes(inventory, reconcile(inventory, None, seed=1))[0]
    return {name: content.decode() for name, content in render_node(plan).items()}


def promtool(*argv: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *argv], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


# What is written where


def test_off_by_default() -> None:
    files = bundle()
    assert "\nMETRICS=''\n" in files["node.sh"]
    assert "ExecStopPost" not in files[f"{UNIT}-watch.service"]


def test_the_key_reaches_the_script_and_the_unit_that_writes() -> None:
    """And nothing else: rules, heartbeats and the other units are as without it."""
    without = bundle()
    files = bundle(metrics={"textfile_directory": FOLDER, "interval_s": 30})
    assert {name for name in files if files[name] != without[name]} == {"node.sh", f"{UNIT}-watch.service"}
    assert f"\nMETRICS='{FOLDER} 30'\n" in files["node.sh"]
    unit = files[f"{UNIT}-watch.service"]
    assert f"\nReadWritePaths=-{FOLDER}\n" in unit
    assert f"\nExecStopPost=-/bin/rm -f {FOLDER}/{UNIT}.prom\n" in unit


def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    path = tmp_path / "node.sh"
    path.write_text(bundle(metrics={"textfile_directory": FOLDER})["node.sh"])
    done = subprocess.run(["shellcheck", "-s", "sh", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# Alerts


def test_promtool_takes_the_alerts() -> None:
    done = promtool("check", "rules", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_come_when_they_should() -> None:
    done = promtool("test", "rules", str(ALERT_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_an_alert_that_never_comes_is_seen(tmp_path: Path, alert: str) -> None:
    document = yaml.safe_load(ALERTS.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(0) > 1" if rule["alert"] == alert else rule["expr"]
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(document))
    tests = ALERT_TESTS.read_text().replace("../../docs/metrics/", "")
    (tmp_path / "alerts.test.yaml").write_text(tests)
    done = promtool("test", "rules", "alerts.test.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert alert in done.stdout + done.stderr


def test_every_alert_is_on_the_page() -> None:
    told = re.findall(r"^\| `(Trscaler\w+)` \|", PAGE.read_text(), re.M)
    assert told == [rule["alert"] for rule in rules()]


def test_alerts_are_of_what_is_told() -> None:
    used = set().union(*(names_in(rule["expr"]) for rule in rules()))
    assert used <= set(documented(PAGE.read_text()))


# The dashboard


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_metric_is_on_the_dashboard_and_no_other(dashboard: dict[str, Any]) -> None:
    used = set().union(*(names_in(query) for query in queries(dashboard)))
    assert used == set(documented(PAGE.read_text()))


def test_prometheus_understands_the_queries(tmp_path: Path, dashboard: dict[str, Any]) -> None:
    given = {"$cluster": "web", "$__rate_interval": "1m"}
    exprs = [re.sub("|".join(map(re.escape, given)), lambda m: given[m[0]], q) for q in queries(dashboard)]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_are_whole_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] >= 39
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel.keys() >= {"type", "title", "description", "datasource", "fieldConfig", "options"}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
    for one, other in itertools.combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_it_is_for_any_data_source(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    text = json.dumps(dashboard)
    used = {a or b for a, b in re.findall(r"\$(?:\{([a-z]+)\}|([a-z]+)\b)", text)}
    assert variables == used == {"datasource", "cluster"}
    sources = [panel["datasource"]["uid"] for panel in dashboard["panels"]]
    assert set(sources) == {"${datasource}"}
