"""Renewal: a successor for a device's certificate, with the same CN.

The device must bring the new certificate to DPS itself: the hub knows the thumbprint of one certificate, and
registering on the device's behalf would cut it off while it still uses the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.devices import CertificateRenewal
from shared.contracts.messages import Queue
from shared.domain import issuance
from shared.domain.devices import OUT_OF_SERVICE, on_hold
from shared.domain.held_certificates import Purpose
from shared.domain.renewal import latest
from shared.domain.words import DeviceState
from shared.errors import Conflict
from shared.workflows.devices.changes import device_of
from shared.workflows.devices.unknown import unknown_device
from shared.workflows.devices.wanted_certificates import Acts, DeviceCertificateRequest
from shared.workflows.intake.deliveries import once

if TYPE_CHECKING:
    from shared.contracts.devices import RenewalRequest
    from shared.domain.devices import DeviceRecord
    from shared.domain.issuance import Committed
    from shared.ledger.devices import Devices
    from shared.ledger.requests import Requests
    from shared.workflows.devices.arrivals import Arrivals
    from shared.workflows.devices.assignments import Assignments
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.issuing import DeviceCertificates
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.devices.wanted_certificates import IssuedCertificate
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewals:
    """Renews device certificates."""

    requests: Requests
    devices: Devices
    groups: UsableGroups
    assignments: Assignments
    arrivals: Arrivals
    device_certificates: DeviceCertificates
    converger: DeviceConverger
    clock: Clock

    async def carry_out(self, request: RenewalRequest) -> None:
        """Issue the successor, and wait until the device uses it.

        Of two renewals of a device the later one counts: the certificate that the earlier one brought is revoked. If
        the device has come with that one, the earlier renewal is done, and the later one brings its successor.

        Raises:
            Conflict: the device can't be renewed in its state.
            Deferred: it has not registered with the new certificate yet, or it is on hold.
        """
        async with once(self.requests, Queue.RENEWAL_REQUESTS, request, self.clock) as to_do:
            if not to_do:
                return
            device = await device_of(self.devices, request.registration_id)
            if await self._is_over(device.record, request):
                return
            record = await self._finish_earlier(device.record, request)
            device, issued = await self.device_certificates.issue(
                self._request(record, request),
                Acts(take=partial(self._take, request), commit=partial(self._commit, request)),
            )
            device = await self.converger.converge(request.registration_id, entered=device.record)
            if await self._is_over(device.record, request):
                return
            await self._complete(device.record, request, issued)

    async def check(self, request: RenewalRequest) -> None:
        """See whether a renewal can begin as things are.

        Raises:
            NotFound: the device does not exist.
            Conflict: it can't be renewed in its state.
            Rejected: its CSR is unfit, or its key is another device's or compromised.
        """
        device = (await device_of(self.devices, request.registration_id)).record
        if not device.on_hold:  # a renewal waits until a hold is undone
            self._take(request, device)
        await self.device_certificates.foresee(self._request(device, request), device)

    async def _is_over(self, device: DeviceRecord, request: RenewalRequest) -> bool:
        """Tell whether the renewal was completed, overtaken by a later one, or not needed any more.

        Raises:
            Conflict: the device was revoked or deleted meanwhile.
            Deferred: it is on hold.
        """
        if device.on_hold:
            raise on_hold(device)
        if self._is_unneeded(device, request):
            return True
        began = issuance.renewal_act(request.request_id) in device.acts
        if not began or device.renewal == request.request_id:
            return False
        await self.converger.converge(device.registration_id)
        if device.state in OUT_OF_SERVICE:
            raise Conflict.because(
                f"{device.registration_id!r} was {device.state} while it was renewed", field="registrationId"
            )
        return True

    @staticmethod
    def _is_unneeded(device: DeviceRecord, request: RenewalRequest) -> bool:
        """Tell whether a renewal that has not begun is for a certificate that has a successor already."""
        if not isinstance(request, CertificateRenewal) or issuance.renewal_act(request.request_id) in device.acts:
            return False
        present = latest(device)
        return present is None or present.serial_number != request.replaces

    def _request(self, device: DeviceRecord, request: RenewalRequest) -> DeviceCertificateRequest:
        return DeviceCertificateRequest(
            registration_id=device.registration_id,
            issuer=partial(self.groups.decide, device.enrollment_group or ""),
            purpose=Purpose.RENEWAL,
            cause=request.request_id,
            validity=self.device_certificates.validity(device.validity_days),
            csr=request.csr,
            enrollment_group=device.enrollment_group,
            predecessor=device.certificate.serial_number if device.certificate else None,
        )

    @classmethod
    def _take(cls, request: RenewalRequest, known: DeviceRecord | None) -> DeviceRecord:
        if known is None:
            raise unknown_device(request.registration_id)
        if cls._is_unneeded(known, request):
            raise issuance.overtaken(known)  # by a renewal that came in between
        return issuance.renewing(known, request.request_id, brings_csr=request.csr is not None)

    def _commit(self, request: RenewalRequest, record: DeviceRecord, made: Committed) -> DeviceRecord:
        return issuance.successor_issued(record, made, own_key=request.csr is not None, at=self.clock())

    async def _complete(self, device: DeviceRecord, request: RenewalRequest, issued: IssuedCertificate) -> None:
        if device.state is not DeviceState.RENEWING:
            return
        assignment = await self.assignments.assign(device, issued, since=device.updated_at, by_service=False)
        await self.arrivals.enter(device, request.request_id, assignment)

    async def _finish_earlier(self, device: DeviceRecord, request: RenewalRequest) -> DeviceRecord:
        """Complete the renewal before this one, if the device uses what that one has brought: it looks seldom."""
        is_own = issuance.renewal_of(device) == request.request_id
        return device if is_own else await self.arrivals.follow(device)
