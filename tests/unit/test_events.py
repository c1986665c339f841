"""Events: one set of fields for each type."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.base import example_of
from shared.contracts.events import EVENTS, event
from shared.domain.announcements import Announced, Announcement
from shared.domain.words import EventType

NOW = datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC)
REASON = {"field": "csr", "message": "is required"}


def composed(kind: EventType, data: dict[str, Any]) -> dict[str, Any]:
    told = EVENTS[kind].model_validate(data)
    text = event(told, subject="s", correlation_id="c", at=NOW, traceparent=None, occasion="1")
    body: dict[str, Any] = json.loads(text)
    return body


def test_every_type_has_its_fields() -> None:
    """No event can be published whose fields nobody has written down."""
    assert set(EVENTS) == set(EventType)


@pytest.mark.parametrize("announced", Announced.__subclasses__())
def test_what_a_device_announces_has_the_fields_of_its_event(announced: type[Announced]) -> None:
    """It is kept in the device's row, and told when the services are as wanted."""
    told = EVENTS[announced.event_type]
    fields = {each.alias for each in told.model_fields.values()} - {"actor"}
    assert {each.alias for each in announced.model_fields.values()} == fields
    example = {name: value for name, value in example_of(told).items() if name in fields}
    data = Announcement.of(announced.model_validate(example), "c", "").data
    assert json.loads(told.model_validate(data).to_json()) == {n: v for n, v in example.items() if v is not None}


def test_an_event_is_a_cloud_event_whose_id_follows_from_what_happened() -> None:
    """Sent again, it is known as the same one."""
    body = composed(EventType.ORDER_ACCEPTED, {"orderId": "o", "enrollmentGroup": "g", "deviceCount": 2})
    assert body == {
        "specversion": "1.0",
        "id": "OrderAccepted/s/c/1",
        "source": "/device-identity-factory",
        "type": "DeviceProvisioning.OrderAccepted",
        "subject": "s",
        "time": "2026-05-01T12:00:00.000005Z",
        "datacontenttype": "application/json",
        "correlationid": "c",
        "data": {"actor": None, "orderId": "o", "enrollmentGroup": "g", "deviceCount": 2},
    }


@pytest.mark.parametrize(
    "data",
    [
        {"rejectionId": "2026-05-01-0", "queue": "renewal-requests", "kind": "poison", "reasons": [REASON]},
        {"queue": "device-orders", "kind": "rejected", "reasons": [REASON], "orderId": "o"},
        {"queue": "device-orders", "kind": "rejected", "reasons": [REASON], "orderId": "o", "line": 0},
    ],
    ids=["message", "order", "line"],
)
def test_what_is_rejected_is_told_in_one_shape(data: dict[str, Any]) -> None:
    """A message, an order and a line of one have the same fields, and what does not concern them is null."""
    told = composed(EventType.REQUEST_REJECTED, data)["data"]
    assert list(told) == ["actor", "queue", "kind", "reasons", "rejectionId", "orderId", "line", "registrationId"]
    assert {name: value for name, value in told.items() if value is not None} == data


@pytest.mark.parametrize(
    "data",
    [
        {"orderId": "o", "enrollmentGroup": "g"},
        {"orderId": "o", "enrollmentGroup": "g", "deviceCount": "many"},
        {"orderId": "o", "enrollmentGroup": "g", "deviceCount": 2, "note": "more"},
    ],
    ids=["missing", "wrong", "unknown"],
)
def test_an_event_that_is_not_as_the_contract_has_it_is_not_composed(data: dict[str, Any]) -> None:
    """Whoever reads events can rely on the published schema."""
    with pytest.raises(ValidationError):
        composed(EventType.ORDER_ACCEPTED, data)
