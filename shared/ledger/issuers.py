"""Certificate authorities: roots, and the issuing CAs of enrollment groups."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.contracts import CertificateKind, KeyCustody
from shared.ledger.table import Record, Table, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PARTITION = "issuer"  # some hundred rows at most: DPS takes 100 groups and 25 CAs


class IssuerState(StrEnum):
    """States of a CA."""

    REQUESTED = "requested"
    AWAITING_CERTIFICATE = "awaitingCertificate"
    SIGNED = "signed"
    ACTIVE = "active"


class ProofOfPossession(StrEnum):
    """What DPS knows of a CA at the top of ours: a root, or one that was signed elsewhere."""

    PENDING = "pending"
    VERIFIED = "verified"
    BY_HAND = "byHand"


class IssuerRecord(Record):
    """One certificate authority.

    Attributes:
        name: also the CN and the name of the vault key.
        parent: name of the CA of ours that signed it, or stands above ``certificates_above``; ``None`` for none.
        fingerprint: of the definition it was requested with.
        cause: id of the request.
        custody: where its key is.
        key_id: id of the vault key's version; ``None`` for a wrapped key.
        wrapped_key: the key, encrypted under one of the vault; ``None`` for a key in the vault.
        signing_request: PEM, of a CA that is signed elsewhere.
        certificate: PEM.
        external_issuer: CN of the CA that signed it, if that is none of ours.
        certificates_above: PEM, from its issuer up to the root, or to the first CA of this ledger.
        crl_number: number of the newest CRL (RFC 5280 section 5.2.3), 0 before the first.
        proof_of_possession: towards DPS; ``None`` for a CA below one of ours.
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
    custody: KeyCustody = KeyCustody.VAULT
    key_id: str | None = None
    wrapped_key: str | None = None
    signing_request: str | None = None
    external_issuer: str | None = None
    certificates_above: str | None = None
    serial_number: str | None = None
    thumbprint: str | None = None
    certificate: str | None = None
    path_length: int | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    crl_number: int = 0
    proof_of_possession: ProofOfPossession | None = None

    @property
    def signed_by(self) -> str:
        """Who signed it: a CA of ours by its name, another by its CN, a root itself."""
        return self.external_issuer or self.parent or self.name


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
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(record, await self._table.replace(keyed(_PARTITION, record.name.lower(), record), known.etag))

    async def list(self) -> AsyncIterator[IssuerRecord]:
        """List all CAs by name."""
        async for row in self._table.query("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield IssuerRecord.from_columns(row.values)
