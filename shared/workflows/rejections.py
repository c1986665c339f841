"""What could not be carried out: recorded whole, but for private keys, told, and replayed on request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import tracing
from shared.contracts import DeviceRegistration, EventType, Queue, parse, path_value, read_message
from shared.errors import NotFound, Rejected
from shared.json_text import read_json
from shared.ledger.orders import OPEN_STATES
from shared.ledger.rejections import RejectionKind, RejectionRecord, rejection_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.ledger.orders import Orders
    from shared.ledger.rejections import Rejections
    from shared.workflows.events import Clock, Outbox

_PRIVATE_KEY = re.compile(
    rb'-----BEGIN [A-Z ]*PRIVATE KEY-----[^"]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?=")|\Z)', re.DOTALL
)
_REMOVED = b"[a private key was here, and is not kept]"
_CORRELATING = ("orderId", "requestId")
_NAMING = ("registrationId", "enrollmentGroup", "name", "serialNumber")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A queue message as it came.

    Attributes:
        queue: where it came from.
        message_id: the queue's own id of it.
        body: its bytes, decoded if it came in base64.
        received: when it was put into the queue.
    """

    queue: Queue
    message_id: str
    body: bytes
    received: datetime


@dataclass(frozen=True, slots=True)
class RejectedMessages:
    """Keeps refused messages."""

    rejections: Rejections
    orders: Orders
    outbox: Outbox
    clock: Clock

    async def record(self, message: ReceivedMessage, rejection: Rejected) -> str:
        """Record a message that can never succeed, and tell its sender.

        Returns:
            The id under which it can be looked up and replayed.
        """
        return await self._record(message, RejectionKind.REJECTED, rejection.documented())

    async def record_poison(self, message: ReceivedMessage) -> str:
        """Record a message that failed again and again; if a line of an order waits for it, that is told there, too."""
        text = (
            f"every delivery from {message.queue.value} failed; the causes are in the log under traceparent "
            f"{tracing.current()}. Mend the cause, then replay it"
        )
        identifier = await self._record(message, RejectionKind.POISON, Rejected.because(text).documented())
        if message.queue is Queue.DEVICE_REGISTRATIONS:
            await self._note(message.body, f"set aside as rejection {identifier}: {text}")
        return identifier

    async def _note(self, body: bytes, text: str) -> None:
        """Say at an order's line why it does not get on; it goes on when its message is replayed."""
        try:
            line = parse(DeviceRegistration, read_message(body.decode())[0])
        except (Rejected, UnicodeDecodeError):
            return
        known = await self.orders.get_line(line.order_id, line.line)
        if known is not None and known.record.state in OPEN_STATES:
            await self.orders.replace_line(known, known.record.changed(reasons=Rejected.because(text).documented()))

    async def _record(self, message: ReceivedMessage, kind: RejectionKind, reasons: tuple[dict[str, str], ...]) -> str:
        identifier = rejection_id(message.received, message.queue, message.message_id)
        await self.rejections.insert(
            RejectionRecord(
                rejection_id=identifier,
                kind=kind,
                queue=message.queue,
                body=_PRIVATE_KEY.sub(_REMOVED, message.body),
                reasons=reasons,
                rejected_at=self.clock(),
                traceparent=tracing.current(),
            )
        )
        correlation_id, subject = _named(message.body)
        if message.queue is Queue.DEVICE_ORDERS and correlation_id is not None:
            await self._refuse_order(correlation_id, reasons)
        await self.outbox.publish(
            EventType.REQUEST_REJECTED,
            subject=subject or correlation_id or identifier,
            correlation_id=correlation_id or identifier,
            data={"rejectionId": identifier, "queue": message.queue, "kind": kind, "reasons": reasons},
            occasion=identifier,
        )
        return identifier

    async def _refuse_order(self, order_id: str, reasons: tuple[dict[str, str], ...]) -> None:
        """Let an order say why there is none, where its id can be one."""
        try:
            order_id = path_value("requestId", order_id)
        except Rejected:
            return
        await self.orders.refuse(order_id, reasons, self.clock())

    async def page(self, *, size: int, continuation: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """List a page of refused messages."""
        records, following = await self.rejections.page(size=size, continuation=continuation)
        return [_described(record) for record in records], following

    async def replay(self, identifier: str) -> dict[str, Any]:
        """Put a refused message back into its queue.

        Raises:
            NotFound: there is no such rejection.
        """
        known = await self.rejections.get(identifier)
        if known is None:
            raise NotFound.because(f"there is no rejection {identifier!r}", field="id")
        try:
            text = known.record.body.decode()
        except UnicodeDecodeError:
            raise Rejected.because(f"the message of {identifier!r} is no text; post a corrected one instead") from None
        await self.outbox.queues.send(known.record.queue, text)
        record = known.record.changed(replayed_at=self.clock())
        await self.rejections.replace(known, record)
        return _described(record)


def _named(body: bytes) -> tuple[str | None, str | None]:
    """Find what a message is about, as far as it can be read: its request's id, and the id of its subject."""
    try:
        content = read_json(body)
    except ValueError:
        return None, None
    if isinstance(content, dict) and isinstance(content.get("data"), dict):
        content = content["data"]
    if not isinstance(content, dict):
        return None, None
    return _first_text(content, _CORRELATING), _first_text(content, _NAMING)


def _first_text(content: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((content[name][:128] for name in names if isinstance(content.get(name), str) and content[name]), None)


def _described(record: RejectionRecord) -> dict[str, Any]:
    return {
        "id": record.rejection_id,
        "kind": record.kind,
        "queue": record.queue,
        "reasons": record.reasons,
        "rejectedAt": record.rejected_at,
        "replayedAt": record.replayed_at,
        "body": record.body.decode(errors="replace"),
    }
