"""Certificate authorities: roots, and the issuing CAs of enrollment groups."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.contracts import CertificateKind, KeyCustody
from shared.ledger.table import Record, Table, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PARTITION = "issuer"  # some hundred rows at most: DPS takes 100 groups and 25 CAs
_IDENTITIES = "identity"


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


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


class WantedAuthority(_Part):
    """What a CA that is made here is to be, beside what its record says: so whoever comes can finish it.

    Attributes:
        externally_signed: whether a CA signs it that is none of ours.
    """

    validity: timedelta | None = None
    path_length: int | None = None
    externally_signed: bool = False


class Making(_Part):
    """Who is making a CA: one worker at a time, since whatever is signed is signed for good.

    Attributes:
        serial_number: reserved for the CA's certificate; another worker's has another.
        until: when others need not wait any more, since that worker must be gone.
    """

    serial_number: str
    until: datetime


class ListMaking(_Part):
    """Who is making a CA's list: one worker at a time, since a list that loses to another is made for nothing.

    Attributes:
        number: of the list.
        token: tells its worker from others.
        until: when others need not wait any more, since that worker must be gone.
    """

    number: int
    token: str
    until: datetime


class KeptMonth(_Part):
    """The entries of a CA's list that are kept for one month: what others could replace is known by this.

    Attributes:
        sha256: of the entries.
        entries: how many.
    """

    sha256: str
    entries: int


class PublishedList(_Part):
    """A list as it was published: what others could replace is known by this.

    Attributes:
        sha256: of the list.
        made_at: by the clock of the worker that made it.
        next_update: that it names.
    """

    sha256: str
    made_at: datetime
    next_update: datetime


class IssuerRecord(Record):
    """One certificate authority.

    Attributes:
        name: also the CN and the name of the vault key.
        parent: name of the CA of ours that signed it, or stands above ``certificates_above``; ``None`` for none.
        fingerprint: of the definition it was requested with.
        wanted: what is to be made; ``None`` for a CA that its owner brought along.
        making: who is making it.
        identity: what makes it the same CA, by :func:`shared.pki.identities.authority_identity`; ``None`` before it has
            a key.
        cause: id of the request.
        custody: where its key is.
        key_id: id of the vault key's version; ``None`` for a wrapped key.
        wrapped_key: the key, encrypted under one of the vault; ``None`` for a key in the vault.
        signing_request: PEM, of a CA that is signed elsewhere.
        certificate: PEM.
        external_issuer: CN of the CA that signed it, if that is none of ours.
        certificates_above: PEM, from its issuer up to the root, or to the first CA of this ledger.
        further_certificates: PEM, of the same CA: renewed ones, and those by which others have certified it.
        crl_number: number of the newest CRL (RFC 5280 section 5.2.3), 0 before the first.
        list_making: who is making the next one.
        list_entries: what is kept for it, by month.
        published: the newest list; ``None`` before the first.
        proof_of_possession: towards DPS; ``None`` for a CA below one of ours.
        problem: why a service has not taken its proof.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"wanted", "making", "list_making", "list_entries", "published"})

    name: str
    kind: CertificateKind
    state: IssuerState
    key_algorithm: str
    fingerprint: str
    cause: str
    requested_at: datetime
    wanted: WantedAuthority | None = None
    making: Making | None = None
    identity: str | None = None
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
    further_certificates: str | None = None
    crl_number: int = 0
    list_making: ListMaking | None = None
    list_entries: dict[str, KeptMonth] = Field(default_factory=dict)
    published: PublishedList | None = None
    proof_of_possession: ProofOfPossession | None = None
    problem: str | None = None

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
