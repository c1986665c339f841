"""Telemetry: what devices sent, kept for a look from the admin port (this hub has no Event Hubs endpoint)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.platform.store import Store

KEPT = 100
"""Of each device, so many of its latest messages are kept."""

SIZE_LIMIT = 256 * 1024
"""Bytes of a message: its body and its properties."""

SYSTEM_PROPERTIES = {
    "$.mid": "messageId",
    "$.cid": "correlationId",
    "$.uid": "userId",
    "$.to": "to",
    "$.exp": "expiryTimeUtc",
    "$.ct": "contentType",
    "$.ce": "contentEncoding",
    "$.ctime": "creationTimeUtc",
    "$.sub": "componentName",
    "$.ifid": "interfaceId",
    "iothub-ack": "ack",
}
"""By the names that a topic has for them."""


def property_bag(text: str) -> dict[str, str]:
    """Read the properties at the end of a topic: ``name=value&...``, percent-encoded; ``+`` stands for itself."""
    pairs = (pair.partition("=") for pair in text.strip("/").split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


class Telemetry:
    """The messages of one hub's devices."""

    def __init__(self, store: Store, host_name: str) -> None:
        self._store = store
        self._counts = f"hub.{host_name}.telemetry"
        self._messages = f"hub.{host_name}.message"

    def add(self, device_id: str, payload: bytes, properties: Mapping[str, str], at: str) -> None:
        """Keep a message, and let go of the oldest one beyond ``KEPT``."""
        number = self.count(device_id) + 1
        body = {"enqueuedTime": at, "sequenceNumber": number, **_body(payload), **_sorted(properties)}
        with self._store.transaction():
            self._store.put(self._counts, device_id, {"count": number})
            self._store.put(self._messages, _key(device_id, number), body)
            self._store.delete(self._messages, _key(device_id, number - KEPT))

    def latest(self, device_id: str) -> list[dict[str, Any]]:
        """Give the messages kept, oldest first."""
        return [body for _, body in self._store.scan(self._messages, prefix=f"{device_id}/")]

    def count(self, device_id: str) -> int:
        """Tell how many messages the device has ever sent."""
        found = self._store.get(self._counts, device_id)
        return int(found["count"]) if found else 0


def _key(device_id: str, number: int) -> str:
    return f"{device_id}/{number:012}"  # no device id has a slash


def _body(payload: bytes) -> dict[str, str]:
    try:
        return {"body": payload.decode(), "bodyEncoding": "utf-8"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(payload).decode(), "bodyEncoding": "base64"}


def _sorted(properties: Mapping[str, str]) -> dict[str, dict[str, str]]:
    system = {name: value for name, value in properties.items() if name.startswith("$.")}
    return {
        "properties": {name: value for name, value in properties.items() if name not in system},
        "systemProperties": {SYSTEM_PROPERTIES.get(name, name): value for name, value in system.items()},
    }
