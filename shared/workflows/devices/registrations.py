"""One device on its way: certificate, registration through DPS, identity in the hub.

Each step finds what an earlier attempt left and goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.contracts.messages import Queue
from shared.domain import issuance, upkeep
from shared.domain.devices import OPEN_STATES, DeviceRecord, Purpose, described, on_hold
from shared.domain.groups import GroupState
from shared.domain.rejections import RejectionKind
from shared.domain.words import DeviceState, EventType, RegisterBy
from shared.errors import Conflict, Deferred, NotFound, Overtaken, Rejected
from shared.ledger.table import Stale
from shared.ports.registrar import Assignment, AssignmentFailed
from shared.workflows.devices.changes import change
from shared.workflows.devices.issuing import Acts, Decision, DeviceCertificateRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.contracts.orders import DeviceRegistration
    from shared.domain.groups import GroupRecord
    from shared.domain.issuance import Committed
    from shared.domain.orders import OrderLine
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.registrar import ClientCredentials, DeviceRegistrar
    from shared.settings import Settings
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.issuing import DeviceCertificates, IssuedCertificate
    from shared.workflows.intake.outbox import Clock, Outbox

_IN_ITS_HUB = frozenset({DeviceState.REGISTERED, DeviceState.RENEWING})
_FIRST_BOOT_POLL = timedelta(seconds=2)
_FIRST_BOOT_POLL_LIMIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Registrations:
    """Brings devices into their hubs."""

    orders: Orders
    devices: Devices
    groups: Groups
    device_certificates: DeviceCertificates
    converger: DeviceConverger
    registrar: DeviceRegistrar
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def register(self, message: DeviceRegistration) -> None:
        """Do what is still to be done for one line of an order.

        Raises:
            Deferred: DPS is throttling, or the device has not registered itself yet.
        """
        known = await self.orders.get_line(message.order_id, message.line)
        if known is None:
            raise NotFound.because(f"order {message.order_id!r} has no line {message.line}")
        line = known.record
        if line.state not in OPEN_STATES or line.registration_id is None:
            return
        try:
            device = await self._provision(known, line.registration_id)
        except Rejected as rejection:
            await self._fail(known, rejection)
            return
        await self._close_line(
            known,
            line.changed(
                state=DeviceState.REGISTERED,
                serial_number=device.certificate and device.certificate.serial_number,
                device_id=device.device_id,
                assigned_hub=device.assigned_hub,
                finished_at=self.clock(),
                reasons=None,
            ),
        )

    async def _close_line(self, known: Versioned[OrderLine], line: OrderLine) -> None:
        """Write a line that is done, though it may have changed meanwhile (or our own write's answer got lost)."""
        while await self.orders.replace_line(known, line) is None:
            present = await self.orders.get_line(line.order_id, line.line)
            if present is None or present.record.state not in OPEN_STATES:
                return
            known = present

    async def _provision(self, known: Versioned[OrderLine], registration_id: str) -> DeviceRecord:
        line = known.record
        device, issued = await self.device_certificates.issue(
            self._request(line, registration_id), self._acts(line, registration_id)
        )
        if device.record.state in _IN_ITS_HUB:
            await self.announce_registered(device.record)
            return device.record
        try:
            device = await self._announced(device)
            self._check_wanted(device.record)
            assignment = await self._place(line, device.record, issued)
        except Rejected:
            raise
        except Exception as error:
            # Until the device's first boot, or until a service is back: meanwhile the order shows what there is.
            await self._show_issued(known, issued, error)
            raise
        return await self._enter_registered(device, assignment)

    async def _announced(self, device: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        """Tell of the certificate; and have the services follow, if the device has a past."""
        if device.record.converged != device.record.generation:
            return await self.converger.converge(device.record.registration_id)
        await self.converger.tell(device.record)
        return device

    @staticmethod
    def _check_wanted(device: DeviceRecord) -> None:
        if device.on_hold:
            raise on_hold(device)
        if device.state not in OPEN_STATES:
            raise Conflict.because(f"{device.registration_id!r} was {device.state} before its order was carried out")

    async def _show_issued(self, known: Versioned[OrderLine], issued: IssuedCertificate, error: Exception) -> None:
        """Show in the order that the certificate is there, and what the device waits for."""
        waits = str(error) if isinstance(error, Deferred) else f"tried again: {str(error)[:500]}"
        shown = known.record.changed(
            state=DeviceState.ISSUED,
            serial_number=issued.bundle.summary.serial_number,
            reasons=Rejected.because(waits).documented(),
        )
        if shown != known.record:
            # If somebody else has changed the line, it shows what that one saw.
            await self.orders.replace_line(known, shown)

    async def _place(self, line: OrderLine, device: DeviceRecord, issued: IssuedCertificate) -> Assignment:
        """Have a device that has its certificate in its hub, with the twin that was ordered."""
        by_service = line.register_by is RegisterBy.SERVICE
        try:
            assignment = await self.assign(device, issued, since=line.accepted_at, by_service=by_service)
        except Deferred:
            if device.announcements:  # they are told, and the wait may be long
                tell = partial(upkeep.told, announcements=device.announcements)
                await change(self.devices, device.registration_id, tell, at=self.clock())
            raise
        if line.tags or line.desired:
            await self.hubs.merge_twin(
                assignment.assigned_hub, assignment.device_id, tags=line.tags or {}, desired=line.desired or {}
            )
        return assignment

    def _request(self, line: OrderLine, registration_id: str) -> DeviceCertificateRequest:
        return DeviceCertificateRequest(
            registration_id=registration_id,
            issuer=lambda: self.issuer_of(line.enrollment_group),
            purpose=Purpose.ORDER,
            cause=line.order_id,
            validity=self.validity(line.validity_days),
            csr=line.csr,
            key_algorithm=line.key_algorithm,
            enrollment_group=line.enrollment_group,
            field=f"{_place(line)}.csr",
        )

    def validity(self, days: int | None) -> timedelta:
        """Give the life of a device's certificate: as it was ordered, or else the deployment's."""
        return timedelta(days=days) if days else self.settings.device_validity

    async def issuer_of(self, group_id: str) -> Decision:
        """Find the CA that signs for an enrollment group; errors are those of :meth:`usable_group`."""
        decided_at = self.clock()
        return Decision((await self.usable_group(group_id)).issuer, decided_at)

    def _acts(self, line: OrderLine, registration_id: str) -> Acts:
        def take(known: DeviceRecord | None) -> DeviceRecord:
            wanted = self._ordered(line, registration_id)
            return issuance.ordered(known, wanted, field=f"{_place(line)}.registrationId")

        return Acts(take=take, commit=self.commit_issued)

    def _ordered(self, line: OrderLine, registration_id: str) -> DeviceRecord:
        return DeviceRecord(
            registration_id=registration_id,
            state=DeviceState.ORDERED,
            order_id=line.order_id,
            updated_at=self.clock(),
            enrollment_group=line.enrollment_group,
            own_key=line.csr is not None,
            registers_itself=line.csr is not None or line.register_by is RegisterBy.DEVICE,
            validity_days=line.validity_days,
        ).entered(DeviceState.ORDERED, self.clock(), f"order {line.order_id}")

    def commit_issued(self, record: DeviceRecord, made: Committed) -> DeviceRecord:
        """Make a certificate the device's; see :func:`shared.domain.issuance.issued`."""
        return issuance.issued(record, made, self.clock())

    async def usable_group(self, group_id: str) -> GroupRecord:
        """Find an enrollment group that takes devices.

        Raises:
            NotFound: it does not exist.
            Conflict: it is disabled.
            Deferred: it is being made.
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
        return known.record

    async def assign(
        self, device: DeviceRecord, issued: IssuedCertificate, *, since: datetime, by_service: bool
    ) -> Assignment:
        """Register the device, or find that it registered itself.

        Args:
            device: the device.
            issued: its certificate, with the key if the service has it.
            since: when the wait for the device began; the older, the rarer it is asked for.
            by_service: whether the service may register it.

        Raises:
            Deferred: it has not registered with this certificate yet.
        """
        registration_id = device.registration_id
        if issued.credentials is not None and by_service:
            return await self._register(registration_id, issued.credentials)
        waiting = Deferred(
            f"{registration_id!r} has not registered with its certificate yet",
            retry_after=min(max(_FIRST_BOOT_POLL, (self.clock() - since) / 8), _FIRST_BOOT_POLL_LIMIT),
        )
        registration = await self.provisioning.get_registration(registration_id)
        if registration is None or registration.get("status") != "assigned":
            raise waiting
        found = Assignment(assigned_hub=registration["assignedHub"], device_id=registration["deviceId"])
        identity = await self.hubs.get(found.assigned_hub, found.device_id)
        if identity is None:
            raise waiting
        if identity.thumbprints:
            # DPS enters SHA-256, other tools SHA-1: what counts is whether it is this certificate.
            if identity.thumbprints.isdisjoint(_thumbprints(issued)):
                raise waiting
        elif not _since(registration, device.updated_at):
            raise waiting
        return found

    async def _register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        try:
            return await self.registrar.register(registration_id, credentials)
        except AssignmentFailed as failed:
            # The device is not told why; its record has it.
            record = await self.provisioning.get_registration(registration_id) or {}
            why = f"{record.get('errorCode', 'no error code')}, {record.get('errorMessage', 'no message')}"
            raise AssignmentFailed(
                f"{failed}: {why}; see to the group's allocation policy, its webhook and its hubs"
            ) from failed

    async def _enter_registered(self, device: Versioned[DeviceRecord], assignment: Assignment) -> DeviceRecord:
        """Enter that a device is in its hub; if it was shut out meanwhile, see that it stays out.

        Raises:
            Conflict: it was revoked or deleted.
        """
        known: Versioned[DeviceRecord] | None = device
        announced = device.record.announcements
        while known is not None:
            self._check_same_order(known.record, device.record)
            if known.record.shut_out:
                break
            entered = issuance.registered(
                upkeep.told(known.record, announced),
                hub=assignment.assigned_hub,
                device_id=assignment.device_id,
                at=self.clock(),
            )
            try:
                record = (await self.devices.replace(known, entered)).record
            except Stale:
                known = await self.devices.get(device.record.registration_id)
                continue
            await self._delete_key_of(record)
            await self.announce_registered(record)
            return record
        await self._shut_again(device.record.registration_id, assignment)
        raise Conflict.because(f"{device.record.registration_id!r} was shut out while it was registered")

    @staticmethod
    def _check_same_order(present: DeviceRecord, before: DeviceRecord) -> None:
        if (present.purpose, present.order_id) != (before.purpose, before.order_id):
            raise Overtaken(f"{present.registration_id!r} was ordered anew meanwhile")

    async def _shut_again(self, registration_id: str, assignment: Assignment) -> None:
        """Shut the hub that a device has reached while it was shut out; whoever shut it out could not know of it."""
        at = self.clock()
        reach = partial(upkeep.reached, hub=assignment.assigned_hub, device_id=assignment.device_id, at=at)
        device = (await change(self.devices, registration_id, reach, at=at)).record
        await self.converger.converge(registration_id)
        if device.on_hold:
            raise on_hold(device)

    async def _delete_key_of(self, device: DeviceRecord) -> None:
        """A device that registers by itself has its key: what is kept of it can go, if it was handed out."""
        if device.registers_itself and not device.own_key and device.bundle:
            await self.device_certificates.bundles.delete_key(device.bundle)

    async def announce_registered(self, device: DeviceRecord) -> None:
        """Tell that a device is in its hub."""
        await self.outbox.publish(
            EventType.DEVICE_REGISTERED,
            subject=device.registration_id,
            correlation_id=device.order_id,
            data=described(device),
        )

    async def _fail(self, known: Versioned[OrderLine], rejection: Rejected) -> None:
        """Close a line that can't be carried out, and say why: in the order, at the device and as an event."""
        line = known.record
        if line.registration_id:
            wanted = self._ordered(line, line.registration_id)
            await self.enter_failed(wanted, rejection)
        failed = line.changed(state=DeviceState.FAILED, reasons=rejection.documented(), finished_at=self.clock())
        await self.announce_failed(failed)
        await self._close_line(known, failed)

    async def enter_failed(self, ordered: DeviceRecord, rejection: Rejected) -> None:
        """Record that a device can't be had by an order or request, so that another one may take it.

        Args:
            ordered: the device as it was ordered.
            rejection: why it can't be had.
        """
        reason = str(rejection)[:2000]
        rid, cause = ordered.registration_id, (ordered.purpose, ordered.order_id)
        if await self.devices.get(rid) is None:
            try:
                await self.devices.insert(issuance.failed(ordered, *cause, reason, self.clock()))
            except (Stale, Conflict):
                pass  # somebody else has it
            else:
                return
        if await self.devices.get(rid) is None:
            return
        at = self.clock()
        fail = partial(issuance.failed, purpose=cause[0], order_id=cause[1], reason=reason, at=at)
        device = await change(self.devices, rid, fail, at=at)
        if (device.record.purpose, device.record.order_id) == cause:
            await self.converger.converge(rid)

    async def give_up(self, ordered: DeviceRecord, rejection: Rejected) -> None:
        """Record why a device can't be had, if it was taken: what was refused before that takes no device."""
        if await self.devices.get(ordered.registration_id) is not None:
            await self.enter_failed(ordered, rejection)

    async def announce_failed(self, line: OrderLine) -> None:
        """Tell that a device of an order could not be made, and why."""
        await self.outbox.publish(
            EventType.REQUEST_REJECTED,
            subject=line.registration_id or line.requested_id or line.order_id,
            correlation_id=line.order_id,
            data={
                "queue": Queue.DEVICE_ORDERS,
                "kind": RejectionKind.REJECTED,
                "orderId": line.order_id,
                "line": line.line,
                "registrationId": line.requested_id,
                "reasons": line.reasons,
            },
            occasion=str(line.line),
        )


def _place(line: OrderLine) -> str:
    """Say where a line stands in its order, as its owner knows it."""
    return line.place or f"devices[{line.line}]"


def _thumbprints(issued: IssuedCertificate) -> set[str]:
    return {issued.bundle.summary.thumbprint, issued.bundle.sha256_thumbprint}


def _since(registration: Mapping[str, Any], at: datetime) -> bool:
    """Tell whether a device has registered since a time; where the hub names no certificate, nothing else tells."""
    updated = registration.get("lastUpdatedDateTimeUtc")
    return not updated or datetime.fromisoformat(str(updated)) >= at
