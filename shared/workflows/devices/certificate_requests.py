"""Requests for single certificates: roots, issuing CAs, device certificates, proofs of possession."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.answers_certificates import Certificate
from shared.contracts.events_certificates import CertificateIssued
from shared.contracts.messages import Queue
from shared.domain import issuance
from shared.domain.devices import DeviceRecord
from shared.domain.held_certificates import Purpose
from shared.domain.words import CertificateKind, DeviceState
from shared.errors import Deferred, Rejected
from shared.pki import names
from shared.rules.key_algorithms import DEFAULT
from shared.rules.registration_ids import canonical_registration_id
from shared.workflows.authorities.records import AuthorityDefinition, default_custody
from shared.workflows.devices.unknown import unknown_certificate
from shared.workflows.devices.wanted_certificates import Acts, Decision, DeviceCertificateRequest
from shared.workflows.groups.authorities import usable_for_devices
from shared.workflows.intake.deliveries import once

if TYPE_CHECKING:
    from shared.contracts.certificates import CertificateRequest
    from shared.domain.certificates import CertificateRecord
    from shared.domain.issuance import Committed
    from shared.domain.requests import RequestRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ledger.requests import Requests
    from shared.settings import Settings
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.failures import Failures
    from shared.workflows.devices.issuing import DeviceCertificates
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequests:
    """Carries out requests for single certificates."""

    requests: Requests
    certificates: Certificates
    devices: Devices
    groups: Groups
    authorities: CertificateAuthorities
    creation: AuthorityCreation
    possession: Possession
    device_certificates: DeviceCertificates
    failures: Failures
    converger: DeviceConverger
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def carry_out(self, request: CertificateRequest) -> None:
        """Do what a request asks for.

        Raises:
            NotFound: the issuer does not exist.
            Conflict: the name is taken, or the request id was used with other content.
            Rejected: the request contradicts the rules of its kind.
        """
        async with once(self.requests, Queue.CERTIFICATE_REQUESTS, request, self.clock) as to_do:
            if not to_do:
                return
            if request.kind is CertificateKind.DEVICE:
                await self._device(request)
            elif request.kind is CertificateKind.VERIFICATION:
                await self._verification(request, to_do)
            else:
                await self.creation.ensure(self._definition(request), cause=request.request_id)

    async def foresee(self, request: CertificateRequest) -> None:
        """See what of a request can't succeed as things are, for a caller who waits for the answer.

        Raises:
            Rejected: what :meth:`carry_out` would raise now.
        """
        with suppress(Deferred):  # a CA that is being made: the request waits for it in its queue
            if request.kind is CertificateKind.DEVICE:
                await self._foresee_device(request)
            elif request.kind is CertificateKind.VERIFICATION:
                await self.authorities.load(request.issuer or "")
            else:
                await self.creation.check_definition(self._definition(request))

    async def _foresee_device(self, request: CertificateRequest) -> None:
        authority = await usable_for_devices(self.authorities, self.groups, request.issuer or "")
        wanted = self._wanted(request, authority.enrollment_group)
        known = await self.devices.get(wanted.registration_id)
        device = known.record if known else None
        issuance.ordered(device, self._ordered(request, wanted), field="name")
        await self.device_certificates.foresee(wanted, device)

    def _definition(self, request: CertificateRequest) -> AuthorityDefinition:
        ours = request.kind is CertificateKind.INTERMEDIATE and not request.externally_signed
        parent = (request.issuer or self.settings.root_authority) if ours else None
        return AuthorityDefinition(
            name=request.name,
            kind=request.kind,
            parent=parent,
            key_algorithm=request.key_algorithm or DEFAULT,
            validity=timedelta(days=request.validity_days) if request.validity_days else None,
            path_length=request.path_length,
            custody=request.custody or default_custody(self.settings, request.kind, request.path_length or 0),
            externally_signed=request.externally_signed,
            root_thumbprint=request.root_thumbprint,
        )

    async def _verification(self, request: CertificateRequest, known: RequestRecord) -> None:
        issuer, code = request.issuer or "", request.verification_code or ""
        certificate = await self.possession.requested_certificate(self.requests, known, name=issuer, code=code)
        await self.outbox.publish(
            CertificateIssued(
                kind=request.kind,
                name=request.name,
                issuer=issuer,
                serial_number=names.serial_text(certificate.serial_number),
                thumbprint=names.thumbprint(certificate),
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
                certificate=names.pem(certificate),
            ),
            subject=request.name,
            correlation_id=request.request_id,
        )

    async def _device(self, request: CertificateRequest) -> None:
        """Issue for a device that is registered by other means, or not with DPS at all."""
        registration_id = canonical_registration_id(request.name)
        # What was issued stays so, whatever has become of its CA, or of the device, before the request was done.
        if not await self._is_issued(registration_id, request):
            try:
                await self._issue(request)
            except Rejected as rejection:
                # An attempt before this one may have taken the device, or another one have issued meanwhile.
                await self.failures.give_up(self._ordered(request, self._wanted(request, None)), rejection)
                if not await self._is_issued(registration_id, request):
                    raise
        await self.converger.converge(registration_id)

    async def _is_issued(self, registration_id: str, request: CertificateRequest) -> bool:
        known = await self.devices.get(registration_id)
        return known is not None and known.record.issuance(Purpose.REQUEST, request.request_id) is not None

    async def _issue(self, request: CertificateRequest) -> None:
        authority = await usable_for_devices(self.authorities, self.groups, request.issuer or "")
        wanted = self._wanted(request, authority.enrollment_group)
        take = partial(issuance.ordered, wanted=self._ordered(request, wanted), field="name")
        await self.device_certificates.issue(wanted, Acts(take=take, commit=self._commit))

    def _commit(self, record: DeviceRecord, made: Committed) -> DeviceRecord:
        return issuance.issued(record, made, self.clock())

    def _wanted(self, request: CertificateRequest, enrollment_group: str | None) -> DeviceCertificateRequest:
        decision = Decision(issuer=request.issuer or "")

        async def decided() -> Decision:
            return decision

        return DeviceCertificateRequest(
            registration_id=canonical_registration_id(request.name),
            issuer=decided,
            purpose=Purpose.REQUEST,
            cause=request.request_id,
            validity=self.device_certificates.validity(request.validity_days),
            csr=request.csr,
            key_algorithm=request.key_algorithm,
            enrollment_group=enrollment_group,
        )

    def _ordered(self, request: CertificateRequest, wanted: DeviceCertificateRequest) -> DeviceRecord:
        return DeviceRecord(
            registration_id=wanted.registration_id,
            state=DeviceState.ORDERED,
            order_id=wanted.cause,
            purpose=Purpose.REQUEST,
            updated_at=self.clock(),
            enrollment_group=wanted.enrollment_group,
            own_key=wanted.csr is not None,
            registers_itself=True,
            validity_days=request.validity_days,
            entry_settings={},
        ).entered(DeviceState.ORDERED, self.clock(), f"request {wanted.cause}")

    async def describe(self, serial_number: str) -> Certificate:
        """Show a certificate.

        Raises:
            NotFound: no certificate has this serial number.
        """
        known = await self.certificates.get(serial_number)
        if known is None:
            raise unknown_certificate(serial_number)
        return _described(known.record)


def _described(record: CertificateRecord) -> Certificate:
    return Certificate(
        serial_number=record.serial_number,
        kind=record.kind,
        state=record.state,
        subject=record.subject,
        issuer=record.issuer,
        enrollment_group=record.enrollment_group,
        thumbprint=record.thumbprint,
        not_before=record.not_before,
        not_after=record.not_after,
        revoked_at=record.revoked_at,
        revocation_reason=record.revocation_reason,
        predecessor=record.predecessor,
        successor=record.successor,
        requested_by=record.cause,
        certificate=record.pem,
    )
