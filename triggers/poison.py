"""Keeps messages that the host has given up, where they can't expire: in the rejections ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared import tracing
from shared.adapters.sdk_errors import is_outage
from shared.contracts.messages import INBOUND_QUEUES, Queue, read_message
from shared.errors import Rejected
from shared.reading.text import text_of
from shared.workflows.intake.rejections import ReceivedMessage
from triggers import whole
from triggers.bodies import decoded, trace_of
from triggers.outcomes import received_of, reject
from triggers.worker import log, services

if TYPE_CHECKING:
    import azure.functions as func

_LEASE = timedelta(minutes=5)


async def set_aside(queue: Queue, message: func.QueueMessage) -> None:
    """Move a poison message into the rejections ledger, where it can't expire."""
    await whole.check(services())  # raised, the host leaves the message in its queue, and the sweep comes to it
    await _set_aside(received_of(queue, message))


async def _set_aside(received: ReceivedMessage) -> None:
    with tracing.continued(trace_of(received.body)):
        try:
            said = read_message(text_of(received.body, "the message"))
        except Rejected as rejection:  # its refusal could not be recorded, then
            await reject(received, rejection)
            return
        with tracing.continued(said.traceparent or tracing.current()):
            identifier = await services().rejected_messages.record_poison(received)
            log.error("%s: a message turned poison and is kept as rejection %s", received.queue, identifier)


async def sweep() -> int:
    """Move what lies in the poison queues into the rejections ledger, and tell how many that were.

    The host tries the function of a poison queue five times and then leaves the message there for good (QueueProcessor
    of the WebJobs SDK: a poison queue has no poison queue), so what arrives while the tables are down would stay.
    """
    moved, failed = 0, list[Exception]()
    for queue in INBOUND_QUEUES:
        try:
            moved += await _move(queue)
        except Exception as error:  # noqa: BLE001 - another queue may be in another account
            failed.append(error)
    if failed:
        raise failed[0]
    return moved


async def _move(queue: Queue) -> int:
    moved = 0
    async for message in services().clients.queues.take(queue.poison, lease=_LEASE):
        body = decoded(message.content)
        try:
            await _set_aside(
                ReceivedMessage(queue=queue, message_id=message.message_id, body=body, received=message.inserted)
            )
            await services().clients.queues.delete(queue.poison, message.message_id, message.receipt)
        except Exception as error:  # noqa: BLE001 - the others are to be moved, and this one when the next sweep comes
            log.error("%s: a poison message could not be kept: %s: %s", queue, type(error).__name__, error)
            if is_outage(error):
                return moved
        else:
            moved += 1
    return moved
