"""Certificate authorities: made once, their keys in the vault, roots proved towards DPS."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.contracts import CertificateKind, EventType
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.certificates import CertificateRecord, CertificateState
from shared.ledger.expiry import DueNotice, Notice
from shared.ledger.issuers import IssuerRecord, IssuerState, ProofOfPossession
from shared.pki import names
from shared.pki.issuance import DistributionPoints, Issuer, Subject, issue, new_serial_number, prepare
from shared.pki.profiles import issuing_profile, root_profile, verification_profile
from shared.pki.signing_keys import remote_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.adapters.dps_management import ProvisioningServiceAuthorities
    from shared.adapters.vault import VaultKeys
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.issuers import Issuers
    from shared.ledger.table import Versioned
    from shared.pki.profiles import Profile
    from shared.settings import Settings
    from shared.workflows.events import Clock, Outbox

ROOT_PATH_LENGTH = 3
ROOT_VALIDITY = timedelta(days=3652)
ISSUING_PATH_LENGTH = 0
ISSUING_VALIDITY = timedelta(days=1826)
DEFAULT_ALGORITHM = "EC-P256"
_BEING_MADE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class AuthorityDefinition:
    """What a CA is to be.

    Attributes:
        name: its CN, and the name of its vault key.
        kind: root or intermediate.
        parent: name of the CA that signs it; ``None`` for a root.
        enrollment_group: the group it is made for, if for one.
    """

    name: str
    kind: CertificateKind
    parent: str | None = None
    key_algorithm: str = DEFAULT_ALGORITHM
    validity: timedelta | None = None
    path_length: int | None = None
    enrollment_group: str | None = None

    @property
    def fingerprint(self) -> str:
        """Equal for equal definitions."""
        parts = (self.kind, self.parent, self.key_algorithm, self.validity, self.path_length, self.enrollment_group)
        return "|".join(map(str, parts))

    def profile(self) -> Profile:
        """Give the profile of the CA's certificate."""
        if self.kind is CertificateKind.ROOT:
            length = ROOT_PATH_LENGTH if self.path_length is None else self.path_length
            return root_profile(path_length=length, validity=self.validity or ROOT_VALIDITY)
        length = ISSUING_PATH_LENGTH if self.path_length is None else self.path_length
        return issuing_profile(path_length=length, validity=self.validity or ISSUING_VALIDITY)


@dataclass(frozen=True, slots=True)
class CertificateAuthorities:
    """Makes CAs, loads them for signing, and proves possession of roots."""

    issuers: Issuers
    certificates: Certificates
    expiry: ExpiryIndex
    keys: VaultKeys
    dps_authorities: ProvisioningServiceAuthorities | None
    outbox: Outbox
    settings: Settings
    clock: Clock
    _loaded: dict[str, Issuer] = field(default_factory=dict)

    async def ensure(self, definition: AuthorityDefinition, *, cause: str) -> IssuerRecord:
        """Make a CA, or finish making it, or find that it is made.

        Raises:
            Conflict: the name belongs to a CA of another definition.
            NotFound: its parent does not exist.
        """
        await self._record(definition, cause)
        record = (await self._known(definition.name)).record
        if record.state is IssuerState.REQUESTED:
            record = await self._sign(definition)
        if record.state is IssuerState.SIGNED:
            record = await self._announce(record)
        if record.proof_of_possession is ProofOfPossession.PENDING:
            record = await self._prove(record)
        return record

    async def _record(self, definition: AuthorityDefinition, cause: str) -> None:
        if definition.parent is not None:
            await self.load(definition.parent)
        record = IssuerRecord(
            name=definition.name,
            kind=definition.kind,
            state=IssuerState.REQUESTED,
            key_algorithm=definition.key_algorithm,
            fingerprint=definition.fingerprint,
            cause=cause,
            requested_at=self.clock(),
            parent=definition.parent,
            enrollment_group=definition.enrollment_group,
            proof_of_possession=self._proof_needed(definition),
        )
        if await self.issuers.insert(record):
            return
        present = (await self._known(definition.name)).record
        if present.fingerprint != record.fingerprint:
            raise Conflict.because(
                f"{definition.name!r} exists as {present.kind} CA of another definition; take another name",
                field="name",
            )

    def _proof_needed(self, definition: AuthorityDefinition) -> ProofOfPossession | None:
        if definition.kind is not CertificateKind.ROOT:
            return None
        return ProofOfPossession.PENDING if self.dps_authorities else ProofOfPossession.BY_HAND

    async def _known(self, name: str) -> Versioned[IssuerRecord]:
        known = await self.issuers.get(name)
        if known is None:
            raise NotFound.because(f"there is no certificate authority {name!r}", field="issuer")
        return known

    async def _sign(self, definition: AuthorityDefinition) -> IssuerRecord:
        known = await self._known(definition.name)
        key_id, public_key = await self.keys.get_or_create(definition.name, definition.key_algorithm)
        serial = new_serial_number()
        reserved = CertificateRecord(
            serial_number=names.serial_text(serial),
            kind=definition.kind,
            state=CertificateState.RESERVED,
            subject=definition.name,
            issuer=definition.parent or definition.name,
            cause=known.record.cause,
            recorded_at=self.clock(),
            enrollment_group=definition.enrollment_group,
        )
        await self.certificates.reserve(reserved)
        parent = await self.load(definition.parent) if definition.parent else None
        prepared = prepare(
            definition.profile(),
            subject=self._subject(definition.name),
            public_key=public_key,
            issuer=parent,
            signing_key=None if parent else remote_key(public_key, partial(self.keys.sign_digest, key_id)),
            serial_number=serial,
            now=self.clock(),
            urls=self.distribution_points(definition.parent) if definition.parent else DistributionPoints(),
        )
        certificate = await self.signing(issue, prepared, parent)
        signed = known.record.changed(
            state=IssuerState.SIGNED,
            key_id=key_id,
            serial_number=reserved.serial_number,
            thumbprint=names.thumbprint(certificate),
            certificate=names.pem(certificate),
            path_length=definition.profile().path_length,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
        if not await self.issuers.replace(known, signed):
            # Another worker signed first: what it stored counts.
            await self.certificates.put(reserved.changed(state=CertificateState.ABANDONED))
            return (await self._known(definition.name)).record
        return signed

    async def _announce(self, record: IssuerRecord) -> IssuerRecord:
        """Enter a signed CA into the books, tell of it, and open it for use."""
        assert record.serial_number is not None  # noqa: S101 - a signed CA has one
        assert record.not_after is not None  # noqa: S101
        await self.certificates.put(
            CertificateRecord(
                serial_number=record.serial_number,
                kind=record.kind,
                state=CertificateState.ACTIVE,
                subject=record.name,
                issuer=record.parent or record.name,
                cause=record.cause,
                recorded_at=record.requested_at,
                enrollment_group=record.enrollment_group,
                not_before=record.not_before,
                not_after=record.not_after,
                thumbprint=record.thumbprint,
                pem=record.certificate,
            )
        )
        await self.expiry.put(
            DueNotice.on(
                (record.not_after - self.settings.expiry_warning).date(),
                Notice.EXPIRING,
                serial_number=record.serial_number,
                subject=record.name,
                not_after=record.not_after,
            )
        )
        await self.outbox.publish(
            EventType.CERTIFICATE_ISSUED,
            subject=record.name,
            correlation_id=record.cause,
            data={
                "kind": record.kind,
                "name": record.name,
                "issuer": record.parent or record.name,
                "serialNumber": record.serial_number,
                "thumbprint": record.thumbprint,
                "notAfter": record.not_after.isoformat(),
            },
        )
        return await self._advance(record.name, state=IssuerState.ACTIVE)

    async def _advance(self, name: str, **changes: object) -> IssuerRecord:
        known = await self._known(name)
        changed = known.record.changed(**changes)
        if await self.issuers.replace(known, changed):
            return changed
        return (await self._known(name)).record

    # --- proof of possession ---

    async def _prove(self, record: IssuerRecord) -> IssuerRecord:
        """Upload a root to DPS and prove possession of its key (Microsoft: "How to verify X.509 CA certificates")."""
        assert self.dps_authorities is not None  # noqa: S101 - pending is set only where the management API is
        issuer = await self.load(record.name)
        uploaded = await self.dps_authorities.get(record.name)
        if uploaded is None:
            uploaded = await self.dps_authorities.upload(record.name, issuer.certificate)
        if uploaded.thumbprint and uploaded.thumbprint != record.thumbprint:
            raise Conflict.because(
                f"the DPS holds another CA certificate named {record.name!r}, of thumbprint {uploaded.thumbprint} "
                f"and not {record.thumbprint}; delete it there, or give this root another name"
            )
        if not uploaded.verified:
            code, etag = await self.dps_authorities.verification_code(record.name, uploaded.etag)
            proof = await self.verification_certificate(record.name, code, cause=record.cause)
            uploaded = await self.dps_authorities.verify(record.name, proof, etag)
        if not uploaded.verified:
            raise RuntimeError(f"the DPS took the proof of possession of {record.name!r} and did not verify it")
        return await self._advance(record.name, proof_of_possession=ProofOfPossession.VERIFIED)

    async def verification_certificate(self, name: str, code: str, *, cause: str) -> x509.Certificate:
        """Sign a certificate whose CN is a service's verification code, with a key that is thrown away.

        Args:
            name: the CA whose possession is to be proved.
            code: the code, exactly as the service gave it.
            cause: id of the request.

        Raises:
            NotFound: there is no such CA.
        """
        issuer = await self.load(name)
        serial = new_serial_number()
        reserved = CertificateRecord(
            serial_number=names.serial_text(serial),
            kind=CertificateKind.VERIFICATION,
            state=CertificateState.RESERVED,
            subject=code,
            issuer=name,
            cause=cause,
            recorded_at=self.clock(),
        )
        await self.certificates.reserve(reserved)
        prepared = prepare(
            verification_profile(),
            subject=Subject(common_name=code),
            public_key=ec.generate_private_key(ec.SECP256R1()).public_key(),
            issuer=issuer,
            serial_number=serial,
            now=self.clock(),
            urls=DistributionPoints(),
        )
        certificate = await self.signing(issue, prepared, issuer)
        await self.certificates.put(
            reserved.changed(
                state=CertificateState.ACTIVE,
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
                thumbprint=names.thumbprint(certificate),
                pem=names.pem(certificate),
            )
        )
        return certificate

    # --- reading ---

    async def load(self, name: str) -> Issuer:
        """Give a CA for signing: its certificate, its key in the vault, and its chain up to the root.

        Raises:
            NotFound: there is no such CA.
            Deferred: it is being made.
        """
        loaded = self._loaded.get(name)
        if loaded is not None:
            return loaded
        record = (await self._known(name)).record
        if record.certificate is None or record.key_id is None:
            raise Deferred(f"the certificate authority {name!r} is being made", retry_after=_BEING_MADE)
        certificate = x509.load_pem_x509_certificate(record.certificate.encode())
        public_key = certificate.public_key()
        key = remote_key(public_key, partial(self.keys.sign_digest, record.key_id))
        above = (await self.load(record.parent)).chain if record.parent else ()
        issuer = Issuer(certificate=certificate, signing_key=key, chain=(certificate, *above))
        self._loaded[name] = issuer
        return issuer

    async def signing[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what signs with a CA's key: the vault may take its time."""
        return await self.keys.threads.run(call, *args, **kwargs)

    async def get(self, name: str) -> IssuerRecord:
        """Read the record of a CA.

        Raises:
            NotFound: there is none.
        """
        return (await self._known(name)).record

    def list(self) -> AsyncIterator[IssuerRecord]:
        """List all CAs."""
        return self.issuers.list()

    def distribution_points(self, issuer: str) -> DistributionPoints:
        """Give the URLs that go into certificates signed by a CA: where its CRL and its certificate are found."""
        base = self.settings.public_base_url
        if base is None:
            return DistributionPoints()
        return DistributionPoints(crl_url=f"{base}/api/crl/{issuer}.crl", ca_issuers_url=f"{base}/api/ca/{issuer}.cer")

    def _subject(self, name: str) -> Subject:
        return Subject(
            common_name=name,
            organization=self.settings.subject_organization,
            country=self.settings.subject_country,
        )
