"""CRLs: published for every CA, daily and on each revocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.adapters.storage import StoredBlob
from shared.errors import Deferred, NotFound
from shared.ledger.issuers import IssuerState
from shared.pki.revocation_lists import build_crl
from shared.workflows.revoked_entries import RevokedEntries

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
        published = 0
        for name in names:
            if (await self.authorities.load(name)).may_sign_crls:
                await self.publish(name)
                published += 1
        return published

    async def publish(self, name: str) -> None:
        """Publish a new list for one CA.

        The CRL number is taken first, then the entries are brought up to date, then the blob is replaced as it was
        before: so a list with a higher number never holds less, and an older one never replaces a newer one.

        Raises:
            Deferred: others kept publishing at the same time.
            NotFound: there is no such CA.
        """
        issuer = await self.authorities.load(name)
        if not issuer.may_sign_crls:
            return  # an imported CA; its revocations are in the ledger, and OCSP tells of them
        for _ in range(_ATTEMPTS):
            present = await self.blobs.get(CRLS, _blob(name))
            number = await self._next_number(name)
            if number is None:
                continue
            current = await self._entries().current(name, self.clock())
            if current is None:
                continue
            entries, changes = current
            crl = await self.authorities.signing(
                issuer, _signed, entries, issuer, number, self.clock(), self.settings.crl_validity
            )
            if await self._store(name, crl, number, present):
                await self.certificates.forget(changes)
                return
        raise Deferred(f"the CRL of {name!r} is being published by others", retry_after=timedelta(seconds=2))

    def _entries(self) -> RevokedEntries:
        return RevokedEntries(self.certificates, self.blobs, CRLS)

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
            raise NotFound.because(
                f"{name!r} has no CRL: the key usage of its certificate forbids it to sign one (cRLSign)"
            )
        return stored


def _signed(entries: Sequence[bytes], issuer: Issuer, number: int, now: datetime, validity: timedelta) -> bytes:
    return build_crl(entries, issuer=issuer, crl_number=number, now=now, next_update=now + validity)


def _blob(name: str) -> str:
    return f"{name}.crl"
