"""The query language, as far as registries are asked in practice: ``SELECT * FROM devices [WHERE a = 'b' AND ...]``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from devstack.emulator.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_QUERY = re.compile(r"\s*select\s+\*\s+from\s+devices\s*(?:where\s+(?P<where>.+?))?\s*;?\s*", re.IGNORECASE | re.DOTALL)
_CONDITION = re.compile(
    r"\s*(?P<path>[A-Za-z0-9_.]+)\s*(?P<operator>=|!=|<>)\s*(?P<value>'[^']*'|-?[0-9.]+|true|false)\s*"
)


def predicate(query: str) -> Callable[[Mapping[str, Any]], bool]:
    """Read a query, and give a test for twins.

    Raises:
        HubError: 400, it is none of those offered.
    """
    match = _QUERY.fullmatch(query)
    if match is None:
        raise errors.bad_argument(f"The query {query!r} is not understood; see the emulator's README for what is.")
    if match["where"] is None:
        return lambda _: True
    conditions = [_condition(part) for part in re.split(r"\band\b", match["where"], flags=re.IGNORECASE)]
    return lambda twin: all(condition(twin) for condition in conditions)


def _condition(text: str) -> Callable[[Mapping[str, Any]], bool]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise errors.bad_argument(f"The condition {text!r} is not understood; offered: path = value, joined by AND.")
    path, wanted, equal = match["path"].split("."), _literal(match["value"]), match["operator"] == "="
    return lambda twin: (_at(twin, path) == wanted) is equal


def _literal(text: str) -> Any:
    if text.startswith("'"):
        return text[1:-1]
    return {"true": True, "false": False}.get(text) if text in {"true", "false"} else float(text)


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value
