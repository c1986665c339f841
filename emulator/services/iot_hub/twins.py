"""Twins: merge patches, versions, metadata and limits (Microsoft, "Understand and use device twins in IoT Hub")."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from emulator.services.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTION_LIMIT = 32 * 1024
TAGS_LIMIT = 8 * 1024
DEPTH_LIMIT = 10
NAME_LIMIT = 1024
TEXT_LIMIT = 4 * 1024
INTEGERS = range(-(2**52), 2**52)
_KEPT = ("$version", "$metadata")


def new_twin(initial: Mapping[str, Any] | None, at: str) -> dict[str, Any]:
    """Make the twin of a new device, with the tags and desired properties it starts with."""
    content = initial or {}
    desired = merged({}, (content.get("properties") or {}).get("desired") or {})
    return {
        "tags": merged({}, content.get("tags") or {}),
        "desired": _section(desired, _metadata({}, desired, _stamp(at, 1)), 1),
        "reported": _section({}, _metadata({}, {}, _stamp(at)), 1),
        "revision": 1,
        "version": 2,
    }


def with_desired(twin: Mapping[str, Any], patch: Any, at: str, *, replace: bool) -> dict[str, Any]:
    """Give a twin's desired properties after a patch, or replaced; one version on.

    Raises:
        HubError: 400, the patch or the result breaks a rule.
    """
    _check(patch, "properties.desired")
    present, version = twin["desired"], twin["desired"]["$version"] + 1
    base = {} if replace else plain(present)
    known = {} if replace else present["$metadata"]
    properties = merged(base, plain(patch))
    _check_size(plain(present), properties, SECTION_LIMIT, "properties.desired")
    return _section(properties, _metadata(known, plain(patch), _stamp(at, version)), version)


def with_reported(twin: Mapping[str, Any], patch: Any, at: str) -> dict[str, Any]:
    """Give a twin's reported properties after a patch; one version on.

    Raises:
        HubError: 400, the patch or the result breaks a rule.
    """
    _check(patch, "properties.reported")
    present = twin["reported"]
    properties = merged(plain(present), plain(patch))
    _check_size(plain(present), properties, SECTION_LIMIT, "properties.reported")
    return _section(properties, _metadata(present["$metadata"], plain(patch), _stamp(at)), present["$version"] + 1)


def with_tags(twin: Mapping[str, Any], patch: Any, *, replace: bool) -> dict[str, Any]:
    """Give a twin's tags after a patch, or replaced.

    Raises:
        HubError: 400, the patch or the result breaks a rule.
    """
    _check(patch, "tags")
    tags = merged({} if replace else twin["tags"], patch)
    _check_size(twin["tags"], tags, TAGS_LIMIT, "tags")
    return tags


def merged(present: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as JSON merge patch does (RFC 7396): null deletes."""
    result = dict(present)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            inner = result.get(name)
            result[name] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            result[name] = value
    return result


def plain(part: Mapping[str, Any]) -> dict[str, Any]:
    """Give a section without version and metadata."""
    return {name: value for name, value in part.items() if name not in _KEPT}


def _section(properties: Mapping[str, Any], metadata: Mapping[str, Any], version: int) -> dict[str, Any]:
    return {**properties, "$metadata": metadata, "$version": version}


def _stamp(at: str, version: int | None = None) -> dict[str, Any]:
    """Say when, and for desired properties by which version, something was last set."""
    return {"$lastUpdated": at} if version is None else {"$lastUpdated": at, "$lastUpdatedVersion": version}


def _metadata(known: Mapping[str, Any], patch: Mapping[str, Any], stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Stamp what a patch touches, on every level, and leave the rest as it was."""
    result = {**known, **stamp}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _metadata(known.get(name, {}), value, stamp) if isinstance(value, dict) else dict(stamp)
    return result


def _check(part: Any, where: str, depth: int = 0) -> None:
    if not isinstance(part, dict):
        raise errors.bad_argument(f"{where} must be a JSON object.")
    if depth > DEPTH_LIMIT:
        raise errors.bad_argument(f"{where} is nested deeper than {DEPTH_LIMIT} levels.")
    for name, value in (plain(part) if depth == 0 else part).items():
        forbidden = any(character in ".$ " or _is_control(character) for character in name)
        if not name or forbidden or len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
            raise errors.bad_argument(
                f"{where} has the name {name[:64]!r}; a name has 1 to {NAME_LIMIT} bytes and no control character,"
                " '.', '$' or space."
            )
        _check_value(value, f"{where}.{name}", depth)


def _check_value(value: Any, where: str, depth: int) -> None:
    if isinstance(value, dict):
        _check(value, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, where, depth + 1)
    elif isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) > TEXT_LIMIT:
        raise errors.bad_argument(f"{where} is a text of more than {TEXT_LIMIT} bytes.")
    elif isinstance(value, int) and not isinstance(value, bool) and value not in INTEGERS:
        raise errors.bad_argument(f"{where} is {value}; integers are from {INTEGERS[0]} to {INTEGERS[-1]}.")


def _check_size(before: Mapping[str, Any], after: Mapping[str, Any], limit: int, where: str) -> None:
    size = _size(after)
    if size > limit and size > _size(before):
        raise errors.bad_argument(f"{where} would have {size} bytes; at most {limit} are allowed.")


def _size(value: Any) -> int:
    """Count as the hub does: characters without control characters, 8 for a number, 4 for a boolean."""
    if isinstance(value, dict):
        return sum(_size(name) + _size(inner) for name, inner in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, str):
        return sum(not _is_control(character) for character in value)
    if isinstance(value, bool):
        return 4
    return 0 if value is None else 8


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"
