"""What a device identity may hold (Microsoft, "Understand the identity registry in your IoT hub")."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import TYPE_CHECKING, Any

from emulator.services.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

NEVER = "0001-01-01T00:00:00Z"
REASON_LIMIT = 128
_DEVICE_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")
_STATUSES = ("enabled", "disabled")
_AUTHENTICATION = ("sas", "selfSigned", "certificateAuthority", "none")
_KEY_SIZES = range(16, 65)
"""Octets of a device's symmetric key."""


def changed(device_id: str, body: Any, present: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    """Give an identity as it stands after a PUT.

    Args:
        device_id: from the path.
        body: a device identity; what the hub alone decides (times, ETag, connection) is ignored in it.
        present: the identity as it is now, None for a new one.
        now: the present moment, ISO 8601.

    Raises:
        HubError: 400, with the field, its value and the rule.
    """
    if not isinstance(body, dict) or body.get("deviceId", device_id) != device_id:
        raise errors.bad_argument(f"The body must be a device identity with deviceId {device_id!r}.")
    if not _DEVICE_ID.fullmatch(device_id):
        raise errors.bad_argument(
            f"deviceId {device_id!r} is not 1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '."
        )
    before: Mapping[str, Any] = present or {}
    status = _status(body.get("status") or before.get("status", "enabled"))
    generation = before.get("generationId") or str(secrets.randbelow(9 * 10**17) + 10**17)
    capabilities = _capabilities(body.get("capabilities") or before.get("capabilities"))
    scope, parents = _scopes(body, before, f"ms-azure-iot-edge://{device_id}-{generation}", capabilities)
    return {
        "deviceId": device_id,
        "generationId": generation,
        "etag": base64.b64encode(str(secrets.randbelow(9 * 10**8) + 10**8).encode()).decode(),
        "status": status,
        "statusReason": _reason(body.get("statusReason")),
        "statusUpdatedTime": now if present and before["status"] != status else before.get("statusUpdatedTime", NEVER),
        "connectionStateUpdatedTime": before.get("connectionStateUpdatedTime", NEVER),
        "lastActivityTime": before.get("lastActivityTime", NEVER),
        "cloudToDeviceMessageCount": 0,
        "authentication": authentication(body.get("authentication") or before.get("authentication")),
        "capabilities": capabilities,
        "parentScopes": parents,
    } | ({} if scope is None else {"deviceScope": scope})


def _status(given: Any) -> str:
    if given not in _STATUSES:
        raise errors.bad_argument(f"status {given!r} is not one of {', '.join(_STATUSES)}.")
    return str(given)


def _reason(given: Any) -> str | None:
    if given is not None and (not isinstance(given, str) or len(given) > REASON_LIMIT):
        raise errors.bad_argument(f"statusReason {given!r} is not text of at most {REASON_LIMIT} characters.")
    return given


def _capabilities(given: Any) -> dict[str, bool]:
    edge = (given.get("iotEdge") or False) if isinstance(given, dict) else False
    if not isinstance(given, dict | None) or not isinstance(edge, bool):
        raise errors.bad_argument(f'capabilities {given!r} is not of the form {{"iotEdge": true}}.')
    return {"iotEdge": edge}


def _scopes(
    body: Mapping[str, Any], before: Mapping[str, Any], own: str, capabilities: Mapping[str, bool]
) -> tuple[str | None, list[str]]:
    """Give a device's scope, and those of its parents. Nothing here acts on them.

    An IoT Edge device has a scope of its own, and may have a parent; any other device is in its parent's scope, and the
    hub copies that to ``parentScopes``, which has at most one (documentation of ``Device`` in azure-iot-sdk-csharp; so
    ``az iot hub device-identity parent`` and ``children`` expect it).
    """
    parents = _or(body.get("parentScopes"), before.get("parentScopes") or [])
    if not isinstance(parents, list) or len(parents) > 1 or not all(isinstance(each, str) for each in parents):
        raise errors.bad_argument(f"parentScopes {parents!r} is not a list of at most one scope.")
    if capabilities["iotEdge"]:
        return own, parents
    known = before.get("deviceScope")
    scope = _or(body.get("deviceScope"), known) or None
    if scope is not None and not isinstance(scope, str):
        raise errors.bad_argument(f"deviceScope {scope!r} is not a text.")
    if scope == known and body.get("parentScopes") is not None:
        scope = parents[0] if parents else None
    return scope, [scope] if scope else []


def _or(given: Any, default: Any) -> Any:
    return default if given is None else given


def authentication(given: Any) -> dict[str, Any]:
    """Give what a device proves itself with; without a type it is that of what is given, else ``sas``.

    Raises:
        HubError: 400.
    """
    if not isinstance(given, dict | None):
        raise errors.bad_argument(f"authentication {given!r} is not an object.")
    parts = given or {}
    thumbprints = _thumbprints(parts.get("x509Thumbprint"))
    kind = parts.get("type") or ("selfSigned" if any(thumbprints.values()) else "sas")
    if kind not in _AUTHENTICATION:
        raise errors.bad_argument(f"authentication.type {kind!r} is not one of {', '.join(_AUTHENTICATION)}.")
    if kind == "selfSigned" and not any(thumbprints.values()):
        raise errors.bad_argument("authentication.type 'selfSigned' needs x509Thumbprint.primaryThumbprint.")
    none = {"primaryKey": None, "secondaryKey": None}
    return {
        "symmetricKey": _keys(parts.get("symmetricKey")) if kind == "sas" else none,
        "x509Thumbprint": thumbprints if kind == "selfSigned" else _thumbprints(None),
        "type": kind,
    }


def _thumbprints(given: Any) -> dict[str, str | None]:
    found = {name: (given or {}).get(name) or None for name in ("primaryThumbprint", "secondaryThumbprint")}
    for name, value in found.items():
        if value is not None and not (isinstance(value, str) and _THUMBPRINT.fullmatch(value)):
            raise errors.bad_argument(f"{name} {value!r} is not a SHA-1 or SHA-256 thumbprint in hexadecimal.")
    return found


def _keys(given: Any) -> dict[str, str]:
    """Keys are made where none are given."""
    return {name: _key(name, (given or {}).get(name)) for name in ("primaryKey", "secondaryKey")}


def _key(name: str, given: Any) -> str:
    if not given:
        return base64.b64encode(secrets.token_bytes(32)).decode()
    try:
        size = len(base64.b64decode(given, validate=True))
    except (binascii.Error, TypeError, ValueError):
        size = 0
    if size not in _KEY_SIZES:
        raise errors.bad_argument(f"symmetricKey.{name} is not base64 of {_KEY_SIZES[0]} to {_KEY_SIZES[-1]} octets.")
    return str(given)
