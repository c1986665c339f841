"""Certificate authorities: made here, signed elsewhere or brought along; loaded for signing; proved towards DPS.

A CA goes ``requested`` -> (``awaitingCertificate``, when another CA signs it) -> ``signed`` -> ``active``; each step is
guarded by its row's ETag and finds what an interrupted one left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from shared.contracts import CertificateKind, EventType, KeyCustody
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.key_algorithms import DEFAULT
from shared.ledger.certificates import CertificateRecord, CertificateState
from shared.ledger.expiry import DueNotice, Notice
from shared.ledger.issuers import IssuerRecord, IssuerState, ProofOfPossession
from shared.ledger.table import TEXT_LIMIT
from shared.pki import names
from shared.pki.authority_files import answered_authority, authority_from_pem, authority_from_pfx, signing_request
from shared.pki.issuance import (
    DistributionPoints,
    Issuer,
    Subject,
    check_fit,
    issue,
    new_serial_number,
    prepare,
)
from shared.pki.profiles import issuing_profile, root_profile, verification_profile
from shared.pki.signing_keys import algorithm_of
from shared.reading.base64_text import octets
from shared.workflows.authority_keys import WRAPPING_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime

    from shared.adapters.ca_certificates import CaCertificates
    from shared.contracts import AuthorityImport
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.issuers import Issuers
    from shared.ledger.table import Versioned
    from shared.pki.profiles import Profile
    from shared.settings import Settings
    from shared.workflows.authority_keys import AuthorityKeys
    from shared.workflows.events import Clock, Outbox

_BEING_MADE = timedelta(seconds=1)
_AWAITED = timedelta(minutes=10)
_CHECK_HOLDS = timedelta(minutes=1)
"""So long a key that was found is not asked for again, however often readiness is."""


@dataclass(frozen=True, slots=True)
class AuthorityDefinition:
    """What a CA is to be.

    Attributes:
        name: its CN, and the name of its vault key.
        kind: root or intermediate.
        parent: name of the CA that signs it; ``None`` for a root.
        enrollment_group: the group it is made for, if for one.
        custody: where its key is.
        externally_signed: whether a CA signs it that is none of ours.
    """

    name: str
    kind: CertificateKind
    parent: str | None = None
    key_algorithm: str = DEFAULT
    validity: timedelta | None = None
    path_length: int | None = None
    enrollment_group: str | None = None
    custody: KeyCustody = KeyCustody.VAULT
    externally_signed: bool = False

    @property
    def fingerprint(self) -> str:
        """Equal for equal definitions."""
        parts = (self.kind, self.parent, self.key_algorithm, self.validity, self.path_length, self.enrollment_group)
        return "|".join(map(str, (*parts, self.custody, self.externally_signed)))

    def profile(self) -> Profile:
        """Give the profile of the CA's certificate."""
        ordered = {"path_length": self.path_length, "validity": self.validity}
        chosen: dict[str, Any] = {field: value for field, value in ordered.items() if value is not None}
        return root_profile(**chosen) if self.kind is CertificateKind.ROOT else issuing_profile(**chosen)


@dataclass(frozen=True, slots=True)
class LoadedAuthority:
    """A CA ready for use.

    Attributes:
        name: what it is called here; the CN of an imported one may be another.
        issuer: signs; its chain goes up to the root.
        anchor: the certificate of its chain whose possession is proved to DPS: the topmost CA of which the key is ours.
    """

    name: str
    issuer: Issuer
    anchor: x509.Certificate


@dataclass(frozen=True, slots=True)
class CertificateAuthorities:
    """Makes CAs, loads them for signing, and proves possession of roots."""

    issuers: Issuers
    certificates: Certificates
    expiry: ExpiryIndex
    keys: AuthorityKeys
    verifiers: Sequence[CaCertificates]
    outbox: Outbox
    settings: Settings
    clock: Clock
    _loaded: dict[str, LoadedAuthority] = field(default_factory=dict)
    _checked: dict[str, datetime] = field(default_factory=dict)
    """When the key of each CA was last found in its place."""

    async def ensure(self, definition: AuthorityDefinition, *, cause: str) -> IssuerRecord:
        """Make a CA, or finish making it, or find that it is made.

        Raises:
            Conflict: the name belongs to a CA of another definition.
            NotFound: its parent does not exist.
        """
        await self._record(definition, cause)
        record = (await self._known(definition.name)).record
        if record.state is IssuerState.REQUESTED:
            make = self._request_signature if definition.externally_signed else self._sign
            record = await make(definition)
        return await self._completed(record)

    async def _completed(self, record: IssuerRecord) -> IssuerRecord:
        """Do what is left to do for a CA that has its certificate."""
        if record.state is IssuerState.SIGNED:
            record = await self._announce(record)
        if record.state is IssuerState.ACTIVE and record.proof_of_possession is ProofOfPossession.PENDING:
            record = await self._prove(record)
        return record

    async def _record(self, definition: AuthorityDefinition, cause: str) -> None:
        if await self.issuers.get(definition.name) is None:
            await self._check(definition)
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
            proof_of_possession=self._proof_of_topmost() if definition.parent is None else None,
        )
        await self._claim(record)

    async def _check(self, definition: AuthorityDefinition) -> None:
        """Check before anything is recorded or a key made: a request that contradicts its issuer leaves no trace."""
        profile = definition.profile()
        if definition.parent is not None:
            check_fit(profile, self._subject(definition.name), await self.load(definition.parent), self.clock())

    async def _claim(self, record: IssuerRecord) -> None:
        """Take a CA's name, or find that it was taken for the same CA."""
        if record.name.lower() == WRAPPING_KEY:
            raise Conflict.because(
                f"{record.name!r} names the vault's key that wraps others; take another", field="name"
            )
        if await self.issuers.insert(record):
            return
        holder = await self.issuers.holder(record.name)
        if holder and holder.record.name != record.name:
            raise Conflict.because(
                f"there is a CA {holder.record.name!r}, and in the names of vault keys case makes no difference; take "
                "another name",
                field="name",
            )
        present = (await self._known(record.name)).record
        if present.fingerprint != record.fingerprint:
            raise Conflict.because(
                f"{record.name!r} exists as {present.kind} CA of another definition; take another name",
                field="name",
            )

    def _proof_of_topmost(self) -> ProofOfPossession:
        return ProofOfPossession.PENDING if self.verifiers else ProofOfPossession.BY_HAND

    async def _known(self, name: str) -> Versioned[IssuerRecord]:
        known = await self.issuers.get(name)
        if known is None:
            raise NotFound.because(f"there is no certificate authority {name!r}", field="issuer")
        return known

    async def _sign(self, definition: AuthorityDefinition) -> IssuerRecord:
        known = await self._known(definition.name)
        key = await self.keys.create(definition.name, definition.key_algorithm, definition.custody)
        public_key = key.signing_key.public_key()
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
        above = await self.loaded(definition.parent) if definition.parent else None
        parent = above.issuer if above else None
        prepared = prepare(
            definition.profile(),
            subject=self._subject(definition.name),
            public_key=public_key,
            issuer=parent,
            signing_key=None if parent else key.signing_key,
            serial_number=serial,
            now=self.clock(),
            urls=self.distribution_points(above) if above else DistributionPoints(),
        )
        signing_key = parent.signing_key if parent else key.signing_key
        certificate = await self.keys.signing(signing_key, issue, prepared, parent)
        signed = known.record.changed(**_signed(certificate), **key.place)
        if not await self.issuers.replace(known, signed):
            # Another worker signed first: what it stored counts.
            await self.certificates.put(reserved.changed(state=CertificateState.ABANDONED))
            return (await self._known(definition.name)).record
        return signed

    # --- signed elsewhere, brought along ---

    async def _request_signature(self, definition: AuthorityDefinition) -> IssuerRecord:
        known = await self._known(definition.name)
        key = await self.keys.create(definition.name, definition.key_algorithm, definition.custody)
        request = await self.keys.signing(
            key.signing_key,
            signing_request,
            definition.profile(),
            self._subject(definition.name),
            key.signing_key,
        )
        text = request.public_bytes(Encoding.PEM).decode("ascii")
        awaiting = known.record.changed(state=IssuerState.AWAITING_CERTIFICATE, signing_request=text, **key.place)
        # Another worker may have been first: its key and its request count.
        replaced = await self.issuers.replace(known, awaiting)
        return replaced.record if replaced else (await self._known(definition.name)).record

    async def install(self, name: str, certificates: bytes) -> IssuerRecord:
        """Install the certificate of a CA that was signed elsewhere.

        Args:
            name: of the CA.
            certificates: PEM: its own and the chain above it, up to and including the root.

        Raises:
            NotFound: there is no such CA.
            Conflict: it asks for no certificate, or has another one already.
            Rejected: the certificates do not fit its key, or each other, or can't be a CA's here.
        """
        known = await self._known(name)
        if known.record.signing_request is None:
            raise Conflict.because(
                f"{name!r} needs no certificate from elsewhere: it was not made with externallySigned"
            )
        request = x509.load_pem_x509_csr(known.record.signing_request.encode())
        key = await self.keys.open(known.record)
        # Many signatures to verify: beside the event loop, as with what is brought along.
        issuer = await self.keys.computing.run(answered_authority, certificates, request, key, now=self.clock())
        return await self._install(known, await self._placed(issuer, "certificate"))

    async def take_over(self, name: str, wanted: AuthorityImport, *, cause: str) -> IssuerRecord:
        """Keep a CA that its owner brought along, with its key. One that is refused leaves no trace.

        Args:
            name: what it is called here; its CN may be another.
            wanted: the CA, with its key and its chain up to the root, and where the key is to be.
            cause: id of the request.

        Raises:
            Conflict: the name belongs to another CA, or the CA is here under another name.
            Rejected: it can't be opened, or can't sign for devices, or a root's key is not to be in the vault.
        """
        issuer = await self.keys.computing.run(_read, wanted, self.clock())
        kind = CertificateKind.INTERMEDIATE if len(issuer.chain) > 1 else CertificateKind.ROOT
        if kind is CertificateKind.ROOT and wanted.custody is KeyCustody.WRAPPED:
            raise Rejected.because("a root's key stays in the vault; leave custody out", field="custody")
        installed = await self._placed(issuer, "pfx" if wanted.pfx else "pem")
        record = IssuerRecord(
            name=name,
            kind=kind,
            state=IssuerState.REQUESTED,
            key_algorithm=algorithm_of(issuer.certificate.public_key()),
            fingerprint=f"imported|{names.sha256_thumbprint(issuer.certificate)}",
            cause=cause,
            requested_at=self.clock(),
            proof_of_possession=self._proof_of_topmost(),
        )
        await self._check_unknown(record)
        await self._claim(record)
        known = await self._known(name)
        if known.record.state is not IssuerState.REQUESTED:
            _check_custody(known.record, wanted.custody)
            return await self._completed(known.record)
        custody = wanted.custody or self.custody(kind, _path_length(issuer.certificate))
        key = await self.keys.take_over(name, issuer.signing_key, custody)
        return await self._install(known, {**installed, **key.place})

    def custody(self, kind: CertificateKind, path_length: int | None) -> KeyCustody:
        """Give where a CA's key is to be when its request says nothing: the deployment says it for issuing CAs."""
        issuing = kind is CertificateKind.INTERMEDIATE and path_length == 0
        return KeyCustody(self.settings.issuing_custody) if issuing else KeyCustody.VAULT

    async def _check_unknown(self, record: IssuerRecord) -> None:
        """Refuse a CA that is here under another name: each would have CRLs with half of the truth."""
        async for present in self.issuers.list():
            if present.fingerprint == record.fingerprint and present.name != record.name:
                raise Conflict.because(
                    f"this CA was imported before, as {present.name!r}; use it under that name", field="name"
                )

    async def _placed(self, issuer: Issuer, field: str) -> dict[str, object]:
        """Describe a CA that comes from elsewhere, as its record does: below the first CA of ours in its chain, if any.

        Then that one's proof of possession is enough, as it is for a CA that was made here.
        """
        ours = {record.thumbprint: record.name async for record in self.issuers.list() if record.certificate}
        above = list(takewhile(lambda each: names.thumbprint(each) not in ours, issuer.chain[1:]))
        rest = issuer.chain[1 + len(above) :]
        return {
            **_installed(issuer, above, field),
            "parent": ours[names.thumbprint(rest[0])] if rest else None,
            "proof_of_possession": None if rest else self._proof_of_topmost(),
        }

    async def _install(self, known: Versioned[IssuerRecord], installed: Mapping[str, object]) -> IssuerRecord:
        if known.record.certificate is not None:
            if known.record.thumbprint != installed["thumbprint"]:
                raise Conflict.because(f"{known.record.name!r} has another certificate already")
            return await self._completed(known.record)
        signed = known.record.changed(**installed)
        if not await self.issuers.replace(known, signed):
            raise Deferred(f"{known.record.name!r} is being changed by others", retry_after=_BEING_MADE)
        return await self._completed((await self._known(known.record.name)).record)

    # --- what every CA gets ---

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
                issuer=record.signed_by,
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
                "issuer": record.signed_by,
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
        """Prove possession of a CA's key wherever it is to be known."""
        for verifier in self.verifiers:
            await self._prove_to(verifier, record)
        return await self._advance(record.name, proof_of_possession=ProofOfPossession.VERIFIED)

    async def _prove_to(self, verifier: CaCertificates, record: IssuerRecord) -> None:
        """Upload a CA to a service and prove possession (Microsoft: "How to verify X.509 CA certificates")."""
        issuer = await self.load(record.name)
        uploaded = await verifier.get(record.name)
        if uploaded is None:
            uploaded = await verifier.upload(record.name, issuer.certificate)
        if uploaded.thumbprint and uploaded.thumbprint != record.thumbprint:
            raise Conflict.because(
                f"{verifier.holder} holds another CA certificate named {record.name!r}, of thumbprint "
                f"{uploaded.thumbprint} and not {record.thumbprint}; delete it there, or give this CA another name"
            )
        if not uploaded.verified:
            code, etag = await verifier.verification_code(record.name, uploaded.etag)
            proof = await self.verification_certificate(record.name, code, cause=record.cause)
            uploaded = await verifier.verify(record.name, proof, etag)
        if not uploaded.verified:
            raise RuntimeError(
                f"{verifier.holder} took the proof of possession of {record.name!r} and did not verify it"
            )

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
        certificate = await self.keys.signing(issuer.signing_key, issue, prepared, issuer)
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
        """Give a CA for signing: its certificate, its key, and its chain up to the root.

        Raises:
            NotFound: there is no such CA.
            Deferred: it is being made, or waits for its certificate.
        """
        return (await self.loaded(name)).issuer

    async def loaded(self, name: str) -> LoadedAuthority:
        """Give a CA for signing, and what DPS knows of its chain; errors are those of :meth:`load`."""
        present = self._loaded.get(name)
        if present is not None:
            return present
        record = (await self._known(name)).record
        if record.state is IssuerState.AWAITING_CERTIFICATE:
            raise Deferred(
                f"the certificate authority {name!r} waits for its certificate: have its signing request signed, and "
                "install the answer",
                retry_after=_AWAITED,
            )
        if record.certificate is None:
            raise Deferred(f"the certificate authority {name!r} is being made", retry_after=_BEING_MADE)
        certificate = x509.load_pem_x509_certificate(record.certificate.encode())
        key = await self.keys.open(record)
        parent = await self.loaded(record.parent) if record.parent else None
        above = (*_certificates(record.certificates_above), *(parent.issuer.chain if parent else ()))
        issuer = Issuer(certificate=certificate, signing_key=key, chain=(certificate, *above))
        self._checked[name] = self.clock()
        self._loaded[name] = LoadedAuthority(name, issuer, parent.anchor if parent else certificate)
        return self._loaded[name]

    async def check(self) -> None:
        """Load every CA that is in use, so that one that can't sign is known before it is needed.

        Raises:
            ExceptionGroup: some can't be loaded: the key is gone or does not match, or the chain may not sign.
        """
        known = [record async for record in self.issuers.list() if record.certificate is not None]
        outcomes = await asyncio.gather(*map(self._check_one, known), return_exceptions=True)
        failed = [
            (each.name, error) for each, error in zip(known, outcomes, strict=True) if isinstance(error, Exception)
        ]
        if failed:
            raise ExceptionGroup("; ".join(f"{name}: {error}" for name, error in failed), [each for _, each in failed])

    async def _check_one(self, record: IssuerRecord) -> None:
        """See that a CA can sign: its chain once, its key again and again, since a vault's keys can be taken away."""
        issuer = await self.load(record.name)
        checked_at = self._checked.get(record.name)
        if checked_at is not None and self.clock() - checked_at < _CHECK_HOLDS:
            return
        key = await self.keys.open(record)
        Issuer(certificate=issuer.certificate, signing_key=key, chain=issuer.chain)  # refuses a key that is another
        self._checked[record.name] = self.clock()

    async def signing[**P, T](self, issuer: Issuer, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what signs with a CA's key, where it holds up nothing."""
        return await self.keys.signing(issuer.signing_key, call, *args, **kwargs)

    async def get(self, name: str) -> IssuerRecord:
        """Read the record of a CA.

        Raises:
            NotFound: there is none.
        """
        return (await self._known(name)).record

    async def above(self, name: str) -> str | None:
        """Find the CA that signed a CA, by its certificate; ``None`` for a root, or if it is not here with its key.

        Raises:
            NotFound: there is no such CA.
            Deferred: it is being made, or waits for its certificate.
        """
        chain = (await self.load(name)).chain
        thumbprint = names.thumbprint(chain[1]) if len(chain) > 1 else None
        signers = [record.name async for record in self.issuers.list() if record.thumbprint == thumbprint]
        return signers[0] if thumbprint and signers else None

    def list(self) -> AsyncIterator[IssuerRecord]:
        """List all CAs."""
        return self.issuers.list()

    def distribution_points(self, authority: LoadedAuthority) -> DistributionPoints:
        """Give the URLs that go into certificates signed by a CA: its certificate, its CRL and its OCSP responder."""
        base, name = self.settings.public_base_url, authority.name
        if base is None:
            return DistributionPoints()
        return DistributionPoints(
            crl_url=f"{base}/api/crl/{name}.crl" if authority.issuer.may_sign_crls else None,
            ca_issuers_url=f"{base}/api/ca/{name}.cer",
            ocsp_url=f"{base}/api/ocsp/{name}",
        )

    def _subject(self, name: str) -> Subject:
        return Subject(
            common_name=name,
            organization=self.settings.subject_organization,
            country=self.settings.subject_country,
        )


def _signed(certificate: x509.Certificate) -> dict[str, object]:
    """Describe a CA that has its certificate, as its record does."""
    return {
        "state": IssuerState.SIGNED,
        "serial_number": names.serial_text(certificate.serial_number),
        "thumbprint": names.thumbprint(certificate),
        "certificate": names.pem(certificate),
        "path_length": _path_length(certificate),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
    }


def _path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _check_custody(record: IssuerRecord, wanted: KeyCustody | None) -> None:
    if wanted is not None and wanted is not record.custody:
        raise Conflict.because(
            f"{record.name!r} is here with its key in custody '{record.custody}', which does not change; leave custody "
            "out, or roll its group with another custody",
            field="custody",
        )


def _installed(issuer: Issuer, above: Sequence[x509.Certificate], field: str) -> dict[str, object]:
    """Describe a CA that comes from elsewhere; ``above`` it are those that are none of ours."""
    described = _signed(issuer.certificate)
    if above:
        name = issuer.certificate.issuer
        described["certificates_above"] = "".join(map(names.pem, above))
        described["external_issuer"] = names.common_name(name) or name.rfc4514_string()
    longest = max(len(str(value)) for value in described.values())
    if longest > TEXT_LIMIT:
        raise Rejected.because(
            f"its certificate, or the chain above it, has {longest} characters as PEM; at most {TEXT_LIMIT} are kept",
            field=field,
        )
    return described


def _read(wanted: AuthorityImport, now: datetime) -> Issuer:
    password = wanted.password.get_secret_value() if wanted.password else None
    if wanted.pfx is None:
        pem = wanted.pem.get_secret_value() if wanted.pem else ""
        return authority_from_pem(pem.encode(), password, now=now)
    return authority_from_pfx(octets("pfx", wanted.pfx.get_secret_value()), password, now=now)


def _certificates(pem: str | None) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(pem.encode())) if pem else ()
