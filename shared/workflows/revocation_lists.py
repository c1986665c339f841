"""CRLs: published for every CA, daily and on each revocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.adapters.storage import StoredBlob
from shared.errors import Deferred, NotFound
from shared.ledger.issuers import IssuerState
from shared.pki.revocation_lists import build_crl
from shared.workflows.revoked_entries import RevokedEntries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.adapters.storage import BlobDescription, Blobs
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
_NUMBER, _THIS_UPDATE, _NEXT_UPDATE = "crlnumber", "thisupdate", "nextupdate"


@dataclass(frozen=True, slots=True)
class ListDescription:
    """What can be known of a list without reading it.

    Attributes:
        etag: of its blob; another list has another.
        this_update: when it was made, UTC, to the second.
        next_update: when the next one will be there at the latest.
    """

    etag: str
    this_update: datetime
    next_update: datetime

    @classmethod
    def of(cls, blob: StoredBlob | BlobDescription) -> ListDescription:
        """Read it out of a blob's metadata."""
        this_update, next_update = (
            datetime.fromisoformat(blob.metadata[name]) for name in (_THIS_UPDATE, _NEXT_UPDATE)
        )
        return cls(blob.etag, this_update, next_update)


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

        Raises:
            ExceptionGroup: some could not be; every CA was tried.
        """
        names = [record.name async for record in self.issuers.list() if record.state is IssuerState.ACTIVE]
        published, failures = 0, list[Exception]()
        for name in names:
            try:
                published += await self.publish(name)
            except Exception as error:  # noqa: BLE001 - one CA that can't sign must not let the others' lists expire
                failures.append(RuntimeError(f"the CRL of {name!r} was not published: {error}"))
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(names)} CRLs were not published", failures)
        return published

    async def publish(self, name: str) -> bool:
        """Publish a new list for one CA; ``False`` if its certificate does not allow it to sign one.

        The CRL number is taken first, then the entries are brought up to date, then the blob is replaced as it was
        before: so a list with a higher number never holds less, and an older one never replaces a newer one.

        Raises:
            Deferred: others kept publishing at the same time.
            NotFound: there is no such CA.
        """
        issuer = await self.authorities.load(name)
        if not issuer.may_sign_crls:
            return False  # an imported CA; its revocations are in the ledger, and OCSP tells of them
        for _ in range(_ATTEMPTS):
            present = await self.blobs.get(CRLS, _blob(name))
            number = await self._next_number(name)
            if number is None:
                continue
            current = await self._entries().current(name, ListDescription.of(present).this_update if present else None)
            if current is None:
                continue
            entries, changes = current
            now = self.clock().replace(microsecond=0)
            next_update = now + self.settings.crl_validity
            crl = await self.authorities.signing(issuer, _signed, entries, issuer, number, now, next_update)
            metadata = {
                _NUMBER: str(number),
                _THIS_UPDATE: now.isoformat(),
                _NEXT_UPDATE: next_update.isoformat(),
            }
            if await self._store(name, crl, metadata, present):
                await self.certificates.forget(changes)
                return True
        raise Deferred(f"the CRL of {name!r} is being published by others", retry_after=timedelta(seconds=2))

    def _entries(self) -> RevokedEntries:
        return RevokedEntries(self.certificates, self.blobs, CRLS)

    async def _next_number(self, name: str) -> int | None:
        known = await self.issuers.get(name)
        if known is None:
            raise NotFound.because(f"there is no certificate authority {name!r}", field="issuer")
        number = known.record.crl_number + 1
        return number if await self.issuers.replace(known, known.record.changed(crl_number=number)) else None

    async def _store(self, name: str, crl: bytes, metadata: Mapping[str, str], present: StoredBlob | None) -> bool:
        if present is None:
            return await self.blobs.create(CRLS, _blob(name), crl, content_type=CONTENT_TYPE, metadata=metadata)
        successor = StoredBlob(crl, metadata, present.etag)
        return await self.blobs.replace(CRLS, _blob(name), successor, content_type=CONTENT_TYPE)

    async def describe(self, name: str) -> ListDescription:
        """Describe the newest list of a CA; the first one to ask about a new CA has it published.

        Raises:
            NotFound: there is no such CA, or it signs no CRLs.
        """
        found = await self.blobs.describe(CRLS, _blob(name))
        if found is None:
            await self.publish(name)
            found = await self.blobs.describe(CRLS, _blob(name))
        if found is None:
            raise NotFound.because(
                f"{name!r} has no CRL: the key usage of its certificate forbids it to sign one (cRLSign)"
            )
        return ListDescription.of(found)

    async def read(self, name: str) -> tuple[ListDescription, bytes]:
        """Read the newest list of a CA, in DER; errors are those of :meth:`describe`."""
        stored = await self.blobs.get(CRLS, _blob(name))
        if stored is None:
            await self.describe(name)  # publishes the first one
            stored = await self.blobs.get(CRLS, _blob(name))
        if stored is None:
            raise NotFound.because(f"the CRL of {name!r} is gone")
        return ListDescription.of(stored), stored.content


def _signed(entries: Sequence[bytes], issuer: Issuer, number: int, now: datetime, next_update: datetime) -> bytes:
    return build_crl(entries, issuer=issuer, crl_number=number, now=now, next_update=next_update)


def _blob(name: str) -> str:
    return f"{name}.crl"
