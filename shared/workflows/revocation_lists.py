"""CRLs: published for every CA, daily and on each revocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.adapters.storage import StoredBlob
from shared.errors import Deferred, NotFound
from shared.ledger.issuers import IssuerState
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.adapters.storage import Blobs
    from shared.ledger.certificates import Certificates
    from shared.ledger.issuers import Issuers
    from shared.pki.issuance import Issuer
    from shared.settings import Settings
    from shared.workflows.certificate_authorities import CertificateAuthorities
    from shared.workflows.events import Clock


CRLS = "crls"
"""Container of the lists."""

CONTENT_TYPE = "application/pkix-crl"
"""RFC 5280 section 4.2.1.13."""

_ATTEMPTS = 5
_NUMBER = "crlNumber"


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """Builds, publishes and reads CRLs."""

    issuers: Issuers
    certificates: Certificates
    authorities: CertificateAuthorities
    blobs: Blobs
    settings: Settings
    clock: Clock

    async def publish_all(self) -> int:
        """Publish a new list for every CA.

        Returns:
            How many were published.
        """
        names = [record.name async for record in self.issuers.list() if record.state is IssuerState.ACTIVE]
        for name in names:
            await self.publish(name)
        return len(names)

    async def publish(self, name: str) -> None:
        """Publish a new list for one CA.

        The CRL number is taken first, then the entries are read, then the blob is replaced as it was before: so a
        list with a higher number never holds less, and an older one never replaces a newer one.

        Raises:
            Deferred: others kept publishing at the same time.
        """
        issuer = await self.authorities.load(name)
        for _ in range(_ATTEMPTS):
            present = await self.blobs.get(CRLS, _blob(name))
            number = await self._next_number(name)
            if number is None:
                continue
            entries = [
                encode_entry(RevokedCertificate(int(entry.serial_number, 16), entry.revoked_at, entry.reason.value))
                async for entry in self.certificates.revoked_by(name)
                if entry.not_after > self.clock()
            ]
            crl = await self.authorities.signing(
                issuer, _signed, entries, issuer, number, self.clock(), self.settings.crl_validity
            )
            if await self._store(name, crl, number, present):
                return
        raise Deferred(f"the CRL of {name!r} is being published by others", retry_after=timedelta(seconds=2))

    async def _next_number(self, name: str) -> int | None:
        known = await self.issuers.get(name)
        if known is None:
            raise NotFound.because(f"there is no certificate authority {name!r}", field="issuer")
        number = known.record.crl_number + 1
        return number if await self.issuers.replace(known, known.record.changed(crl_number=number)) else None

    async def _store(self, name: str, crl: bytes, number: int, present: StoredBlob | None) -> bool:
        metadata = {_NUMBER: str(number)}
        if present is None:
            return await self.blobs.create(CRLS, _blob(name), crl, content_type=CONTENT_TYPE, metadata=metadata)
        successor = StoredBlob(crl, metadata, present.etag)
        return await self.blobs.replace(CRLS, _blob(name), successor, content_type=CONTENT_TYPE)

    async def read(self, name: str) -> StoredBlob:
        """Read the newest list of a CA; the first reader of a new CA has it published.

        Raises:
            NotFound: there is no such CA.
        """
        stored = await self.blobs.get(CRLS, _blob(name))
        if stored is None:
            await self.publish(name)
            stored = await self.blobs.get(CRLS, _blob(name))
        if stored is None:
            raise NotFound.because(f"there is no CRL of {name!r}")
        return stored


def _signed(entries: Sequence[bytes], issuer: Issuer, number: int, now: datetime, validity: timedelta) -> bytes:
    return build_crl(entries, issuer=issuer, crl_number=number, now=now, next_update=now + validity)


def _blob(name: str) -> str:
    return f"{name}.crl"
