"""Public keys, found by their fingerprint: a key belongs to one device, and one that is compromised to none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.public_keys import PublicKeyRecord
from shared.ledger.rows import Rows
from shared.ledger.table import Stale

if TYPE_CHECKING:
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_ATTEMPTS = 5


class PublicKeys:
    """The table of public keys."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, PublicKeyRecord, key=lambda record: _key(record.fingerprint))

    async def claim(self, record: PublicKeyRecord) -> Versioned[PublicKeyRecord]:
        """Give a key to a device, if nobody has it; otherwise tell who has it.

        Raises:
            Stale: somebody else has deleted its row at this moment.
        """
        present = await self._rows.try_insert(record) or await self.get(record.fingerprint)
        if present is None:
            raise Stale(record.fingerprint)
        return present

    async def get(self, fingerprint: str) -> Versioned[PublicKeyRecord] | None:
        """Find a key."""
        return await self._rows.get(*_key(fingerprint))

    async def replace(self, known: Versioned[PublicKeyRecord], record: PublicKeyRecord) -> Versioned[PublicKeyRecord]:
        """Replace a key's record as it was read.

        Raises:
            Stale: it has changed since.
        """
        return await self._rows.replace(known, record)

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
            if await self._rows.try_replace(known, known.record.changed(compromised=True)) is not None:
                return
        raise Stale(record.fingerprint)


def _key(fingerprint: str) -> tuple[str, str]:
    return fingerprint[:4], fingerprint
