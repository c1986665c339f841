"""Renewal: a successor for a device's certificate, with the same CN.

The device must bring the new certificate to DPS itself: the hub knows the thumbprint of one certificate, and
registering on the device's behalf would cut it off while it still uses the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from shared.contracts import DeviceState, EventType, Queue
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.certificates import CertificateState
from shared.workflows.device_certificates import DeviceCertificateRequest, bundle_name
from shared.workflows.requests import once

if TYPE_CHECKING:
    from shared.adapters.dps_service import ProvisioningService
    from shared.contracts import RenewalRequest
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import DeviceRecord
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.settings import Settings
    from shared.workflows.device_certificates import DeviceCertificates, IssuedCertificate
    from shared.workflows.events import Clock, Outbox
    from shared.workflows.registrations import Registrations
    from shared.workflows.revocations import Revocations


_ON_HOLD = timedelta(minutes=1)
_SHUT_OUT = frozenset({DeviceState.REVOKED, DeviceState.DELETED})


@dataclass(frozen=True, slots=True)
class Renewals:
    """Renews device certificates."""

    requests: Requests
    certificates: Certificates
    provisioning: ProvisioningService
    registrations: Registrations
    revocations: Revocations
    device_certificates: DeviceCertificates
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def carry_out(self, request: RenewalRequest) -> None:
        """Issue the successor, and wait until the device uses it.

        Raises:
            Conflict: the device can't be renewed in its state.
            Deferred: it has not registered with the new certificate yet.
        """
        async with once(self.requests, Queue.RENEWAL_REQUESTS, request, self.clock) as to_do:
            if not to_do:
                return
            device = await self.registrations.device(request.registration_id)
            await self._withdraw_if_shut_out(device.record, request)
            self._check_renewable(device.record, request)
            issued = await self._issue(device.record, request)
            if device.record.renewal is None:
                # First, so that whoever revokes the device from now on revokes the successor as well.
                device = await self._enter_renewing(device, request, issued)
            await self._admit(device.record, issued)
            await self._complete(device, issued)

    @staticmethod
    def _check_renewable(device: DeviceRecord, request: RenewalRequest) -> None:
        if device.state is DeviceState.RENEWING and device.renewal == request.request_id:
            return
        if device.on_hold:
            raise Deferred(
                f"{device.registration_id!r} is on hold; its renewal goes on when it is reinstated",
                retry_after=_ON_HOLD,
            )
        if device.state is not DeviceState.REGISTERED:
            raise Conflict.because(
                f"{device.registration_id!r} is {device.state}; only a registered device is renewed",
                field="registrationId",
            )
        if device.own_key and request.csr is None:
            raise Conflict.because(
                f"{device.registration_id!r} made its own key; its renewal needs a new csr", field="csr"
            )

    async def _issue(self, device: DeviceRecord, request: RenewalRequest) -> IssuedCertificate:
        decided_at = self.clock()
        group = await self.registrations.usable_group(device.enrollment_group or "")
        return await self.device_certificates.issue(
            DeviceCertificateRequest(
                registration_id=device.registration_id,
                issuer=group.issuer,
                cause=request.request_id,
                validity=self.settings.device_validity,
                csr=request.csr,
                enrollment_group=device.enrollment_group,
                predecessor=device.certificate.serial_number if device.certificate else None,
                decided_at=decided_at,
            ),
            resumed=True,
        )

    async def _enter_renewing(
        self, device: Versioned[DeviceRecord], request: RenewalRequest, issued: IssuedCertificate
    ) -> Versioned[DeviceRecord]:
        summary = issued.bundle.summary
        record = device.record.entered(
            DeviceState.RENEWING,
            self.clock(),
            f"certificate {summary.serial_number} waits for the device",
            renewal=request.request_id,
            next_certificate=summary,
            bundle=bundle_name(device.record.registration_id, request.request_id),
            own_key=request.csr is not None,
        )
        return await self.registrations.replace(device, record)

    async def _admit(self, device: DeviceRecord, issued: IssuedCertificate) -> None:
        """Have DPS accept the successor beside the present certificate, where the device has an entry of its own."""
        if device.certificate is None:
            return
        known = await self.certificates.get(device.certificate.serial_number)
        if known is None or known.record.pem is None:
            raise RuntimeError(f"the ledger does not have the certificate that {device.registration_id!r} carries")
        present = x509.load_pem_x509_certificate(known.record.pem.encode())
        successor = issued.bundle.certificate
        await self.provisioning.admit_only(device.registration_id, present, successor, if_enabled=True)

    async def _withdraw_if_shut_out(self, device: DeviceRecord, request: RenewalRequest) -> None:
        """Revoke what was issued for a device that was shut out meanwhile, and see that it stays out."""
        if device.state not in _SHUT_OUT or device.on_hold:
            return
        try:
            name = bundle_name(device.registration_id, request.request_id)
            bundle = await self.device_certificates.read_bundle(name)
        except NotFound:
            return
        await self.revocations.withdraw(device, bundle.summary.serial_number)

    async def _complete(self, device: Versioned[DeviceRecord], issued: IssuedCertificate) -> None:
        record = device.record
        assignment = await self.registrations.assign(
            record.registration_id, issued, since=record.updated_at, by_service=False
        )
        await self.provisioning.admit_only(record.registration_id, issued.bundle.certificate, if_enabled=True)
        old, new = record.certificate, issued.bundle.summary
        await self.outbox.publish(
            EventType.CERTIFICATE_RENEWED,
            subject=record.registration_id,
            correlation_id=record.renewal or "",
            data={
                "registrationId": record.registration_id,
                "serialNumber": new.serial_number,
                "previousSerialNumber": old.serial_number if old else None,
                "notAfter": new.not_after.isoformat(),
                "assignedHub": assignment.assigned_hub,
            },
        )
        if old is not None:
            await self._supersede(old.serial_number, new.serial_number)
        await self.registrations.replace(
            device,
            record.entered(
                DeviceState.REGISTERED,
                self.clock(),
                f"renewed with certificate {new.serial_number}",
                certificate=new,
                next_certificate=None,
                renewal=None,
                assigned_hub=assignment.assigned_hub,
                device_id=assignment.device_id,
            ),
        )

    async def _supersede(self, serial_number: str, successor: str) -> None:
        known = await self.certificates.get(serial_number)
        if known is not None and known.record.state is CertificateState.ACTIVE:
            superseded = known.record.changed(state=CertificateState.SUPERSEDED, successor=successor)
            await self.certificates.replace(known, superseded)
