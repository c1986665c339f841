"""The topic of events: what holds in memory holds of the emulator's topic through the app's adapter, and vice versa."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ManagedIdentityCredential

from emulator.tests.iot_hub_clients import PATIENCE
from shared.adapters.event_topic import EventTopic
from tests.world import services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.ports import event_topic


@dataclass
class Place:
    """A topic, and what it has taken of one type."""

    topic: event_topic.EventTopic
    taken: Callable[[str], list[dict[str, Any]]]
    kind: str = field(default_factory=lambda: f"Tested.{uuid.uuid4().hex[:8]}")

    def event(self, identifier: str, **fields: Any) -> dict[str, Any]:
        at = datetime(2026, 5, 1, 12, tzinfo=UTC).isoformat()
        return {"specversion": "1.0", "id": identifier, "source": "/f", "type": self.kind, "time": at, **fields}


@pytest.fixture(params=["in memory", "emulator"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "in memory":
        topic = services.Topic()
        yield Place(topic, lambda kind: [each for each in topic.events if each["type"] == kind])
        return
    running = request.getfixturevalue("emulator")

    def taken(kind: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{running.admin_url}/events", params={"type": kind}, timeout=PATIENCE).json()
        return [each for each in answer["events"] if each["type"] == kind]

    async with ManagedIdentityCredential() as credential:
        adapter = EventTopic(running.endpoints["eventTopicUrl"], credential)
        yield Place(adapter, taken)
        await adapter.close()


async def test_events_arrive_as_they_were_sent(place: Place) -> None:
    """In their order, with extension attributes; one that is sent again comes again, under the same id."""
    first = place.event("1", subject="o", data={"orderId": "o"}, correlationid="o")
    for each in (first, place.event("2", data={"orderId": "p"}), first):
        await place.topic.send(json.dumps(each))
    taken = place.taken(place.kind)
    assert [each["id"] for each in taken] == ["1", "2", "1"]
    shown = {name: value for name, value in taken[0].items() if name != "time"}
    assert shown == {name: value for name, value in first.items() if name != "time"}


@pytest.mark.parametrize("missing", ["source", "type"])
async def test_what_is_not_a_cloud_event_is_not_taken(place: Place, missing: str) -> None:
    """It lacks what is required (CloudEvents 1.0, required attributes). An id that is missing the SDK makes."""
    event = {name: value for name, value in place.event("1").items() if name != missing}
    with pytest.raises((HttpResponseError, ValueError)):
        await place.topic.send(json.dumps(event))
    assert place.taken(place.kind) == []
