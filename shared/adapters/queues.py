"""The queues of a storage account, by managed identity."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import has_done_nothing
from shared.ports.queues import TakenMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from azure.core.credentials_async import AsyncTokenCredential

NEVER_EXPIRES = -1


class Queues:
    """The account's queues; messages are base64 text, as host.json says.

    Args:
        url: of the account's queue service.
        credential: that it is reached with.
        name: of the account, for messages.
    """

    def __init__(self, url: str, credential: AsyncTokenCredential, *, name: str = "queue storage") -> None:
        self.url, self.credential = url, credential
        self._service = QueueServiceClient(url, credential=credential, transport=ObservedTransport("queues", name))
        self._clients: dict[str, QueueClient] = {}

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        """Put a message that never expires, visible after ``delay``.

        Raises:
            AzureError: of the SDK's tries that failed, the last one that may have put it there all the same; if there
                is none, the last one.
        """
        client = self._clients.get(queue)
        if client is None:
            client = self._service.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
            self._clients[queue] = client
        unclear: list[Exception] = []

        def note(*, error: AzureError | None, response: Any, **_: Any) -> None:
            failed = error or HttpResponseError(f"the answer was {response.status_code}", response=response)
            if not has_done_nothing(failed):
                unclear.append(failed)

        try:
            await client.send_message(
                text,
                visibility_timeout=int(delay.total_seconds()) if delay else None,
                time_to_live=NEVER_EXPIRES,
                retry_hook=note,  # before each repetition (azure.storage.queue._shared.policies_async, retry_hook)
            )
        except Exception as error:
            if unclear and has_done_nothing(error):
                raise unclear[-1] from error
            raise

    async def take(self, queue: str, *, lease: timedelta) -> AsyncIterator[TakenMessage]:
        """Take what is visible in a queue, message by message; what is not deleted comes back after the lease."""
        client = self._service.get_queue_client(queue)
        async for message in client.receive_messages(visibility_timeout=int(lease.total_seconds())):
            inserted = message.inserted_on or datetime.now(UTC)
            yield TakenMessage(message.id, str(message.content).encode(), inserted, message.pop_receipt or "")

    async def waiting_since(self, queue: str) -> datetime | None:
        """Tell when the message was put there that is at the front of what is visible; ``None`` if nothing is."""
        for message in await self._service.get_queue_client(queue).peek_messages(max_messages=1):
            return message.inserted_on
        return None

    async def delete(self, queue: str, message_id: str, receipt: str) -> None:
        """Delete a message that was taken, unless it is gone."""
        try:
            await self._service.get_queue_client(queue).delete_message(message_id, receipt)
        except ResourceNotFoundError:
            return

    async def create(self, name: str) -> None:
        """Create a queue unless it exists."""
        try:
            await self._service.create_queue(name)
        except ResourceExistsError:
            return

    async def check(self, *names: str) -> None:
        """Raise unless the service answers, has these queues, and lets this identity see them."""
        await asyncio.gather(*(self._service.get_queue_client(name).get_queue_properties() for name in names))

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()
