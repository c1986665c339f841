"""Revocation: closes every door to a device, and reads back that they are closed.

Neither DPS nor IoT Hub reads a CRL. So a device is shut out in three places: DPS refuses to provision it (a disabled
individual enrollment), each linked hub refuses the connection (a disabled identity, which also ends one that stands),
and the CRL tells everybody else. An act changes what the device's record wants;
:mod:`shared.workflows.devices.convergence` makes it so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING

from shared.contracts.answers_devices import RevocationPreview
from shared.contracts.devices import AuthorityRevocation, MemberRevocation, RevocationAction, RevocationRequest
from shared.contracts.messages import Queue
from shared.contracts.plans import RevocationPlan
from shared.domain import revocation
from shared.domain.repetition import Concerned, check_repeated, is_to_be_repeated
from shared.domain.requests import Progress, advanced
from shared.domain.revocation_plans import BATCH, plan_for
from shared.domain.words import CertificateKind
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.workflows.devices.changes import change, device_of
from shared.workflows.devices.together import act_of, revoking
from shared.workflows.devices.unknown import unknown_certificate, unknown_order
from shared.workflows.groups.entries import unknown
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.requests import Part, led_to_by, part_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.directory import Directory
    from shared.ledger.groups import Groups
    from shared.ledger.orders import Orders
    from shared.ledger.requests import Requests
    from shared.workflows.devices.authority_devices import Member
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.devices.members import Members
    from shared.workflows.devices.places import Places
    from shared.workflows.devices.together import ShuttingTogether
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.intake.parts import Parts

_NAMED = 5
_AT_ONCE = 16

type _Act = Callable[[DeviceRecord], DeviceRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """Revokes devices with all their certificates, or single certificates of theirs, and undoes holds."""

    devices: Devices
    certificates: Certificates
    groups: Groups
    orders: Orders
    requests: Requests
    converger: DeviceConverger
    linked: LinkedHubs
    together: ShuttingTogether
    members: Members
    unrepeated: int
    hub_units: int
    places: Places
    parts: Parts
    clock: Clock

    async def carry_out(self, request: RevocationRequest) -> None:
        """Do what a request asks for.

        Raises:
            NotFound: the device, certificate or group does not exist.
            Conflict: there is nothing to revoke, or to reinstate; or more devices are concerned than the request says.
            Deferred: devices of many are under way, or not due yet; or a hold is to be undone, and the ledger is an
                older one.
        """
        if request.action is RevocationAction.REINSTATE:
            await self.converger.check_ledger()
        with nullcontext() if request.is_of_many else self.places.shutting_out():
            await self._carry_out(request)

    async def _carry_out(self, request: RevocationRequest) -> None:
        part = (
            Part(member=request.registration_id, token=request.part) if isinstance(request, MemberRevocation) else None
        )
        settled = known = None
        async with once(self.requests, Queue.REVOCATION_REQUESTS, request, self.clock, part=part) as to_do:
            if not to_do:
                return
            if request.is_of_many:
                await self._fan_out(request, to_do)
                await self.parts.follow(to_do)
                return
            registration_id, act = await self._act(request)
            known = await change(self.devices, registration_id, act, at=self.clock(), request=to_do)
            settled = await self.converger.converge(registration_id, noted=True)
        # Not before the request is done: if this worker is killed before that, the timer ends it.
        if settled is not None and known is not None:  # another delivery may have carried out what this was refused for
            await self.converger.forget(known.record, settled.record)

    async def check(self, request: RevocationRequest) -> None:
        """See whether a request can succeed as things are.

        Raises:
            Rejected: as with :meth:`carry_out`.
        """
        if request.is_of_many:
            await self._check_many(request)
            return
        registration_id, act = await self._act(request)
        act((await device_of(self.devices, registration_id)).record)

    async def foresee(self, request: RevocationRequest) -> RevocationPreview:
        """Say what a request to revoke would do and take, as things are; nothing is done.

        Raises:
            Rejected: it can't be carried out, for another reason than that it does not repeat the number of devices.
        """
        if request.is_of_many:
            await self._check_exist(request)
            by_hub = await self.members.by_hub(request)
        else:
            await self.check(request)
            by_hub = Counter([await self._hub_of(request)])
        together = request.is_of_many and request.action is RevocationAction.REVOKE
        plan = await self._plan(by_hub, together=together, per_minute=request.per_minute)
        to_be_repeated = request.is_of_many and is_to_be_repeated(Concerned("", plan.devices), self.unrepeated)
        return RevocationPreview(
            action=request.action, target=request.target, repeat_devices=to_be_repeated, **dict(plan)
        )

    async def foresee_authorities(self, authorities: Iterable[str], *, per_minute: int | None = None) -> RevocationPlan:
        """Say what it would take to revoke all devices with a certificate of some CAs, so many a minute."""
        by_hub = await self.members.of_authorities(authorities)
        return await self._plan(by_hub, together=True, per_minute=per_minute)

    async def _plan(self, by_hub: Mapping[str, int], *, together: bool, per_minute: int | None) -> RevocationPlan:
        linked = await self.linked.names()
        plan = plan_for(by_hub, together=together, hub_units=self.hub_units, per_minute=per_minute, linked=linked)
        return RevocationPlan(
            devices=plan.devices,
            hubs=dict(plan.hubs),
            dps_calls=plan.dps_calls,
            hub_calls=plan.hub_calls,
            hubs_shut_after_minutes=round(plan.hubs_shut, 2),
            done_after_minutes=round(plan.done, 2),
            per_minute=plan.per_minute,
        )

    async def _hub_of(self, request: RevocationRequest) -> str:
        name = request.registration_id or await self._owner(request.serial_number or "")
        return (await device_of(self.devices, name)).record.assigned_hub or ""

    async def _act(self, request: RevocationRequest) -> tuple[str, _Act]:
        """Find the device that a request is about, and what it does to it."""
        at, act = self.clock(), act_of(request)
        reason, correlation = request.reason, request.request_id
        reinstate = request.action is RevocationAction.REINSTATE
        if request.registration_id is not None:
            await device_of(self.devices, request.registration_id)
            if request.action is RevocationAction.DELETE:
                return request.registration_id, partial(revocation.deleted, act=act, at=at, correlation=correlation)
            if reinstate:
                return request.registration_id, partial(revocation.reinstated, act=act, at=at, correlation=correlation)
            return request.registration_id, revoking(request, at)
        serial_number = request.serial_number or ""
        owner = await self._owner(serial_number)

        def of_certificate(record: DeviceRecord) -> DeviceRecord:
            """Revoke the device if it uses the certificate, and otherwise the certificate alone."""
            following = record.next_certificate
            if following is not None and following.serial_number == serial_number:
                raise Conflict.because(
                    f"{owner!r} is being renewed with serial number {serial_number}: revoke the device, with all its "
                    "certificates, or wait until it uses this one",
                    field="serialNumber",
                )
            if record.certificate is not None and record.certificate.serial_number == serial_number:
                if reinstate:
                    return revocation.reinstated(record, act=act, at=at, correlation=correlation)
                return revoking(request, at)(record)
            if reinstate:
                return revocation.former_reinstated(record, serial_number, act=act, at=at, correlation=correlation)
            return revocation.former_revoked(
                record, serial_number, act=act, reason=reason, at=at, correlation=correlation
            )

        return owner, of_certificate

    async def _owner(self, serial_number: str) -> str:
        known = await self.certificates.get(serial_number)
        if known is None:
            raise unknown_certificate(serial_number)
        if known.record.kind is not CertificateKind.DEVICE:
            raise Rejected.because(
                f"serial number {serial_number} is that of a certificate of kind {known.record.kind.value!r}; this "
                "request revokes devices: name the enrollmentGroup to revoke all devices of an issuing CA",
                field="serialNumber",
            )
        return known.record.subject

    async def _check_exist(self, request: RevocationRequest) -> None:
        """See that what many devices belong to was there once: those of a group that was deleted may be revoked.

        Raises:
            NotFound: it never was; or devices that are named were not.
        """
        group, order = request.enrollment_group, request.order_id
        if group is not None and await self.groups.get(group) is None:
            raise unknown(group)
        if order is not None and await self.orders.get(order) is None:
            raise unknown_order(order)
        if missing := await self.members.unknown(request.registration_ids or ()):
            more = f", and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            named = ", ".join(map(repr, missing[:_NAMED]))
            raise NotFound.because(f"these devices do not exist: {named}{more}", field="registrationIds")

    async def _check_many(self, request: RevocationRequest) -> None:
        if isinstance(request, AuthorityRevocation):
            return  # its CA is revoked, with as many devices as whoever asked for that has repeated
        await self._check_exist(request)
        if request.action is not RevocationAction.REVOKE:
            return
        what, devices = await self._counted(request)
        check_repeated(Concerned(what, devices), request.devices, allowed=self.unrepeated)

    async def _counted(self, request: RevocationRequest) -> tuple[str, int]:
        """Say whose devices a request is about, and how many it would revoke."""
        devices = (await self.members.by_hub(request)).total()
        if request.enrollment_group is not None:
            return f"the enrollment group {request.enrollment_group!r} has", devices
        what = f"the order {request.order_id!r} has" if request.order_id is not None else "registrationIds names"
        return what, devices

    async def _fan_out(self, request: RevocationRequest, accepted: RequestRecord) -> None:
        """Send one request per device, from where an earlier attempt broke off, and as many a minute as is asked for.

        Raises:
            Deferred: the next devices are not due.
        """
        before = accepted.progress
        if before is None:
            await self._check_many(request)
            # Entered before the first device: those that are revoked by then don't count when it has to go on.
            before = Progress(continuation="", began_at=self.clock())
            await self.requests.enter(accepted, advanced(None, before))
        size = min(BATCH, request.per_minute or BATCH)
        while not before.is_dispatched:
            await self._wait_for(before, request, accepted)
            began = self.clock()
            page, continuation = await self.members.page(request, size=size, continuation=before.continuation or None)
            concerned = [member for member in page if _concerned(member.device, request, before.began_at)]
            await self._ask(request, accepted, concerned)
            takes = timedelta(minutes=len(concerned) / request.per_minute) if request.per_minute else timedelta()
            after = before.changed(
                continuation=continuation,
                next_at=began + takes if takes and continuation is not None else None,
                seen=before.seen + len(page),
                queued=before.queued + len(concerned),
                skipped=before.skipped + len(page) - len(concerned),
            )
            entered = await self.requests.enter(accepted, advanced(before, after))
            # Where another delivery has come further, this one goes on from there, and at the same pace.
            before = (entered and entered.record.progress) or after

    async def _wait_for(self, progress: Progress, request: RevocationRequest, accepted: RequestRecord) -> None:
        """Leave the next devices until they are due."""
        ahead = progress.next_at - self.clock() if progress.next_at is not None else timedelta()
        if ahead > timedelta():
            await self.parts.count(accepted)
            raise Deferred(
                f"its pace: {progress.queued} devices are asked for, {request.per_minute} a minute", retry_after=ahead
            )

    async def _ask(self, request: RevocationRequest, accepted: RequestRecord, members: Iterable[Member]) -> None:
        """Ask for some devices of many, and have those that are revoked shut out together before their turn comes."""
        wanted = [_wanted(request, accepted, each) for each in members]
        parts = list[RevocationRequest]()
        for several in batched(wanted, _AT_ONCE, strict=False):
            parts += await asyncio.gather(*(self.parts.expect(accepted, each) for each in several))
        if request.action is RevocationAction.REVOKE:
            whole = [each for each in parts if isinstance(each, MemberRevocation)]
            await self.together.shut_out(whole, request.reason)
        for some in batched(parts, _AT_ONCE, strict=False):
            await asyncio.gather(*(self.parts.send(accepted, each) for each in some))


async def revocable(counts: Directory, group_id: str) -> int:
    """Count the devices of a group that can be revoked."""
    return (await counts.counts(group_id)).revocable.total()


def _wanted(request: RevocationRequest, accepted: RequestRecord, member: Member) -> RevocationRequest:
    """Give what is asked for one device of many, or for one certificate alone, whose device goes on."""
    if member.serial_number is not None:
        return RevocationRequest(
            request_id=led_to_by(accepted, "revoked-certificate", member.serial_number),
            serial_number=member.serial_number,
            reason=request.reason,
        )
    registration_id = member.device.registration_id
    return MemberRevocation(
        request_id=request.request_id,
        registration_id=registration_id,
        reason=request.reason,
        action=request.action,
        part=part_for(accepted, registration_id).token,
    )


def _concerned(device: DeviceRecord, request: RevocationRequest, began_at: datetime | None) -> bool:
    """Tell whether a request about many is about a device. What a group gets while it is gone through is not meant."""
    if request.action is RevocationAction.REINSTATE:
        return device.on_hold
    if request.enrollment_group and began_at is not None and revocation.is_ordered_since(device, began_at):
        return False
    return revocation.is_revocable(device)
