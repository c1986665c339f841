"""Compares bundles in the store, and passwords of their keys in the vault, with the certificates that the ledger has.

A serial number is in the ledger before its bundle is stored: so a bundle without a certificate is not one of ours any
more, or never was. The bundle of a certificate that is over stays, without its key; the password goes after the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.findings import Difference, SubjectKind
from shared.domain.treatments import FindingKind
from shared.workflows.devices.bundles import BUNDLES, bundle_name, password_of, secret_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.certificates import CertificateRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ports.blobs import Blobs
    from shared.ports.vault import VaultSecrets
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.budget import Budget

PAGE = 1000
"""Names of blobs that are read at once."""

_NOBODY = "unknown"
"""Subject of a password that does not say whose it is."""

_BUNDLE = re.compile(r"(?P<device>[^/]+)/(?P<serial>[0-9a-f]{40})\.json")
_WHERE = re.compile(r"bundle (?P<serial>[0-9a-f]{40})")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLook:
    """Looks at bundles, one by one."""

    blobs: Blobs
    secrets: VaultSecrets
    certificates: Certificates
    devices: Devices
    expiry: ExpiryIndex
    clock: Clock

    async def page_of_bundles(self, continuation: str | None) -> tuple[dict[str, str], str | None]:
        """Give the devices of a page of stored bundles, by the serial numbers of their certificates."""
        page, following = await self.blobs.page_of_names(BUNDLES, size=PAGE, continuation=continuation)
        named = filter(None, map(_BUNDLE.fullmatch, page))
        return {each["serial"]: each["device"] for each in named}, following

    async def page_of_passwords(self, continuation: str | None, budget: Budget) -> tuple[dict[str, str], str | None]:
        """Give the devices of a page of passwords, by the serial numbers of the certificates of their keys."""
        budget.vault()
        page, following = await self.secrets.page(continuation=continuation)
        found: Mapping[str | None, str] = {
            password_of(name): tags.get("registrationId") or _NOBODY for name, tags in page.items()
        }
        return {serial: device for serial, device in found.items() if serial is not None}, following

    async def is_unknown(self, serial_number: str) -> bool:
        """Tell whether the ledger does not have a certificate."""
        return await self.certificates.get(serial_number) is None

    async def is_unknown_or_over(self, serial_number: str) -> bool:
        """Tell whether the ledger does not have a certificate, or has it as one that nobody will use again."""
        known = await self.certificates.get(serial_number)
        return known is None or known.record.ended

    async def differences(self, registration_id: str, serial_number: str, budget: Budget) -> list[Difference]:
        """Give what differs about the bundle of a certificate; nothing while its key is about to be deleted."""
        known = await self.certificates.get(serial_number)
        if known is not None:
            # Of one that came by a list alone, the ledger does not know whose it was: its password says so.
            return await self._of_certificate(known.record, known.record.subject or registration_id or _NOBODY, budget)
        stored = await self.blobs.describe(BUNDLES, bundle_name(registration_id, serial_number))
        if stored is None and not await self._has_password(serial_number, budget):
            return []
        held = "the bundle is stored" if stored is not None else "the password of its key is in the vault"
        return [_about(registration_id, serial_number, "the ledger does not have its certificate", held)]

    async def _of_certificate(
        self, record: CertificateRecord, registration_id: str, budget: Budget
    ) -> list[Difference]:
        if not record.ended:
            return []
        # In this order: a device that is settled has entered that the key is to go, and what is done is deleted last.
        device = await self.devices.get(registration_id)
        if device is not None and not device.record.settled:
            return []
        if record.serial_number in {
            each.serial_number async for each in self.expiry.key_deletions(self.clock().date())
        }:
            return []
        if not await self._has_password(record.serial_number, budget):
            return []
        said = f"its certificate is {record.state}"
        return [_about(registration_id, record.serial_number, said, "the password of its key is in the vault")]

    async def _has_password(self, serial_number: str, budget: Budget) -> bool:
        budget.vault()
        return await self.secrets.get(secret_name(serial_number)) is not None


def bundle_of(difference: Difference) -> tuple[str, str]:
    """Give the device and the serial number that a difference about a bundle names."""
    named = _WHERE.fullmatch(difference.where)
    if named is None:
        raise ValueError(f"{difference.where!r} does not name a bundle")
    return difference.subject, named["serial"]


def _about(registration_id: str, serial_number: str, ledger: str, service: str) -> Difference:
    return Difference(
        kind=FindingKind.BUNDLE_WITHOUT_CERTIFICATE,
        subject_kind=SubjectKind.DEVICE,
        subject=registration_id,
        ledger=ledger,
        service=service,
        where=f"bundle {serial_number}",
    )
