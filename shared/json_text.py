"""JSON of strangers: read as ``json`` does, but never deeper than this service, or a service it talks to, can write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LEVEL_LIMIT = 64
"""Arrays and objects within each other; a device twin has 10 (Microsoft: "Understand and use device twins")."""


def read_json(text: str | bytes) -> Any:
    """Read a JSON text.

    Raises:
        ValueError: it is none, or too deep; says where, or how deep would be right.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level = _containers([value])
    for _ in range(LEVEL_LIMIT):
        if not level:
            return value
        level = _containers(below for each in level for below in each)
    if level:
        raise _too_deep()
    return value


def _containers(values: Iterable[Any]) -> list[Collection[Any]]:
    """Give what the arrays and objects among some values hold."""
    return [each.values() if isinstance(each, dict) else each for each in values if isinstance(each, dict | list)]


def _too_deep() -> ValueError:
    return ValueError(f"more than {LEVEL_LIMIT} arrays and objects stand within each other; fewer are read")
