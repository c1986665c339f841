"""Metrics as tests receive them, and alert rules as Azure Monitor would evaluate them."""

from __future__ import annotations

import json
import operator
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.telemetry.metrics import Metric, Value

ALERTS: dict[str, dict[str, Any]] = {
    alert["name"]: alert
    for alert in json.loads((Path(__file__).parents[1] / "infra" / "alerts.json").read_text(encoding="utf-8"))
}
"""The alert rules that are deployed."""

_MEASURES: Mapping[str, Callable[[list[float]], float]] = {"total": sum, "maximum": max, "minimum": min}
_CROSSES: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
    "LessThan": operator.lt,
}


@dataclass
class Kept:
    """Receives metrics, and refuses an attribute that one does not declare."""

    values: list[tuple[str, float, dict[str, Value]]] = field(default_factory=list)

    def record(self, metric: Metric, value: float, attributes: Mapping[str, Value]) -> None:
        assert set(attributes) <= set(metric.attributes), f"{metric.name} does not declare {set(attributes)}"
        self.values.append((metric.name, value, dict(attributes)))

    def of(self, metric: Metric) -> list[float]:
        """What was recorded of a metric, in its order."""
        return [value for name, value, _ in self.values if name == metric.name]


def fires(name: str, kept: Kept) -> bool:
    """Tell whether an alert rule fires on what was kept, all of it within its window."""
    alert = ALERTS[name]
    wanted = alert.get("dimensions", {})
    groups = defaultdict[tuple[Any, ...], list[float]](list)
    for metric, value, attributes in kept.values:
        if metric == alert["metric"] and all(attributes.get(key) in values for key, values in wanted.items()):
            groups[tuple(attributes.get(key) for key in alert["splitBy"])].append(value)
    measure, crosses = _MEASURES[alert["aggregation"]], _CROSSES[alert["operator"]]
    return any(crosses(measure(values), alert["threshold"]) for values in groups.values())
