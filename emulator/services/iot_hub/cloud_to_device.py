"""Cloud-to-device messages: queued for each device until it has them, they expire, or they are purged.

Rules: Microsoft, "Understand cloud-to-device messaging from an IoT hub": 50 messages a device, 64 KB each, one hour
to live, ten deliveries, at least once.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from emulator.services.iot_hub import errors
from emulator.services.iot_hub.feedback import ACKS
from emulator.services.iot_hub.messages import SYSTEM_PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from emulator.platform.store import Store
    from emulator.services.iot_hub.feedback import Ending

QUEUE_LIMIT = 50
SIZE_LIMIT = 64 * 1024
"""Bytes of a message: its body and its properties."""

TIME_TO_LIVE = timedelta(hours=1)
MAX_DELIVERIES = 10
_FIELDS = {"body", "bodyEncoding", "properties", "systemProperties"}
_SHORT_NAMES = {long: short for short, long in SYSTEM_PROPERTIES.items()}
_SETTABLE = ("messageId", "correlationId", "userId", "contentType", "contentEncoding", "expiryTimeUtc", "ack")


@dataclass(frozen=True, slots=True)
class Command:
    """A message that waits for its device.

    Attributes:
        number: its place in the device's queue.
        topic: where MQTT delivers it, with its properties at the end.
        properties: those of the application.
        system_properties: by their names in the documentation, such as ``messageId``.
        deliveries: how often it was delivered, this time among them.
    """

    number: int
    topic: str
    payload: bytes
    properties: Mapping[str, str]
    system_properties: Mapping[str, str]
    deliveries: int

    @property
    def again(self) -> bool:
        """Whether it was delivered before and not acknowledged."""
        return self.deliveries > 1


class CommandQueues:
    """The queues of one hub's devices.

    Args:
        store: where they are kept.
        host_name: the hub's.
        ended: told of each message that leaves a queue: its device, itself, and how it ended.
    """

    def __init__(self, store: Store, host_name: str, ended: Callable[[str, Mapping[str, Any], Ending], None]) -> None:
        self._store = store
        self._ended = ended
        self._messages = f"hub.{host_name}.command"
        self._numbers = f"hub.{host_name}.commandNumber"

    def add(self, device_id: str, message: Any, now: datetime) -> dict[str, Any]:
        """Queue a message.

        Returns:
            It, with ``messageId`` and ``sequenceNumber``.

        Raises:
            HubError: 400, 403 when the queue is full, 413.
        """
        body = _checked(device_id, message, now)
        if self.count(device_id, now) >= QUEUE_LIMIT:
            raise errors.queue_full(QUEUE_LIMIT)
        number = int((self._store.get(self._numbers, device_id) or {"last": 0})["last"]) + 1
        with self._store.transaction():
            self._store.put(self._numbers, device_id, {"last": number})
            self._store.put(self._messages, _key(device_id, number), body)
        return {"messageId": body["systemProperties"]["messageId"], "sequenceNumber": number}

    def deliver(
        self, device_id: str, now: datetime, *, skip: Collection[int], limit: int | None = None
    ) -> list[Command]:
        """Give what waits for a device, oldest first, and count the delivery; what was delivered too often is gone.

        Args:
            device_id: whose.
            now: the present moment; what has expired is gone.
            skip: numbers of messages that are on their way already.
            limit: at most so many; None for all.
        """
        self.drop_expired(now, device_id)
        due: list[Command] = []
        for key, body in self._store.scan(self._messages, prefix=f"{device_id}/"):
            number = int(key.rpartition("/")[2])
            if number in skip:
                continue
            if len(due) == limit:
                break
            if body["deliveries"] >= MAX_DELIVERIES:
                self._end(key, body, "DeliveryCountExceeded")
                continue
            body["deliveries"] += 1
            self._store.put(self._messages, key, body)
            due.append(_command(device_id, number, body))
        return due

    def complete(self, device_id: str, number: int, ending: Ending = "Success") -> None:
        """Let go of a message that the device has, or has rejected."""
        key = _key(device_id, number)
        body = self._store.get(self._messages, key)
        if body is not None:
            self._end(key, body, ending)

    def purge(self, device_id: str) -> int:
        """Let go of all that wait for a device; tells how many."""
        waiting = list(self._store.scan(self._messages, prefix=f"{device_id}/"))
        for key, body in waiting:
            self._end(key, body, "Purged")
        return len(waiting)

    def count(self, device_id: str, now: datetime) -> int:
        """Tell how many wait for a device; what has expired goes."""
        self.drop_expired(now, device_id)
        return self._store.count(self._messages, prefix=f"{device_id}/")

    def drop_expired(self, now: datetime, device_id: str | None = None) -> None:
        """Let go of what has expired, of one device or of all."""
        for key, body in self._store.scan(self._messages, prefix="" if device_id is None else f"{device_id}/"):
            if datetime.fromisoformat(body["systemProperties"]["expiryTimeUtc"]) <= now:
                self._end(key, body, "Expired")

    def _end(self, key: str, body: Mapping[str, Any], ending: Ending) -> None:
        with self._store.transaction():
            self._store.delete(self._messages, key)
            self._ended(key.partition("/")[0], body, ending)


def _key(device_id: str, number: int) -> str:
    return f"{device_id}/{number:012}"  # no device id has a slash


def _checked(device_id: str, message: Any, now: datetime) -> dict[str, Any]:
    if not isinstance(message, dict) or set(message) - _FIELDS:
        raise errors.bad_argument(f"A message is an object with the fields {', '.join(sorted(_FIELDS))}.")
    payload = _payload(message)
    properties = _texts(message, "properties")
    system = _texts(message, "systemProperties")
    unknown = sorted(set(system) - set(_SETTABLE))
    if unknown:
        raise errors.bad_argument(f"systemProperties has {unknown[0]!r}; known are {', '.join(_SETTABLE)}.")
    if system.get("ack", "none") not in ACKS:
        raise errors.bad_argument(f"ack is {system['ack']!r}; it may be {', '.join(ACKS)}.")
    size = len(payload) + sum(len(name) + len(value) for name, value in (properties | system).items())
    if size > SIZE_LIMIT:
        raise errors.message_too_large(size, SIZE_LIMIT)
    system.setdefault("messageId", str(uuid.uuid4()))
    system["expiryTimeUtc"] = _expiry(system.get("expiryTimeUtc"), now)
    system["to"] = f"/devices/{device_id}/messages/devicebound"
    return {
        "payload": base64.b64encode(payload).decode(),
        "properties": properties,
        "systemProperties": system,
        "deliveries": 0,
    }


def _payload(message: Mapping[str, Any]) -> bytes:
    body, encoding = message.get("body", ""), message.get("bodyEncoding", "utf-8")
    if not isinstance(body, str) or encoding not in {"utf-8", "base64"}:
        raise errors.bad_argument("body must be a text, and bodyEncoding 'utf-8' or 'base64'.")
    try:
        return body.encode() if encoding == "utf-8" else base64.b64decode(body, validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise errors.bad_argument(f"body is not {encoding}.") from None


def _texts(message: Mapping[str, Any], name: str) -> dict[str, str]:
    given = message.get(name) or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise errors.bad_argument(f"{name} must be an object of texts.")
    return dict(given)


def _expiry(given: str | None, now: datetime) -> str:
    try:
        expiry = now + TIME_TO_LIVE if given is None else datetime.fromisoformat(given)
    except ValueError:
        expiry = None
    if expiry is None or expiry.tzinfo is None:
        raise errors.bad_argument(f"expiryTimeUtc {given!r} is not a time with its zone, e.g. 2030-01-31T12:00:00Z.")
    return expiry.isoformat().replace("+00:00", "Z")


def _command(device_id: str, number: int, body: Mapping[str, Any]) -> Command:
    return Command(
        number=number,
        topic=_topic(device_id, body),
        payload=base64.b64decode(body["payload"]),
        properties=body["properties"],
        system_properties=body["systemProperties"],
        deliveries=body["deliveries"],
    )


def _topic(device_id: str, body: Mapping[str, Any]) -> str:
    system = {_SHORT_NAMES[name]: value for name, value in body["systemProperties"].items()}
    pairs = (system | body["properties"]).items()
    bag = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"devices/{device_id}/messages/devicebound/{bag}"
