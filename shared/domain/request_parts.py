"""Parts of requests about many devices: how the request counts them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from shared.domain.record import Record
from shared.domain.requests import ENDED, Progress, RequestState, begun

if TYPE_CHECKING:
    from shared.domain.requests import Change, RequestRecord


class PartState(StrEnum):
    """How far a part is, as its request counts it.

    ``waiting``: somebody outside has to act. ``setAside``: an operator has, who replays or closes its message.
    """

    OPEN = "open"
    WAITING = "waiting"
    SET_ASIDE = "setAside"
    DONE = "done"
    FAILED = "failed"


class PartNote(Record):
    """A part of a request about a group, where its request counts it; what it is now stands in its own row.

    Attributes:
        kind: of the request and the part.
        whole: id of the request.
        key: of the part's own row.
        asks: the part's message, as it was first decided on; ``None`` where the part's own row tells of it.
        revision: of that row, when this was noted; -1 before there is one.
        noted_at: when that was.
    """

    kind: str
    whole: str
    key: str
    asks: str | None = None
    state: PartState = PartState.OPEN
    revision: int = -1
    noted_at: datetime


class PartCounts(NamedTuple):
    """The parts of a request, counted.

    Attributes:
        unsent: some of those whose message was not sent, as far as is known: who counted them died before.
    """

    total: int
    open: int
    waiting: int
    set_aside: int
    done: int
    failed: int
    unsent: tuple[PartNote, ...] = ()


def part_note(request: RequestRecord, now: datetime) -> PartNote | None:
    """Give a request as the one about its group counts it; ``None`` if it is not a part of one."""
    whole = request.whole or (request.request_id if request.member is not None else None)
    if whole is None:
        return None
    return PartNote(
        kind=request.kind,
        whole=whole,
        key=request.key,
        state=_part_state(request),
        revision=request.revision,
        noted_at=now,
    )


def _part_state(request: RequestRecord) -> PartState:
    if request.state is RequestState.DONE:
        return PartState.DONE
    if request.state is RequestState.REJECTED:
        return PartState.FAILED
    if request.is_set_aside:
        return PartState.SET_ASIDE
    waits_outside = request.state is RequestState.WAITING and request.wait is not None and request.wait.for_others
    return PartState.WAITING if waits_outside else PartState.OPEN


def counted(parts: PartCounts) -> Change:
    """Enter how far the parts of a request are."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state in ENDED:
            return request
        before = request.progress or Progress()
        after = before.changed(
            queued=parts.total,
            # A device whose part is done looks like one without, if its batch is gone through again.
            skipped=max(0, before.seen - before.need_csr - parts.total),
            done=parts.done,
            failed=parts.failed,
            waiting=parts.waiting,
        )
        return (begun(request) if parts.open else request).changed(progress=after)

    return change
