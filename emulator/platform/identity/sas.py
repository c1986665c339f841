r"""Shared access signatures, as DPS and IoT Hub take them besides bearer tokens.

``SharedAccessSignature sr=<URI>&sig=<base64 HMAC-SHA256>&se=<Unix seconds>&skn=<policy>``; the signature covers
``<sr as sent>\n<se>`` (learn.microsoft.com/azure/iot-hub/authenticate-authorize-sas).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

from emulator.platform.identity.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.platform.configuration import Configuration
    from emulator.platform.store import Store

SCHEME = "SharedAccessSignature"
DPS_POLICY = "provisioningserviceowner"
IOT_HUB_POLICY = "iothubowner"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SasKeys:
    """The keys of the shared access policies.

    Attributes:
        dps: {policy name: key}.
        hubs: {hub host name: {policy name: key}}.
    """

    dps: Mapping[str, bytes]
    hubs: Mapping[str, Mapping[str, bytes]]


def kept_sas_keys(store: Store, configuration: Configuration) -> SasKeys:
    """The keys in the store; what is not there yet is made at random."""
    return SasKeys(
        dps={DPS_POLICY: _kept_key(store, "dps")},
        hubs={hub.host_name: {IOT_HUB_POLICY: _kept_key(store, f"hub/{hub.host_name}")} for hub in configuration.hubs},
    )


def connection_string(host: str, policy: str, key: bytes) -> str:
    """What other people's tools are given. ``host`` may hold a port."""
    return f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey={base64.b64encode(key).decode()}"


def signed_resource(token: str) -> str | None:
    """Tell what a signature without a policy is for, such as ``hub/devices/d``; None if the token is something else."""
    try:
        fields = _fields(token)
    except Unauthenticated:
        return None
    return None if "skn" in fields else unquote(fields["sr"]).removeprefix("https://")


def verify_sas(header: str, *, resource: str, keys: Mapping[str, bytes], now: datetime) -> None:
    """Check a signature: form, policy, resource, expiry, HMAC.

    Args:
        header: the whole value: ``SharedAccessSignature sr=...``.
        resource: what is being called, ``host[:port][/path]``; the signature's ``sr`` has to cover it: the same, or
            one of its parents. The port may be left out of ``sr``, as devices know their hub without one.
        keys: {policy name (``skn``): key}; the name "" stands for a signature without ``skn`` (a device's own key).
        now: the present moment, UTC.

    Raises:
        Unauthenticated: any of these does not hold.
    """
    fields = _fields(header)
    key = keys.get(fields.get("skn", ""))
    if key is None:
        raise Unauthenticated(f"the shared access policy {fields.get('skn', '')!r} does not exist")
    scope = unquote(fields["sr"])
    if not _covers(scope, resource):
        raise Unauthenticated(f"the signature is for {scope!r}, which does not cover {resource!r}")
    if not fields["se"].isascii() or not fields["se"].isdigit():
        raise Unauthenticated(f"the signature's expiry 'se' is {fields['se']!r}; Unix seconds are expected")
    if int(fields["se"]) <= now.timestamp():
        raise Unauthenticated(f"the signature expired at {_time(int(fields['se']))}")
    expected = hmac.digest(key, f"{fields['sr']}\n{fields['se']}".encode(), hashlib.sha256)
    if not hmac.compare_digest(_decoded(fields["sig"]), expected):
        raise Unauthenticated("the signature does not match the policy's key")


def _fields(header: str) -> dict[str, str]:
    scheme, _, rest = header.strip().partition(" ")
    if scheme != SCHEME:
        raise Unauthenticated(f"the value does not start with '{SCHEME}'")
    fields = {name: value for name, _, value in (part.partition("=") for part in rest.strip().split("&"))}
    for name in ("sr", "sig", "se"):
        if not fields.get(name):
            raise Unauthenticated(f"the shared access signature has no field '{name}'")
    if "skn" in fields:
        fields["skn"] = unquote(fields["skn"])
    return fields


def _covers(scope: str, resource: str) -> bool:
    wanted = _segments(resource)
    signed = _segments(scope)
    if not signed[0].count(":"):
        wanted = [wanted[0].partition(":")[0], *wanted[1:]]
    return wanted[: len(signed)] == signed


def _segments(uri: str) -> list[str]:
    return uri.lower().removeprefix("https://").removeprefix("sb://").rstrip("/").split("/")


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(unquote(signature), validate=True)
    except ValueError:
        raise Unauthenticated("the signature is not base64 text") from None


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds"


def _kept_key(store: Store, name: str) -> bytes:
    kept = store.get("sas-key", name)
    if kept is None:
        kept = {"key": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}
        store.put("sas-key", name, kept)
    return base64.b64decode(kept["key"])
