"""Certificate authorities: roots, and the issuing CAs of enrollment groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.authorities import AuthorityRecord, IdentityClaim
from shared.ledger.rows import Rows
from shared.ledger.table import Stale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_PARTITION = "issuer"  # some hundred rows at most: DPS takes 100 groups and 25 CAs
_IDENTITIES = "identity"
_ATTEMPTS = 5


class Authorities:
    """The CAs' table. Two names that differ by case alone can't both be there: they name the same vault key."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, AuthorityRecord, key=lambda record: (_PARTITION, record.name.lower()))
        self._claims = Rows(table, IdentityClaim, key=lambda claim: (_IDENTITIES, claim.identity))
        self._table = table

    async def get(self, name: str) -> Versioned[AuthorityRecord] | None:
        """Find a CA by its name, as it was given when it was made."""
        known = await self.holder(name)
        return known if known and known.record.name == name else None

    async def group_of(self, name: str) -> str | None:
        """Give the enrollment group of a CA; ``None`` if it has none, or does not exist."""
        known = await self.get(name)
        return known.record.enrollment_group if known else None

    async def holder(self, name: str) -> Versioned[AuthorityRecord] | None:
        """Find the CA that has taken a name, in upper or lower case."""
        return await self._rows.get(_PARTITION, name.lower())

    async def try_insert(self, record: AuthorityRecord) -> Versioned[AuthorityRecord] | None:
        """Record a CA; ``None`` if the name is taken, where it counts for which CA."""
        return await self._rows.try_insert(record)

    async def replace(self, known: Versioned[AuthorityRecord], record: AuthorityRecord) -> Versioned[AuthorityRecord]:
        """Replace a row as it was read.

        A write whose answer was lost, and which the client repeated, is known by what it has written.

        Raises:
            Stale: others have changed it since.
        """
        written = await self._rows.try_replace(known, record)
        if written is not None:
            return written
        present = await self.get(record.name)
        if present is None or present.record != record:
            raise Stale(record.name)
        return present

    async def try_replace(
        self, known: Versioned[AuthorityRecord], record: AuthorityRecord
    ) -> Versioned[AuthorityRecord] | None:
        """Replace a row as it was read; ``None`` if others have changed it since.

        For turns: whoever finds the row changed has lost nothing, since another worker has the turn then.
        """
        try:
            return await self.replace(known, record)
        except Stale:
            return None

    async def withdraw(self, known: Versioned[AuthorityRecord]) -> bool:
        """Delete a row as it was read; ``False`` if it has changed since."""
        return await self._table.delete_unchanged(_PARTITION, known.record.name.lower(), known.etag)

    async def claim_identity(self, identity: str, name: str) -> str:
        """Enter under which name a CA is here, unless it is here already; give the name under which it is.

        Each claim writes the row anew, so that a claim whose CA was withdrawn is taken over by one of several.

        Args:
            identity: from :func:`shared.pki.identities.authority_identity`.
            name: of the CA; its row is there.

        Raises:
            Stale: others kept claiming it.
        """
        claim = IdentityClaim(name=name, identity=identity)
        for _ in range(_ATTEMPTS):
            if await self._claims.try_insert(claim) is not None:
                return name
            known = await self._claims.get(_IDENTITIES, identity)
            if known is None:
                continue
            holder = known.record.name
            if holder != name and await self._has(holder, identity):
                return holder
            if await self._claims.try_replace(known, claim) is not None:
                return name
        raise Stale(identity)

    async def _has(self, name: str, identity: str) -> bool:
        """Tell whether the CA of a name has an identity, or may be about to get it."""
        known = await self.get(name)
        return known is not None and known.record.identity in {None, identity}

    async def list(self) -> AsyncIterator[AuthorityRecord]:
        """List all CAs by name."""
        async for record in self._rows.list("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield record
