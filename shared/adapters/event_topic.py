"""An Event Grid topic that takes CloudEvents, by managed identity."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import throttling

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential


class EventTopic:
    """A custom topic (Microsoft.EventGrid/topics) with the input schema CloudEventSchemaV1_0."""

    def __init__(self, url: str, credential: AsyncTokenCredential) -> None:
        from azure.eventgrid.aio import EventGridPublisherClient  # noqa: PLC0415 - a tenth of a second, for who has a topic

        self._client = EventGridPublisherClient(
            url, credential, transport=ObservedTransport("event_grid", "the Event Grid topic")
        )

    async def send(self, text: str) -> None:
        """Send a CloudEvents event in structured JSON. Sent again, it has the same id.

        Raises:
            Deferred: for 429, with the service's Retry-After.
        """
        with throttling("the event topic"):
            await self._client.send(json.loads(text))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
