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
        value = json.loads(characters, parse_constant=_no_number, parse_int=_whole, parse_float=_finite)
    except Rejected as rejection:
        raise ValueError(str(rejection)) from None
    except RecursionError:
        raise _too_deep() from None
    # What is in every message is short ASCII: most texts can't have what is looked for below.
    if characters.count("[") + characters.count("{") > LEVEL_LIMIT:
        _check_depth(value)
    if "\\u" in characters or not characters.isascii():
        for part in _texts(value):
            if not part.isascii() and _SURROGATE.search(part):
                raise ValueError(
                    f"{part[:64]!r} has half of a surrogate pair, which is not text (RFC 8259 section 8.2)"
                )
    return value


def _check_depth(value: Any) -> None:
    level = _containers([value])
    for _ in range(LEVEL_LIMIT):
        if not level:
            return
        level = _containers(below for each in level for below in each)
    if level:
        raise _too_deep()


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON (RFC 8259 section 6)")


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {_DIGITS} are read")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError("a number is larger than 1.8e308, which no receiver can count on (RFC 8259 section 6)")
    return number


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
    return ValueError(f"more than {LEVEL_LIMIT} arrays and objects are nested; at most {LEVEL_LIMIT} are read")
