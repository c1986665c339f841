"""Certificate authorities: roots, and the issuing CAs of enrollment groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.authorities import (
    IssuerRecord,
)
from shared.ledger.table import Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.ports.rows import Table

_PARTITION = "issuer"  # some hundred rows at most: DPS takes 100 groups and 25 CAs
_IDENTITIES = "identity"


class Issuers:
    """The issuers' table. Two names that differ by case alone can't both be there: they name the same vault key."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, name: str) -> Versioned[IssuerRecord] | None:
        """Find a CA by its name, as it was given when it was made."""
        known = await self.holder(name)
        return known if known and known.record.name == name else None

    async def holder(self, name: str) -> Versioned[IssuerRecord] | None:
        """Find the CA that has taken a name, in upper or lower case."""
        row = await self._table.get(_PARTITION, name.lower())
        return Versioned(IssuerRecord.from_columns(row.values), row.etag) if row else None

    async def insert(self, record: IssuerRecord) -> Versioned[IssuerRecord] | None:
        """Record a CA; ``None`` if the name is taken."""
        return versioned(record, await self._table.insert(keyed(_PARTITION, record.name.lower(), record)))

    async def replace(self, known: Versioned[IssuerRecord], record: IssuerRecord) -> Versioned[IssuerRecord] | None:
        """Replace a row as it was read; ``None`` if others have changed it since.

        A write whose answer was lost, and which the client repeated, is known by what it has written.
        """
        etag = await self._table.replace(keyed(_PARTITION, record.name.lower(), record), known.etag)
        if etag is not None:
            return Versioned(record, etag)
        present = await self.get(record.name)
        return present if present is not None and present.record == record else None

    async def withdraw(self, known: Versioned[IssuerRecord]) -> bool:
        """Delete a row as it was read; ``False`` if it has changed since."""
        return await self._table.delete_unchanged(_PARTITION, known.record.name.lower(), known.etag)

    async def claim_identity(self, identity: str, name: str) -> str:
        """Enter under which name a CA is here, unless it is here already; give the name under which it is.

        Args:
            identity: from :func:`shared.pki.identities.authority_identity`.
            name: of the CA; its row is there.
        """
        if await self._table.insert({"PartitionKey": _IDENTITIES, "RowKey": identity, "name": name}):
            return name
        row = await self._table.get(_IDENTITIES, identity)
        return str(row.values["name"]) if row else name

    async def list(self) -> AsyncIterator[IssuerRecord]:
        """List all CAs by name."""
        async for row in self._table.query("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield IssuerRecord.from_columns(row.values)
