"""One device of an order on its way: certificate, registration through DPS, identity in the hub.

Each step finds what an earlier attempt left and goes on from there.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.events_devices import DeviceRegistered
from shared.domain import issuance, upkeep
from shared.domain.devices import IN_ITS_HUB, OPEN_STATES, DeviceRecord, on_hold
from shared.domain.held_certificates import Purpose
from shared.domain.orders import LineState
from shared.domain.words import DeviceState, RegisterBy
from shared.errors import AwaitsDevice, Conflict, Deferred, Overtaken, Reason, Rejected
from shared.ledger.table import Stale
from shared.log_lines import about
from shared.telemetry.metrics import REGISTRATION_WAIT
from shared.telemetry.spans import span
from shared.workflows.devices.changes import change
from shared.workflows.devices.drawn_numbers import NO_NUMBERS, draw, give_back
from shared.workflows.devices.wanted_certificates import Acts, DeviceCertificateRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from shared.domain.issuance import Committed
    from shared.domain.orders import OrderLine
    from shared.ledger.certificates import Certificates
    from shared.ledger.changes import ChangeNotes
    from shared.ledger.devices import Devices
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.registrar import Assignment
    from shared.workflows.devices.assignments import Assignments
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.drawn_numbers import DrawnNumbers
    from shared.workflows.devices.failures import Failures
    from shared.workflows.devices.issuing import DeviceCertificates
    from shared.workflows.devices.places import Places
    from shared.workflows.devices.wanted_certificates import Decision, IssuedCertificate
    from shared.workflows.intake.outbox import Clock, Outbox

    type Decide = Callable[[str], Awaitable[Decision]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedDevices:
    """Brings devices into their hubs."""

    orders: Orders
    devices: Devices
    changes: ChangeNotes
    certificates: Certificates
    device_certificates: DeviceCertificates
    bundles: Bundles
    assignments: Assignments
    failures: Failures
    converger: DeviceConverger
    hubs: IotHubRegistries
    places: Places
    outbox: Outbox
    clock: Clock

    def at_work(self, lines: Sequence[OrderLine]) -> AbstractContextManager[None]:
        """Say that this worker works on the devices of some lines."""
        return self.changes.working(_device(line) for line in lines)

    async def prepare(self, lines: Sequence[OrderLine], decide: Decide) -> DrawnNumbers:
        """Do all at once what is done before a device is made: note them, and draw their serial numbers.

        Args:
            lines: of one order.
            decide: finds the CA that signs for an enrollment group.
        """
        new = [line for line in lines if line.state is LineState.ORDERED and line.refusal is None]
        if not new:
            return NO_NUMBERS
        await self.changes.announce([_device(line) for line in new])
        try:
            decision = await decide(new[0].enrollment_group)
        except (Rejected, Deferred):
            return NO_NUMBERS  # each line says so
        issuing = self.device_certificates
        return await draw(
            self.certificates,
            issuer=decision.issuer,
            validities={_device(line): issuing.validity(line.validity_days) for line in new},
            clock=self.clock,
        )

    async def give_back(self, drawn: DrawnNumbers) -> None:
        """Take back the serial numbers that no device needed."""
        await give_back(self.certificates, drawn)

    async def bring(self, known: Versioned[OrderLine], decide: Decide, drawn: DrawnNumbers) -> OrderLine:
        """Do what is still to be done for a line, and give it as it is then: registered, or failed.

        Args:
            known: the line, which is open and names a device.
            decide: finds the CA that signs for an enrollment group.
            drawn: serial numbers for the devices of its message.

        Raises:
            Deferred: DPS is throttling, or the device has not registered itself yet.
        """
        with _told(known.record, self.clock):
            return await self._bring(known, decide, drawn)

    async def _bring(self, known: Versioned[OrderLine], decide: Decide, drawn: DrawnNumbers) -> OrderLine:
        line = known.record
        if line.refusal is not None:
            return await self._fail(line, line.refusal)
        try:
            device = await self._provision(known, decide, drawn)
        except Rejected as rejection:
            await self.failures.check()
            return await self._fail(await self._refused(known, rejection), rejection.documented())
        certificate = device.certificate
        return line.changed(
            state=LineState.REGISTERED,
            serial_number=certificate and certificate.serial_number,
            thumbprint=certificate and certificate.thumbprint,
            expires_at=certificate and certificate.not_after,
            device_id=device.device_id,
            assigned_hub=device.assigned_hub,
            finished_at=self.clock(),
            reasons=None,
            awaits_device=False,
        )

    async def _provision(self, known: Versioned[OrderLine], decide: Decide, drawn: DrawnNumbers) -> DeviceRecord:
        line = known.record
        device, issued = await self.device_certificates.issue(self._request(line, decide, drawn), self._acts(line))
        if device.record.state in IN_ITS_HUB:
            await self._announce_registered(device.record)
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
            return await self.converger.converge(device.record.registration_id, entered=device.record)
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
        summary = issued.bundle.summary
        shown = known.record.changed(
            state=LineState.ISSUED,
            serial_number=summary.serial_number,
            thumbprint=summary.thumbprint,
            expires_at=summary.not_after,
            reasons=Rejected.because(waits).documented(),
            awaits_device=isinstance(error, AwaitsDevice),
        )
        if shown != known.record:
            with suppress(Stale):  # somebody else has changed the line: it shows what that one saw
                await self.orders.replace_line(known, shown)

    async def _place(self, line: OrderLine, device: DeviceRecord, issued: IssuedCertificate) -> Assignment:
        """Have a device that has its certificate in its hub, with the twin that was ordered."""
        by_service = line.register_by is RegisterBy.SERVICE
        try:
            async with self.places.waiting():
                assignment = await self.assignments.assign(
                    device, issued, since=line.accepted_at, by_service=by_service
                )
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

    def _request(self, line: OrderLine, decide: Decide, drawn: DrawnNumbers) -> DeviceCertificateRequest:
        return DeviceCertificateRequest(
            registration_id=_device(line),
            issuer=partial(decide, line.enrollment_group),
            purpose=Purpose.ORDER,
            cause=line.order_id,
            validity=self.device_certificates.validity(line.validity_days),
            csr=line.csr,
            key_algorithm=line.key_algorithm,
            enrollment_group=line.enrollment_group,
            field=f"{line.where}.csr",
            expected_new=line.state is LineState.ORDERED,
            drawn=drawn,
        )

    def _acts(self, line: OrderLine) -> Acts:
        def take(known: DeviceRecord | None) -> DeviceRecord:
            wanted = ordered_device(line, self.clock())
            return issuance.ordered(known, wanted, field=f"{line.where}.registrationId")

        return Acts(take=take, commit=self._commit)

    def _commit(self, record: DeviceRecord, made: Committed) -> DeviceRecord:
        return issuance.issued(record, made, self.clock())

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
            await self._announce_registered(record)
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
        await self.converger.converge(registration_id, entered=device)
        if device.on_hold:
            raise on_hold(device)

    async def _delete_key_of(self, device: DeviceRecord) -> None:
        """A device that registers by itself has its key: what is kept of it can go, if it was handed out."""
        if device.registers_itself and not device.own_key and device.bundle:
            await self.bundles.delete_key(device.bundle)

    async def _announce_registered(self, device: DeviceRecord) -> None:
        """Tell that a device is in its hub."""
        await self.outbox.publish(
            DeviceRegistered(
                registration_id=device.registration_id,
                device_id=device.device_id,
                assigned_hub=device.assigned_hub,
                enrollment_group=device.enrollment_group,
                order_id=device.order_id,
                certificate=device.certificate,
                bundle=device.bundle_path,
            ),
            subject=device.registration_id,
            correlation_id=device.order_id,
        )

    async def _refused(self, known: Versioned[OrderLine], rejection: Rejected) -> OrderLine:
        """Enter why a line can't be carried out, before anybody is told: another try might find another reason."""
        try:
            written = await self.orders.replace_line(known, known.record.changed(refusal=rejection.documented()))
        except Stale:
            raise Overtaken(
                f"line {known.record.line} of order {known.record.order_id!r} was changed meanwhile"
            ) from None
        return written.record

    async def _fail(self, line: OrderLine, reasons: tuple[dict[str, str], ...]) -> OrderLine:
        """See that a line can't be carried out, and why: at the device and as an event."""
        rejection = Rejected(*(Reason(each["field"], each["message"]) for each in reasons))
        await self.failures.enter(ordered_device(line, self.clock()), rejection)
        failed = line.changed(state=LineState.FAILED, reasons=reasons, finished_at=self.clock())
        await self.failures.announce(failed)
        return failed


def ordered_device(line: OrderLine, at: datetime) -> DeviceRecord:
    """Give a line's device as it is ordered."""
    return DeviceRecord(
        registration_id=_device(line),
        state=DeviceState.ORDERED,
        order_id=line.order_id,
        attempt=line.attempt,
        updated_at=at,
        enrollment_group=line.enrollment_group,
        own_key=line.csr is not None,
        registers_itself=line.csr is not None or line.register_by is RegisterBy.DEVICE,
        validity_days=line.validity_days,
        tags=line.tags,
        entry_settings={},
    ).entered(DeviceState.ORDERED, at, f"order {line.order_id}")


def _device(line: OrderLine) -> str:
    if line.registration_id is None:
        raise RuntimeError(f"line {line.line} of order {line.order_id!r} is open and names no device")
    return line.registration_id


@contextmanager
def _told(line: OrderLine, clock: Clock) -> Iterator[None]:
    """Make the work on a line a span, and tell how old one is that stays open though its device has nothing to do."""
    name = line.registration_id or ""
    with about({"registrationId": name}), span("bring device", attributes={"device_factory.registration_id": name}):
        try:
            yield
        except AwaitsDevice:
            raise
        except Exception:
            REGISTRATION_WAIT.record((clock() - line.accepted_at).total_seconds())
            raise
