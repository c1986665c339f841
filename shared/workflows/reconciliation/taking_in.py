"""Enters a device's certificate that was found outside of the ledger, and with it the device, if it is not known."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain import issuance
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.entries import place_of
from shared.domain.held_certificates import HeldCertificate, Purpose
from shared.domain.issuance import Committed
from shared.domain.renewal import first_notice
from shared.domain.restoration import adopted, could_be_ordered, ordered_meanwhile, renewed_meanwhile
from shared.domain.words import CertificateKind, DeviceState
from shared.pki import names
from shared.pki.certificates import issued_by
from shared.pki.issuer_limits import BACKDATING
from shared.pki.public_keys import fingerprint, key_of
from shared.workflows.devices.bundles import bundle_name, summary_of
from shared.workflows.devices.changes import change, enter
from shared.workflows.devices.hub_doors import own_place
from shared.workflows.devices.own_certificates import own_certificates

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from cryptography import x509

    from shared.domain.devices import DeviceRecord
    from shared.domain.held_certificates import CertificateSummary
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.ledger.table import Versioned
    from shared.pki.issuers import Issuer
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.settings import Settings
    from shared.workflows.devices.bundles import Bundle
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCertificate:
    """A certificate of a device that was found outside of the ledger.

    Attributes:
        where: it was found, in words.
        cause: id of the order or request that it was issued for, as far as that is known.
        bundle: its bundle; ``None`` if it was found elsewhere.
    """

    certificate: x509.Certificate
    where: str
    cause: str
    bundle: Bundle | None = None

    @property
    def summary(self) -> CertificateSummary:
        """Describe it."""
        return summary_of(self.certificate)

    @property
    def is_own_key(self) -> bool:
        """Whether the device has made its key, as its bundle tells."""
        return self.bundle is not None and self.bundle.password_secret is None

    @property
    def keeps_key(self) -> bool:
        """Whether its bundle may have a key that is to be deleted."""
        return self.bundle is not None and self.bundle.password_secret is not None

    @property
    def made_at(self) -> datetime:
        """When it was made, to the second."""
        return self.summary.not_before + BACKDATING

    def committed(self, registration_id: str) -> Committed:
        """Give it as whoever issues it does."""
        summary = self.summary
        return Committed(
            summary=summary,
            bundle=bundle_name(registration_id, summary.serial_number) if self.bundle else "",
            sha256_thumbprint=names.sha256_thumbprint(self.certificate),
        )


@dataclass(slots=True, kw_only=True)
class TakingIn:
    """Enters certificates that were found, if one of our CAs has signed them.

    Attributes:
        issuers: the CAs, by name, as far as they are loaded.
    """

    certificates: Certificates
    devices: Devices
    groups: Groups
    expiry: ExpiryIndex
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    settings: Settings
    clock: Clock
    issuers: dict[str, Issuer] = field(default_factory=dict)

    def issuer_of(self, certificate: x509.Certificate) -> str | None:
        """Find the CA that has signed a certificate: who writes blobs must not make devices."""
        return next((name for name, each in self.issuers.items() if issued_by(certificate, each.certificate)), None)

    async def enter(
        self, registration_id: str, found: FoundCertificate, *, place: tuple[str, str] | None = None
    ) -> str:
        """Enter a certificate, and its device; say what became of it.

        Args:
            registration_id: of the device.
            found: the certificate.
            place: its hub and its device id there; ``None`` if DPS is to be asked.
        """
        issuer, summary = self.issuer_of(found.certificate), found.summary
        serial_number = summary.serial_number
        if issuer is None:
            what = f"certificate {serial_number}, which no CA of the ledger has signed"
            return f"{registration_id}: {found.where} has {what}"
        known = await self.devices.get(registration_id)
        if known is not None and known.record.find(serial_number) is not None:
            return f"{registration_id}: certificate {serial_number} was being made, and is carried on"
        if await self.certificates.get(serial_number) is not None:
            return f"{registration_id}: certificate {serial_number} is revoked, and was not known to be its own"
        purpose, cause = _cause_of(known.record if known else None, found)
        held = HeldCertificate(
            serial_number=serial_number,
            state=CertificateState.ACTIVE,
            issuer=issuer,
            purpose=purpose,
            cause=cause,
            recorded_at=summary.not_before,
            public_key=fingerprint(key_of(found.certificate)),
            not_after=summary.not_after,
        )
        row = _row(registration_id, held, found)
        await self._enter_in_books(registration_id, row, found)
        made = found.committed(registration_id)
        if known is not None and purpose is Purpose.RENEWAL:
            known = await self.enter_use(known)
            is_used = await self.is_used(known.record, {made.sha256_thumbprint})
            wanted = renewed_meanwhile(known.record, held, made, is_used=is_used, at=self.clock())
            entered = wanted.find(serial_number) or held
            row = row.changed(state=entered.state, revoked_at=entered.revoked_at, revocation_reason=entered.reason)
            await enter(self.devices, known, wanted, at=self.clock(), reserved=row)
            return f"{registration_id}: certificate {serial_number}, with which it was renewed, is known again"
        group, told = await self._place(registration_id, issuer)
        place = place or told
        record = adopted(
            registration_id, held, made, group=group, place=place, own_key=found.is_own_key, at=self.clock()
        )
        row = row.changed(enrollment_group=group)
        if known is None:
            await self.devices.insert(record, reserved=row)
        else:
            await self.devices.replace(known, ordered_meanwhile(known.record, record), reserved=row)
        where = f"in {place[0]}" if place else "in no hub: send its order again"
        return f"{registration_id}: known again, with certificate {serial_number}, {where}"

    async def _enter_in_books(self, registration_id: str, row: CertificateRecord, found: FoundCertificate) -> None:
        summary = found.summary
        await self.certificates.enter_in_force(row, until=summary.not_after)
        await self.expiry.put(
            first_notice(
                serial_number=summary.serial_number,
                subject=registration_id,
                not_before=summary.not_before,
                not_after=summary.not_after,
                warnings=self.settings.device_warnings,
                kept_until=self.clock() + self.settings.bundle_kept if found.keeps_key else None,
            )
        )

    async def _place(self, registration_id: str, issuer: str) -> tuple[str | None, tuple[str, str] | None]:
        place = place_of(await self.provisioning.get_registration(registration_id) or {})
        return await self.group_of(issuer), place

    async def group_of(self, issuer: str) -> str | None:
        """Find the group of a CA; a deleted one if it was the only one that had it."""
        found = await self.groups.having({issuer}, deleted=True)
        return found[0].enrollment_group if found else None

    async def enter_use(self, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        """Enter that a device uses the certificate that it is renewed with, if it has come with that after the copy.

        Returns:
            The device as it is then.
        """
        record = known.record
        renewal, place = issuance.renewal_of(record), own_place(record)
        if renewal is None or place is None:
            return known
        if not await self.is_used(record, (await own_certificates(self.devices, record)).waiting):
            return known
        used = partial(issuance.renewed, request_id=renewal, hub=place[0], device_id=place[1], at=self.clock())
        return await change(self.devices, record.registration_id, used, at=self.clock())

    async def is_used(self, record: DeviceRecord, thumbprints: Collection[str]) -> bool:
        """Tell whether a device's hub lets it in with a certificate of these thumbprints, and with nothing else."""
        place = own_place(record)
        identity = await self.hubs.get(*place) if place is not None else None
        return identity is not None and bool(identity.thumbprints) and identity.thumbprints <= {*thumbprints}


def _cause_of(known: DeviceRecord | None, found: FoundCertificate) -> tuple[Purpose, str]:
    """Tell what a certificate that was found was issued for.

    A device whose order was being carried out has got it by that order, which may come again. One that could be ordered
    anew could not be renewed; unless it was taken out of service since, by the ledger that was put back.

    Args:
        known: the device, as the ledger has it.
        found: the certificate.
    """
    if known is None or could_be_ordered(known, found.made_at):
        return Purpose.ORDER, found.cause
    if known.state is DeviceState.ORDERED:
        return known.purpose, known.order_id
    return Purpose.RENEWAL, found.cause


def _row(registration_id: str, held: HeldCertificate, found: FoundCertificate) -> CertificateRecord:
    summary = found.summary
    return CertificateRecord(
        serial_number=held.serial_number,
        kind=CertificateKind.DEVICE,
        state=held.state,
        subject=registration_id,
        issuer=held.issuer,
        cause=held.cause,
        recorded_at=held.recorded_at,
        not_before=summary.not_before,
        not_after=summary.not_after,
        thumbprint=summary.thumbprint,
        pem=names.pem(found.certificate),
    )
