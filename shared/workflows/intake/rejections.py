"""What could not be carried out: recorded whole, but for secrets, told, and replayed on request."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import tracing
from shared.contracts.answers import FailedTry, NotReplayed, Rejection, Replayed
from shared.contracts.base import stated
from shared.contracts.events import RequestRejected
from shared.contracts.ids import path_value
from shared.contracts.messages import MESSAGE_LIMIT, Queue, anew, read_message
from shared.contracts.orders import DeviceRegistration
from shared.contracts.parsing import parse
from shared.domain.rejections import (
    BODY_LIMIT,
    RejectionKind,
    RejectionRecord,
    RejectionState,
    message_digest,
    rejection_id,
)
from shared.errors import Conflict, NotFound, Rejected
from shared.ledger.rejections import Filters
from shared.ledger.table import Stale
from shared.reading.json_text import read_json
from shared.reading.text import text_of
from shared.redaction import without_secrets, without_secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.domain.orders import OrderLine
    from shared.ledger.orders import Orders
    from shared.ledger.rejections import Rejections
    from shared.ledger.table import Versioned
    from shared.workflows.intake.following import FollowedRequests
    from shared.workflows.intake.outbox import Clock, Outbox

_REPLAY_TAKES = timedelta(minutes=1)
"""After that, one that was begun is taken up by the next who asks."""

WAITS = ("waits, and is tried again: ", "set aside as rejection ")
"""How the reasons begin that are given here: for a service that is down, and for a replay."""

EVERY_OPEN = Filters()
REPLAYED_AT_ONCE = 500
"""Messages of one call, which takes a few seconds."""

_LONGEST_DELAY = timedelta(days=6)
"""Seven days are the longest that a queue hides a message (Put Message, REST API of Azure Storage)."""

_CAUSE_LIMIT = 500

_CORRELATING = ("orderId", "requestId")
_NAMING = ("registrationId", "enrollmentGroup", "name", "serialNumber")


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedMessages:
    """Keeps refused messages.

    Attributes:
        has_done_nothing: tells of what a queue raises whether it has put nothing there for sure.
    """

    rejections: Rejections
    orders: Orders
    following: FollowedRequests
    outbox: Outbox
    has_done_nothing: Callable[[BaseException], bool]
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
        await self.show_waiting(message, f"set aside as rejection {identifier}: {text}")
        return identifier

    async def show_waiting(self, message: ReceivedMessage, why: str | None) -> None:
        """Say at the lines of an order why they wait, if lines wait for the message.

        ``why`` begins with one of :data:`WAITS`; ``None`` takes such a reason back, and no other.
        """
        if message.queue is not Queue.DEVICE_REGISTRATIONS:
            return
        try:
            waiting = parse(DeviceRegistration, read_message(text_of(message.body)).data)
        except Rejected:
            return
        reasons = Rejected.because(why).documented() if why is not None else None
        for known in await self.orders.get_lines(waiting.order_id, waiting.line, waiting.lines):
            await self._show_reasons(known, reasons)

    async def _show_reasons(self, known: Versioned[OrderLine], reasons: tuple[dict[str, str], ...] | None) -> None:
        if not known.record.is_open or known.record.reasons == reasons:
            return
        if reasons is not None or (known.record.reason or "").startswith(WAITS):
            with suppress(Stale):  # who wrote meanwhile knows better how the line gets on
                await self.orders.replace_line(known, known.record.changed(reasons=reasons))

    async def _record(self, message: ReceivedMessage, kind: RejectionKind, reasons: tuple[dict[str, str], ...]) -> str:
        identifier = rejection_id(message.received, message.queue, message.message_id)
        digest = message_digest(message.queue, message.body)
        noted = await self.rejections.failures_of(digest) if kind is RejectionKind.POISON else None
        body = without_secrets_in(message.body)
        recorded = await self.rejections.try_insert(
            RejectionRecord(
                rejection_id=identifier,
                kind=kind,
                queue=message.queue,
                body=body[:BODY_LIMIT],
                left_out=max(0, len(body) - BODY_LIMIT),
                reasons=reasons,
                rejected_at=self.clock(),
                traceparent=tracing.current(),
                failures=noted.failures if noted else (),
                attempts=noted.count if noted else None,
            )
        )
        if noted is not None:
            await self.rejections.forget_failures(digest)
        if recorded is None:
            # By a delivery that broke off: that stays, and is told, though the reason be another now.
            record = (await self._get(identifier)).record
            kind, reasons = record.kind, record.reasons
        content = _content(message.body)
        correlation_id, subject = _first_text(content, _CORRELATING), _first_text(content, _NAMING)
        if kind is RejectionKind.POISON:
            await self.following.waits(
                message.queue,
                content,
                f"an operator: it failed again and again and is set aside as rejection {identifier}, to be replayed or "
                "closed",
                next_try=None,
                rejection_id=identifier,
            )
        else:
            await self.following.refused(message.queue, content, reasons, identifier)
        if message.queue is Queue.DEVICE_ORDERS and correlation_id is not None and "action" not in content:
            await self._refuse_order(correlation_id, content, reasons)
        await self.outbox.publish(
            RequestRejected(
                queue=message.queue,
                kind=kind,
                reasons=stated(reasons),
                rejection_id=identifier,
                order_id=correlation_id if message.queue is Queue.DEVICE_ORDERS else None,
            ),
            subject=subject or correlation_id or identifier,
            correlation_id=correlation_id or identifier,
            occasion=identifier,
        )
        return identifier

    async def _refuse_order(
        self, order_id: str, content: Mapping[str, Any], reasons: tuple[dict[str, str], ...]
    ) -> None:
        """Let an order say why it was refused, where its id can be one."""
        group = ""
        try:
            order_id = path_value("requestId", order_id)
        except Rejected:
            return
        with suppress(Rejected):
            group = path_value("enrollmentGroup", str(content.get("enrollmentGroup", "")))
        await self.orders.refuse(order_id, reasons, self.clock(), group=group)

    async def note_failure(self, message: ReceivedMessage, error: BaseException) -> None:
        """Note why a try failed, for the case that the message is set aside: its copy in the poison queue can't say."""
        digest = message_digest(message.queue, message.body)
        cause = f"{type(error).__name__}: {without_secrets(' '.join(str(error).split()))[:_CAUSE_LIMIT]}"
        await self.rejections.note_failure(digest, self.clock(), cause)

    async def page(
        self, filters: Filters = EVERY_OPEN, *, size: int, continuation: str | None
    ) -> tuple[list[Rejection], str | None]:
        """List a page of refused messages."""
        records, following = await self.rejections.page(filters, size=size, continuation=continuation)
        return [_described(record) for record in records], following

    async def describe(self, identifier: str) -> Rejection:
        """Show a refused message.

        Raises:
            NotFound: the rejection does not exist.
        """
        return _described((await self._get(identifier)).record)

    async def replay_many(self, filters: Filters, *, per_minute: int) -> Replayed:
        """Put refused messages back into their queues, so many a minute, and tell how many were, and what was not."""
        found, following = await self.rejections.page(filters, size=REPLAYED_AT_ONCE, continuation=None)
        replayed = 0
        failed: list[NotReplayed] = []
        for record in found:
            delay = timedelta(minutes=replayed / per_minute)
            try:
                await self.replay(record.rejection_id, delay=min(delay, _LONGEST_DELAY))
                replayed += 1
            except Rejected as rejection:
                failed.append(NotReplayed(id=record.rejection_id, reason=str(rejection)))
        return Replayed(replayed=replayed, not_replayed=failed, is_more=following is not None)

    async def close(self, identifier: str, comment: str) -> Rejection:
        """Say of a refused message that it will not be replayed, and why.

        Raises:
            NotFound: the rejection does not exist.
            Conflict: it was replayed, or may be in its queue again.
        """
        known = await self._get(identifier)
        closed = known.record
        if closed.state is not RejectionState.CLOSED:
            if closed.state is RejectionState.REPLAYING:
                raise Conflict.because(
                    f"{identifier!r} may be in its queue again, since nobody knows what became of its replay; "
                    "replay it once more",
                    field="id",
                )
            if closed.state is not RejectionState.OPEN:
                raise Conflict.because(f"{identifier!r} is {closed.state}; close an open one", field="id")
            closed = closed.changed(state=RejectionState.CLOSED, closed_at=self.clock(), comment=comment)
            if await self.rejections.try_replace(known, closed) is None:
                raise _under_way(identifier)
        # Also by a call that comes again: who closed it may have died before its request said so.
        await self.following.closed(Queue(closed.queue), _content(closed.body), closed.comment or "", identifier)
        return _described(closed)

    async def replay(self, identifier: str, *, delay: timedelta | None = None) -> Rejection:
        """Put a refused message back into its queue, once: repeated, it changes nothing.

        It is marked before it is sent and after, so that it says ``replayed`` only of what is in its queue again.

        Args:
            identifier: of the rejection.
            delay: when the message is to be seen.

        Raises:
            NotFound: the rejection does not exist.
            Conflict: another call is putting it back at this moment.
            Rejected: what is kept of it is not what came.
        """
        known = await self._get(identifier)
        if known.record.state is RejectionState.REPLAYED:
            return _described(known.record)
        if known.record.state is RejectionState.CLOSED:
            raise Conflict.because(f"{identifier!r} is closed: {known.record.comment}", field="id")
        text = _replayable(known.record)
        now = self.clock()
        begun = known.record.replayed_at
        if known.record.state is RejectionState.REPLAYING and begun is not None and now - begun < _REPLAY_TAKES:
            raise _under_way(identifier)
        claimed = await self.rejections.try_replace(
            known, known.record.changed(state=RejectionState.REPLAYING, replayed_at=now)
        )
        if claimed is None:
            raise _under_way(identifier)
        received = ReceivedMessage(
            queue=Queue(claimed.record.queue), message_id="", body=claimed.record.body, received=now
        )
        await self.show_waiting(received, None)
        try:
            await self.outbox.send_again(claimed.record.queue, text, delay=delay or None)
        except Exception as error:
            # Unless nothing was done for sure, it may be there: then nobody can close it, and the next call sends it.
            unknown = claimed.record.changed(replayed_at=None)
            after = known.record if self.has_done_nothing(error) else unknown
            # Only a call that came a minute later can have written meanwhile. If this fails, it is free in a minute.
            _ = await self.rejections.try_replace(claimed, after)
            raise
        done = claimed.record.changed(state=RejectionState.REPLAYED)
        # Only a call that came a minute later can have written meanwhile, and it sends and marks the same.
        _ = await self.rejections.try_replace(claimed, done)
        return _described(done)

    async def _get(self, identifier: str) -> Versioned[RejectionRecord]:
        known = await self.rejections.get(identifier)
        if known is None:
            raise NotFound.because(f"the rejection {identifier!r} does not exist", field="id")
        return known


def _under_way(identifier: str) -> Rejected:
    return Conflict.because(
        f"{identifier!r} is being replayed at this moment; look at it again in a minute, and replay it then if its "
        "state is not 'replayed'",
        field="id",
    )


def _replayable(record: RejectionRecord) -> str:
    if record.left_out:
        raise Rejected.because(
            f"the last {record.left_out} bytes of the message of {record.rejection_id!r} are not kept; send it anew "
            "instead"
        )
    try:
        text = anew(text_of(record.body, f"the message of {record.rejection_id!r}"))
    except Rejected as rejection:
        raise Rejected.because(f"{rejection}; send a corrected one instead") from None
    size = len(text.encode())
    if size > MESSAGE_LIMIT:  # it came without base64, and would go back in it
        raise Rejected.because(
            f"the message of {record.rejection_id!r} has {size} bytes, and at most {MESSAGE_LIMIT} fit a queue; send a "
            "shorter one instead"
        )
    return text


def _content(body: bytes) -> Mapping[str, Any]:
    """Give what a message says, as far as it can be read."""
    try:
        content = read_json(body)
    except ValueError:
        return {}
    if isinstance(content, dict) and "specversion" in content:
        with suppress(Rejected):
            content = read_message(text_of(body)).data
    if isinstance(content, dict) and isinstance(content.get("data"), dict):
        content = content["data"]
    return content if isinstance(content, dict) else {}


def _first_text(content: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    found = next((content[name] for name in names if isinstance(content.get(name), str) and content[name]), None)
    return without_secrets(found).strip()[:128] if found else None


def _described(record: RejectionRecord) -> Rejection:
    return Rejection(
        id=record.rejection_id,
        kind=record.kind,
        queue=Queue(record.queue),
        reasons=stated(record.reasons),
        rejected_at=record.rejected_at,
        state=record.state,
        replayed_at=record.replayed_at if record.state is RejectionState.REPLAYED else None,
        body=record.body.decode(errors="replace"),
        bytes_left_out=record.left_out,
        attempts=record.attempts,
        failures=[FailedTry(at=each.at, cause=each.cause) for each in record.failures],
        closed_at=record.closed_at,
        comment=record.comment,
    )
