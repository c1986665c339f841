"""JSON of strangers: read as ``json`` does, but never deeper than this service, or a service it talks to, can write."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_SURROGATE = re.compile(r"[\ud800-\udfff]")
LEVEL_LIMIT = 64
"""Arrays and objects within each other; a device twin has 10 (Microsoft: "Understand and use device twins")."""


def read_json(text: str | bytes) -> Any:
    """Read a JSON text.

    Raises:
        ValueError: it is none, too deep, or holds what is no text; says where, or what would be right.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level = _containers([value])
    for _ in range(LEVEL_LIMIT):
        if not level:
            break
        level = _containers(below for each in level for below in each)
    if level:
        raise _too_deep()
    for part in _texts(value):
        if not part.isascii() and _SURROGATE.search(part):
            raise ValueError(f"{part[:64]!r} has half of a surrogate pair, which is no text (RFC 8259 section 8.2)")
    return value


def _containers(values: Iterable[Any]) -> list[Collection[Any]]:
    """Give what the arrays and objects among some values hold."""
    return [each.values() if isinstance(each, dict) else each for each in values if isinstance(each, dict | list)]


def _texts(value: Any) -> Iterator[str]:
    """Give every text of a value that is not too deep, keys included."""
    if isinstance(value, str):
        yield value
    for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)


def _too_deep() -> ValueError:
    return ValueError(f"more than {LEVEL_LIMIT} arrays and objects stand within each other; fewer are read")
