"""What IoT Hub takes in a twin (Microsoft: "Understand and use device twins in IoT Hub", "Tags and properties format").

DPS stores an initial twin as it is; the hub refuses it when a device registers, and with it the device.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TAGS_LIMIT = 8 * 1024
"""Size of a twin's tags; counted as :func:`twin_fault` does."""

DESIRED_LIMIT = 32 * 1024
"""Size of a twin's desired properties."""

_DEPTH = 10
_NAME_BYTES = 1024
_TEXT_BYTES = 4 * 1024
_LARGEST = 4503599627370495
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
_FORBIDDEN = _CONTROLS | frozenset(".$ ")


def twin_fault(content: Mapping[str, Any], limit: int) -> str | None:
    """Find what a hub would not take in tags or desired properties.

    Args:
        content: the tags, or the desired properties.
        limit: how large they may be: names and texts count by their characters, control characters left out, numbers 8,
            booleans 4.

    Returns:
        What is wrong, where, and what would be right; ``None`` if nothing is.
    """
    size = 0
    for place, name, depth, value in _parts(content):
        fault = _name_fault(name) or _value_fault(value, depth)
        if fault is not None:
            return f"{place[:200]!r} {fault}"
        size += _length(name) + _size(value)
    return f"its size is {size}; at most {limit} is taken" if size > limit else None


def _parts(content: Mapping[str, Any]) -> Iterator[tuple[str, str | None, int, Any]]:
    """Give each value with its place, its name and its depth; what is too deep is given and not entered."""
    waiting: list[tuple[str, str | None, int, Any]] = [("", None, 0, content)]
    while waiting:
        place, name, depth, value = waiting.pop()
        yield place, name, depth, value
        if isinstance(value, dict):
            inner = [(f"{place}/{each}".lstrip("/"), each, item) for each, item in value.items()]
        elif isinstance(value, list):
            inner = [(f"{place}[{index}]", None, item) for index, item in enumerate(value)]
        else:
            continue
        waiting += [(at, known, depth + isinstance(each, dict | list), each) for at, known, each in inner]


def _name_fault(name: str | None) -> str | None:
    if name is None or (name and _FORBIDDEN.isdisjoint(name) and len(name.encode()) <= _NAME_BYTES):
        return None
    return f"is not a valid name: 1 to {_NAME_BYTES} bytes without '.', '$', spaces and control characters"


def _value_fault(value: Any, depth: int) -> str | None:
    if depth > _DEPTH:
        return f"is nested deeper than {_DEPTH} levels"
    if isinstance(value, str) and len(value.encode()) > _TEXT_BYTES:
        return f"is a text of {len(value.encode())} bytes; at most {_TEXT_BYTES} are taken"
    if isinstance(value, int) and not -_LARGEST - 1 <= value <= _LARGEST:
        return f"is {value}; integers are from {-_LARGEST - 1} to {_LARGEST}"
    if isinstance(value, float) and not isfinite(value):
        return f"is {value}, which is not a number in JSON"
    return None


def _size(value: Any) -> int:
    if isinstance(value, str):
        return _length(value)
    if isinstance(value, bool):
        return 4
    return 8 if isinstance(value, int | float) else 0


def _length(text: str | None) -> int:
    return sum(character not in _CONTROLS for character in text or "")
