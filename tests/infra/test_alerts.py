"""Alert rules and the workbook ask for names that the app emits, in the way that the workspace keeps them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared.telemetry.metrics import METRICS
from tests.infra.bicep import INFRA, field, literal, module, text

BY_NAME = {each.name: each for each in METRICS}
ALERTS: list[dict[str, Any]] = json.loads((INFRA / "alerts.json").read_text(encoding="utf-8"))
WORKBOOK: dict[str, Any] = json.loads((INFRA / "workbook.json").read_text(encoding="utf-8"))
QUERIES = {item["name"]: item["content"]["query"] for item in WORKBOOK["items"] if item["type"] == 3}
RULES = module("alerts")

COLUMNS = {
    # "Azure Monitor Logs reference", table AppMetrics
    *("TimeGenerated", "Name", "Sum", "Min", "Max", "ItemCount", "Properties"),
}


def criterion() -> Any:
    return field(RULES.resource("alerts"), "properties", "criteria", "allOf").named_children[0]


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_of_the_workbook_asks_for_metrics_and_attributes_that_the_app_has(name: str) -> None:
    query = QUERIES[name]
    metrics = set(re.findall(r"'((?:device_factory|messaging|http)\.[\w.]+)'", query))
    attributes = set(re.findall(r"Properties\['([\w.]+)'\]", query))
    used = metrics - attributes
    assert used
    assert used <= set(BY_NAME)
    for metric in used:
        assert attributes <= set(BY_NAME[metric].attributes), metric
    assert query.startswith("AppMetrics\n| where Name ")
    assert set(re.findall(r"\b[A-Z]\w+\b", re.sub(r"'[^']*'|\{[^}]*\}", "", query))) <= COLUMNS | {"AppMetrics"}


def test_the_workbook_shows_something_of_each_subject() -> None:
    assert set(QUERIES) == {
        *("devices", "registration", "queues", "signatures", "authorities", "trouble", "quota", "unsettled"),
    }


def test_a_rule_is_made_of_each_alert_with_its_own_values() -> None:
    """The test of the metrics holds alerts.json to the metrics; here Bicep is held to alerts.json."""
    rule = RULES.resource("alerts")
    assert text(RULES.variables["rules"]) == "any(loadJsonContent('../alerts.json'))"
    assert text(field(rule, "properties", "severity")) == "rule.severity"
    assert text(field(rule, "properties", "windowSize")) == "'PT${rule.windowMinutes}M'"
    assert text(field(rule, "properties", "evaluationFrequency")) == "'PT${rule.frequencyMinutes}M'"
    assert text(field(criterion(), "operator")) == "rule.operator"
    assert text(field(criterion(), "threshold")) == "rule.threshold"


def test_a_rule_measures_as_its_alert_says() -> None:
    """What a query sums, takes the most or the least of, Azure Monitor does again over the window."""
    assert literal(field(criterion(), "metricMeasureColumn")) == "measured"
    assert "summarize measured = ${measures[rule.aggregation]}" in text(field(criterion(), "query"))
    measures = {key: literal(field(RULES.variables["measures"], key)) for key in ("total", "maximum", "minimum")}
    again = {key: literal(field(RULES.variables["aggregations"], key)) for key in measures}
    assert measures == {"total": "sum(Sum)", "maximum": "max(coalesce(Max, Sum))", "minimum": "min(coalesce(Min, Sum))"}
    assert again == {"total": "Total", "maximum": "Maximum", "minimum": "Minimum"}
    assert {alert["aggregation"] for alert in ALERTS} <= set(measures)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["name"])
def test_azure_takes_the_window_and_the_frequency_of_an_alert(alert: dict[str, Any]) -> None:
    """In minutes; a frequency is not longer than its window. Source: azure/azure-monitor/alerts, log search alert rules."""
    assert alert["windowMinutes"] in {5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440, 2880}
    assert alert["frequencyMinutes"] in {5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440}
    assert alert["frequencyMinutes"] <= alert["windowMinutes"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["name"])
def test_what_a_rule_is_split_by_is_a_column_name_in_kusto(alert: dict[str, Any]) -> None:
    """Dots become underscores in the query, and in the dimensions likewise."""
    for attribute in alert["splitBy"]:
        assert re.fullmatch(r"[a-z_]+", attribute.replace(".", "_"))
    replaced = "replace(attribute, '.', '_')"
    assert text(field(criterion(), "query")).count(replaced) == 2
    assert replaced in text(field(criterion(), "dimensions"))
