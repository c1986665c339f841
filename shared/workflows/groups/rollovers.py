"""Rollover: a new issuing CA takes over in an enrollment group, and no device is cut off.

The next CA is made and put into DPS as ``secondary``; only then do new certificates come from it. While a certificate
of the old CA may be in use, DPS accepts both (Microsoft: "How to roll X.509 device certificates"). When none is left,
the old CA is taken out, and the new one becomes ``primary``.

A request enters the rollover into the group's record, and this sweep enters the retirement; the converger brings both
about (:mod:`shared.workflows.groups.convergence`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.answers_groups import DeviceLeft, RolloverSummary
from shared.contracts.answers_groups import Rollover as RolloverAnswer
from shared.domain.certificates import DECISION_HOLDS
from shared.domain.group_signers import without_previous
from shared.domain.groups import Change, ChangeAction, GroupState, RolloverState
from shared.errors import Deferred, NotFound, Rejected
from shared.ledger.table import Stale
from shared.workflows.groups.entries import named, read_entry

if TYPE_CHECKING:
    from shared.domain.groups import GroupRecord, Rollover
    from shared.ledger.certificates import Certificates
    from shared.ledger.groups import Groups
    from shared.ledger.table import Versioned
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.groups.convergence import GroupConverger
    from shared.workflows.intake.outbox import Clock

SETTLING = 2 * DECISION_HOLDS
"""So long after the new CA took over, the old one may still sign; doubled, since workers' clocks differ."""

COUNT_LIMIT = 10_000
"""Certificates that are counted to show the progress of a rollover."""

_PROBLEM_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollovers:
    """Carries rollovers on, and ends them."""

    groups: Groups
    certificates: Certificates
    authorities: CertificateAuthorities
    provisioning: ProvisioningService
    converger: GroupConverger
    clock: Clock

    async def sweep(self) -> dict[RolloverState, int]:
        """Carry on what broke off, and retire CAs whose last certificate has ended.

        A group that can't go on does not stop the others; its rollover shows why.

        Returns:
            How many rollovers are in which state now, of those that were under way.

        Raises:
            ExceptionGroup: services failed; every group was tried.
        """
        states = dict.fromkeys(RolloverState, 0)
        failures: list[Exception] = []
        async for record in self.groups.list():
            rollover = record.rollover
            if record.state is GroupState.DELETED or rollover is None or (not rollover.under_way and record.settled):
                continue
            try:
                states[await self._carry_on(record.enrollment_group) or rollover.state] += 1
            except (Deferred, Stale):
                states[rollover.state] += 1  # somebody is at it; the next sweep looks again
            except Exception as error:  # noqa: BLE001 - the other groups come first, then it is raised
                failures.append(error)
        if failures:
            raise ExceptionGroup("rollovers could not go on", failures)
        return states

    async def _carry_on(self, group_id: str) -> RolloverState | None:
        try:
            await self.converger.prepare(group_id)
            with suppress(Rejected):  # which its request is told
                await self.converger.settle(group_id)
            await self._retire(group_id)
        except Rejected as rejection:
            await self._note(group_id, str(rejection)[:_PROBLEM_LIMIT])
        known = await self.groups.get(group_id)
        return known.record.rollover.state if known and known.record.rollover else None

    async def _retire(self, group_id: str) -> None:
        """Have the old CA taken out, if none of its certificates can be used any more."""
        known = await self.groups.get(group_id)
        if known is None or known.record.rollover is None or not await self._is_over(known.record.rollover):
            return
        rollover = known.record.rollover
        source, target = await self.authorities.load(rollover.source), await self.authorities.load(rollover.target)
        # Seen before it is entered: what somebody else put into DPS would have it withdrawn at once.
        without_previous(await read_entry(self.provisioning, group_id), source.certificate, target.certificate)
        await self._enter(known, rollover)
        await self.converger.settle(group_id, request=rollover.request)

    async def _is_over(self, rollover: Rollover) -> bool:
        now, since = self.clock(), rollover.rolling_since or rollover.started_at
        if rollover.state is not RolloverState.ROLLING or now - since < SETTLING:
            return False
        await self.authorities.check_ledger()  # an older one may not know of all that is in force
        return not await self.certificates.any_in_force(rollover.source, now)

    async def _enter(self, known: Versioned[GroupRecord], rollover: Rollover) -> None:
        record, now = known.record, self.clock()
        if record.change is not None:
            raise Stale(record.enrollment_group)
        retirement = Change(
            request=rollover.request,
            action=ChangeAction.RETIRE,
            state=record.state,
            issuer=record.issuer,
            decided_at=now,
        )
        await self.groups.replace(known, record.changed(change=retirement, updated_at=now))

    async def _note(self, group_id: str, problem: str) -> None:
        known = await self.groups.get(group_id)
        if known is None or known.record.rollover is None or known.record.rollover.problem == problem:
            return
        noted = known.record.rollover.changed(problem=problem)
        # If the row has changed, somebody is at the rollover; the next sweep sees whether the problem is still there.
        _ = await self.groups.try_replace(known, known.record.changed(rollover=noted))

    async def describe(self, record: GroupRecord) -> RolloverAnswer | None:
        """Show how far a group's rollover is, ``None`` if it has none."""
        rollover = record.rollover
        if rollover is None:
            return None
        left = 0
        if rollover.under_way:
            left = await self.certificates.count_in_force(rollover.source, self.clock(), limit=COUNT_LIMIT)
        return RolloverAnswer(
            source=rollover.source,
            target=rollover.target,
            state=rollover.state,
            started_at=rollover.started_at,
            retired_at=rollover.retired_at,
            problem=rollover.problem,
            certificates_left=left,
            more_left=left == COUNT_LIMIT,
        )

    async def left(
        self, record: GroupRecord, *, size: int, continuation: str | None
    ) -> tuple[list[DeviceLeft], str | None]:
        """List a page of the devices that a group's old CA still has to stay for, by the index of its certificates.

        Raises:
            NotFound: the group has no rollover.
        """
        rollover = record.rollover
        if rollover is None:
            raise NotFound.because(
                f"{named(record.enrollment_group)} has no rollover; it has one after 'roll'", field="enrollmentGroup"
            )
        entries, following = await self.certificates.page_in_force(
            rollover.source, self.clock(), size=size, continuation=continuation
        )
        return [
            DeviceLeft(registration_id=each.subject, serial_number=each.serial_number, ends_by=each.until)
            for each in entries
        ], following


def summary(rollover: Rollover) -> RolloverSummary:
    """Show a rollover, as far as the ledger's row has it."""
    return RolloverSummary(
        source=rollover.source,
        target=rollover.target,
        state=rollover.state,
        started_at=rollover.started_at,
        retired_at=rollover.retired_at,
        problem=rollover.problem,
    )
