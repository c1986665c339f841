"""Requests about enrollment groups: each enters what is wanted of the group, and has it brought about.

One request at a time is entered, in one write that is guarded by what was read; if another one is not done yet, it is
brought about first. Each thing that can be set remembers when its value was asked for: so what was asked for last is
what stays, in whatever order queues deliver.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.contracts.groups import GroupAction
from shared.contracts.messages import Queue
from shared.domain.entries import values_of
from shared.domain.groups import (
    CREATED,
    EXISTENCE,
    STATUS,
    Change,
    ChangeAction,
    GroupRecord,
    GroupState,
    Rollover,
    RolloverState,
)
from shared.errors import Conflict, Rejected
from shared.ledger.table import Stale
from shared.rules.etags import ANY_VERSION
from shared.workflows.groups.checks import next_generation
from shared.workflows.groups.entries import SHUTTING, busy, named, unknown
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.requests import is_repeated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from shared.contracts.groups import EnrollmentGroupRequest
    from shared.ledger.groups import Groups
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.workflows.groups.checks import GroupChecks
    from shared.workflows.groups.convergence import GroupConverger
    from shared.workflows.intake.outbox import Clock

_ATTEMPTS = 8
_REFERENCES, _RENEWS = "caReferences", "renewAutomatically"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request, and when it was made."""

    request: EnrollmentGroupRequest
    at: datetime

    @property
    def group(self) -> str:
        return self.request.enrollment_group

    def is_late(self, record: GroupRecord, what: str) -> bool:
        """Tell whether something later is carried out. Who names an ETag has seen what was before, and that decides."""
        return self.request.if_match in {None, ANY_VERSION} and record.overtaken(what, self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentGroups:
    """Carries out requests about enrollment groups.

    Attributes:
        check_ledger: sees that the ledger is not an older one; raises ``LedgerBehind``.
    """

    groups: Groups
    requests: Requests
    checks: GroupChecks
    converger: GroupConverger
    check_ledger: Callable[[], Awaitable[None]]
    clock: Clock

    async def carry_out(self, request: EnrollmentGroupRequest, *, asked_at: datetime | None = None) -> None:
        """Do what a request asks for. What was asked for later, and is carried out already, stays as it is.

        Args:
            request: what is wanted.
            asked_at: when it was asked for; without it, now.

        Raises:
            NotFound: the group, or the issuer, does not exist.
            Conflict: the group exists with another definition, or the request id was used with other content.
            PreconditionFailed: the group's entry has another ETag.
            Rejected: DPS refuses the group, or has as many as it takes.
            Deferred: the group is being made, others keep changing it, or a CA is not ready yet.
            LedgerBehind: DPS may let somebody in by it, and the ledger is an older one.
        """
        if request.action not in SHUTTING:
            await self.check_ledger()
        async with once(
            self.requests, Queue.ENROLLMENT_GROUP_REQUESTS, request, self.clock, asked_at=asked_at
        ) as to_do:
            if to_do is None:
                return
            asked = _Asked(request=request, at=to_do.received_at)
            for _ in range(_ATTEMPTS):
                known = await self.groups.get(asked.group)
                if known is not None and request.request_id in known.record.acts:
                    return
                await self._attempt(asked, known)
            raise busy(asked.group)

    async def is_repeated(self, request: EnrollmentGroupRequest) -> bool:
        """Tell whether a request came before; see :func:`shared.workflows.intake.requests.is_repeated`."""
        return await is_repeated(self.requests, Queue.ENROLLMENT_GROUP_REQUESTS, request)

    async def _attempt(self, asked: _Asked, known: Versioned[GroupRecord] | None) -> None:
        """Go on with a request: have it decided and brought about, or first what was decided before it."""
        group_id, record = asked.group, known.record if known else None
        if record is None or not record.wants(asked.request.request_id):
            if record is not None and record.change is not None:
                if record.state is GroupState.REQUESTED:
                    raise busy(group_id)  # it is being made, which may take a while
                with suppress(Rejected):  # which is another request's, and is told to that one
                    await self.converger.settle(group_id)
                return
            try:
                wanted = await self._decide(asked, record)
                await (self.groups.replace(known, wanted) if known else self.groups.insert(wanted))
            except Stale:
                return
            except Rejected:
                present = await self.groups.get(group_id)
                if (present and present.etag) != (known and known.etag):
                    return  # it was judged by what has changed since
                raise
        if asked.request.action is GroupAction.ROLL:
            await self.converger.prepare(group_id, request=asked.request.request_id)
        await self.converger.settle(group_id, request=asked.request.request_id)

    # --- what is wanted ---

    async def _decide(self, asked: _Asked, record: GroupRecord | None) -> GroupRecord:
        """Give the record as a request wants it."""
        exists = record is not None and record.state is not GroupState.DELETED
        match asked.request.action:
            case GroupAction.CREATE:
                return await self._new(asked, record)
            case GroupAction.PUT if not exists:
                return await self._new(asked, record)
        if record is None or not exists:
            raise unknown(asked.group)
        match asked.request.action:
            case GroupAction.ROLL:
                return await self._roll(asked, record)
            case GroupAction.DELETE:
                return self._deletion(asked, record)
            case GroupAction.DISABLE | GroupAction.ENABLE:
                if asked.request.action is GroupAction.ENABLE:
                    await self.checks.enable(record)
                return self._switch(asked, record)
            case _:
                return await self._update(asked, record)

    async def _new(self, asked: _Asked, before: GroupRecord | None) -> GroupRecord:
        request, now = asked.request, self.clock()
        if before is not None and before.state is not GroupState.DELETED:
            raise Conflict.because(
                f"{named(asked.group)} exists; change it with action 'update', or 'put'", field="enrollmentGroup"
            )
        if before is not None and asked.is_late(before, EXISTENCE):
            return self._overtaken(asked, before, ChangeAction.CREATE)
        # Checked before anything is recorded: a request that can't be carried out must leave no trace.
        generation = next_generation(before)
        wanted = await self.checks.new(request, generation)
        issuer, definition = (wanted, None) if isinstance(wanted, str) else (wanted.name, wanted)
        change = Change(
            request=request.request_id,
            action=ChangeAction.CREATE,
            state=GroupState.ENABLED,
            issuer=issuer,
            decided_at=now,
            asked=dict.fromkeys((CREATED, EXISTENCE), asked.at),
            settings=values_of(request),
            ca_references=request.ca_references,
            renew_automatically=request.renew_automatically,
            parent=definition.parent if definition else None,
            custody=definition.custody if definition else None,
        )
        return GroupRecord(
            enrollment_group=asked.group,
            state=GroupState.REQUESTED,
            issuer=issuer,
            updated_at=now,
            last_request=request.request_id,
            generation=generation,
            change=change,
            acts=before.acts if before else (),
        )

    async def _update(self, asked: _Asked, record: GroupRecord) -> GroupRecord:
        request = asked.request
        references, issuer = await self.checks.update(request, record)
        if references is not None and asked.is_late(record, _REFERENCES):
            references, issuer = None, record.issuer
        values = {place: value for place, value in values_of(request).items() if not asked.is_late(record, place)}
        renews = None if asked.is_late(record, _RENEWS) else request.renew_automatically
        is_put = request.action is GroupAction.PUT
        also = {_REFERENCES: references is not None, _RENEWS: renews is not None, EXISTENCE: is_put}
        what = [*values, *(name for name, is_set in also.items() if is_set)]
        return self._changed(
            asked.request,
            record,
            action=ChangeAction.UPDATE,
            issuer=issuer,
            asked=dict.fromkeys(what, asked.at),
            settings=values,
            ca_references=references,
            renew_automatically=renews,
            restores=is_put,
            if_none_match=request.if_none_match,
        )

    def _switch(self, asked: _Asked, record: GroupRecord) -> GroupRecord:
        action = ChangeAction(asked.request.action)
        if asked.is_late(record, STATUS):
            return self._overtaken(asked, record, action)
        state = GroupState.ENABLED if action is ChangeAction.ENABLE else GroupState.DISABLED
        return self._changed(asked.request, record, action=action, state=state, asked={STATUS: asked.at})

    def _deletion(self, asked: _Asked, record: GroupRecord) -> GroupRecord:
        if asked.is_late(record, EXISTENCE):
            return self._overtaken(asked, record, ChangeAction.DELETE)
        return self._changed(
            asked.request, record, action=ChangeAction.DELETE, state=GroupState.DELETED, asked={EXISTENCE: asked.at}
        )

    def _overtaken(self, asked: _Asked, record: GroupRecord, action: ChangeAction) -> GroupRecord:
        """Enter that nothing is to be done but to tell that."""
        return self._changed(asked.request, record, action=action, overtaken=True)

    def _changed(self, request: EnrollmentGroupRequest, record: GroupRecord, **fields: Any) -> GroupRecord:
        now = self.clock()
        change = {"state": record.state, "issuer": record.issuer, "if_match": request.if_match, **fields}
        return record.changed(change=Change(request=request.request_id, decided_at=now, **change), updated_at=now)

    async def _roll(self, asked: _Asked, record: GroupRecord) -> GroupRecord:
        """Let a new issuing CA take over; see :mod:`shared.workflows.groups.rollovers`."""
        request, now = asked.request, self.clock()
        wanted = await self.checks.roll(request, record)
        name, definition = (wanted, None) if isinstance(wanted, str) else (wanted.name, wanted)
        before = record.rollover if record.rollover is not None and record.rollover.under_way else None
        rollover = Rollover(
            source=before.source if before is not None else record.issuer,
            target=name,
            state=RolloverState.PREPARING,
            request=request.request_id,
            started_at=now,
            parent=definition.parent if definition else None,
            custody=definition.custody if definition else None,
            replaces=before,
        )
        return record.changed(
            rollover=rollover, generation=record.generation + 1, updated_at=now, last_request=request.request_id
        )
