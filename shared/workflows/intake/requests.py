"""Recognises a request that comes again, by HTTP or by its queue.

An id belongs to one kind of request, and is taken by what was accepted: a request that is refused leaves it free. HTTP
takes it ahead of the queue (:func:`submit`), so that a conflict is said at once. The queue takes it, or finds it taken
by the same request (:func:`shared.workflows.intake.deliveries.once`).

What a request about a group asks for each member of it goes by messages of its own. Such a part carries the id of its
request, and a token that only this request can make (:func:`part_for`). It is recorded where no id from outside leads,
so nobody can take its place beforehand.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from shared import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import AuthorityRevocation
from shared.contracts.messages import Queue
from shared.domain.requests import RequestRecord, RequestState, queued, rejected
from shared.domain.words import CertificateKind
from shared.errors import NotAuthentic, Rejected, Reused
from shared.rules.request_ids import led_to

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from shared.domain.callers import Actor
    from shared.ledger.requests import Requests
    from shared.workflows.intake.outbox import Clock, Outbox


class Request(Protocol):
    """A body of the contract that has an id."""

    @property
    def request_id(self) -> str:
        """Its id, or that of the request that it is a part of."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal content; see :class:`shared.contracts.base.Contract`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a request about a group asks for one member of it.

    Attributes:
        member: the member's id.
        token: made by :func:`part_for`; 64 hexadecimal digits.
    """

    member: str
    token: str


def part_for(request: RequestRecord, member: str) -> Part:
    """Make the part of a request for one member; the same one however often the request is carried out.

    Args:
        request: as :func:`shared.workflows.intake.deliveries.once` gave it.
        member: the member's id.
    """
    return Part(member=member, token=hmac.new(request.nonce.encode(), member.encode(), sha256).hexdigest())


def led_to_by(request: RequestRecord, prefix: str, about: str) -> str:
    """Name a request that another one leads to: the same however often it is asked for, so it is done once.

    Nobody can tell the name beforehand, so nobody can have used it for something else.

    Args:
        request: the other one, as :func:`shared.workflows.intake.deliveries.once` gave it.
        prefix: what leads to it, as in ``renewed-ca``; a hyphen and 32 hexadecimal digits follow.
        about: what tells it from others of the same request.
    """
    return led_to(prefix, about, secret=request.nonce)


async def submit(
    requests: Requests,
    outbox: Outbox,
    kind: Queue,
    request: Any,
    clock: Clock,
    *,
    delay: timedelta | None = None,
    whole: str | None = None,
    again: bool = False,
) -> None:
    """Accept a request that came over HTTP, or is the app's own: take its id and put it into its queue, once.

    Args:
        requests: all requests.
        outbox: sends it.
        kind: its queue.
        request: a :class:`shared.contracts.base.Contract` with a ``request_id``.
        clock: gives the present time.
        delay: how long it stays in its queue at least.
        whole: id of the request about a group that it is a part of.
        again: whether it is sent though it was sent before, unless it is done: whoever asks sees that it is not.

    Raises:
        Conflict: the id was used before, with other content.
        Rejected: it is too large for a queue.
    """
    wanted = record_of(kind, request, clock(), state=RequestState.QUEUED, whole=whole)
    known = (await requests.claim(wanted)).record
    check_same(known, request)
    was_sent = known.queued_at is not None or known.state is not RequestState.QUEUED
    if known.state is RequestState.DONE or (was_sent and not again):
        return
    try:
        await outbox.send(kind, request, delay=delay)
    except Rejected as rejection:
        await requests.enter(known, rejected(clock(), rejection.documented()))
        raise
    await requests.enter(known, queued(clock()))


async def is_repeated(requests: Requests, kind: Queue, request: Request) -> bool:
    """Tell whether a request was accepted before.

    Raises:
        Conflict: the id was used before, with other content.
    """
    known = await requests.get(kind, request.request_id)
    if known is not None:
        check_same(known.record, request)
    return known is not None


def record_of(
    kind: Queue,
    request: Request,
    at: datetime,
    part: Part | None = None,
    *,
    state: RequestState = RequestState.RUNNING,
    whole: str | None = None,
) -> RequestRecord:
    """Give the row of a request, or of a part of one, as it is first written."""
    return RequestRecord(
        state=state,
        kind=kind.value,
        request_id=request.request_id,
        member=part.member if part else None,
        whole=request.request_id if part else whole,
        fingerprint=request.fingerprint,
        received_at=at,
        about=about(kind, request) if part is None else None,
        actor=asked_by(request.request_id),
        comment=acting.comment(),
    )


def asked_by(request_id: str) -> Actor | None:
    """Give who asks for the work under way, by a request of some id."""
    actor = acting.actor()
    return actor.changed(request_id=request_id) if actor else None


def about(kind: Queue, request: Any) -> str | None:
    """Give the path of what a request is about, where its outcome is to be seen."""
    if kind is Queue.DEVICE_ORDERS:
        return f"/api/device-orders/{request.order_id}"
    if isinstance(request, AuthorityAct | AuthorityRevocation):
        name = request.name if isinstance(request, AuthorityAct) else request.issuer
        return f"/api/certificate-authorities/{name}"
    if kind is Queue.ENROLLMENT_GROUP_REQUESTS:
        return f"/api/enrollment-groups/{request.enrollment_group}"
    if kind is Queue.CERTIFICATE_REQUESTS and request.kind is not CertificateKind.DEVICE:
        verifies = request.kind is CertificateKind.VERIFICATION
        return f"/api/certificate-authorities/{request.issuer if verifies else request.name}"
    device = request.name if kind is Queue.CERTIFICATE_REQUESTS else getattr(request, "registration_id", None)
    order, group = getattr(request, "order_id", None), getattr(request, "enrollment_group", None)
    if device is not None or order is not None:
        return f"/api/devices/{device.lower()}" if device is not None else f"/api/device-orders/{order}"
    return f"/api/enrollment-groups/{group}" if group else None


async def part_of(requests: Requests, kind: Queue, request: Request, part: Part, at: datetime) -> RequestRecord:
    """Find the row of a part, which gets one if its message never got as far.

    Raises:
        NotAuthentic: the part was not made by the request whose id it carries.
    """
    await check_part(requests, kind, request, part)
    known = await requests.find(kind, request.request_id, part.member)
    return (known or await requests.claim(record_of(kind, request, at, part))).record


async def check_part(requests: Requests, kind: Queue, request: Request, part: Part) -> RequestRecord:
    """Give the request that a part is of.

    Raises:
        NotAuthentic: the part was not made by the request whose id it carries.
    """
    whole = await requests.get(kind, request.request_id)
    if whole is None or not hmac.compare_digest(part_for(whole.record, part.member).token, part.token):
        raise NotAuthentic.because(
            f"this is not a part of request {request.request_id!r}; only the service makes parts: leave 'part' out",
            field="part",
        )
    return whole.record


def check_same(known: RequestRecord, request: Request) -> None:
    """See that a request is the one that its id was used for.

    Raises:
        Reused: it has other content.
    """
    if known.fingerprint != request.fingerprint:
        raise Reused.because(
            f"{known.request_id!r} was used on {known.received_at:%Y-%m-%d} with other content; a new request needs a "
            "new id",
            field="requestId",
        )
