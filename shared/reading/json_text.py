"""JSON of strangers: read as ``json`` does, but never deeper than this service, or a service it talks to, can write."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any

from shared.errors import Rejected
from shared.reading.text import text_of, without_mark

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_SURROGATE = re.compile(r"[\ud800-\udfff]")
LEVEL_LIMIT = 64
"""Arrays and objects within each other; a device twin has 10 (Microsoft: "Understand and use device twins")."""

_DIGITS = 400
"""Of a whole number; the largest of a double has 309."""


def read_json(text: str | bytes) -> Any:
    """Read a JSON text; octets as :func:`shared.reading.text.text_of` does.

    Raises:
        ValueError: it is not valid or too deep, or has a text or a number that JSON can't hold; says where, or what
            would be right.
    """
    try:
        characters = without_mark(text) if isinstance(text, str) else text_of(text)
        value = json.loads(characters, parse_constant=_no_number, parse_int=_whole)
    except Rejected as rejection:
        raise ValueError(str(rejection)) from None
    except RecursionError:
        raise _too_deep() from None
    level = _containers([value])
    for _ in range(LEVEL_LIMIT):
        if not level:
            break
        level = _containers(below for each in level for below in each)
    if level:
        raise _too_deep()
    for part in _leaves(value):
        if isinstance(part, float) and not isfinite(part):
            raise ValueError("a number is larger than 1.8e308, which no receiver can count on (RFC 8259 section 6)")
        if isinstance(part, str) and not part.isascii() and _SURROGATE.search(part):
            raise ValueError(f"{part[:64]!r} has half of a surrogate pair, which is not text (RFC 8259 section 8.2)")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON (RFC 8259 section 6)")


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {_DIGITS} are read")
    return int(digits)


def _containers(values: Iterable[Any]) -> list[Collection[Any]]:
    """Give what the arrays and objects among some values hold."""
    return [each.values() if isinstance(each, dict) else each for each in values if isinstance(each, dict | list)]


def _leaves(value: Any) -> Iterator[str | float]:
    """Give every text and fraction of a value that is not too deep, keys included."""
    if isinstance(value, str | float):
        yield value
    for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _leaves(part)


def _too_deep() -> ValueError:
    return ValueError(f"more than {LEVEL_LIMIT} arrays and objects are nested; at most {LEVEL_LIMIT} are read")
