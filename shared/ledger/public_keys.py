"""Public keys, found by their fingerprint: a key belongs to one device, and one that is compromised to none."""

from __future__ import annotations

from shared.domain.public_keys import PublicKeyRecord
from shared.ledger.table import Stale, Table, Versioned, keyed

_ATTEMPTS = 5


class PublicKeys:
    """The table of public keys."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def claim(self, record: PublicKeyRecord) -> Versioned[PublicKeyRecord] | None:
        """Give a key to a device, if nobody has it; otherwise tell who has it.

        Returns:
            ``None`` if it belongs to the device from now on and did not belong to anybody.
        """
        if await self._table.insert(_row(record)) is not None:
            return None
        return await self.get(record.fingerprint)

    async def get(self, fingerprint: str) -> Versioned[PublicKeyRecord] | None:
        """Find a key."""
        row = await self._table.get(*_key(fingerprint))
        return Versioned(PublicKeyRecord.from_columns(row.values), row.etag) if row else None

    async def replace(self, known: Versioned[PublicKeyRecord], record: PublicKeyRecord) -> None:
        """Replace a key's record as it was read.

        Raises:
            Stale: it has changed since.
        """
        if await self._table.replace(_row(record), known.etag) is None:
            raise Stale(record.fingerprint)

    async def condemn(self, record: PublicKeyRecord) -> None:
        """Enter that a key is compromised, whoever has it.

        Raises:
            Stale: others kept changing it.
        """
        condemned = record.changed(compromised=True)
        for _ in range(_ATTEMPTS):
            known = await self.claim(condemned)
            if known is None or known.record.compromised:
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
