"""The rules ask for what the service exposes, do what their tests say, and each alert has a section to read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import promql
from tests.deploy.conftest import DEPLOY, ROOT, Exposed, needs_promtool, promtool
from tests.markdown import fragments

RULES = DEPLOY / "prometheus" / "facet.rules.yml"
TESTS = DEPLOY / "prometheus" / "facet.tests.yml"
CONFIGURATION = DEPLOY / "prometheus" / "prometheus.yml"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules(kind: str) -> list[dict[str, Any]]:
    """Those that have the key `kind`: "alert" or "record"."""
    return [rule for group in load(RULES)["groups"] for rule in group["rules"] if kind in rule]


def recorded() -> dict[str, set[str]]:
    """The series that the rules record, with their labels."""
    found: dict[str, set[str]] = {}
    for rule in rules("record"):
        labels = promql.groupings(rule["expr"]) - {"le"} | set(rule.get("labels", {}))
        found.setdefault(rule["record"], set()).update(labels)
    return found


def check(expression: str, exposed: Exposed) -> set[str]:
    """The labels that an expression can give; fails where it asks for what is not there."""
    known = exposed.labels | recorded()
    offered: set[str] = set()
    for selector in promql.selectors(expression):
        assert selector.name in known, f"{selector.name} in: {expression}"
        offered |= known[selector.name]
        for label, operator, value in selector.matchers:
            assert label in known[selector.name], f"{selector.name}{{{label}}} in: {expression}"
            for word in promql.alternatives(operator, value) if label in exposed.values else []:
                assert word in exposed.values[label], f"{label}={word} in: {expression}"
    grouped = promql.groupings(expression)
    if offered:
        assert grouped <= offered, f"{grouped - offered} in: {expression}"
    return grouped or offered


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


@pytest.mark.parametrize(
    "rule", rules("record") + rules("alert"), ids=lambda rule: rule.get("record", rule.get("alert"))
)
def test_a_rule_asks_for_what_the_service_exposes(rule: dict[str, Any], exposed: Exposed):
    labels = check(rule["expr"], exposed) | set(rule.get("labels", {}))
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule.get("annotations", {}).values())))
    if list(promql.selectors(rule["expr"])):
        assert told <= labels


@pytest.mark.parametrize(
    "expression",
    [
        "rate(facet_request_total[5m])",
        'facet_requests_total{status="500"}',
        'facet_model_reloads_total{result="fail"}',
        'facet_request_duration_seconds_bucket{le="2"}',
        'facet_requests_total{endpoint=~"/v1/(edit|retouch)"}',
        "sum by (endpoint) (rate(facet_batches_total[5m]))",
    ],
)
def test_the_check_would_notice(expression: str, exposed: Exposed):
    with pytest.raises(AssertionError):
        check(expression, exposed)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_runbook_that_exists(name: str):
    path, _, fragment = ALERTS[name]["annotations"]["runbook"].partition("#")
    assert path == "docs/runbook.md"
    assert fragment in fragments(RUNBOOK)
    section = RUNBOOK.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    for word in ("**Means**", "**Look at**", "**Do**"):
        assert word in section


def test_a_section_belongs_to_an_alert():
    assert set(re.findall(r"^### (Facet\w+)$", RUNBOOK, flags=re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is(name: str):
    assert ALERTS[name]["labels"]["severity"] in ("page", "ticket")
    assert ALERTS[name]["annotations"]["summary"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_shown_to_fire_and_to_be_silent(name: str):
    expected = [case for test in load(TESTS)["tests"] for case in test["alert_rule_test"] if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in expected)
    assert not all(case["exp_alerts"] for case in expected)


@needs_promtool
@pytest.mark.slow
def test_the_rules_do_what_their_tests_say():
    promtool("test", "rules", TESTS)


@needs_promtool
def test_prometheus_accepts_configuration_and_rules():
    promtool("check", "config", CONFIGURATION)  # reads the rules too
    assert load(CONFIGURATION)["rule_files"] == [RULES.name]
