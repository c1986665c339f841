"""The certificates of a device by which DPS lets it in, or keeps it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.pki.readable import load_certificates
from shared.pki.stand_ins import stand_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from shared.domain.devices import DeviceRecord
    from shared.domain.wanted import Wanted
    from shared.ledger.certificates import Certificates
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Reads certificates of devices."""

    certificates: Certificates
    clock: Clock

    async def newest(self, record: DeviceRecord) -> x509.Certificate | None:
        """Give the certificate that shuts a device out: the one that it uses, or else the last one that it had.

        DPS matches an entry by its id, and a disabled one refuses whatever comes. So a device whose certificates the
        ledger has never seen is shut out with one that stands in for them.
        """
        had = [each.serial_number for each in record.held if each.issued]
        serial_number = record.certificate.serial_number if record.certificate else had[-1] if had else None
        if serial_number:
            return await self._leaf(serial_number)
        return stand_in(record.registration_id, self.clock()) if record.unseen else None

    async def in_use(self, want: Wanted, entry: dict[str, Any] | None) -> list[x509.Certificate]:
        """Give the certificates that an entry of a device is to take; none if its group decides."""
        return [] if entry is None and not want.own_entry else await self.of(want.in_use)

    async def of(self, serial_numbers: Iterable[str]) -> list[x509.Certificate]:
        """Give certificates by their serial numbers."""
        return [await self._leaf(serial_number) for serial_number in serial_numbers]

    async def _leaf(self, serial_number: str) -> x509.Certificate:
        known = await self.certificates.get(serial_number)
        if known is None or known.record.pem is None:
            raise RuntimeError(f"the ledger does not have certificate {serial_number}, which a device carries")
        return load_certificates(known.record.pem.encode())[0]
