"""Lists of CAs whose keys are not here, such as an offline root: imported, checked, and served with ours."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.contracts.authorities import ImportedListAnswer
from shared.domain.imported_lists import ImportedList
from shared.errors import Conflict, Deferred, NotFound, Overtaken
from shared.pki import names
from shared.pki.foreign_lists import foreign_list
from shared.workflows.authorities.records import all_certificates, certificates_of
from shared.workflows.status.revocation_lists import CONTENT_TYPE, CRLS, ListDescription

if TYPE_CHECKING:
    from cryptography import x509

    from shared.ledger.authorities import Authorities
    from shared.ledger.imported_lists import ImportedListRows
    from shared.ledger.table import Versioned
    from shared.pki.foreign_lists import ForeignList
    from shared.ports.blobs import Blobs
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.status.revocation_lists import RevocationLists

_ATTEMPTS = 5
_FIELD = "crl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedLists:
    """Keeps the newest list of each CA above ours whose key is not here."""

    records: Authorities
    rows: ImportedListRows
    blobs: Blobs
    clock: Clock

    async def take_in(self, name: str, content: bytes) -> ImportedListAnswer:
        """Keep a list that its CA's owner has brought.

        Args:
            name: of the CA: its CN, with a dash for each run of characters that a name can't have.
            content: PEM or DER.

        Returns:
            What was kept, and the CAs of ours that it revokes.

        Raises:
            NotFound: such a CA does not stand above one of ours.
            Conflict: the CA's key is here, so its lists are made here; or a newer list is here.
            Rejected: it can't be used by relying parties.
        """
        given = foreign_list(content, await self._issuer(name), self.clock())
        for _ in range(_ATTEMPTS):
            known = await self.rows.get(name)
            wanted = self._record(name, given)
            if known is not None and known.record.sha256 == wanted.sha256:
                if await self._keep_again(known, given):
                    return await self._described(known.record, given)
                continue
            if known is not None:
                _check_newer(wanted, known.record)
            await self._keep(wanted, given)
            if await self.rows.try_put(known, wanted):
                if known is not None:
                    await self.blobs.delete(CRLS, _blob(known.record))
                return await self._described(wanted, given)
        raise Overtaken(f"others bring lists of {name!r} at this moment")

    async def _keep(self, record: ImportedList, given: ForeignList) -> None:
        """See that the blob of a list is there and as it was given, whatever has become of it.

        It has the name of its content: a list that comes second takes nothing away from the first.
        """
        for _ in range(_ATTEMPTS):
            if await self.blobs.create(CRLS, _blob(record), given.content, content_type=CONTENT_TYPE, metadata={}):
                return
            stored = await self.blobs.get(CRLS, _blob(record))
            if stored is None:
                continue
            whole = replace(stored, content=given.content)
            if whole == stored or await self.blobs.replace(CRLS, _blob(record), whole, content_type=CONTENT_TYPE):
                return
        raise Overtaken(f"others change the CRL of {record.name!r} at this moment")

    async def _keep_again(self, known: Versioned[ImportedList], given: ForeignList) -> bool:
        """Keep a list that is here, in case its blob was lost; ``False`` if another list has taken its place."""
        await self._keep(known.record, given)
        present = await self.rows.get(known.record.name)
        if present is not None and present.record.sha256 == known.record.sha256:
            return True
        await self.blobs.delete(CRLS, _blob(known.record))  # numbers never fall, so nobody needs it any more
        return False

    def _record(self, name: str, given: ForeignList) -> ImportedList:
        return ImportedList(
            name=name,
            number=given.number,
            sha256=sha256(given.content).hexdigest(),
            this_update=given.this_update,
            next_update=given.next_update,
            imported_at=self.clock(),
        )

    async def _described(self, record: ImportedList, given: ForeignList) -> ImportedListAnswer:
        revoked = [
            each.name
            async for each in self.records.list()
            if given.listed & {names.serial_text(one.serial_number) for one in all_certificates(each)}
            and each.external_issuer is not None
        ]
        return ImportedListAnswer(
            name=record.name,
            number=record.number,
            this_update=record.this_update,
            next_update=record.next_update,
            entries=len(given.listed),
            revokes=sorted(revoked),
        )

    async def _issuer(self, name: str) -> x509.Certificate:
        """Find the certificate of a CA above one of ours."""
        if await self.records.holder(name) is not None:
            raise Conflict.because(
                f"{name!r} is a CA whose lists are made here; only lists of CAs whose key is not here are imported",
                field="name",
            )
        above = {
            list_name(each): each
            async for record in self.records.list()
            for each in certificates_of(record.certificates_above)
        }
        if name not in above:
            known = f"known are {', '.join(sorted(above))}" if above else "no CA here was signed by another's"
            raise NotFound.because(f"no CA here has {name!r} above it; {known}", field="name")
        return above[name]

    async def find(self, name: str) -> ListDescription | None:
        """Describe the list of a CA; ``None`` if none was imported."""
        known = await self.rows.get(name)
        return _description(known.record) if known else None

    async def read(self, name: str) -> tuple[ListDescription, bytes]:
        """Read the list of a CA, in DER.

        Raises:
            NotFound: none was imported.
            Deferred: it is being replaced.
        """
        for _ in range(_ATTEMPTS):
            known = await self.rows.get(name)
            if known is None:
                raise NotFound.because(f"no list of {name!r} was imported", field="name")
            stored = await self.blobs.get(CRLS, _blob(known.record))
            if stored is not None and sha256(stored.content).hexdigest() == known.record.sha256:
                return _description(known.record), stored.content
        raise Deferred(f"the CRL of {name!r} is not there as it was imported", retry_after=timedelta(seconds=2))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLists:
    """All lists that relying parties can have: those that are made here, and those that were imported."""

    own: RevocationLists
    imported: ImportedLists

    async def describe(self, name: str) -> ListDescription:
        """Describe the newest list of a CA; errors are those of :meth:`RevocationLists.describe`."""
        try:
            return await self.own.describe(name)
        except NotFound:
            found = await self.imported.find(name)
            if found is None:
                raise
            return found

    async def read(self, name: str) -> tuple[ListDescription, bytes]:
        """Read the newest list of a CA, in DER; errors are those of :meth:`describe`."""
        try:
            return await self.own.read(name)
        except NotFound:
            if await self.imported.find(name) is None:
                raise
            return await self.imported.read(name)


def list_name(certificate: x509.Certificate) -> str:
    """Name a CA whose key is not here, fit for a path: its CN, with a dash for what a name can't have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", names.common_name(certificate.subject)).strip("-")[:64]


def _check_newer(wanted: ImportedList, present: ImportedList) -> None:
    """See that a list comes after the one that is here: numbers never fall (RFC 5280 section 5.2.3)."""
    if wanted.number > present.number and wanted.this_update >= present.this_update:
        return
    raise Conflict.because(
        f"it has number {wanted.number}, of {wanted.this_update:%Y-%m-%d %H:%M} UTC; the one that is here has number "
        f"{present.number}, of {present.this_update:%Y-%m-%d %H:%M} UTC, and only a later one replaces it",
        field=_FIELD,
    )


def _blob(record: ImportedList) -> str:
    return f"imported/{record.name}/{record.sha256}.crl"


def _description(record: ImportedList) -> ListDescription:
    return ListDescription(etag=f'"{record.sha256[:32]}"', made_at=record.this_update, next_update=record.next_update)
