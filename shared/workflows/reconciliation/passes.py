"""Passes over everything, step by step, under a share of the services' quotas; and what becomes of what they find.

A step ends with the pass's row replaced as it was read. A worker that is killed in a step has it taken again, and of
two workers that take the same step, one goes on. What one of them has mended, the other does not find: so in one worker
a call and the timer do not carry on the same pass at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from shared.domain.findings import FindingState, SubjectKind
from shared.domain.passes import NAMED, ReconciliationRecord, ReconciliationState, Stage
from shared.domain.treatments import FindingKind
from shared.errors import Deferred, LedgerBehind, NotFound
from shared.telemetry import metrics
from shared.workflows.devices.unknown import unknown_device
from shared.workflows.groups.entries import unknown
from shared.workflows.reconciliation.finding_acts import FindingActs
from shared.workflows.reconciliation.steps import Step, step_of, why
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.domain.findings import Difference, FindingRecord
    from shared.ledger.findings import Reconciliations
    from shared.ledger.table import Versioned
    from shared.workflows.reconciliation.budget import Budget, Share, Spent
    from shared.workflows.reconciliation.enrollments import OurAuthorities

_log = logging.getLogger(__name__)
_KEPT = timedelta(days=30)
_ATTEMPTS = 4
_TRIED_FOR = timedelta(minutes=15)
"""So long a pass over one device waits for a service that does not answer: longer than an outage of ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler(FindingActs):
    """Begins passes, carries them on, and keeps what they find.

    Attributes:
        ours: are read anew for each step.
        interval: from the end of one pass to the next; ``None`` for passes on request only.
        pause: waits for so many seconds.
    """

    passes: Reconciliations
    share: Share
    ours: OurAuthorities
    interval: timedelta | None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _turns: Turns = field(default_factory=Turns)

    # --- passes ---

    async def begin(
        self, *, enrollment_group: str | None = None, registration_id: str | None = None
    ) -> ReconciliationRecord:
        """Begin a pass over everything, over one group with its devices, or over one device.

        Raises:
            NotFound: the ledger does not have the group or the device, so nothing would be compared.
        """
        if enrollment_group is not None and await self.groups.get(enrollment_group) is None:
            raise unknown(enrollment_group)
        if registration_id is not None and await self.devices.get(registration_id) is None:
            raise unknown_device(registration_id)
        now = self.clock()
        record = ReconciliationRecord(
            reconciliation_id=f"{now:%Y-%m-%dT%H%M%S}-{secrets.token_hex(4)}",
            began_at=now,
            enrollment_group=enrollment_group,
            registration_id=registration_id,
        )
        if registration_id is not None:
            record = record.entered(Stage.DEVICES)
        elif enrollment_group is not None:
            record = record.entered(Stage.GROUPS)
        _ = await self.passes.try_insert(record)  # its id was drawn: if it is there, an answer got lost
        return record

    async def begin_at_once(
        self, *, enrollment_group: str | None, registration_id: str | None, lasting: timedelta
    ) -> ReconciliationRecord:
        """Begin a pass as :meth:`begin` does, and carry it on for a while.

        What fails of that is left to the timer: the pass is begun, whoever has called for it.
        """
        begun = await self.begin(enrollment_group=enrollment_group, registration_id=registration_id)
        try:
            await self.carry_on(begun.reconciliation_id, until=self.clock() + lasting)
        except Exception as error:  # noqa: BLE001 - see above
            _log.warning("%s is carried on later: %s: %s", begun.reconciliation_id, type(error).__name__, error)
        return begun

    async def describe(self, reconciliation_id: str) -> ReconciliationRecord:
        """Show a pass.

        Raises:
            NotFound: it does not exist.
        """
        known = await self.passes.get(reconciliation_id)
        if known is None:
            raise NotFound.because(f"the reconciliation {reconciliation_id!r} does not exist", field="id")
        return known.record

    async def run(self, *, until: datetime) -> int:
        """Carry on what runs, or begin the pass that is due, until a time or until the share is spent.

        Returns:
            How many steps were taken.

        Raises:
            LedgerBehind: the ledger is an older one: the services would follow what is over.
            ExceptionGroup: some can't be carried on now; each one was tried.
        """
        await self.check_ledger()
        await self._begin_if_due()
        steps, failures = 0, list[Exception]()
        for each in sorted(await self.passes.running(), key=_is_whole):
            try:
                steps += await self.carry_on(each.reconciliation_id, until=until)
            except LedgerBehind:
                raise
            except Exception as error:  # noqa: BLE001 - one that can't be carried on must not hold up the others
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} passes can't be carried on now", failures)
        return steps

    async def carry_on(self, reconciliation_id: str, *, until: datetime) -> int:
        """Carry on one pass, as :meth:`run` does. One over everything leaves to the others what they have used."""
        await self.check_ledger()
        async with self._turns.of(reconciliation_id):
            return await self._carry_on(reconciliation_id, until=until)

    async def _carry_on(self, reconciliation_id: str, *, until: datetime) -> int:
        others = [each for each in await self.passes.running() if not _is_whole(each)]
        steps = 0
        while self.clock() < until:
            known = await self.passes.get(reconciliation_id)
            if known is None or known.record.state is not ReconciliationState.RUNNING:
                break
            counted = (*others, known.record) if _is_whole(known.record) else (known.record,)
            spent = [each.spent for each in counted]
            due = self.share.next_step(spent)
            if due is not None and due >= until:
                break
            if due is not None and due > self.clock():
                await self.pause((due - self.clock()).total_seconds())
                continue
            if await self._step(known, spent) is None:
                break
            steps += 1
        return steps

    async def _begin_if_due(self) -> None:
        known = await self.passes.all()
        for each in known:
            if each.ended_at is not None and each.ended_at < self.clock() - _KEPT:
                await self.passes.forget(each)
        whole = list(filter(_is_whole, known))
        _tell(whole)
        if self.interval is None or any(each.state is ReconciliationState.RUNNING for each in whole):
            return
        last = max((each.ended_at for each in whole if each.ended_at is not None), default=None)
        if last is None or self.clock() - last >= self.interval:
            await self.begin()

    async def _step(
        self, known: Versioned[ReconciliationRecord], spent: Sequence[Spent]
    ) -> Versioned[ReconciliationRecord] | None:
        record, budget = known.record, self.share.budget(spent, self.clock())
        self.ours.forget()
        if record.registration_id is not None and record.stage is Stage.DEVICES:
            step = await self._look_at_device(record, record.registration_id, budget)
        elif record.stage is Stage.GONE:
            step = await self._look_for_gone(record, budget)
        else:
            step = await self.walk.step(record, budget)
        for difference in step.differences:
            await self.keep(difference, record.reconciliation_id)
            await self._told_as_worse(difference)
        found = Counter(each.kind.value for each in step.differences if record.stage is not Stage.GONE)
        counted = record.counted(step.looked_at, budget.calls, found)
        counts: dict[str, object] = {
            "looked_at": counted.looked_at,
            "calls": counted.calls,
            "found": counted.found,
            "unread": record.unread + len(step.unread),
            "unread_subjects": dict(islice({**record.unread_subjects, **step.unread}.items(), NAMED)),
            "spent": self.share.spent(record.spent, budget.calls, self.clock()),
        }
        return await self.passes.try_replace(known, step.place.changed(**counts))

    async def _look_at_device(self, record: ReconciliationRecord, registration_id: str, budget: Budget) -> Step:
        """Look at the only device of a pass: what fails is tried again for a while, and then said."""
        following = record.entered(Stage.GONE)
        try:
            seen = await self.walk.device(registration_id, budget)
        except Exception as error:
            if self.clock() - record.began_at < _TRIED_FOR:
                raise
            _log.exception("%r can't be compared", registration_id)
            return Step(place=following, unread={registration_id: why(error)})
        return Step(place=following, looked_at=1, differences=tuple(seen))

    async def _told_as_worse(self, difference: Difference) -> None:
        """End the finding of an unknown identity that is told of as an open door."""
        if difference.kind is not FindingKind.DOOR_OPEN or difference.identity is None:
            return
        before = dataclasses.replace(difference, kind=FindingKind.IDENTITY_UNKNOWN).finding_id
        if await self.findings.get(before) is not None:
            with suppress(Deferred):  # who mends it is about to say so
                await self.end(before, FindingState.GONE)

    async def _look_for_gone(self, record: ReconciliationRecord, budget: Budget) -> Step:
        """See which findings of before are not there any more; those that still are, are given."""
        unseen = [
            each
            async for each in self.findings.not_seen_by(record.reconciliation_id)
            if _within(record, each) and record.comes(each.finding_id)
        ]

        async def look(finding: FindingRecord) -> Sequence[Difference]:
            now = {each.finding_id: each for each in await self.walk.again(finding.difference, budget)}
            if finding.finding_id in now:
                return (now[finding.finding_id],)
            with suppress(Deferred):  # who has mended it is about to say so
                await self.gone(finding.finding_id)
            return ()

        looks = {each.finding_id: partial(look, each) for each in unseen}
        looked = await self.walk.look_at(looks, lambda: self.walk.looks(budget, {each.where for each in unseen}))
        done = record.changed(state=ReconciliationState.DONE, ended_at=self.clock())
        return dataclasses.replace(step_of(record, done, looks, looked), unread={})  # counted where it was compared


def _tell(whole: Sequence[ReconciliationRecord]) -> None:
    """Tell, of passes over everything, how much the last one that has ended could not look at."""
    ended = [(each.ended_at, each.unread) for each in whole if each.ended_at is not None]
    metrics.NOT_COMPARED.record(max(ended)[1] if ended else 0)


def _is_whole(record: ReconciliationRecord) -> bool:
    return record.enrollment_group is None and record.registration_id is None


def _within(record: ReconciliationRecord, finding: FindingRecord) -> bool:
    """Tell whether a pass looks at what a finding is about."""
    if record.registration_id is not None:
        return finding.subject_kind is SubjectKind.DEVICE and finding.subject == record.registration_id
    if record.enrollment_group is not None:
        is_other = finding.subject_kind is SubjectKind.AUTHORITY
        return finding.enrollment_group == record.enrollment_group and not is_other
    return True
