"""What a topic does with events: it keeps them for whoever looks, and puts them into the queue that subscribes to it.

The service acknowledges first and tries to deliver for up to a day ("Event Grid message delivery and retry",
azure/event-grid/delivery-and-retry). Here delivery comes first, so that nothing acknowledged is lost.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any

import aiohttp

from emulator.platform.identity.tokens import STORAGE_AUDIENCE
from emulator.services.event_grid import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from emulator.platform.context import Context

KEPT = 10_000
"""So many events can be looked at, the latest ones."""

STORAGE_VERSION = "2021-12-02"
_TAKEN = 201
_SECONDS = 10


class Topic:
    """The events of a topic, in memory.

    Args:
        context: what services share.
        ca_file: whom to trust besides, when the subscribed queue is reached.
    """

    def __init__(self, context: Context, ca_file: Path) -> None:
        self._context = context
        self._ca_file = ca_file
        self._queue = context.configuration.event_queue
        self._events: deque[Mapping[str, Any]] = deque(maxlen=KEPT)

    def events(self, kind: str | None = None) -> list[Mapping[str, Any]]:
        """Give the latest events, oldest first; of one type, or of all."""
        return [event for event in self._events if kind in (None, event["type"])]

    async def take(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Deliver events and keep them.

        Raises:
            WireError: the subscribed queue does not take one; those before it are delivered, and will come twice.
        """
        taken = list(events)
        if self._queue is not None:
            await self._deliver(self._queue, taken)
        self._events.extend(taken)

    async def _deliver(self, queue: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Put each event into the queue, a message each, in JSON and base64 (MicrosoftDocs/azure-docs#102923)."""
        token = self._context.tokens.issue(STORAGE_AUDIENCE).token
        headers = {"Authorization": f"Bearer {token}", "x-ms-version": STORAGE_VERSION}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self._ca_file)))
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
                for event in events:
                    text = base64.b64encode(json.dumps(event).encode()).decode()
                    body = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>"
                    async with session.post(f"{queue}/messages", data=body) as answer:
                        if answer.status != _TAKEN:
                            raise errors.not_delivered(queue, f"it answers {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise errors.not_delivered(queue, str(error) or type(error).__name__) from None
