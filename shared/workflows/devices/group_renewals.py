"""Renews the devices of a group, so many a minute.

The request goes through its devices in batches. Where the next one begins and when it is due stands in the request's
own record, and the message is put back until then. So a killed host costs a batch that is made again, which changes
nothing: the request for one device has an id that follows from the group's request, and is queued once.

The request is done when those for its devices are, or wait for their devices alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts.devices import CertificateRenewal
from shared.contracts.messages import Queue
from shared.domain.renewal import Step, latest, step_of
from shared.domain.requests import Progress, advanced
from shared.domain.words import RenewalNeeds
from shared.errors import Deferred, NotFound
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.requests import led_to_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.devices import GroupRenewal
    from shared.domain.devices import DeviceRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.requests import Requests
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.devices.missed_renewals import MissedRenewals
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.intake.parts import Parts

BATCH = 100
"""Devices of a batch, at most."""

_AT_ONCE = 10
_READS = 10
_SHORTEST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRenewals:
    """Carries out renewals of groups."""

    requests: Requests
    devices: Devices
    certificates: Certificates
    groups: UsableGroups
    authorities: CertificateAuthorities
    missed: MissedRenewals
    parts: Parts
    clock: Clock

    async def check(self, request: GroupRenewal) -> None:
        """See whether a renewal of a group can begin as things are.

        Raises:
            NotFound: the group, or the CA whose certificates are meant, does not exist.
            Conflict: the group is disabled, or has no CA that could sign.
            Deferred: the group is being made.
        """
        await self.groups.get(request.enrollment_group)
        if request.only_issuer is None:
            return
        try:
            await self.authorities.get(request.only_issuer)
        except NotFound as refusal:
            raise NotFound.because(refusal.reasons[0].message, field="onlyIssuer") from None

    async def carry_out(self, request: GroupRenewal) -> None:
        """Queue the renewals of the next batch of devices; after the last one, see to it that they are carried out.

        Raises:
            NotFound, Conflict: as :meth:`check`.
            Deferred: another batch follows, or renewals are under way.
        """
        async with once(self.requests, Queue.RENEWAL_REQUESTS, request, self.clock) as accepted:
            if accepted is None:
                return
            if accepted.progress is None or not accepted.progress.is_dispatched:
                await self._next_batch(request, accepted)
            await self.parts.follow(accepted)

    async def _next_batch(self, request: GroupRenewal, accepted: RequestRecord) -> None:
        """Queue the renewals of the next batch of devices.

        Raises:
            NotFound, Conflict: as :meth:`check`.
            Deferred: the batch is not due, or another one follows.
        """
        before = accepted.progress or Progress()
        self._wait_for(before, request)
        await self.check(request)
        began = self.clock()
        devices, continuation = await self._batch(request, before.continuation)
        steps = await self._queue(request, accepted, devices)
        takes = timedelta(minutes=steps[Step.RENEW] / request.per_minute)
        after = before.changed(
            continuation=continuation,
            next_at=began + max(takes, _SHORTEST) if continuation is not None else None,
            seen=before.seen + len(devices),
            queued=before.queued + steps[Step.RENEW],
            need_csr=before.need_csr + steps[Step.NEEDS_CSR],
            skipped=before.skipped + steps[Step.SKIP],
        )
        await self.requests.enter(accepted, advanced(accepted.progress, after))
        if not after.is_dispatched:
            await self.parts.count(accepted)
            self._wait_for(after, request)

    def _wait_for(self, progress: Progress, request: GroupRenewal) -> None:
        """Leave the next batch until it is due."""
        ahead = progress.next_at - self.clock() if progress.next_at is not None else timedelta(0)
        if ahead > timedelta(0):
            raise Deferred(
                f"its pace: {progress.queued} renewals are queued, {request.per_minute} a minute", retry_after=ahead
            )

    async def _batch(
        self, request: GroupRenewal, continuation: str | None
    ) -> tuple[Sequence[DeviceRecord], str | None]:
        """Read the next devices: of one CA by the index of its certificates, otherwise those of the group."""
        size = min(BATCH, request.per_minute)
        if request.only_issuer is not None:
            return await self._of_authority(request, request.only_issuer, continuation, size)
        found: list[DeviceRecord] = []
        for _ in range(_READS):  # a page may be shorter than it could be, since the table is read past other groups
            page, continuation = await self.devices.page(
                enrollment_group=request.enrollment_group,
                size=size - len(found),
                continuation=continuation,
            )
            found += page
            if continuation is None or len(found) >= size:
                break
        return found, continuation

    async def _of_authority(
        self, request: GroupRenewal, issuer: str, continuation: str | None, size: int
    ) -> tuple[Sequence[DeviceRecord], str | None]:
        entries, following = await self.certificates.page_in_force(
            issuer, self.clock(), size=size, continuation=continuation
        )
        known = await asyncio.gather(*(self.devices.get(each.subject) for each in entries))
        # A device that has two certificates of the CA is looked at where the later one stands.
        return [
            device.record
            for device, entry in zip(known, entries, strict=True)
            if device is not None
            and device.record.enrollment_group == request.enrollment_group
            and _serial_of(device.record) == entry.serial_number
        ], following

    async def _queue(
        self, request: GroupRenewal, accepted: RequestRecord, devices: Sequence[DeviceRecord]
    ) -> Counter[Step]:
        places = asyncio.Semaphore(_AT_ONCE)

        async def queue(device: DeviceRecord) -> Step:
            async with places:
                step = step_of(device, only_issuer=request.only_issuer, asked_at=accepted.received_at)
                if step is Step.RENEW:
                    await self._renew(accepted, device)
                present = latest(device)
                if step is Step.NEEDS_CSR and present is not None:
                    cause, serial_number = accepted.request_id, present.serial_number
                    await self.missed.name(device, present, RenewalNeeds.CSR, cause=cause, occasion=serial_number)
                return step

        return Counter(await asyncio.gather(*map(queue, devices)))

    async def _renew(self, accepted: RequestRecord, device: DeviceRecord) -> None:
        name = device.registration_id
        wanted = CertificateRenewal(
            request_id=led_to_by(accepted, f"renewal-{name}", name),
            registration_id=name,
            replaces=_serial_of(device),
        )
        await self.parts.ask(accepted, wanted)


def _serial_of(device: DeviceRecord) -> str:
    present = latest(device)
    return present.serial_number if present else ""
