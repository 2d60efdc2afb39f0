"""The dashboard asks for what the service exposes, and shows all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import promql
from tests.deploy.conftest import DEPLOY, Exposed, needs_promtool, promtool
from tests.deploy.test_rules import RUNBOOK, check

BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "facet.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}


def expression(target: dict[str, Any]) -> str:
    """As Grafana sends it."""
    text = target["expr"]
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text
    return text


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title} {t['refId']}" for title, t in TARGETS])
def test_a_panel_asks_for_what_the_service_exposes(title: str, target: dict[str, Any], exposed: Exposed):
    labels = check(expression(target), exposed)
    if list(promql.selectors(target["expr"])):
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


def test_every_metric_is_shown(exposed: Exposed):
    shown = " ".join(target["expr"] for _, target in TARGETS) + BOARD["templating"]["list"][1]["definition"]
    missing = {
        name for name in exposed.labels if not name.endswith(("_bucket", "_sum", "_count")) and name not in shown
    }
    histograms = {name.removesuffix("_bucket") for name in exposed.labels if name.endswith("_bucket")}
    assert missing == set()
    assert {name for name in histograms if f"{name}_bucket" not in shown} == set()


@needs_promtool
def test_prometheus_accepts_every_expression(tmp_path: Path):
    rules = [{"record": f"panel:{index}", "expr": expression(target)} for index, (_, target) in enumerate(TARGETS)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", path)


def test_panels_have_a_title_a_description_and_a_unit():
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_the_operators_manual_sends_nobody_to_a_panel_that_is_not_there():
    runbooks = RUNBOOK.partition("\n## Alerts\n")[2].partition("\n## ")[0].replace("\n", " ")
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", runbooks))
    assert named
    titles = [panel["title"] for panel in PANELS] + [each["label"] for each in BOARD["templating"]["list"]]
    assert {name for name in named if not any(title.startswith(name) for title in titles)} == set()


def test_panels_do_not_overlap():
    taken = [
        (column, line)
        for panel in BOARD["panels"]
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(column for column, _ in taken) == 23
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_every_query_goes_to_the_source_that_is_chosen():
    assert BOARD["templating"]["list"][0]["type"] == "datasource"
    for panel in PANELS:
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
