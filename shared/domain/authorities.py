"""Certificate authorities, as the ledger keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.audit_entries import AuditedAct
from shared.domain.callers import Actor
from shared.domain.record import Part, Record
from shared.domain.words import CertificateKind, KeyCustody, RevocationReason


class AuthorityState(StrEnum):
    """States of a CA."""

    REQUESTED = "requested"
    AWAITING_CERTIFICATE = "awaitingCertificate"
    SIGNED = "signed"
    ACTIVE = "active"
    DISABLED = "disabled"
    RETIRED = "retired"
    REVOKED = "revoked"
    DELETED = "deleted"


OPENED = frozenset({AuthorityState.ACTIVE, AuthorityState.DISABLED, AuthorityState.RETIRED, AuthorityState.REVOKED})
"""CAs that are, or were, open: they answer for what they have signed, by their lists and by OCSP."""

UNOPENED = frozenset({AuthorityState.REQUESTED, AuthorityState.AWAITING_CERTIFICATE, AuthorityState.SIGNED})
"""CAs that were not open yet."""

SERVING = OPENED | {AuthorityState.SIGNED}
"""CAs that have a certificate, and a key that is needed."""

OVER = frozenset({AuthorityState.REVOKED, AuthorityState.DELETED})
"""Nobody is to trust such a CA."""


class ProofOfPossession(StrEnum):
    """What DPS knows of a CA at the top of ours: a root, or one that was signed elsewhere."""

    PENDING = "pending"
    VERIFIED = "verified"
    BY_HAND = "byHand"


class Missing(StrEnum):
    """What a CA's record wants, and is to be brought about next."""

    CERTIFICATE = "certificate"
    PROOF = "proof"
    OPENING = "opening"
    ACT = "act"


class WantedAuthority(Part):
    """What a CA that is made here is to be, beside what its record says: so whoever comes can finish it.

    Attributes:
        externally_signed: whether a CA signs it that is not ours.
        root_thumbprint: SHA-256 of the root that its chain must end at then; ``None`` for any.
    """

    validity: timedelta | None = None
    path_length: int | None = None
    externally_signed: bool = False
    root_thumbprint: str | None = None


class Making(Part):
    """Who is making a CA: one worker at a time, since whatever is signed is signed for good.

    Attributes:
        serial_number: reserved for the CA's certificate; another worker's has another.
        until: when others need not wait any more, since that worker must be gone.
    """

    serial_number: str
    until: datetime


class ListMaking(Part):
    """Who is making a CA's list: one worker at a time, since a list that loses to another is made for nothing.

    Attributes:
        number: of the list.
        token: tells its worker from others.
        until: when others need not wait any more, since that worker must be gone.
    """

    number: int
    token: str
    until: datetime


class KeptMonth(Part):
    """The entries of a CA's list that are kept for one month: what others could replace is known by this.

    Attributes:
        sha256: of the entries.
        entries: how many.
    """

    sha256: str
    entries: int


class PublishedList(Part):
    """A list as it was published: what others could replace is known by this.

    Attributes:
        sha256: of the list.
        made_at: by the clock of the worker that made it.
        next_update: that it names.
    """

    sha256: str
    made_at: datetime
    next_update: datetime


class AuthorityAction(StrEnum):
    """What can be done to a CA that is there."""

    DISABLE = "disable"
    ENABLE = "enable"
    RETIRE = "retire"
    REVOKE = "revoke"
    DELETE = "delete"
    RENEW = "renew"
    CROSS_SIGN = "crossSign"


class AuthorityChange(Part):
    """What an act wants of a CA, from when it was decided until everything follows.

    Attributes:
        request: its id.
        action: what is done.
        decided_at: when it was.
        reason: why it is revoked; of another act, in the words of whoever asked.
        comment: what whoever asked adds.
        groups: the enrollment groups that have it, or a CA below it: these are told.
        actor: who asked.
        serial_number: of the certificate that it has got by this.
        per_minute: so many devices are revoked a minute; ``None`` for as fast as that goes.
    """

    request: str
    action: AuthorityAction
    decided_at: datetime
    reason: str | None = None
    comment: str | None = None
    groups: tuple[str, ...] = ()
    actor: Actor | None = None
    serial_number: str | None = None
    per_minute: int | None = None


class AuthorityRecord(Record):
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
        external_issuer: CN of the CA that signed it, if that is not ours.
        certificates_above: PEM, from its issuer up to the root, or to the first CA of this ledger.
        further_certificates: PEM, of the same CA: renewed ones, and those by which others have certified it.
        crl_number: number of the newest CRL (RFC 5280 section 5.2.3), 0 before the first.
        list_making: who is making the next one.
        list_entries: what is kept for it, by month.
        published: the newest list; ``None`` before the first.
        proof_of_possession: towards DPS; ``None`` for a CA below one of ours.
        problem: why a service has not taken its proof; of one that is not made, why it can't be.
        change: the act that was decided last, until everything follows.
        acts: ids of the last requests that were carried out; one that comes again changes nothing.
        audited: calls that are done when it is open, which an entry of the audit log is about.
        since: when an act led to its state.
        ended_unopened: whether it was deleted before it was open.
        revoked_at: when it was revoked.
        revocation_reason: why.
        devices_request: id of the request by which its devices are revoked: its own, or that of a CA above it.
        place: under which name services have its certificate; ``None`` for the CA's own name.
        nonce: makes the ids of what its revocation asks for; nobody outside learns it. ``None`` before it is revoked,
            and of one that was revoked by an app that made none.
    """

    lifecycle = lifecycles.AUTHORITY

    documents: ClassVar[frozenset[str]] = frozenset(
        {"wanted", "making", "list_making", "list_entries", "published", "change", "acts", "audited"}
    )

    name: str
    kind: CertificateKind
    state: AuthorityState
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
    change: AuthorityChange | None = None
    acts: tuple[str, ...] = ()
    audited: tuple[AuditedAct, ...] = ()
    since: datetime | None = None
    ended_unopened: bool = False
    revoked_at: datetime | None = None
    revocation_reason: RevocationReason | None = None
    devices_request: str | None = None
    place: str | None = None
    nonce: str | None = Field(default=None, repr=False)

    @property
    def signed_by(self) -> str:
        """Who signed it: a CA of ours by its name, another by its CN, a root itself."""
        return self.external_issuer or self.parent or self.name

    @property
    def is_being_proved(self) -> bool:
        """Whether possession of its key is still to be proved; of one that is over it is not any more."""
        return self.proof_of_possession is ProofOfPossession.PENDING and self.state not in OVER

    @property
    def missing(self) -> Missing | None:
        """What is to be brought about next; ``None`` if nothing is, or if only its owner can bring it about.

        What DPS does not take is not opened: so the proof comes first.
        """
        if self.change is not None:
            return Missing.ACT
        if self.state in OVER:
            return None
        if self.state is AuthorityState.REQUESTED:
            return Missing.CERTIFICATE if self.wanted is not None else None
        if self.certificate is None:
            return None
        if self.is_being_proved:
            return Missing.PROOF
        return Missing.OPENING if self.state is AuthorityState.SIGNED else None


class IdentityClaim(Record):
    """Under which name a CA is here.

    Attributes:
        name: of the CA.
        identity: from :func:`shared.pki.identities.authority_identity`; empty in rows of older apps, whose key it is.
    """

    name: str
    identity: str = ""
