"""Certificates in the ledger as a test needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.domain.certificates import CertificateRecord
    from shared.ledger.certificates import Certificates


async def overwrite(certificates: Certificates, record: CertificateRecord) -> None:
    """Have a certificate in the ledger, whatever was there."""
    known = await certificates.get(record.serial_number)
    written = await (certificates.try_replace(known, record) if known else certificates.try_add(record))
    assert written is not None
