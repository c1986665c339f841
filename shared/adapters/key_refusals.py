"""Refusals of Key Vault that are about a key and not about who asks: it is disabled, or not valid at this time.

The vault answers them with the status of a missing role, 403 and the code ``Forbidden``; the inner code tells them
apart: ``KeyDisabled`` (Azure/azure-sdk-for-python#45342, as a live vault answered) where a missing role has
``ForbiddenByRbac`` or ``AccessDenied`` (Microsoft: "Azure Key Vault REST API error codes"). A key is not signed with
outside of its ``nbf`` and ``exp`` (Microsoft: "About keys", date-time controlled operations); their inner codes are not
documented, so any that begins with ``Key`` is the key's.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAID: Mapping[str, str] = {
    "KeyDisabled": "is disabled",
    "KeyNotYetValid": "is not valid yet",
    "KeyExpired": "has expired",
}


def refusal_of_key(status: int | None, body: str) -> str | None:
    """Say what is wrong with a key, as in ``is disabled``, by a vault's answer; ``None`` if that is not about a key."""
    if status != HTTPStatus.FORBIDDEN:
        return None
    try:
        error: Any = json.loads(body)["error"]
        inner = error.get("innererror") or error.get("innerError") or {}
        code = str(inner.get("code") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return _SAID.get(code, f"can't be used ({code})") if code.startswith("Key") else None
