"""docs/operate.md has a runbook for each alert, whose queries and names are those of the app."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from shared.log_lines import ABOUT
from shared.telemetry.metrics import METRICS
from tests.infra.bicep import INFRA
from tests.sources import sources

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "operate.md").read_text(encoding="utf-8")
ALERTS = [each["name"] for each in json.loads((INFRA / "alerts.json").read_text(encoding="utf-8"))]
BY_NAME = {each.name: each for each in METRICS}
QUERIES = re.findall(r"^```kusto\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
RUNBOOKS = {
    each.partition("\n")[0]: each
    for each in PAGE.partition("\n## Alerts\n")[2].partition("\n## ")[0].split("\n### ")[1:]
}
SOURCES = "\n".join(sources("shared", "triggers").values())
COLUMNS = {
    # "Azure Monitor Logs reference", table AppMetrics
    "AppMetrics": {"AppRoleName", "ItemCount", "Max", "Min", "Name", "Properties", "Sum", "TimeGenerated"},
    # the same, table AppTraces
    "AppTraces": {"AppRoleName", "Message", "OperationId", "Properties", "SeverityLevel", "TimeGenerated"},
}


def test_each_alert_leads_to_a_runbook_of_its_name() -> None:
    """In the order of alerts.json, and no runbook is without an alert. The metrics' test holds the alerts' links."""
    assert list(RUNBOOKS) == ALERTS


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_says_what_it_means_how_to_look_what_to_do_and_when_it_is_over(name: str) -> None:
    """In this order; one looks by a call, and by a query where one look does not tell since when."""
    found = [RUNBOOKS[name].find(f"**{each}") for each in ("Meaning", "Look", "Do", "Over")]
    assert -1 not in found
    assert found == sorted(found)
    look = RUNBOOKS[name][found[1] : found[2]]
    assert "```kusto\n" in look
    assert re.search(r"^(api|curl) ", look, re.MULTILINE)


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_asks_for_what_the_app_emits(query: str) -> None:
    """Metrics with attributes that each of them has; words that the app logs; columns that the table has."""
    table = query.partition("\n")[0]
    attributes = set(re.findall(r"Properties\['([\w.]+)'\]", query))
    metrics = set(re.findall(r"'((?:device_factory|messaging|http)\.[\w.]+)'", query)) - attributes
    if table == "AppMetrics":
        assert metrics
        assert metrics <= set(BY_NAME)
        assert all(attributes <= set(BY_NAME[each].attributes) for each in metrics)
    else:
        assert not metrics
        assert attributes <= set(ABOUT)
    assert all(each in SOURCES for each in re.findall(r"has '(.+?)'", query))
    assert set(re.findall(r"\b[A-Z]\w+\b", re.sub(r"'[^']*'", "", query))) <= COLUMNS[table] | {table}


def test_what_a_query_compares_an_attribute_with_is_what_the_app_gives_it() -> None:
    compared = set(re.findall(r"Properties\['(device_factory[\w.]+)'\] == '(\w+)'", PAGE))
    assert compared == {
        ("device_factory.sweep", "crl_publication"),
        ("device_factory.kind", "rejected"),
        ("device_factory.kind", "rogueCertificate"),
    }
    assert "async def crl_publication(" in SOURCES
    assert 'REJECTED = "rejected"' in SOURCES
    assert 'ROGUE_CERTIFICATE = "rogueCertificate"' in SOURCES


def test_timers_that_the_page_names_are_timers_of_the_app() -> None:
    timers = (REPOSITORY / "triggers" / "timers.py").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(\w+_(?:sweep|publication|upkeep|deletion))\b", PAGE))
    assert named == {"crl_publication", "convergence_sweep"}
    assert all(f"async def {each}(" in timers for each in named)
