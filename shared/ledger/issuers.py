"""Certificate authorities: roots, and the issuing CAs of enrollment groups."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.contracts import CertificateKind
from shared.ledger.table import Record, Table, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PARTITION = "issuer"  # some hundred rows at most: DPS takes 100 groups and 25 CAs


class IssuerState(StrEnum):
    """States of a CA."""

    REQUESTED = "requested"
    SIGNED = "signed"
    ACTIVE = "active"


class ProofOfPossession(StrEnum):
    """What DPS knows of a root."""

    PENDING = "pending"
    VERIFIED = "verified"
    BY_HAND = "byHand"


class IssuerRecord(Record):
    """One certificate authority.

    Attributes:
        name: also the CN and the name of the vault key.
        parent: name of the CA that signed it; ``None`` for a root.
        fingerprint: of the definition it was requested with.
        cause: id of the request.
        key_id: id of the vault key's version.
        certificate: PEM.
        crl_number: number of the newest CRL (RFC 5280 section 5.2.3), 0 before the first.
        proof_of_possession: of a root towards DPS; ``None`` for others.
    """

    name: str
    kind: CertificateKind
    state: IssuerState
    key_algorithm: str
    fingerprint: str
    cause: str
    requested_at: datetime
    parent: str | None = None
    enrollment_group: str | None = None
    key_id: str | None = None
    serial_number: str | None = None
    thumbprint: str | None = None
    certificate: str | None = None
    path_length: int | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    crl_number: int = 0
    proof_of_possession: ProofOfPossession | None = None


class Issuers:
    """The issuers' table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, name: str) -> Versioned[IssuerRecord] | None:
        """Find a CA by its name."""
        row = await self._table.get(_PARTITION, name)
        return Versioned(IssuerRecord.from_columns(row.values), row.etag) if row else None

    async def insert(self, record: IssuerRecord) -> Versioned[IssuerRecord] | None:
        """Record a CA; ``None`` if the name is taken."""
        return versioned(record, await self._table.insert(keyed(_PARTITION, record.name, record)))

    async def replace(self, known: Versioned[IssuerRecord], record: IssuerRecord) -> Versioned[IssuerRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(record, await self._table.replace(keyed(_PARTITION, record.name, record), known.etag))

    async def list(self) -> AsyncIterator[IssuerRecord]:
        """List all CAs by name."""
        async for row in self._table.query("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield IssuerRecord.from_columns(row.values)
