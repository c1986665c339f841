"""Requests: what was asked for, and how far it is."""

from __future__ import annotations

import secrets
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.record import Part, Record

if TYPE_CHECKING:
    from collections.abc import Callable


class RequestState(StrEnum):
    """How far a request is."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
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
    """

    what: str
    since: datetime
    next_try: datetime | None = None
    tries: int = 1


class Progress(Part):
    """How far a request is that is carried out in batches.

    Attributes:
        continuation: where the next batch begins; ``None`` after the last one.
        next_at: when it is due.
        queued: requests that were made for single devices.
        need_csr: devices that have to bring a CSR first.
        skipped: devices for which there is nothing to do.
    """

    continuation: str | None = None
    next_at: datetime | None = None
    queued: int = 0
    need_csr: int = 0
    skipped: int = 0


class RequestRecord(Record):
    """One request.

    Attributes:
        kind: the queue that requests of this kind come by. Each kind has ids of its own.
        member: of the part of a request that concerns one member of a group, the member's id.
        fingerprint: of its content: the same id with other content is refused.
        received_at: when it was asked for.
        nonce: proves that a part comes from this request; nobody outside learns it.
        queued_at: when it was put into its queue by who accepted it; ``None`` for one that came by the queue.
        about: path of what it is about, as in ``/api/devices/press-1``.
        wait: what it waits for; ``None`` while it does not.
        reasons: why it was rejected; each ``{"field", "message"}``.
        rejection_id: of its message, if that was refused or set aside.
        ended_at: when it was done, or rejected; the id of a rejected one is free again from then on.
        progress: of one that is carried out in batches.
        revision: goes up with each change.
    """

    lifecycle = lifecycles.REQUEST
    documents: ClassVar[frozenset[str]] = frozenset({"wait", "reasons", "progress"})

    kind: str
    request_id: str
    fingerprint: str
    received_at: datetime
    member: str | None = None
    nonce: str = Field(default_factory=lambda: secrets.token_hex(16))
    queued_at: datetime | None = None
    state: RequestState = RequestState.RUNNING
    about: str | None = None
    wait: Wait | None = None
    reasons: tuple[dict[str, str], ...] | None = None
    rejection_id: str | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    revision: int = 0

    @property
    def key(self) -> str:
        """The row's key. No id holds a ``|``, so that no request of one's own gets at a part of another."""
        return "|".join(filter(None, (self.kind, self.request_id, self.member)))


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


def waits(what: str, *, at: datetime, next_try: datetime | None, rejection_id: str | None = None) -> Change:
    """Enter that it waits, and what for."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state in ENDED:
            return request
        before = request.wait
        wait = Wait(
            what=what, since=before.since if before else at, next_try=next_try, tries=before.tries + 1 if before else 1
        )
        return request.changed(state=RequestState.WAITING, wait=wait, rejection_id=rejection_id)

    return change


def advanced(before: Progress | None, after: Progress) -> Change:
    """Enter that a batch is carried out, unless another delivery of the message did so."""
    return lambda request: request.changed(progress=after) if request.progress == before else request


def done(at: datetime) -> Change:
    """Enter that it was carried out."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state in ENDED:
            return request
        return request.changed(state=RequestState.DONE, wait=None, rejection_id=None, ended_at=at)

    return change


def rejected(at: datetime, reasons: tuple[dict[str, str], ...], rejection_id: str | None = None) -> Change:
    """Enter that it was refused, or where the refused message is kept."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state is RequestState.REJECTED:
            return request if request.rejection_id else request.changed(rejection_id=rejection_id)
        if request.state is RequestState.DONE:
            return request
        return request.changed(
            state=RequestState.REJECTED, wait=None, reasons=reasons, rejection_id=rejection_id, ended_at=at
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
