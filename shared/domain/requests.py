"""Requests: what was asked for, and how far it is."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.callers import Actor
from shared.domain.record import Part, Record
from shared.errors import Overtaken

if TYPE_CHECKING:
    from collections.abc import Callable


class RequestState(StrEnum):
    """How far a request is."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    AWAITING_APPROVAL = "awaitingApproval"
    DONE = "done"
    REJECTED = "rejected"


ENDED = frozenset({RequestState.DONE, RequestState.REJECTED})
"""States that stay as they are, until a rejected request is sent again."""


class Wait(Part):
    """What a request waits for.

    Attributes:
        what: in words.
        since: when it began to wait, for whatever causes since then.
        next_try: when it is looked at again; ``None`` if somebody has to act first.
        tries: how often it was tried since then.
        for_others: whether somebody outside has to act, such as its device: the app's own part is done.
        approval: id of what a second person has to decide.
    """

    what: str
    since: datetime
    next_try: datetime | None = None
    tries: int = 1
    for_others: bool = False
    approval: str | None = None


class Progress(Part):
    """How far a request about a group is, whose devices are gone through in batches, and each get a part of their own.

    Attributes:
        continuation: where the next batch begins, empty before the first one; ``None`` after the last one.
        next_at: when it is due.
        began_at: when the first batch began; ``None`` where that does not count.
        seen: devices that were gone through.
        queued: parts that were made.
        need_csr: devices that have to bring a CSR first.
        skipped: devices for which there is nothing to do.
        done: parts that were carried out.
        failed: parts that were refused.
        waiting: parts that wait for somebody outside, such as their device.
    """

    continuation: str | None = None
    next_at: datetime | None = None
    began_at: datetime | None = None
    seen: int = 0
    queued: int = 0
    need_csr: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    waiting: int = 0

    @property
    def is_dispatched(self) -> bool:
        """Whether all of its parts were made."""
        return self.continuation is None


def part_key(kind: str, request_id: str, member: str | None = None) -> str:
    """Give the key of a request's row, or of that of its part for a member of its group."""
    return "|".join(filter(None, (kind, request_id, member)))


DELIVERY_LASTS = timedelta(minutes=10)
"""So long a delivery is at work at most: then the host ends it (``functionTimeout`` in host.json)."""


class Delivery(Part):
    """A delivery of a request's message that somebody is at work on, or died over.

    Attributes:
        number: how many had begun, with this one.
        by: tells it from all others.
        message: the queue's id of the message that is delivered.
    """

    number: int
    by: str
    began_at: datetime
    message: str | None = None


class RequestRecord(Record):
    """One request.

    Attributes:
        kind: the queue that requests of this kind come by. Each kind has ids of its own.
        member: of the part of a request that concerns one member of a group, the member's id.
        whole: id of the request about a group that it is a part of.
        fingerprint: of its content: the same id with other content is refused.
        received_at: when it was asked for.
        actor: who asked, as it was known when the request was accepted; ``None`` where that was the app itself.
        comment: what they said to it.
        nonce: proves that a part comes from this request; nobody outside learns it.
        queued_at: when it was put into its queue by who accepted it; ``None`` for one that came by the queue.
        about: path of what it is about, as in ``/api/devices/press-1``.
        wait: what it waits for; ``None`` while it does not.
        reasons: why it was rejected; each ``{"field", "message"}``.
        rejection_id: of its message, if that was refused or set aside.
        ended_at: when it was done, or rejected; the id of a rejected one is free again from then on.
        progress: of one that is carried out in batches.
        deliveries: how many deliveries of its message have begun.
        at_work: those that have not ended.
        refused_message: the queue's id of the message that was refused, if it came by its queue.
        certificate: serial number that was drawn last for the certificate that it asks for, where no other record has
            it; whether it was signed, and counts, its own row tells.
        revision: goes up with each change.
    """

    lifecycle = lifecycles.REQUEST
    documents: ClassVar[frozenset[str]] = frozenset({"actor", "wait", "reasons", "progress", "at_work"})

    kind: str
    request_id: str
    fingerprint: str
    received_at: datetime
    member: str | None = None
    whole: str | None = None
    actor: Actor | None = None
    comment: str | None = None
    nonce: str = Field(default_factory=lambda: secrets.token_hex(16))
    queued_at: datetime | None = None
    state: RequestState = RequestState.RUNNING
    about: str | None = None
    wait: Wait | None = None
    reasons: tuple[dict[str, str], ...] | None = None
    rejection_id: str | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    deliveries: int = 0
    at_work: tuple[Delivery, ...] = ()
    refused_message: str | None = None
    certificate: str | None = None
    revision: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether nobody but the last delivery is at work."""
        return all(each.number == self.deliveries for each in self.at_work)

    @property
    def is_set_aside(self) -> bool:
        """Whether its message is a rejection, since every try failed: nothing is done until an operator replays it."""
        return self.state is RequestState.WAITING and self.rejection_id is not None

    @property
    def waits_by_itself(self) -> bool:
        """Whether it waits for its next try, and for no operator."""
        return self.state is RequestState.WAITING and self.wait is not None and self.wait.next_try is not None

    @property
    def is_unsent(self) -> bool:
        """Whether it was accepted, and is not in its queue as far as is known."""
        return self.state is RequestState.QUEUED and self.queued_at is None

    @property
    def key(self) -> str:
        """The row's key. No id holds a ``|``, so that no request of one's own gets at a part of another."""
        return part_key(self.kind, self.request_id, self.member)


type Change = Callable[[RequestRecord], RequestRecord]
"""A change of a request: gives the same record where it was made before, or is too late."""


def queued(at: datetime) -> Change:
    """Enter that it is in its queue."""
    return lambda request: request if request.queued_at else request.changed(queued_at=at)


def begun(request: RequestRecord) -> RequestRecord:
    """Enter that it is being carried out."""
    if request.state not in {RequestState.QUEUED, RequestState.WAITING}:
        return request
    return request.changed(state=RequestState.RUNNING)


def waits(
    what: str,
    *,
    at: datetime,
    next_try: datetime | None,
    rejection_id: str | None = None,
    for_others: bool = False,
) -> Change:
    """Enter that it waits, and what for."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state in ENDED:
            return request
        before = request.wait
        wait = Wait(
            what=what,
            since=before.since if before else at,
            next_try=next_try,
            tries=before.tries + 1 if before else 1,
            for_others=for_others,
        )
        return request.changed(state=RequestState.WAITING, wait=wait, rejection_id=rejection_id)

    return change


def awaits_approval(what: str, approval: str, at: datetime) -> Change:
    """Enter that it waits for a second person."""

    def change(request: RequestRecord) -> RequestRecord:
        is_known = request.wait is not None and request.wait.approval == approval
        is_awaited = request.state is RequestState.AWAITING_APPROVAL and is_known
        if request.state in ENDED or request.progress is not None or is_awaited:
            return request
        wait = Wait(what=what, since=at, approval=approval)
        return begun(request).changed(state=RequestState.AWAITING_APPROVAL, wait=wait, rejection_id=None)

    return change


def approved(request: RequestRecord) -> RequestRecord:
    """Enter that it waits for a second person no more."""
    if request.state is not RequestState.AWAITING_APPROVAL:
        return request
    return request.changed(state=RequestState.RUNNING, wait=None)


def advanced(before: Progress | None, after: Progress) -> Change:
    """Enter that a batch is carried out, unless another delivery of the message did so."""
    return lambda request: begun(request).changed(progress=after) if request.progress == before else request


def draws(serial_number: str, *, instead_of: str | None) -> Change:
    """Enter the serial number of the certificate that is about to be signed for a request.

    Args:
        serial_number: 40 hexadecimal digits.
        instead_of: the one before, which was given up; ``None`` if there was none.
    """

    def change(request: RequestRecord) -> RequestRecord:
        if request.certificate == serial_number:
            return request  # entered before, and the answer got lost
        if request.state in ENDED or request.certificate != instead_of:
            raise Overtaken(f"another delivery of request {request.request_id!r} is at work")
        return request.changed(certificate=serial_number)

    return change


def done(at: datetime) -> Change:
    """Enter that it was carried out."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state in ENDED:
            return request
        return request.changed(state=RequestState.DONE, wait=None, rejection_id=None, ended_at=at, at_work=())

    return change


def rejected(at: datetime, reasons: tuple[dict[str, str], ...], rejection_id: str | None = None) -> Change:
    """Enter that it was refused, or where the refused message is kept."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state is RequestState.REJECTED:
            return request if request.rejection_id else request.changed(rejection_id=rejection_id)
        if request.state is RequestState.DONE:
            return request
        return request.changed(
            state=RequestState.REJECTED,
            wait=None,
            reasons=reasons,
            rejection_id=rejection_id,
            ended_at=at,
            at_work=(),
        )

    return change


class RequestLogEntry(Record):
    """A request as lists show it; what it is now stands in its own row.

    Attributes:
        at: when it was asked for: its place in the list.
        revision: of the request's row that it was made from.
        is_open: whether more is to come.
        updated_at: when that was.
    """

    kind: str
    request_id: str
    at: datetime
    state: RequestState
    is_open: bool
    updated_at: datetime
    revision: int
    about: str | None = None


def logged(request: RequestRecord, now: datetime) -> RequestLogEntry:
    """Give a request as lists show it."""
    return RequestLogEntry(
        kind=request.kind,
        request_id=request.request_id,
        at=request.received_at,
        state=request.state,
        is_open=request.state not in ENDED,
        updated_at=now,
        revision=request.revision,
        about=request.about,
    )
