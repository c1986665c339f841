"""The app's adapter for an Event Grid topic: Microsoft's client against a listener that looks at what arrives.

What the service takes: "Publish events to custom topics using CloudEvents schema" and azure-eventgrid's own tests:
a batch of CloudEvents in JSON, a bearer token for https://eventgrid.azure.net.
"""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest
import trustme
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from shared.adapters import event_topic
from shared.adapters.event_topic import EventTopic
from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import is_outage
from shared.contracts.events import event
from shared.contracts.events_orders import OrderAccepted
from shared.errors import Deferred

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TEXT = event(
    OrderAccepted(order_id="o", enrollment_group="g", device_count=2),
    subject="o",
    correlation_id="o",
    at=NOW,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


class Credential:
    """Gives tokens, and keeps for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        self.asked.append(scopes)
        return AccessToken("a-token", 4_000_000_000)

    async def close(self) -> None:
        """There is nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """There is nothing to close."""


class Impatient(ObservedTransport):
    """Does not wait before it sends again, and keeps how long it should have."""

    waits: ClassVar[list[float]] = []

    async def sleep(self, duration: float) -> None:
        self.waits.append(duration)


class Listener:
    """Stands where the topic is; answers as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.status, self.headers = 200, dict[str, str]()
        self.arrived: list[tuple[dict[str, str], Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.arrived.append(({**request.headers, "query": request.query_string}, json.loads(await request.text())))
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    authority, said = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(said)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trusting = partial(Impatient, connection_verify=str(tmp_path / "ca.pem"))
    monkeypatch.setattr(event_topic, "ObservedTransport", trusting)
    stand_in, app = Listener(), web.Application()
    app.router.add_post("/api/events", stand_in.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=said)
    await site.start()
    stand_in.url = f"https://127.0.0.1:{runner.addresses[0][1]}/api/events"
    yield stand_in
    await runner.cleanup()


async def test_an_event_arrives_as_it_is_written_with_a_token_for_event_grid(listener: Listener) -> None:
    """Its extension attributes, by which subscribers filter and follow, are still there."""
    credential = Credential()
    topic = EventTopic(listener.url, credential)
    await topic.send(TEXT)
    await topic.close()
    ((headers, body),) = listener.arrived
    assert {**body[0], "time": datetime.fromisoformat(body[0]["time"])} == {**json.loads(TEXT), "time": NOW}
    assert body[0]["correlationid"] == "o"
    assert body[0]["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert headers["Content-Type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert headers["Authorization"] == "Bearer a-token"
    assert headers["query"] == "api-version=2018-01-01"
    assert credential.asked == [("https://eventgrid.azure.net/.default",)]


async def test_a_topic_that_has_too_many_events_is_tried_again_later(listener: Listener) -> None:
    """By Microsoft's client three times at once, then with the message under way."""
    listener.status, listener.headers = 429, {"Retry-After": "7"}
    Impatient.waits.clear()
    topic = EventTopic(listener.url, Credential())
    with pytest.raises(Deferred) as deferred:
        await topic.send(TEXT)
    await topic.close()
    assert len(listener.arrived) == 4
    assert Impatient.waits == [7, 7, 7]
    assert deferred.value.retry_after == timedelta(seconds=7)


async def test_a_role_that_is_missing_is_an_outage_so_that_the_event_waits(listener: Listener) -> None:
    listener.status = 401
    topic = EventTopic(listener.url, Credential())
    with pytest.raises(ClientAuthenticationError) as refused:
        await topic.send(TEXT)
    await topic.close()
    assert is_outage(refused.value)
