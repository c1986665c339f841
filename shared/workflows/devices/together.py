"""Shuts many devices out together: the records say so first, and then their hubs, with a few calls for all.

Whoever compares, mends, renews or hands out goes by the record. So nothing that is done to many at once may be ahead of
it: the app would take its own work for somebody else's, and undo it. What a killed worker leaves here has its notes, so
the converger's timer goes on with it: also with a device that was let in again before its hub was told to shut it out.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.messages import Queue
from shared.domain import revocation
from shared.domain.requests import ENDED, RequestState
from shared.domain.upkeep import to_be_followed
from shared.errors import Rejected
from shared.workflows.devices.changes import change, unsettled
from shared.workflows.intake.requests import Part, record_of
from shared.workflows.many import AT_ONCE, in_parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from shared.contracts.devices import MemberRevocation, RevocationRequest
    from shared.domain.devices import DeviceRecord
    from shared.domain.words import RevocationReason
    from shared.ledger.devices import Devices, UnsettledRecord
    from shared.ledger.requests import Requests
    from shared.workflows.devices.identities import DeviceIdentities
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuttingTogether:
    """Shuts the devices of a request out, of which each gets a message of its own as well."""

    devices: Devices
    requests: Requests
    identities: DeviceIdentities
    clock: Clock

    async def shut_out(self, parts: Iterable[MemberRevocation], reason: RevocationReason) -> None:
        """Have devices revoked in the ledger, and disabled at their hubs; the rest is done with their messages.

        Args:
            parts: what is asked for each. They are counted by their request, and may have been carried out.
            reason: for which they are revoked.
        """
        at_once = asyncio.Semaphore(AT_ONCE)
        found = [record async for record in in_parts(self._revoke, parts, at_once)]
        shut = [record for record in found if record is not None and record.shut_out]
        by = uuid.uuid4().hex
        notes = [unsettled(each, self.clock()).changed(late=by) for each in shut]
        try:
            await self._for_each(notes, self.devices.enter_unsettled)
            await self.identities.disable_many(shut, reason=f"certificate revoked: {reason.value}")
            await self._for_each(notes, self._see_late)
        except Exception:
            with suppress(Exception):  # then the timer does so, when nobody can be at work here any more
                await self._for_each(notes, self._see_late)
            raise

    async def _for_each(
        self, notes: Iterable[UnsettledRecord], see_to: Callable[[UnsettledRecord], Awaitable[None]]
    ) -> None:
        async for _ in in_parts(see_to, notes, asyncio.Semaphore(AT_ONCE)):
            pass

    async def _revoke(self, part: MemberRevocation) -> DeviceRecord | None:
        """Carry out what is asked for a device in the ledger; ``None`` if that is over, or its message is refused."""
        asked = Part(member=part.registration_id, token=part.part)
        row = record_of(Queue.REVOCATION_REQUESTS, part, self.clock(), asked, state=RequestState.QUEUED)
        known = (await self.requests.claim(row)).record
        if known.state in ENDED:
            return None
        await self.requests.begun(known, part)
        act = revoking(part, self.clock())
        try:
            return (await change(self.devices, part.registration_id, act, at=self.clock(), request=known)).record
        except Rejected:
            return None

    async def _see_late(self, note: UnsettledRecord) -> None:
        """See to it that a device is let in again which somebody has let in before its hub was told to shut it out."""
        await change(self.devices, note.registration_id, _if_let_in, at=self.clock())
        await self.devices.leave_unsettled(note)


def _if_let_in(record: DeviceRecord) -> DeviceRecord:
    return record if record.shut_out else to_be_followed(record)


def revoking(request: RevocationRequest, at: datetime) -> Callable[[DeviceRecord], DeviceRecord]:
    """Give what a request to revoke does to the record of a device: to that of each, if it is about many."""
    return partial(
        revocation.revoked, act=act_of(request), reason=request.reason, at=at, correlation=request.request_id
    )


def act_of(request: RevocationRequest) -> str:
    """Name a request among a device's acts; the parts of a group's request differ by their device."""
    return f"{request.action} {request.request_id}"
