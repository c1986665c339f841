"""How far a request is: shown, listed, waited for, and mended where a host died at the wrong moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import acting
from shared.contracts.answers_requests import BatchProgress, FollowedRequest, ListedRequest
from shared.contracts.base import stated, told_actor
from shared.contracts.devices import MemberRevocation
from shared.contracts.ids import path_value
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.orders import OrderState
from shared.domain.requests import (
    ENDED,
    Progress,
    RequestRecord,
    RequestState,
    begun,
    done,
    queued,
    rejected,
    waits,
)
from shared.errors import Conflict, NotFound, Rejected
from shared.workflows.intake.requests import Part, asked_by, part_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from shared.domain.orders import OrderRecord
    from shared.domain.requests import Change, RequestLogEntry
    from shared.ledger.orders import Orders
    from shared.ledger.requests import Requests
    from shared.workflows.intake.outbox import Clock

KINDS = (
    Queue.CERTIFICATE_REQUESTS,
    Queue.ENROLLMENT_GROUP_REQUESTS,
    Queue.DEVICE_ORDERS,
    Queue.RENEWAL_REQUESTS,
    Queue.REVOCATION_REQUESTS,
)
"""Queues that requests come by. What is in the other one are parts of orders."""

_LOOK_AGAIN = 0.5
"""Seconds between two looks while somebody waits for an answer."""

_LEFT = timedelta(minutes=10)
_NEVER_SENT = timedelta(hours=1)
"""Who accepted a request puts it into its queue at once, or died in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedRequests:
    """All requests, whatever way they came."""

    requests: Requests
    orders: Orders
    clock: Clock
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def describe(self, request_id: str, kind: Queue | None) -> FollowedRequest:
        """Show a request.

        Args:
            request_id: its id.
            kind: the queue of its kind; needed only if requests of several kinds have the id.

        Raises:
            NotFound: no request has this id.
            Conflict: several have, and ``kind`` is not given.
        """
        kinds = [kind] if kind is not None else [*KINDS]
        looked = await asyncio.gather(*(self._described(each, request_id) for each in kinds))
        found = [each for each in looked if each is not None]
        if not found:
            raise NotFound.because(f"the request {request_id!r} does not exist", field="requestId")
        if len(found) > 1:
            names = ", ".join(each.kind for each in found)
            raise Conflict.because(f"requests of several kinds have this id; give one of {names}", field="kind")
        return found[0]

    async def wait(self, request_id: str, kind: Queue | None, seconds: float) -> FollowedRequest:
        """Show a request as soon as its state changes, or has ended, but no later than after some seconds.

        Raises:
            NotFound, Conflict: as :meth:`describe`.
        """
        first = shown = await self.describe(request_id, kind)
        until = self.clock() + timedelta(seconds=seconds)
        while shown.state is first.state and shown.ended_at is None and self.clock() < until:
            await self.pause(_LOOK_AGAIN)
            shown = await self.describe(request_id, kind)
        return shown

    async def _described(self, kind: Queue, request_id: str) -> FollowedRequest | None:
        if kind is Queue.DEVICE_ORDERS and (order := await self.orders.get(request_id)) is not None:
            return _of_order(order.record)
        known = await self.requests.find(kind, request_id)
        return _of_request(known.record) if known else None

    async def page(
        self,
        *,
        state: RequestState | None,
        kind: Queue | None,
        since: datetime | None,
        size: int,
        continuation: str | None,
        about: str | None = None,
    ) -> tuple[list[ListedRequest], str | None]:
        """List a page of requests, the latest first. An order that came by its queue is in the list of orders alone.

        Args:
            state: only those in this state.
            kind: only those of this kind.
            since: only those that were asked for then or later.
            size: of the page at most.
            continuation: of the page before.
            about: only those about what has this path, as in ``/api/enrollment-groups/line-1``.
        """
        entries, following = await self.requests.page(
            state=state, kind=kind, since=since, size=size, continuation=continuation, about=about
        )
        states = await asyncio.gather(*map(self._state_of, entries))
        return [
            ListedRequest(
                request_id=each.request_id,
                kind=Queue(each.kind),
                state=state,
                about=each.about,
                requested_at=each.at,
                location=location_of(Queue(each.kind), each.request_id),
            )
            for each, state in zip(entries, states, strict=True)
        ], following

    async def _state_of(self, entry: RequestLogEntry) -> RequestState:
        """Give the state of a request in the list; that of an order is its order's."""
        if entry.kind != Queue.DEVICE_ORDERS or not entry.is_open:
            return entry.state
        order = await self.orders.get(entry.request_id)
        return _state_of_order(order.record) if order else entry.state

    # --- what becomes of a message ---

    async def order_accepted(self, order_id: str, fingerprint: str, send: Awaitable[None]) -> None:
        """Enter an order that came over HTTP, which is there before its row is, and send it."""
        record = RequestRecord(
            kind=Queue.DEVICE_ORDERS,
            request_id=order_id,
            fingerprint=fingerprint,
            received_at=self.clock(),
            state=RequestState.QUEUED,
            about=f"/api/device-orders/{order_id}",
            actor=asked_by(order_id),
            comment=acting.comment(),
        )
        known = (await self.requests.claim(record)).record
        await send
        await self.requests.enter(known, queued(self.clock()))

    async def order_asked_by(self, order_id: str, fingerprint: str) -> RequestRecord | None:
        """Find the row of an order that came over HTTP, which says who asked; ``None`` if it came by its queue."""
        known = await self.requests.find(Queue.DEVICE_ORDERS, order_id)
        return known.record if known is not None and known.record.fingerprint == fingerprint else None

    async def waits(
        self,
        kind: Queue,
        data: Any,
        what: str,
        *,
        next_try: datetime | None,
        rejection_id: str | None = None,
        for_others: bool = False,
    ) -> None:
        """Enter that the request of a message, or the part of one, waits, if it has a row of its own."""
        known = await self._request_of(kind, data) or await self._order_not_taken(kind, data)
        if known is not None:
            change = waits(what, at=self.clock(), next_try=next_try, rejection_id=rejection_id, for_others=for_others)
            await self.requests.enter(known, change)

    async def _order_not_taken(self, kind: Queue, data: Any) -> RequestRecord | None:
        """Find the row of an order that came over HTTP and waits before it has a row among the orders."""
        given = data.get("orderId") if kind is Queue.DEVICE_ORDERS and isinstance(data, dict) else None
        if not isinstance(given, str) or "action" in data or await self.orders.get(given) is not None:
            return None
        known = await self.requests.find(Queue.DEVICE_ORDERS, given)
        return known.record if known else None

    async def refused(self, kind: Queue, data: Any, reasons: tuple[dict[str, str], ...], rejection_id: str) -> None:
        """Enter where the refused message of a request is kept; a request that never got as far is entered."""
        known = await self._request_of(kind, data)
        now = self.clock()
        if known is not None and known.state is RequestState.REJECTED:
            await self.requests.enter(known, rejected(now, reasons, rejection_id))
        identifier = _request_id(kind, data)
        if known is None and identifier is not None:
            await self.requests.refuse(
                RequestRecord(
                    kind=kind,
                    request_id=identifier,
                    fingerprint="",
                    received_at=now,
                    state=RequestState.REJECTED,
                    reasons=reasons,
                    rejection_id=rejection_id,
                    ended_at=now,
                )
            )

    async def closed(self, kind: Queue, data: Any, comment: str, rejection_id: str) -> None:
        """Enter that a request whose message was set aside will not be carried out, if it waits for that message."""
        known = await self._request_of(kind, data)
        if known is not None and known.is_set_aside and known.rejection_id == rejection_id:
            reasons = Rejected.because(f"it was set aside and closed: {comment}").documented()
            await self.requests.given_up(known, reasons[0]["message"])
            await self.requests.enter(known, rejected(self.clock(), reasons, known.rejection_id))

    async def _request_of(self, kind: Queue, data: Any) -> RequestRecord | None:
        if kind is Queue.REVOCATION_REQUESTS and isinstance(data, dict) and "part" in data:
            with suppress(Rejected):
                part = parse(MemberRevocation, data)
                return await part_of(
                    self.requests, kind, part, Part(member=part.registration_id, token=part.part), self.clock()
                )
            return None
        identifier = _request_id(kind, data)
        known = await self.requests.find(kind, identifier) if identifier is not None else None
        return known.record if known else None

    async def mend(self) -> int:
        """See to requests that the list says are open and that nothing was heard of for a while.

        A row of the list may be outdated, and a request may never have got into its queue, if a host died in between.

        Returns:
            How many were looked at.
        """
        now, looked_at = self.clock(), 0
        async for entry in self.requests.left_open(now - _LEFT):
            looked_at += 1
            known = await self.requests.find(entry.kind, entry.request_id)
            if known is None or known.record.received_at != entry.at:
                continue
            record = known.record
            order = await self.orders.get(entry.request_id) if entry.kind == Queue.DEVICE_ORDERS else None
            if order is not None:
                await self.requests.enter(record, _follows(order.record))
            elif record.is_unsent and record.received_at < now - _NEVER_SENT:
                lost = Rejected.because("it did not get into its queue; send it again").documented()
                await self.requests.given_up(record, lost[0]["message"])
                await self.requests.enter(record, rejected(now, lost))
            else:
                await self.requests.renote(entry)
        return looked_at


def location_of(kind: Queue, request_id: str) -> str:
    """Give the path at which a request can be followed."""
    return f"/api/requests/{request_id}?kind={kind.value}"


def _request_id(kind: Queue, data: Any) -> str | None:
    """Find the id of a message's request; ``None`` for parts, for orders, and for what has no valid one."""
    if kind not in KINDS or not isinstance(data, dict) or "part" in data:
        return None
    if kind is Queue.DEVICE_ORDERS and "action" not in data:
        return None
    given = data.get("requestId")
    if isinstance(given, str):
        with suppress(Rejected):
            return path_value("requestId", given)
    return None


def _of_request(record: RequestRecord) -> FollowedRequest:
    wait = record.wait if record.state in {RequestState.WAITING, RequestState.AWAITING_APPROVAL} else None
    return FollowedRequest(
        request_id=record.request_id,
        kind=Queue(record.kind),
        state=record.state,
        about=record.about,
        requested_at=record.received_at,
        waiting_for=wait.what if wait else None,
        waiting_since=wait.since if wait else None,
        next_try=wait.next_try if wait else None,
        tries=wait.tries if wait else None,
        reasons=stated((record.reasons or ()) if record.state is RequestState.REJECTED else ()),
        rejection_id=record.rejection_id,
        ended_at=record.ended_at if record.state in ENDED else None,
        progress=_counts_of(record.progress) if record.progress else None,
        actor=told_actor(record.actor),
        comment=record.comment,
        approval_id=wait.approval if wait else None,
    )


def _counts_of(progress: Progress) -> BatchProgress:
    return BatchProgress(
        queued=progress.queued,
        need_csr=progress.need_csr,
        skipped=progress.skipped,
        done=progress.done,
        failed=progress.failed,
        waiting=progress.waiting,
    )


_OF_ORDERS: Mapping[OrderState, RequestState] = {
    OrderState.COMPLETED: RequestState.DONE,
    OrderState.COMPLETED_WITH_FAILURES: RequestState.DONE,
    OrderState.CANCELLED: RequestState.DONE,
    OrderState.REJECTED: RequestState.REJECTED,
    OrderState.WAITING: RequestState.WAITING,
}


def _state_of_order(record: OrderRecord) -> RequestState:
    return _OF_ORDERS.get(record.state, RequestState.RUNNING)


def _follows(order: OrderRecord) -> Change:
    """Enter what became of an order."""
    at = order.completed_at or order.accepted_at
    match _state_of_order(order):
        case RequestState.DONE:
            return done(at)
        case RequestState.REJECTED:
            return rejected(at, order.reasons or ())
        case _:
            return begun


def _of_order(record: OrderRecord) -> FollowedRequest:
    state = _state_of_order(record)
    return FollowedRequest(
        request_id=record.order_id,
        kind=Queue.DEVICE_ORDERS,
        state=state,
        about=f"/api/device-orders/{record.order_id}",
        requested_at=record.accepted_at,
        waiting_for="devices, which are to boot for the first time" if state is RequestState.WAITING else None,
        waiting_since=None,
        next_try=None,
        tries=None,
        reasons=stated((record.reasons or ()) if state is RequestState.REJECTED else ()),
        rejection_id=None,
        ended_at=(record.completed_at or record.accepted_at) if state in ENDED else None,
        progress=None,
        actor=told_actor(record.actor),
        comment=record.comment,
        approval_id=None,
    )
