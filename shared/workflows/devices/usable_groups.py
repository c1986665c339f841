"""Enrollment groups that take devices, and which CA signs for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.groups import GroupState
from shared.errors import Conflict, Deferred, NotFound
from shared.workflows.devices.wanted_certificates import Decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.groups import GroupRecord
    from shared.ledger.groups import Groups
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.intake.outbox import Clock

_SHARED_FOR = timedelta(seconds=5)
"""So long several devices go by one look at their group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableGroups:
    """Finds groups that take devices."""

    groups: Groups
    authorities: CertificateAuthorities
    clock: Clock

    async def get(self, group_id: str) -> GroupRecord:
        """Find an enrollment group that takes devices.

        Raises:
            NotFound: it does not exist.
            Conflict: it is disabled, or its CA signs nothing any more.
            Deferred: it is being made, or its CA is disabled.
        """
        known = await self.groups.get(group_id)
        if known is not None and known.record.state is GroupState.REQUESTED:
            raise Deferred(f"the enrollment group {group_id!r} is being made", retry_after=timedelta(seconds=1))
        if known is None or known.record.state is GroupState.DELETED:
            raise NotFound.because(
                f"the enrollment group {group_id!r} does not exist; create it first (queue enrollment-group-requests, "
                "action 'create')",
                field="enrollmentGroup",
            )
        if known.record.state is GroupState.DISABLED:
            raise Conflict.because(
                f"the enrollment group {group_id!r} is disabled; enable it before new devices can join",
                field="enrollmentGroup",
            )
        if not known.record.issuer:
            raise Conflict.because(
                f"the enrollment group {group_id!r} attests by caReferences and has no issuing CA, so its devices get "
                "their certificates elsewhere; order for a group that has one",
                field="enrollmentGroup",
            )
        await self.authorities.check_signs(known.record.issuer)
        return known.record

    async def decide(self, group_id: str) -> Decision:
        """Find the CA that signs for an enrollment group; errors are those of :meth:`get`."""
        decided_at = self.clock()
        return Decision(issuer=(await self.get(group_id)).issuer, decided_at=decided_at)

    def shared(self) -> Callable[[str], Awaitable[Decision]]:
        """Give a :meth:`decide` that several devices at once may ask, and that looks a group up once for some seconds.

        What was decided keeps the time of its look-up. So what waits for outdated decisions to be over (a rollover,
        before it looks for certificates of the former CA) waits long enough for these, too. A group that is disabled in
        between is like one that was disabled right after the look-up: DPS, which the act shuts as well, takes no
        device of it.
        """
        lock, decided = asyncio.Lock(), dict[str, Decision]()

        async def decide(group_id: str) -> Decision:
            async with lock:
                known = decided.get(group_id)
                if known is None or known.decided_at is None or self.clock() - known.decided_at > _SHARED_FOR:
                    known = decided[group_id] = await self.decide(group_id)
                return known

        return decide
