"""Public keys, found by their fingerprint: a key belongs to one device, and one that is compromised to none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.public_keys import PublicKeyRecord
from shared.ledger.table import Stale, Versioned, keyed, versioned

if TYPE_CHECKING:
    from shared.ports.rows import Table

_ATTEMPTS = 5


class PublicKeys:
    """The table of public keys."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def claim(self, record: PublicKeyRecord) -> Versioned[PublicKeyRecord]:
        """Give a key to a device, if nobody has it; otherwise tell who has it.

        Raises:
            Stale: somebody else has deleted its row at this moment.
        """
        present = versioned(record, await self._table.insert(_row(record))) or await self.get(record.fingerprint)
        if present is None:
            raise Stale(record.fingerprint)
        return present

    async def get(self, fingerprint: str) -> Versioned[PublicKeyRecord] | None:
        """Find a key."""
        row = await self._table.get(*_key(fingerprint))
        return Versioned(PublicKeyRecord.from_columns(row.values), row.etag) if row else None

    async def replace(self, known: Versioned[PublicKeyRecord], record: PublicKeyRecord) -> Versioned[PublicKeyRecord]:
        """Replace a key's record as it was read.

        Raises:
            Stale: it has changed since.
        """
        replaced = versioned(record, await self._table.replace(_row(record), known.etag))
        if replaced is None:
            raise Stale(record.fingerprint)
        return replaced

    async def condemn(self, record: PublicKeyRecord) -> None:
        """Enter that a key is compromised, whoever has it.

        Raises:
            Stale: others kept changing it.
        """
        condemned = record.changed(compromised=True)
        for _ in range(_ATTEMPTS):
            known = await self.claim(condemned)
            if known.record.compromised:
                return
            try:
                await self.replace(known, known.record.changed(compromised=True))
            except Stale:
                continue
            return
        raise Stale(record.fingerprint)


def _key(fingerprint: str) -> tuple[str, str]:
    return fingerprint[:4], fingerprint


def _row(record: PublicKeyRecord) -> dict[str, object]:
    return keyed(*_key(record.fingerprint), record)
