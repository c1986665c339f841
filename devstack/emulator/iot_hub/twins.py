"""Twins: merge patches, versions and metadata (Microsoft, "Understand and use device twins in IoT Hub")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devstack.emulator.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTION_LIMIT = 32 * 1024
TAGS_LIMIT = 8 * 1024
_KEPT = ("$version", "$metadata")


def new_twin(initial: Mapping[str, Any] | None, at: str) -> dict[str, Any]:
    """Make the twin of a new device, with what DPS gives it at the start."""
    twin: dict[str, Any] = {"tags": {}, "version": 1, "desired": section({}, at, 1), "reported": section({}, at, 1)}
    if initial:
        twin["tags"] = merged({}, initial.get("tags") or {})
        desired = (initial.get("properties") or {}).get("desired") or {}
        twin["desired"] = section(merged({}, desired), at, 1)
    return twin


def section(properties: Mapping[str, Any], at: str, version: int) -> dict[str, Any]:
    """Give desired or reported properties with their version and metadata."""
    return {**properties, "$metadata": {"$lastUpdated": at, **_metadata(properties, at)}, "$version": version}


def patched(present: Mapping[str, Any], patch: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Merge a patch into a section, one version on.

    Raises:
        HubError: the patch or the result breaks a rule.
    """
    check(patch)
    properties = merged(plain(present), plain(patch))
    _check_size(properties, SECTION_LIMIT, "properties")
    changed = section(properties, at, present["$version"] + 1)
    known = present["$metadata"]
    for name in properties.keys() - plain(patch).keys():
        changed["$metadata"][name] = known.get(name, changed["$metadata"].get(name))
    return changed


def with_tags(present: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tags.

    Raises:
        HubError: the result is too large.
    """
    check(patch)
    tags = merged(present, patch)
    _check_size(tags, TAGS_LIMIT, "tags")
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


def check(part: Any) -> None:
    """Refuse what no twin can hold.

    Raises:
        HubError: it is no object, or a name has forbidden characters.
    """
    if not isinstance(part, dict):
        raise errors.bad_argument("Twin properties and tags must be JSON objects.")
    for name, value in plain(part).items():
        if not name or any(character in ".$# " or ord(character) < 32 for character in name):  # noqa: PLR2004 - control
            raise errors.bad_argument(
                f"The name {name!r} of a twin property is empty or contains one of . $ # or space."
            )
        if isinstance(value, dict):
            check(value)


def _metadata(properties: Mapping[str, Any], at: str) -> dict[str, Any]:
    return {
        name: {"$lastUpdated": at, **(_metadata(value, at) if isinstance(value, dict) else {})}
        for name, value in properties.items()
    }


def _check_size(part: Mapping[str, Any], limit: int, what: str) -> None:
    size = len(json.dumps(part))
    if size > limit:
        raise errors.bad_argument(f"The {what} of the twin have {size} bytes; at most {limit} are allowed.")
