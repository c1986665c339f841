"""A queue trigger, with the semantics of Microsoft's queue extension.

A message is leased and the lease renewed while its function works. Success deletes it; failure makes it visible again
after host.json's ``visibilityTimeout``; after ``maxDequeueCount`` tries, and at once when it can't be decoded, it is
copied to ``<queue>-poison`` and then deleted. The copy has the time to live that the service gives it, seven days. What
can't be decoded is copied as it is, so that a function on the poison queue can't see it either.

A poison queue has no poison queue of its own: a message whose function failed there stays invisible until its lease
ends, and after ``maxDequeueCount`` tries no function ever sees it again.

A queue that does not exist, is being deleted or disabled, or answers 5xx, is asked again later and later. Any other
error of the service, such as 403 for a missing role, ends the host, and the platform starts it again.

Sources: QueueListener, QueueProcessor, QueueServiceClientProvider and RandomizedExponentialBackoffStrategy in
Microsoft.Azure.WebJobs.Extensions.Storage of Azure/azure-sdk-for-net.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from devstack.functions_host.protocol import TypedData, json_data
from devstack.functions_host.worker import InvocationFailed, log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from datetime import datetime

    from azure.storage.queue import QueueMessage
    from azure.storage.queue.aio import QueueClient, QueueServiceClient

    from devstack.functions_host.configuration import QueueSettings

    Invoke = Callable[[TypedData, Mapping[str, TypedData]], Awaitable[object]]

LOG = logging.getLogger("functions_host")
POISON_SUFFIX = "-poison"
LEASE_SECONDS = 600.0
"""The real host leases for ten minutes and renews after five."""

_SHORTEST_PAUSE = 0.1
_JITTER = 0.2
_GONE_OR_DISABLED = frozenset({"QueueNotFound", "QueueBeingDeleted", "QueueDisabled"})
_TAKEN_OVER = frozenset({"PopReceiptMismatch", "MessageNotFound", *_GONE_OR_DISABLED})


@dataclass(slots=True)
class Pauses:
    """How long to wait before a queue is asked again: after a message soon, after none ever longer, with jitter.

    Attributes:
        longest: seconds, ``maxPollingInterval`` of host.json.
        chance: gives a number from 0 to 1.
    """

    longest: float
    chance: Callable[[], float] = random.random
    _present: float = 0.0
    _doublings: int = -1

    def following(self, *, found: bool) -> float:
        """Give the next pause in seconds."""
        if found:
            self._present, self._doublings = _SHORTEST_PAUSE, 0
        elif self._present != self.longest:
            more = 0.0
            if self._doublings >= 0:
                more = (1 - _JITTER + 2 * _JITTER * self.chance()) * 2**self._doublings * _SHORTEST_PAUSE
            wanted = _SHORTEST_PAUSE + more
            self._present = min(wanted, self.longest)
            self._doublings += wanted < self.longest
        return self._present


class QueueListener:
    """Listens to one queue for one function.

    Args:
        service: the storage account's queues.
        queue: the queue's name.
        settings: of host.json.
        invoke: calls the function.
        broken: is told of an error that ends the host.
        lease_seconds: how long a message is leased; shorter than the real host's for tests that kill it.
    """

    def __init__(
        self,
        service: QueueServiceClient,
        queue: str,
        settings: QueueSettings,
        invoke: Invoke,
        broken: Callable[[Exception], None],
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._client: QueueClient = service.get_queue_client(queue)
        self._poison = None if queue.endswith(POISON_SUFFIX) else service.get_queue_client(f"{queue}{POISON_SUFFIX}")
        self._queue = queue
        self._settings = settings
        self._invoke = invoke
        self._broken = broken
        self._lease = lease_seconds
        self._working: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Poll until :meth:`stop`: soon after a message, ever rarer while there is none."""
        pauses = Pauses(self._settings.max_polling_interval)
        while not self._stopping.is_set():
            if len(self._working) > self._settings.new_batch_threshold:
                self._room.clear()
                await self._either(self._room)
                continue
            try:
                messages = await self._take()
            except Exception as error:  # noqa: BLE001 - judged in one place
                if not _passes(error):
                    self._broken(error)
                    return
                LOG.warning("%s can't be read now: %s", self._queue, " ".join(str(error).split())[:300])
                messages = []
            for message in messages:
                self._begin(message)
            pause = pauses.following(found=bool(messages))
            if not messages:
                await self._either(None, pause)

    async def _either(self, event: asyncio.Event | None, seconds: float | None = None) -> None:
        """Wait for the event, the time, or the end, whatever comes first."""
        waits = [asyncio.create_task(each.wait()) for each in (self._stopping, event) if each is not None]
        _, pending = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    async def _take(self) -> list[QueueMessage]:
        pages = self._client.receive_messages(
            messages_per_page=self._settings.batch_size, visibility_timeout=int(self._lease)
        ).by_page()
        async for page in pages:
            return [message async for message in page]
        return []

    def _begin(self, message: QueueMessage) -> None:
        task = asyncio.create_task(self._process(message))
        self._working.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._room.set()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._broken(error)

    async def _process(self, message: QueueMessage) -> None:
        text = str(message.content)
        try:
            body = _decoded(text) if self._settings.base64 else text
        except ValueError as error:
            LOG.warning("message %s of %s can't be decoded: %s", message.id, self._queue, error)
            await self._copy_to_poison(message, text)
            return
        if (message.dequeue_count or 0) > self._settings.max_dequeue_count:
            if self._poison is not None:
                await self._set_aside(message, body)
            return
        renewal = asyncio.create_task(self._keep(message))
        try:
            await self._invoke(TypedData(bytes=body) if isinstance(body, bytes) else TypedData(string=body),
                               _metadata(message))  # fmt: skip
        except InvocationFailed as failure:
            LOG.warning("message %s of %s failed, try %s", message.id, self._queue, message.dequeue_count)
            log_failure(failure)
            await self._stop_renewal(renewal)
            await self._failed(message, body)
        else:
            await self._stop_renewal(renewal)
            with _unless_taken_over():
                await self._client.delete_message(message)

    @staticmethod
    async def _stop_renewal(renewal: asyncio.Task[None]) -> None:
        renewal.cancel()
        with suppress(asyncio.CancelledError):
            await renewal

    async def _keep(self, message: QueueMessage) -> None:
        """Renew the lease while the function works; each renewal gives a new pop receipt."""
        while True:
            await asyncio.sleep(self._lease / 2)
            try:
                renewed = await self._client.update_message(message, visibility_timeout=int(self._lease))
            except HttpResponseError as error:
                LOG.warning("the lease of message %s could not be renewed: %s", message.id, error.message)
                return
            message.pop_receipt = renewed.pop_receipt

    async def _failed(self, message: QueueMessage, body: str | bytes) -> None:
        if self._poison is None:
            return  # it stays invisible, else it would come back at once, for ever
        if (message.dequeue_count or 0) >= self._settings.max_dequeue_count:
            await self._set_aside(message, body)
        else:
            with _unless_taken_over():
                await self._client.update_message(message, visibility_timeout=int(self._settings.visibility_timeout))

    async def _set_aside(self, message: QueueMessage, body: str | bytes) -> None:
        raw = body if isinstance(body, bytes) else body.encode()
        await self._copy_to_poison(message, base64.b64encode(raw).decode() if self._settings.base64 else raw.decode())

    async def _copy_to_poison(self, message: QueueMessage, text: str) -> None:
        """Copy to the poison queue, then delete: killed in between, the message is there twice and not lost."""
        if self._poison is None:
            return
        try:
            await self._poison.send_message(text)
        except ResourceNotFoundError:
            await self._poison.create_queue()
            await self._poison.send_message(text)
        with _unless_taken_over():
            await self._client.delete_message(message)

    async def stop(self, *, seconds: float) -> None:
        """Take no more messages, and wait for those in work, at most so long."""
        self._stopping.set()
        if self._working:
            await asyncio.wait(self._working, timeout=seconds)


def _passes(error: Exception) -> bool:
    """Tell whether an error of reading a queue may pass by itself; any other ends the host."""
    if not isinstance(error, HttpResponseError):
        return False
    status = error.status_code or 0
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or _code(error) in _GONE_OR_DISABLED


@contextmanager
def _unless_taken_over() -> Iterator[None]:
    """Settle a message, unless another host has it by now, or it is gone."""
    try:
        yield
    except HttpResponseError as error:
        if _code(error) not in _TAKEN_OVER:
            raise


def _code(error: HttpResponseError) -> str:
    """Give the service's own code of an error (x-ms-error-code)."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code))


def _decoded(text: str) -> str | bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("it is not base64, which host.json's queues.messageEncoding asks for") from None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _metadata(message: QueueMessage) -> dict[str, TypedData]:
    return {
        "Id": TypedData(string=message.id),
        "DequeueCount": json_data(message.dequeue_count),
        "InsertionTime": json_data(_iso(message.inserted_on)),
        "ExpirationTime": json_data(_iso(message.expires_on)),
        "NextVisibleTime": json_data(_iso(message.next_visible_on)),
        "PopReceipt": TypedData(string=message.pop_receipt),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
