"""The metrics that the app declares, the page that shows them, and the alerts that use them."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from devstack.telemetry_page import PAGE, with_table
from shared.telemetry.metrics import METRICS, QUEUE_AGE, Kind, Metric, received
from tests.measured import ALERTS, Kept
from tests.sources import sources

BY_NAME = {each.name: each for each in METRICS}
UCUM = {"s", "d"}


def test_a_value_reaches_the_receiver_while_there_is_one_and_nobody_afterwards() -> None:
    kept = Kept()
    with received(kept):
        QUEUE_AGE.record(7, {"messaging.destination.name": "device-orders"})
    QUEUE_AGE.record(8, {"messaging.destination.name": "device-orders"})
    assert kept.values == [("device_factory.queue.age", 7, {"messaging.destination.name": "device-orders"})]


def test_the_page_has_the_table_that_the_metrics_make() -> None:
    """Who changes a metric runs `make docs`."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page)
    assert "| `device_factory.queue.age` | gauge | `s` |" in page


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_and_measured_as_the_conventions_say(metric: Metric) -> None:
    """OpenTelemetry, "How to name your metrics": lower case, dots between namespaces, a unit in UCUM.

    A count has an annotation as its unit.
    """
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", metric.name)
    assert metric.unit in UCUM or re.fullmatch(r"\{[a-z]+\}", metric.unit)
    assert metric.description.endswith(".")
    assert bool(metric.bounds) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.bounds) == sorted(set(metric.bounds))


def test_no_metric_has_a_name_twice() -> None:
    assert len(BY_NAME) == len(METRICS) > 20


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_no_metric_is_divided_by_what_has_many_values(metric: Metric) -> None:
    for name in metric.attributes:
        assert not re.search(r"device.?id|registration.?id|order.?id|request.?id|serial|thumbprint|\bpath\b|url", name)


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS.keys())
def test_an_alert_uses_a_metric_and_attributes_that_the_app_has(alert: dict[str, Any]) -> None:
    metric = BY_NAME[alert["metric"]]
    assert {*alert["splitBy"], *alert.get("dimensions", {})} <= set(metric.attributes)
    wanted = {"total": {Kind.COUNTER}, "maximum": {Kind.GAUGE, Kind.HISTOGRAM}, "minimum": {Kind.GAUGE}}
    assert metric.kind in wanted[alert["aggregation"]]
    assert alert["operator"] in {"GreaterThan", "GreaterThanOrEqual", "LessThan"}
    assert 0 <= alert["severity"] <= 4
    assert alert["runbook"] == f"docs/operate.md#{alert['name']}"


def test_there_is_an_alert_for_each_condition_that_an_operator_must_know() -> None:
    assert set(ALERTS) == {
        "ca-near-its-end",
        "crl-older-than-planned",
        "poison-messages",
        "rejections-growing",
        "role-missing",
        "dps-quota-at-80-percent",
        "registration-longer-than-an-hour",
        "revocation-not-closed",
        "rogue-certificate",
        "drift-found",
        "pass-incomplete",
        "approval-waits",
    }


def test_every_client_of_azure_tells_of_its_calls() -> None:
    """Each is given a transport that does; azure-iot-hub, which takes none, is given a hook."""
    made: dict[str, bool] = {}
    adapters = sources("shared/adapters")
    for source in adapters.values():
        for each in ast.walk(ast.parse(source)):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id.endswith("Client"):
                made[each.func.id] = any(keyword.arg == "transport" for keyword in each.keywords)
    assert len(made) >= 9
    assert [name for name, told in made.items() if not told] == []
    assert "hooks.append(telling(" in adapters["shared/adapters/iot_hub.py"]
