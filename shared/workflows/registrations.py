"""One device on its way: certificate, registration through DPS, identity in the hub.

Used by every order line and every renewal. Each step finds what an earlier attempt left and goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.adapters.dps_device import Assignment, AssignmentFailed
from shared.contracts import DeviceState, EventType, RegisterBy
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.ledger.devices import DeviceRecord
from shared.ledger.groups import GroupState
from shared.ledger.orders import OPEN_STATES, OrderLine
from shared.workflows.device_certificates import DeviceCertificateRequest

if TYPE_CHECKING:
    from datetime import datetime

    from shared.adapters.dps_device import ClientCredentials, DeviceRegistrar
    from shared.adapters.dps_service import ProvisioningService
    from shared.adapters.iot_hub import IotHubRegistries
    from shared.contracts import DeviceRegistration
    from shared.ledger.devices import Devices
    from shared.ledger.groups import GroupRecord, Groups
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.settings import Settings
    from shared.workflows.device_certificates import DeviceCertificates, IssuedCertificate
    from shared.workflows.events import Clock, Outbox

_FIRST_BOOT_POLL = timedelta(seconds=2)
_FIRST_BOOT_POLL_LIMIT = timedelta(minutes=10)

REORDERABLE = frozenset({DeviceState.FAILED, DeviceState.DELETED, DeviceState.EXPIRED})
"""States in which a device can be ordered anew."""


@dataclass(frozen=True, slots=True)
class Registrations:
    """Brings devices into their hubs."""

    orders: Orders
    devices: Devices
    groups: Groups
    device_certificates: DeviceCertificates
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
        await self.orders.replace_line(
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

    async def _provision(self, known: Versioned[OrderLine], registration_id: str) -> DeviceRecord:
        line = known.record
        device, resumed = await self._claim(line, registration_id)
        if device.record.state is DeviceState.REGISTERED:
            await self._announce_registered(device.record)
            return device.record
        if device.record.state not in OPEN_STATES:
            await self._keep_out(device.record)
            raise Conflict.because(f"{registration_id!r} was {device.record.state} before its order was carried out")
        if device.record.state is DeviceState.ORDERED:
            device, issued = await self._issue(line, device, resumed=resumed)
        else:
            issued = await self.device_certificates.stored(device.record.bundle or "")
        try:
            assignment = await self._place(line, device.record, issued)
        except Rejected:
            raise
        except Exception as error:
            # Until the device's first boot, or until a service is back: meanwhile the order shows what there is.
            await self._show_issued(known, issued, error)
            raise
        return await self._enter_registered(device, assignment)

    async def _show_issued(self, known: Versioned[OrderLine], issued: IssuedCertificate, error: Exception) -> None:
        cause = (
            None if isinstance(error, Deferred) else Rejected.because(f"tried again: {str(error)[:500]}").documented()
        )
        serial_number = issued.bundle.summary.serial_number
        shown = known.record.changed(state=DeviceState.ISSUED, serial_number=serial_number, reasons=cause)
        await self.orders.replace_line(known, shown)

    async def _keep_out(self, device: DeviceRecord) -> None:
        """Close the door that an earlier attempt may have opened in the moment in which the device was revoked."""
        if device.state is not DeviceState.REVOKED or device.bundle is None:
            return
        bundle = await self.device_certificates.read_bundle(device.bundle)
        await self.provisioning.shut_out(device.registration_id, bundle.certificate)

    async def _place(self, line: OrderLine, device: DeviceRecord, issued: IssuedCertificate) -> Assignment:
        """Have a device that has its certificate in its hub, with the twin that was ordered."""
        if device.readmitted:
            await self.provisioning.admit_only(device.registration_id, issued.bundle.certificate)
        by_service = line.register_by is RegisterBy.SERVICE
        assignment = await self.assign(device.registration_id, issued, since=line.accepted_at, by_service=by_service)
        if line.tags or line.desired:
            await self.hubs.merge_twin(
                assignment.assigned_hub, assignment.device_id, tags=line.tags or {}, desired=line.desired or {}
            )
        return assignment

    async def _issue(
        self, line: OrderLine, device: Versioned[DeviceRecord], *, resumed: bool
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate]:
        decided_at = self.clock()
        group = await self.usable_group(line.enrollment_group)
        request = DeviceCertificateRequest(
            registration_id=device.record.registration_id,
            issuer=group.issuer,
            cause=line.order_id,
            validity=timedelta(days=line.validity_days) if line.validity_days else self.settings.device_validity,
            csr=line.csr,
            key_algorithm=line.key_algorithm,
            enrollment_group=line.enrollment_group,
            field=f"devices[{line.line}].csr",
            decided_at=decided_at,
        )
        issued = await self.device_certificates.issue(request, resumed=resumed)
        return await self.enter_issued(device, issued, request.bundle), issued

    async def _claim(self, line: OrderLine, registration_id: str) -> tuple[Versioned[DeviceRecord], bool]:
        """Take the device for this order; see :meth:`claim`."""
        ordered = DeviceRecord(
            registration_id=registration_id,
            state=DeviceState.ORDERED,
            order_id=line.order_id,
            updated_at=self.clock(),
            enrollment_group=line.enrollment_group,
            own_key=line.csr is not None,
            registers_itself=line.csr is not None or line.register_by is RegisterBy.DEVICE,
        ).entered(DeviceState.ORDERED, self.clock(), f"order {line.order_id}")
        return await self.claim(ordered, field=f"devices[{line.line}].registrationId")

    async def claim(self, ordered: DeviceRecord, *, field: str) -> tuple[Versioned[DeviceRecord], bool]:
        """Take a device for an order or a request.

        Args:
            ordered: the device as it is ordered.
            field: path of its id in the request, for messages.

        Returns:
            Its record, and whether an earlier attempt had taken it.

        Raises:
            Conflict: the device is in use through another order or request.
        """
        inserted = await self.devices.insert(ordered)
        if inserted is not None:
            return inserted, False
        known = await self.device(ordered.registration_id)
        if known.record.order_id == ordered.order_id:
            return known, True
        if known.record.state not in REORDERABLE:
            raise Conflict.because(
                f"{ordered.registration_id!r} is {known.record.state} through order {known.record.order_id!r}; renew "
                "it, or revoke and delete it before ordering it again",
                field=field,
            )
        again = ordered.changed(
            history=(*known.record.history, *ordered.history), readmitted=known.record.certificate is not None
        )
        return await self.replace(known, again), False

    async def device(self, registration_id: str) -> Versioned[DeviceRecord]:
        """Find a device.

        Raises:
            NotFound: there is none.
        """
        known = await self.devices.get(registration_id)
        if known is None:
            raise NotFound.because(f"there is no device {registration_id!r}", field="registrationId")
        return known

    async def usable_group(self, group_id: str) -> GroupRecord:
        """Find an enrollment group that takes devices.

        Raises:
            NotFound: there is none.
            Conflict: it is disabled.
            Deferred: it is being made.
        """
        known = await self.groups.get(group_id)
        if known is not None and known.record.state is GroupState.REQUESTED:
            raise Deferred(f"the enrollment group {group_id!r} is being made", retry_after=timedelta(seconds=1))
        if known is None or known.record.state is GroupState.DELETED:
            raise NotFound.because(
                f"there is no enrollment group {group_id!r}; create it first (queue enrollment-group-requests, action "
                "'create')",
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
        self, registration_id: str, issued: IssuedCertificate, *, since: datetime, by_service: bool
    ) -> Assignment:
        """Register the device, or find that it registered itself.

        Args:
            registration_id: the device.
            issued: its certificate, with the key if the service has it.
            since: when the wait for the device began; the older, the rarer it is asked for.
            by_service: whether the service may register it.

        Raises:
            Deferred: it has not registered with this certificate yet.
        """
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
        if identity is None or identity.thumbprint not in {"", issued.bundle.summary.thumbprint}:
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

    async def enter_issued(
        self, device: Versioned[DeviceRecord], issued: IssuedCertificate, bundle: str
    ) -> Versioned[DeviceRecord]:
        """Record that the certificate is there, and tell of it."""
        summary = issued.bundle.summary
        record = device.record.entered(
            DeviceState.ISSUED, self.clock(), f"certificate {summary.serial_number}", certificate=summary, bundle=bundle
        )
        # First, since nobody looks back at it once the device is entered as issued.
        await self.announce_issued(record)
        return await self.replace(device, record)

    async def _enter_registered(self, device: Versioned[DeviceRecord], assignment: Assignment) -> DeviceRecord:
        record = device.record.entered(
            DeviceState.REGISTERED,
            self.clock(),
            f"assigned to {assignment.assigned_hub}",
            assigned_hub=assignment.assigned_hub,
            device_id=assignment.device_id,
        )
        await self.replace(device, record)
        await self._announce_registered(record)
        return record

    async def replace(self, known: Versioned[DeviceRecord], record: DeviceRecord) -> Versioned[DeviceRecord]:
        """Write a device's next state, unless somebody else changed it meanwhile.

        Raises:
            Deferred: somebody did; what they wrote is looked at on the next try.
        """
        replaced = await self.devices.replace(known, record)
        if replaced is None:
            raise Deferred(
                f"{record.registration_id!r} is being changed by someone else", retry_after=timedelta(seconds=2)
            )
        return replaced

    async def announce_issued(self, device: DeviceRecord) -> None:
        """Tell that a device has its certificate."""
        await self.outbox.publish(
            EventType.CERTIFICATE_ISSUED,
            subject=device.registration_id,
            correlation_id=device.order_id,
            data={"kind": "device", **_described(device)},
        )

    async def _announce_registered(self, device: DeviceRecord) -> None:
        await self.outbox.publish(
            EventType.DEVICE_REGISTERED,
            subject=device.registration_id,
            correlation_id=device.order_id,
            data=_described(device),
        )

    async def _fail(self, known: Versioned[OrderLine], rejection: Rejected) -> None:
        """Close a line that can't be carried out, and say why: in the order, at the device and as an event."""
        line = known.record
        if line.registration_id:
            await self.enter_failed(line.registration_id, line.order_id, rejection)
        failed = line.changed(state=DeviceState.FAILED, reasons=rejection.documented(), finished_at=self.clock())
        await self.announce_failed(failed)
        await self.orders.replace_line(known, failed)

    async def enter_failed(self, registration_id: str, order_id: str, rejection: Rejected) -> None:
        """Record that a device can't be had by an order or request, so that another one may take it."""
        device = await self.devices.get(registration_id)
        if device is not None and device.record.order_id == order_id and device.record.state in OPEN_STATES:
            reason = str(rejection)[:2000]
            await self.replace(device, device.record.entered(DeviceState.FAILED, self.clock(), reason, reason=reason))

    async def announce_failed(self, line: OrderLine) -> None:
        """Tell that a device of an order could not be made, and why."""
        await self.outbox.publish(
            EventType.REQUEST_REJECTED,
            subject=line.registration_id or line.requested_id,
            correlation_id=line.order_id,
            data={
                "orderId": line.order_id,
                "line": line.line,
                "registrationId": line.requested_id,
                "reasons": line.reasons,
            },
            occasion=str(line.line),
        )


def _described(device: DeviceRecord) -> dict[str, object]:
    certificate = device.certificate
    return {
        "registrationId": device.registration_id,
        "deviceId": device.device_id,
        "assignedHub": device.assigned_hub,
        "enrollmentGroup": device.enrollment_group,
        "orderId": device.order_id,
        "certificate": certificate.model_dump(mode="json", by_alias=True) if certificate else None,
        "bundle": f"/api/devices/{device.registration_id}/bundle",
    }
