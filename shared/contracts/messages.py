"""Messages: the queues, and the envelope of what is in them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from shared.contracts.base import SOURCE, Contract, timestamp
from shared.contracts.parsing import OfLaterVersion, decoded, kind_of, reason_of
from shared.errors import Rejected
from shared.reading.base64_text import octets
from shared.reading.json_text import read_json
from shared.reading.times import point_in_time
from shared.rules.shown_text import as_shown

MESSAGE_LIMIT = 48 * 1024
"""Bytes of a queue message before base64: a Storage queue carries 64 KiB of text, base64 takes a third of it."""


class Queue(StrEnum):
    """Names of the queues."""

    CERTIFICATE_REQUESTS = "certificate-requests"
    ENROLLMENT_GROUP_REQUESTS = "enrollment-group-requests"
    DEVICE_ORDERS = "device-orders"
    DEVICE_REGISTRATIONS = "device-registrations"
    RENEWAL_REQUESTS = "renewal-requests"
    REVOCATION_REQUESTS = "revocation-requests"
    PROVISIONING_EVENTS = "provisioning-events"

    @property
    def poison(self) -> str:
        """Name of the queue that takes what could not be handled."""
        return f"{self.value}-poison"


INBOUND_QUEUES = tuple(queue for queue in Queue if queue is not Queue.PROVISIONING_EVENTS)
ALL_QUEUES = (*Queue, *(queue.poison for queue in INBOUND_QUEUES))
"""Names of all queues, those of messages that were set aside among them."""


class CloudEvent(BaseModel):
    """A CloudEvents 1.0 event in structured JSON (cloudevents.io, core specification 1.0)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, StringConstraints(min_length=1)]
    source: Annotated[str, StringConstraints(min_length=1)]
    type: Annotated[str, StringConstraints(min_length=1)]
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    correlationid: str | None = None
    schemaversion: int = 1
    comment: Any = None
    data: Any = None
    data_base64: str | None = None


SCHEMA_VERSION = 1
"""Goes up with each new field of the messages that the app sends itself (CloudEvents extension ``schemaversion``).

Two versions of the app work on the same queues while it is upgraded, and after it is rolled back: each reads what the
next one sends, and leaves out what it does not know.
"""

NEVER_SET = datetime(2000, 1, 1, tzinfo=UTC)
"""A time before is that of a clock that was never set: year 1 of .NET and Go, 1601 of Windows, 1970 of Unix."""


UNKNOWN_SOURCE = "/unknown"
"""``source`` of what came without an envelope, and was put back in one: nobody claimed to be its sender."""

COMMENT_LIMIT = 1000
"""Characters of a comment that are kept."""

_ATTEMPT = "deliveryattempt"
"""CloudEvents extension of this app's own: how often a message was put back because a service was down."""


_COPIES = "leftbehind"
"""CloudEvents extension of this app's own: how often a message was sent again since its worker was killed."""

COPIES_LIMIT = 3
"""How often that is done."""

ATTEMPTS_LIMIT = 1000
"""How often a message is put back: three days, of a service that is down or of a bug that looks like it."""


class Message(NamedTuple):
    """What a queue message says.

    Attributes:
        data: the decoded body.
        traceparent: the sender's (CloudEvents distributed-tracing extension), if it gave one.
        time: when the sender made it, in UTC, if it says so by a clock that was set.
        source: what an event claims to come from.
        comment: what its sender says to it (CloudEvents extension of this app's own).
    """

    data: Any
    traceparent: str | None = None
    time: datetime | None = None
    source: str | None = None
    comment: str | None = None


def read_message(text: str) -> Message:
    """Take the data out of a queue message.

    Args:
        text: the decoded message: a CloudEvent, or the bare data object.

    Raises:
        Rejected: when it is not valid JSON, or no valid CloudEvent.
    """
    size = len(text.encode(errors="replace"))
    if size > MESSAGE_LIMIT:
        raise Rejected.because(
            f"the message has {size} bytes; at most {MESSAGE_LIMIT} fit a queue: put the devices into a blob and name "
            "it in devicesUrl"
        )
    body = decoded(text, "the message")
    if not isinstance(body, dict):
        raise Rejected.because(f"the message must be a JSON object, and is {kind_of(body)}")
    if "specversion" not in body:
        return Message(body)
    try:
        event = CloudEvent.model_validate(body)
    except ValidationError as error:
        raise Rejected(*(reason_of(CloudEvent, problem, "") for problem in error.errors())) from None
    return Message(_data_of(event), event.traceparent, _time_of(event), event.source, _comment_of(event))


def _data_of(event: CloudEvent) -> Any:
    """Give an event's data, which may stand in base64 (CloudEvents 1.0, JSON event format, section 3.1)."""
    if event.data_base64 is None:
        is_later = event.source == SOURCE and event.schemaversion > SCHEMA_VERSION and isinstance(event.data, dict)
        return OfLaterVersion(event.data) if is_later else event.data
    if event.data is not None:
        raise Rejected.because("data and data_base64 can't be given together; give one of them", field="data_base64")
    return decoded(octets("data_base64", event.data_base64), "what it holds", field="data_base64")


def _comment_of(event: CloudEvent) -> str | None:
    return as_shown(event.comment[:COMMENT_LIMIT]) if isinstance(event.comment, str) and event.comment else None


def _time_of(event: CloudEvent) -> datetime | None:
    time = point_in_time(event.time, field="time") if event.time is not None else None
    return time if time is not None and time >= NEVER_SET else None


def attempts_of(text: str) -> int:
    """Tell how often a message, one that :func:`read_message` reads, was put back because a service was down."""
    attempts = read_json(text).get(_ATTEMPT)
    return min(attempts, ATTEMPTS_LIMIT) if type(attempts) is int and attempts > 0 else 0


def anew(text: str) -> str:
    """Give a message as if it had never been put back; one that can't be read comes as it is."""
    try:
        read_message(text)
    except Rejected:
        return text
    if not attempts_of(text) and _COPIES not in read_json(text):
        return text
    body = {name: value for name, value in read_json(text).items() if name not in {_ATTEMPT, _COPIES}}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def put_back(text: str, queue: Queue, *, asked_at: datetime, attempt: int, traceparent: str | None) -> str:
    """Compose a message that waits for its next try: the same content, and when it was asked for.

    Args:
        text: the message as it came, one that :func:`read_message` reads.
        queue: where it came from.
        asked_at: when it was asked for, UTC; a queue counts anew from now.
        attempt: how often it has been put back because a service was down.
        traceparent: W3C trace context to carry on.

    Returns:
        A CloudEvent; the text as it is if it is too long for one.
    """
    body = read_json(text)
    if "specversion" not in body:
        body = {
            "specversion": "1.0",
            "id": hashlib.sha256(text.encode()).hexdigest(),
            "source": UNKNOWN_SOURCE,
            "type": f"DeviceProvisioning.Command.{queue.value}",
            "data": body,
        }
    body.pop(_ATTEMPT, None)
    body |= {"time": timestamp(asked_at)} | ({_ATTEMPT: attempt} if attempt else {})
    if traceparent:
        body["traceparent"] = traceparent
    composed = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return composed if len(composed.encode()) <= MESSAGE_LIMIT else text


def left_behind(text: str, queue: Queue, *, asked_at: datetime) -> str | None:
    """Compose the copy of a message that is sent if its worker is killed; ``None`` if it was copied often enough.

    Args:
        text: the message as it came, one that :func:`read_message` reads.
        queue: where it came from.
        asked_at: when it was asked for, UTC.
    """
    event = read_json(text)
    copies = event.get(_COPIES)
    made = copies if type(copies) is int and copies > 0 else 0
    if made >= COPIES_LIMIT:
        return None
    copy = put_back(text, queue, asked_at=asked_at, attempt=attempts_of(text), traceparent=event.get("traceparent"))
    body = read_json(copy)
    counted = json.dumps({**body, _COPIES: made + 1}, ensure_ascii=False, separators=(",", ":"))
    fits = "specversion" in body and len(counted.encode()) <= MESSAGE_LIMIT
    return counted if fits else None


def command(queue: Queue, body: Contract, *, at: datetime, traceparent: str | None) -> str:
    """Compose a message for one of the inbound queues, as a CloudEvent that carries the trace on, and when it was."""
    message: dict[str, Any] = {
        "specversion": "1.0",
        "id": body.fingerprint,
        "source": SOURCE,
        "type": f"DeviceProvisioning.Command.{queue.value}",
        "time": timestamp(at),
        "schemaversion": SCHEMA_VERSION,
        "data": body.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    if traceparent:
        message["traceparent"] = traceparent
    return json.dumps(message, separators=(",", ":"))
