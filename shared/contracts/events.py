"""Events: what the app tells the outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.contracts.base import SOURCE, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.domain.words import EventType


def event(
    kind: EventType,
    *,
    subject: str,
    correlation_id: str,
    at: datetime,
    traceparent: str | None,
    data: Mapping[str, Any],
    occasion: str = "",
) -> str:
    """Compose an event for ``provisioning-events``.

    Its id follows from what happened, so that an event sent again after a crash is known as the same one
    (CloudEvents: source + id are unique per event).

    Args:
        kind: what happened.
        subject: the id concerned.
        correlation_id: the order or request that caused it.
        at: when it happened, UTC.
        traceparent: W3C trace context to carry on.
        data: the event's own fields; never a private key or a password.
        occasion: tells repeated events of one kind, subject and cause apart, such as a serial number.
    """
    name = "/".join(filter(None, (kind.removeprefix("DeviceProvisioning."), subject, correlation_id, occasion)))
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": name,
        "source": SOURCE,
        "type": kind.value,
        "subject": subject,
        "time": timestamp(at),
        "datacontenttype": "application/json",
        "correlationid": correlation_id,
        "data": dict(data),
    }
    if traceparent:
        body["traceparent"] = traceparent
    return json.dumps(body, separators=(",", ":"))
