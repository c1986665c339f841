"""Checks that ledger, DPS, hubs and lists agree about every device, and changes nothing.

Run ``python -m shared.audit`` with the app's settings in its environment and an identity that may read what the app
reads (see the README's table of roles). It prints what is wrong, a line each, and ends with 1 then. What is on its way
is wrong for as long as it takes: look again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from shared.domain.audit import Observed, faults
from shared.ledger.devices import Devices
from shared.pki.names import serial_text
from shared.services import build
from shared.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.domain.devices import DeviceRecord
    from shared.services import Services

_PAGE = 500


@dataclass(slots=True)
class Auditor:
    """Reads every device, and what the services have of it."""

    services: Services
    devices: Devices
    lists: dict[str, frozenset[str]]

    async def run(self) -> AsyncIterator[str]:
        """Give everything that is wrong, device by device."""
        continuation: str | None = None
        while True:
            page, continuation = await self.devices.page(
                enrollment_group=None, state=None, size=_PAGE, continuation=continuation
            )
            for record in page:
                for fault in faults(record, await self._observe(record), self.services.clock()):
                    yield f"{record.registration_id}: {fault}"
            if continuation is None:
                return

    async def _observe(self, record: DeviceRecord) -> Observed:
        found = await self.devices.certificates_of(record.registration_id)
        listed = [await self._listed(issuer) for issuer in sorted({each.issuer for each in found})]
        return Observed(
            certificates={each.serial_number: each for each in found},
            thumbprints={each.serial_number: _sha256(each.pem) for each in found if each.pem},
            entry=await self._entry(record.registration_id),
            identity=await self._identity(record),
            listed=frozenset().union(*listed),
        )

    async def _entry(self, registration_id: str) -> frozenset[str] | None:
        entry = await self.services.clients.provisioning.get_enrollment(registration_id)
        if entry is None:
            return None
        if entry.get("provisioningStatus") == "disabled":
            return frozenset()
        held = (entry["attestation"].get("x509") or {}).get("clientCertificates") or {}
        return frozenset(_thumbprint(each) for each in held.values() if each)

    async def _identity(self, record: DeviceRecord) -> bool | None:
        if not (record.assigned_hub and record.device_id):
            return None
        identity = await self.services.clients.hubs.get(record.assigned_hub, record.device_id)
        return identity.enabled if identity else None

    async def _listed(self, issuer: str) -> frozenset[str]:
        """Read a CA's list, once."""
        if issuer not in self.lists:
            _, content = await self.services.revocation_lists.read(issuer)
            crl = x509.load_der_x509_crl(content)
            self.lists[issuer] = frozenset(serial_text(each.serial_number) for each in crl)
        return self.lists[issuer]


def _thumbprint(held: dict[str, Any]) -> str:
    """Give the SHA-256 thumbprint of a certificate in an entry; DPS may give it as ``info`` alone."""
    return str(held["info"]["sha256Thumbprint"]).upper() if held.get("info") else _sha256(str(held["certificate"]))


def _sha256(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(SHA256()).hex().upper()


async def audit(settings: Settings) -> list[str]:
    """Audit the deployment that the settings name.

    Returns:
        Everything that is wrong, a line each.
    """
    services = build(settings)
    table = services.clients.tables.table
    try:
        auditor = Auditor(services, Devices(table("identities"), table("unsettled")), {})
        return [fault async for fault in auditor.run()]
    finally:
        await services.close()


def main() -> int:
    """Audit the deployment that the environment names."""
    try:
        settings = Settings.from_environment(os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = asyncio.run(audit(settings))
    sys.stdout.write("".join(f"{fault}\n" for fault in found) or "ledger, DPS, hubs and lists agree\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
