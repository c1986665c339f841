"""Has acts wait for a second person, where the settings say so.

The approval is a row of its own, whose id follows from what is asked for: the row of the request, or the content of a
call. It is written before anything is done, and decided in one guarded write: of several who decide at once, one does.

A message that waits stays in its queue, and is looked at now and then until somebody has decided, or nobody has in
time. Nothing has to be sent when somebody does, so nothing can be lost. What it asks for is checked anew then.

A call that brings a secret is not kept. What it asks for is kept as a fingerprint, and its caller sends it again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import acting
from shared.contracts.base import told_actor
from shared.contracts.events_approvals import ApprovalEnded, ApprovalWanted
from shared.domain.approvals import (
    ApprovalRecord,
    ApprovalState,
    Deed,
    approval_id,
    decided,
    expired,
    named,
    not_approved,
)
from shared.errors import AwaitsApproval, NotFound, Overtaken
from shared.telemetry import metrics
from shared.workflows.intake.audit import APP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.domain.callers import Actor
    from shared.domain.requests import RequestRecord
    from shared.ledger.approvals import ApprovalRows
    from shared.ledger.table import Versioned
    from shared.workflows.intake.approval_deeds import Deeds
    from shared.workflows.intake.outbox import Clock, Outbox

_log = logging.getLogger(__name__)
_ATTEMPTS = 10
_SOON, _SOON_FOR, _LATER = timedelta(seconds=10), timedelta(minutes=10), timedelta(minutes=1)
"""How often a message looks whether it is approved: a second person is quick, or takes their time."""

_COPIES_COME = timedelta(hours=1)
"""So long after a refusal a copy of the refused message may come, if the answer to the writing of it got lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Who asks, and by what.

    Attributes:
        base: tells apart what is asked for.
        token: of the request's row, which is another one when a request that was rejected is sent again; ``None`` of a
            call.
    """

    base: str
    fingerprint: str
    by: Actor
    comment: str | None
    queue: str | None = None
    request_id: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Lets acts through that need no second person, or that somebody has approved."""

    rows: ApprovalRows
    deeds: Deeds
    expire_after: timedelta
    outbox: Outbox
    clock: Clock

    # --- acts that need one ---

    async def check(self, known: RequestRecord, request: Any) -> None:
        """See that a request may be carried out, by what the ledger has of it.

        Raises:
            AwaitsApproval: somebody has to approve it first.
            Conflict: it was refused, or nobody approved it in time.
        """
        if known.progress is not None:  # it is being carried out
            return
        deed = await self.deeds.of(request)
        if deed is None:
            return
        asked = _Asked(
            base=f"{known.key}|{known.fingerprint}",
            fingerprint=known.fingerprint,
            by=known.actor or APP,
            comment=known.comment,
            queue=known.kind,
            request_id=known.request_id,
            token=approval_id(known.nonce),
        )
        await self._require(deed, asked)

    async def allow(self, deed: Deed, fingerprint: str, request_id: str | None) -> None:
        """See that a call may do what it asks for, which is not kept.

        Args:
            deed: what it would do.
            fingerprint: of that, without any secret.
            request_id: that its caller has given it.

        Raises:
            AwaitsApproval: somebody has to approve it; then the same caller sends it again.
            Conflict: it was refused.
        """
        if deed.act not in self.deeds.wanted:
            return
        by = acting.actor() or APP
        base = "|".join(("call", deed.act, deed.subject, fingerprint, by.kind, by.id, request_id or ""))
        await self._require(
            deed, _Asked(base=base, fingerprint=fingerprint, by=by, comment=acting.comment(), request_id=request_id)
        )

    async def _require(self, deed: Deed, asked: _Asked) -> None:
        name = asked.base
        while True:
            known = await self.rows.get(approval_id(name))
            if known is None:
                if not deed.is_needed:
                    return
                known = await self.rows.ask(self._new(approval_id(name), deed, asked))
            record = await self._told(known)
            if self._counts(record, asked):
                if record.state is ApprovalState.OPEN:
                    raise self._awaited(record)
                if record.state is not ApprovalState.APPROVED:
                    raise not_approved(record)
                if record.covers(deed):
                    return
            name = f"{name}|{record.approval_id}"  # asked for anew: what was approved was less, or is over

    def _counts(self, record: ApprovalRecord, asked: _Asked) -> bool:
        """Tell whether an approval is of what is asked for now, and not of an earlier time."""
        now = self.clock()
        if asked.token is None:
            return not record.is_over(now)
        if record.token == asked.token:
            return True
        is_refusal = record.state in {ApprovalState.REFUSED, ApprovalState.EXPIRED}
        return is_refusal and record.decided_at is not None and now < record.decided_at + _COPIES_COME

    def _new(self, identifier: str, deed: Deed, asked: _Asked) -> ApprovalRecord:
        now = self.clock()
        return ApprovalRecord(
            approval_id=identifier,
            act=deed.act,
            what=deed.what,
            subject_kind=deed.kind,
            subject=deed.subject,
            enrollment_group=deed.group,
            devices=deed.devices,
            fingerprint=asked.fingerprint,
            token=asked.token,
            queue=asked.queue,
            request_id=asked.request_id,
            asked_by=asked.by,
            asked_with=asked.comment,
            asked_at=now,
            expires_at=now + self.expire_after,
        )

    async def _told(self, known: Versioned[ApprovalRecord]) -> ApprovalRecord:
        """Have it listed and told, and end it if its time has run out; give it as it is then."""
        now = self.clock()
        while True:
            record = known.record
            await self.rows.note(record)
            after = expired(record, now)
            if after is record and not record.told and record.state is ApprovalState.OPEN:
                await self._tell(record)
                after = record.changed(told=True, revision=record.revision + 1)
            elif after is record and record.end_told is False:
                await self._tell_end(record)
                after = record.changed(end_told=True, revision=record.revision + 1)
            if after is record:
                return record
            known = await self.rows.try_replace(known, after) or await self._get(record.approval_id)

    async def _tell(self, record: ApprovalRecord) -> None:
        with acting.acting(record.asked_by, record.asked_with):
            await self.outbox.publish(
                ApprovalWanted(
                    approval_id=record.approval_id,
                    act=record.act,
                    what=record.what,
                    subject_kind=record.subject_kind,
                    subject=record.subject,
                    enrollment_group=record.enrollment_group,
                    devices=record.devices,
                    expires_at=record.expires_at,
                ),
                subject=record.subject,
                correlation_id=record.request_id or record.approval_id,
                occasion=record.approval_id,
            )

    async def _tell_end(self, record: ApprovalRecord) -> None:
        assert record.state is not ApprovalState.OPEN  # noqa: S101 - it has ended
        with acting.acting(record.decided_by, record.comment):
            await self.outbox.publish(
                ApprovalEnded(
                    approval_id=record.approval_id,
                    act=record.act,
                    what=record.what,
                    subject_kind=record.subject_kind,
                    subject=record.subject,
                    enrollment_group=record.enrollment_group,
                    devices=record.devices,
                    state=record.state,
                    asked_by=told_actor(record.asked_by),
                    comment=record.comment,
                ),
                subject=record.subject,
                correlation_id=record.request_id or record.approval_id,
                occasion=record.approval_id,
            )

    def _awaited(self, record: ApprovalRecord) -> AwaitsApproval:
        is_new = self.clock() - record.asked_at < _SOON_FOR
        return AwaitsApproval(
            f"to {record.what}, which {named(record.asked_by)} asked for, needs a second person: approval "
            f"{record.approval_id}, until {record.expires_at:%Y-%m-%d at %H:%M} UTC",
            retry_after=_SOON if is_new else _LATER,
            approval_id=record.approval_id,
        )

    # --- the second person ---

    async def approve(self, identifier: str) -> ApprovalRecord:
        """Approve an act.

        Raises:
            NotFound: the approval does not exist.
            Forbidden: whoever asked would approve it.
            Conflict: it is decided already, or its time has run out.
        """
        return await self._decide(identifier, ApprovalState.APPROVED)

    async def refuse(self, identifier: str) -> ApprovalRecord:
        """Refuse an act, as whoever asked for it may, too.

        Raises:
            NotFound: the approval does not exist.
            Conflict: it is decided already, or its time has run out.
        """
        return await self._decide(identifier, ApprovalState.REFUSED)

    async def _decide(self, identifier: str, state: ApprovalState) -> ApprovalRecord:
        by, comment = acting.actor() or APP, acting.comment()
        for _ in range(_ATTEMPTS):
            known = await self._get(identifier)
            after = decided(known.record, state, by, comment, self.clock())
            written = known if after is known.record else await self.rows.try_replace(known, after)
            if written is not None:
                return await self._told_if_it_can(written)
        raise Overtaken(f"the approval {identifier!r} is being changed by others")

    async def _told_if_it_can(self, known: Versioned[ApprovalRecord]) -> ApprovalRecord:
        """Have it listed and told; what fails of that is left to the sweep, since what was decided is decided."""
        try:
            return await self._told(known)
        except Exception as error:  # noqa: BLE001 - see above
            _log.warning("that an approval ended is told later: %s: %s", type(error).__name__, error)
            return known.record

    async def _get(self, identifier: str) -> Versioned[ApprovalRecord]:
        known = await self.rows.get(identifier)
        if known is None:
            raise NotFound.because(f"the approval {identifier!r} does not exist", field="id")
        return known

    async def describe(self, identifier: str) -> ApprovalRecord:
        """Find an approval.

        Raises:
            NotFound: it does not exist.
        """
        return (await self._get(identifier)).record

    async def group_of(self, identifier: str) -> str | None:
        """Find the enrollment group of an approval; ``None`` if it has none, or does not exist."""
        known = await self.rows.get(identifier)
        return known.record.enrollment_group if known else None

    async def page(
        self, columns: Mapping[str, str | None], *, size: int, continuation: str | None
    ) -> tuple[Sequence[ApprovalRecord], str | None]:
        """List a page of approvals, the latest first."""
        return await self.rows.page(columns, size=size, continuation=continuation)

    async def sweep(self) -> int:
        """End what nobody has decided in time, and have the list and the events say what is so.

        Returns:
            How many nobody has decided in time.
        """
        waiting, ended = 0, 0
        async for listed in self.rows.unsettled():
            known = await self.rows.get(listed.approval_id)
            if known is None:
                continue
            record = await self._told(known)
            waiting += record.state is ApprovalState.OPEN
            ended += record.state is ApprovalState.EXPIRED
        metrics.APPROVALS_WAITING.record(waiting)
        return ended
