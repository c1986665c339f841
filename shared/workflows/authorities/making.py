"""Certificate authorities: made here, signed elsewhere or brought along; loaded for signing; proved towards DPS.

A CA goes ``requested`` -> (``awaitingCertificate``, when another CA signs it) -> ``signed`` -> ``active``. Its row says
what is wanted and who is at it; each step is guarded by the row's ETag and finds what an interrupted one left. So it is
signed once, whoever carries it on, how often, and how many at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from shared.domain.authorities import IssuerRecord, IssuerState, Making, ProofOfPossession
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.expiry import DueNotice, Notice
from shared.domain.words import CertificateKind, EventType, KeyCustody
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.pki import names
from shared.pki.apart import key_opened_apart, pfx_opened_apart
from shared.pki.authority_files import (
    answered_authority,
    authority_from_pem,
    authority_from_pfx,
    further_certificate,
    signing_request,
)
from shared.pki.extensions import DistributionPoints
from shared.pki.identities import authority_identity
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.issuer_limits import check_fit
from shared.pki.issuers import Issuer
from shared.pki.profiles import verification_profile
from shared.pki.readable import load_certificates
from shared.pki.signing_keys import algorithm_of
from shared.pki.subjects import Subject
from shared.reading.base64_text import octets
from shared.threads import ThreadPool
from shared.workflows.authorities.keys import WRAPPING_KEY
from shared.workflows.authorities.possession import check_place, prove
from shared.workflows.authorities.records import (
    AuthorityDefinition,
    all_certificates,
    book_entry,
    certificates_of,
    check_custody,
    check_length,
    identity_of,
    installed,
    issued_event,
    issuer_of,
    path_length,
    signed,
)
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime

    from shared.contracts.certificates import AuthorityImport
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.issuers import Issuers
    from shared.ledger.table import Versioned
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import PublicKey
    from shared.ports.ca_certificates import CaCertificates
    from shared.settings import Settings
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.intake.outbox import Clock, Outbox

_OPENING = ThreadPool("opening", 1)
"""Waits for the process that opens an owner's file: one at a time, and nothing else waits with it."""

_BEING_MADE = timedelta(seconds=1)
_AWAITED = timedelta(minutes=10)
_MAKING = timedelta(minutes=1)
"""So long a worker has for making a key and signing; then others take it for gone. One that was slow only loses."""

_ATTEMPTS = 10
_CHECK_HOLDS = timedelta(minutes=1)
"""So long a key that was found is not asked for again, however often readiness is."""


@dataclass(frozen=True, slots=True)
class LoadedAuthority:
    """A CA ready for use.

    Attributes:
        name: what it is called here; the CN of an imported one may be another.
        issuer: signs; its chain goes up to the root.
        anchor: the certificate of its chain whose possession is proved to DPS: the topmost CA of which the key is ours.
        anchor_name: what that CA is called here.
    """

    name: str
    issuer: Issuer
    anchor: x509.Certificate
    anchor_name: str


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
    _loading: Turns = field(default_factory=Turns)
    _proving: Turns = field(default_factory=Turns)
    _checked: dict[str, datetime] = field(default_factory=dict)
    """When the key of each CA was last found in its place."""

    async def ensure(self, definition: AuthorityDefinition, *, cause: str) -> IssuerRecord:
        """Make a CA, or finish making it, or find that it is made.

        Raises:
            Conflict: the name belongs to a CA of another definition.
            NotFound: its parent does not exist.
            Deferred: another worker is at it.
        """
        try:
            await self.check_definition(definition)
        except Rejected:
            # What was in the way may be what another worker has made of the same request since it was looked for.
            if await self.issuers.get(definition.name) is None:
                raise
        known = await self._claim(definition.record(cause=cause, at=self.clock()))
        if known.record.state is IssuerState.REQUESTED:
            known = await self._make(known)
        return await self._completed(known.record)

    async def _completed(self, record: IssuerRecord) -> IssuerRecord:
        """Do what is left to do for a CA that has its certificate: what DPS does not take is not opened for use."""
        if record.certificate and record.proof_of_possession is ProofOfPossession.PENDING:
            record = await self._prove(record)
        if record.state is IssuerState.SIGNED:
            record = await self._announce(record)
        return record

    async def carry_on(self) -> int:
        """Finish the CAs that are signed and not open yet: their message is gone, or a service had no place for them.

        Returns:
            How many are open now.

        Raises:
            ExceptionGroup: services failed; every CA was tried.
        """
        unfinished = [record async for record in self.issuers.list() if _is_unfinished(record)]
        finished, failures = 0, list[Exception]()
        for record in unfinished:
            try:
                await self._completed(record)
                finished += 1
            except (Deferred, Rejected):
                continue  # somebody is at it; or its row says what is in the way
            except Exception as error:  # noqa: BLE001 - the other CAs come first, then it is raised
                failures.append(error)
        if failures:
            raise ExceptionGroup("CAs could not be finished", failures)
        return finished

    # --- what is checked before anything is made ---

    async def check_definition(self, definition: AuthorityDefinition) -> None:
        """See that a CA could be made now, or is made: a request that can't be carried out leaves no trace.

        Raises:
            NotFound: its parent does not exist.
            Conflict: its name, its key or its place in a service is taken.
            Rejected: it does not fit below its parent, or a service has no place left.
            Deferred: its parent is being made.
        """
        holder = await self.issuers.holder(definition.name)
        if holder is not None:
            _check_holder(holder.record, definition.name, definition.fingerprint)
            return
        _check_name(definition.name)
        if definition.parent is not None:
            self._check_below(definition, await self.load(definition.parent))
        await self.keys.check_free(definition.name, definition.key_algorithm, definition.custody)
        if definition.kind is CertificateKind.ROOT:
            for service in self.verifiers:
                await check_place(service, definition.name, None)

    def _check_below(self, definition: AuthorityDefinition, parent: Issuer) -> None:
        profile = definition.profile()
        if definition.enrollment_group is not None:
            _check_for_group(definition, profile, parent, self.clock())
        check_fit(profile, self._subject(definition.name), parent, self.clock())

    async def check_proved(self, name: str) -> None:
        """See that DPS takes devices of a CA: possession of the topmost CA of its chain that is ours was proved.

        Raises:
            NotFound: the CA does not exist.
            Rejected: a service refuses the proof.
            Deferred: it is being made, or proved.
        """
        anchor = await self.get((await self.loaded(name)).anchor_name)
        if anchor.proof_of_possession is not ProofOfPossession.PENDING:
            return
        if anchor.problem is None:
            raise Deferred(f"possession of the CA {anchor.name!r} is being proved", retry_after=_BEING_MADE)
        raise Rejected.because(
            f"DPS would refuse every device below {anchor.name!r}, possession of whose key is not proved: "
            f"{anchor.problem}. When that is put right, ask for {anchor.name!r} again as before",
            field="issuer",
        )

    async def _claim(self, record: IssuerRecord) -> Versioned[IssuerRecord]:
        """Take a CA's name, or find that it was taken for the same CA."""
        _check_name(record.name)
        made = await self.issuers.insert(record)
        if made is not None:
            return made
        holder = await self.issuers.holder(record.name)
        if holder is None:
            raise Deferred(f"the name {record.name!r} was just given back; it can be taken", retry_after=_BEING_MADE)
        _check_holder(holder.record, record.name, record.fingerprint)
        return holder

    def _proof_of_topmost(self) -> ProofOfPossession:
        return ProofOfPossession.PENDING if self.verifiers else ProofOfPossession.BY_HAND

    async def _known(self, name: str) -> Versioned[IssuerRecord]:
        known = await self.issuers.get(name)
        if known is None:
            raise NotFound.because(f"the certificate authority {name!r} does not exist", field="issuer")
        return known

    # --- made here ---

    async def _make(self, known: Versioned[IssuerRecord]) -> Versioned[IssuerRecord]:
        """Make a CA's key, and its certificate or the request for one; one worker at a time does."""
        begun, making = await self._begin(known)
        definition = AuthorityDefinition.of(begun.record)
        try:
            make = self._request_signature if definition.externally_signed else self._sign
            changes = await make(definition, begun.record, making)
        except Exception:
            await self._give_up(begun, making)
            raise
        made = await self.issuers.replace(begun, begun.record.changed(making=None, **changes))
        if made is None:
            # It took longer than others wait: one of them has begun anew, and what that one stores counts.
            await self._abandon(making.serial_number)
            raise _being_made(definition.name)
        return made

    async def _begin(self, known: Versioned[IssuerRecord]) -> tuple[Versioned[IssuerRecord], Making]:
        """Reserve the serial number in the CA's row, which takes the turn."""
        before, now = known.record.making, self.clock()
        if before is not None and before.until > now:
            raise _being_made(known.record.name)
        making = Making(serial_number=names.serial_text(new_serial_number()), until=now + _MAKING)
        begun = await self.issuers.replace(known, known.record.changed(making=making))
        if begun is None:
            raise _being_made(known.record.name)
        if before is not None:
            await self._abandon(before.serial_number)
        return begun, making

    async def _give_up(self, begun: Versioned[IssuerRecord], making: Making) -> None:
        """Let others begin at once. If the row has changed, another worker has begun anew already."""
        await self._abandon(making.serial_number)
        await self.issuers.replace(begun, begun.record.changed(making=None))

    async def _abandon(self, serial_number: str) -> None:
        """Enter that whatever was signed with a serial number does not count."""
        known = await self.certificates.get(serial_number)
        if known is not None and known.record.state is CertificateState.RESERVED:
            # A row that has changed was abandoned by another worker: nothing else is done to it.
            await self.certificates.replace(known, known.record.changed(state=CertificateState.ABANDONED))

    async def _sign(self, definition: AuthorityDefinition, record: IssuerRecord, making: Making) -> dict[str, object]:
        key = await self.keys.create(definition.name, definition.key_algorithm, definition.custody)
        public_key = key.signing_key.public_key()
        await self._claim_identity(definition.name, self._identity(definition, public_key))
        await self.certificates.reserve(
            CertificateRecord(
                serial_number=making.serial_number,
                kind=definition.kind,
                state=CertificateState.RESERVED,
                subject=definition.name,
                issuer=definition.parent or definition.name,
                cause=record.cause,
                recorded_at=self.clock(),
                enrollment_group=definition.enrollment_group,
            )
        )
        above = await self.loaded(definition.parent) if definition.parent else None
        parent = above.issuer if above else None
        prepared = prepare(
            definition.profile(),
            subject=self._subject(definition.name),
            public_key=public_key,
            issuer=parent,
            signing_key=None if parent else key.signing_key,
            serial_number=int(making.serial_number, 16),
            now=self.clock(),
            urls=self.distribution_points(above) if above else DistributionPoints(),
        )
        signing_key = parent.signing_key if parent else key.signing_key
        certificate = await self.keys.signing(signing_key, issue, prepared, parent)
        proof = None if parent else self._proof_of_topmost()
        return {**signed(certificate), **key.place, "proof_of_possession": proof}

    async def _request_signature(
        self, definition: AuthorityDefinition, _record: IssuerRecord, _making: Making
    ) -> dict[str, object]:
        key = await self.keys.create(definition.name, definition.key_algorithm, definition.custody)
        await self._claim_identity(definition.name, self._identity(definition, key.signing_key.public_key()))
        request = await self.keys.signing(
            key.signing_key,
            signing_request,
            definition.profile(),
            self._subject(definition.name),
            key.signing_key,
        )
        text = request.public_bytes(Encoding.PEM).decode("ascii")
        proof = self._proof_of_topmost()
        return {
            "state": IssuerState.AWAITING_CERTIFICATE,
            "signing_request": text,
            "proof_of_possession": proof,
            **key.place,
        }

    def _identity(self, definition: AuthorityDefinition, public_key: PublicKey) -> str:
        return authority_identity(self._subject(definition.name).to_name(), public_key)

    async def _claim_identity(self, name: str, identity: str) -> None:
        """See that a CA is here under one name: each would have a list with half of the truth."""
        holder = await self.issuers.claim_identity(identity, name)
        if holder != name:
            raise _same_ca(holder)

    # --- signed elsewhere, brought along ---

    async def install(self, name: str, certificates: bytes) -> IssuerRecord:
        """Install the certificate of a CA that was signed elsewhere, or a further one of a CA that has one.

        Args:
            name: of the CA.
            certificates: PEM: its own and the chain above it, up to and including the root.

        Raises:
            NotFound: the CA does not exist.
            Conflict: it asks for no certificate.
            Rejected: the certificates do not fit its key, or each other, or can't be a CA's here.
            Deferred: it is being made, or others are changing it.
        """
        known = await self._known(name)
        record, now = known.record, self.clock()
        if record.certificate is None and record.signing_request is None:
            if record.wanted is None or not record.wanted.externally_signed:
                raise Conflict.because(
                    f"{name!r} needs no certificate from elsewhere: it was not made with externallySigned"
                )
            raise _being_made(name)
        key = await self.keys.open(record)
        # Many signatures to verify: beside the event loop, as with what is brought along.
        if record.certificate is not None:
            own = certificates_of(record.certificate)[0]
            issuer = await self.keys.computing.run(further_certificate, certificates, own, key, now=now)
            return await self._take_in(known, issuer, "certificate")
        request = x509.load_pem_x509_csr((record.signing_request or "").encode())
        issuer = await self.keys.computing.run(answered_authority, certificates, request, key, now=now)
        placed = await self._placed(issuer, "certificate")
        if placed["proof_of_possession"] is ProofOfPossession.PENDING:
            for service in self.verifiers:
                await check_place(service, name, issuer.certificate)
        return await self._install(known, placed)

    async def take_over(self, name: str, wanted: AuthorityImport, *, cause: str) -> IssuerRecord:
        """Keep a CA that its owner brought along, with its key. One that is refused leaves no trace.

        A certificate for the subject and key of a CA that is here, such as a renewed one or one by which another CA has
        certified it, is a further certificate of that CA.

        Args:
            name: what it is called here; its CN may be another.
            wanted: the CA, with its key and its chain up to the root, and where the key is to be.
            cause: id of the request.

        Raises:
            Conflict: the name belongs to another CA, or the CA is here under another name.
            Rejected: it can't be opened, or can't sign for devices, or a root's key is not to be in the vault, or a
                service has no place left for it.
            Deferred: others are at it.
        """
        issuer, field = await _OPENING.run(_read, wanted, self.clock()), "pfx" if wanted.pfx else "pem"
        kind = CertificateKind.INTERMEDIATE if len(issuer.chain) > 1 else CertificateKind.ROOT
        same = await self._same_as(issuer)
        if same is not None and same.record.name != name:
            raise _same_ca(same.record.name)
        if same is not None and same.record.certificate is not None:
            check_custody(same.record, wanted.custody)
            return await self._take_in(same, issuer, field)
        if kind is CertificateKind.ROOT and wanted.custody is KeyCustody.WRAPPED:
            raise Rejected.because("a root's key stays in the vault; leave custody out", field="custody")
        placed = await self._placed(issuer, field)
        custody = wanted.custody or self.custody(kind, path_length(issuer.certificate))
        known = await self._claim_import(name, kind, issuer, placed, custody=custody, cause=cause)
        key = await self.keys.take_over(name, issuer.signing_key, custody)
        return await self._install(known, {**placed, **key.place})

    def custody(self, kind: CertificateKind, path_length: int | None) -> KeyCustody:
        """Give where a CA's key is to be when its request says nothing: the deployment says it for issuing CAs."""
        issuing = kind is CertificateKind.INTERMEDIATE and path_length == 0
        return KeyCustody(self.settings.issuing_custody) if issuing else KeyCustody.VAULT

    async def _same_as(self, issuer: Issuer) -> Versioned[IssuerRecord] | None:
        """Find the CA of a subject and key, if it is here."""
        identity = _identity_of(issuer)
        found = [record.name async for record in self.issuers.list() if identity_of(record) == identity]
        return await self.issuers.get(found[0]) if found else None

    async def _claim_import(
        self,
        name: str,
        kind: CertificateKind,
        issuer: Issuer,
        placed: Mapping[str, object],
        *,
        custody: KeyCustody,
        cause: str,
    ) -> Versioned[IssuerRecord]:
        """Take the name for a CA that is brought along, once all that could be in its way was looked at."""
        identity = _identity_of(issuer)
        record = IssuerRecord(
            name=name,
            kind=kind,
            state=IssuerState.REQUESTED,
            key_algorithm=algorithm_of(issuer.certificate.public_key()),
            fingerprint=f"imported|{identity}",
            identity=identity,
            cause=cause,
            requested_at=self.clock(),
        )
        holder = await self.issuers.holder(name)
        if holder is not None:
            _check_holder(holder.record, name, record.fingerprint)
        else:
            await self.keys.check_import(name, custody)
        if placed["proof_of_possession"] is ProofOfPossession.PENDING:
            for service in self.verifiers:
                await check_place(service, name, issuer.certificate)
        known = await self._claim(record)
        try:
            await self._claim_identity(name, identity)
        except Conflict:
            # Somebody brings the same CA along under another name at the same time. If the row has changed, it is
            # theirs who changed it.
            await self.issuers.withdraw(known)
            raise
        return known

    async def _placed(self, issuer: Issuer, field: str) -> dict[str, object]:
        """Describe a CA that comes from elsewhere, as its record does: below the first CA of ours in its chain, if any.

        Then that one's proof of possession is enough, as it is for a CA that was made here.
        """
        ours = {
            names.thumbprint(each): record.name
            async for record in self.issuers.list()
            for each in all_certificates(record)
        }
        above = list(takewhile(lambda each: names.thumbprint(each) not in ours, issuer.chain[1:]))
        rest = issuer.chain[1 + len(above) :]
        return {
            **installed(issuer, above, field),
            "parent": ours[names.thumbprint(rest[0])] if rest else None,
            "proof_of_possession": None if rest else self._proof_of_topmost(),
        }

    async def _install(self, known: Versioned[IssuerRecord], placed: Mapping[str, object]) -> IssuerRecord:
        record = await self._advance(known.record.name, lambda present: placed if present.certificate is None else None)
        if record.thumbprint != placed["thumbprint"]:
            raise Deferred(f"{record.name!r} has just got another certificate", retry_after=_BEING_MADE)
        return await self._completed(record)

    async def _take_in(self, known: Versioned[IssuerRecord], issuer: Issuer, field: str) -> IssuerRecord:
        """Keep a further certificate of a CA that is here; devices go on with the chain that they have."""

        def taken_in(present: IssuerRecord) -> Mapping[str, object] | None:
            if issuer.certificate in all_certificates(present):
                return None
            further = {"further_certificates": (present.further_certificates or "") + names.pem(issuer.certificate)}
            check_length(further, field)
            return further

        record = await self._advance(known.record.name, taken_in)
        if issuer.certificate != next(all_certificates(record)):
            signed_by = await self._signer(issuer.chain) if len(issuer.chain) > 1 else record.name
            await self._enter(book_entry(record, issuer.certificate, signed_by or issuer_of(issuer.certificate)))
        return await self._completed(record)

    # --- what every CA gets ---

    async def _announce(self, record: IssuerRecord) -> IssuerRecord:
        """Enter a signed CA into the books, tell of it, and open it for use."""
        assert record.serial_number is not None  # noqa: S101 - a signed CA has one
        assert record.not_after is not None  # noqa: S101
        await self._enter(book_entry(record, next(all_certificates(record)), record.signed_by))
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
            EventType.CERTIFICATE_ISSUED, subject=record.name, correlation_id=record.cause, data=issued_event(record)
        )
        return await self._advance(
            record.name, lambda present: {"state": IssuerState.ACTIVE} if present.state is IssuerState.SIGNED else None
        )

    async def _enter(self, entry: CertificateRecord) -> None:
        """Enter a CA's certificate into the ledger, once: whatever came of it since stays.

        A serial number that is another certificate's is left to it: owners' CAs count from 1.
        """
        for _ in range(_ATTEMPTS):
            known = await self.certificates.get(entry.serial_number)
            if known is None:
                if await self.certificates.add(entry):
                    return
                continue
            awaited = known.record.state is CertificateState.RESERVED and known.record.subject == entry.subject
            if not awaited or await self.certificates.replace(known, entry):
                return
        raise Deferred(f"the certificate of {entry.subject!r} is being changed by others", retry_after=_BEING_MADE)

    async def _advance(self, name: str, step: Callable[[IssuerRecord], Mapping[str, object] | None]) -> IssuerRecord:
        """Change a CA's row by what is decided on that very row, as often as others change it in between."""
        for _ in range(_ATTEMPTS):
            known = await self._known(name)
            changes = step(known.record)
            if not changes:
                return known.record
            changed = await self.issuers.replace(known, known.record.changed(**changes))
            if changed is not None:
                return changed.record
        raise Deferred(f"{name!r} is being changed by others", retry_after=_BEING_MADE)

    # --- proof of possession ---

    async def _prove(self, record: IssuerRecord) -> IssuerRecord:
        """Prove possession of a CA's key wherever it is to be known; what refuses it is kept in the CA's row."""
        async with self._proving.of(record.name):  # a second code would make the first one void
            record = await self.get(record.name)
            if record.proof_of_possession is not ProofOfPossession.PENDING:
                return record
            try:
                await self._prove_to_all(record)
            except Rejected as rejection:
                problem = str(rejection)[:1000]
                await self._advance(record.name, lambda present: _unproved(present, {"problem": problem}))
                raise
            proved = {"proof_of_possession": ProofOfPossession.VERIFIED, "problem": None}
            return await self._advance(record.name, lambda present: _unproved(present, proved))

    async def _prove_to_all(self, record: IssuerRecord) -> None:
        async def sign(code: str) -> x509.Certificate:
            return await self.verification_certificate(record.name, code, cause=record.cause)

        for service in self.verifiers:
            await prove(service, record.name, next(all_certificates(record)), sign)

    async def verification_certificate(self, name: str, code: str, *, cause: str) -> x509.Certificate:
        """Sign a certificate whose CN is a service's verification code, with a key that is thrown away.

        Args:
            name: the CA whose possession is to be proved.
            code: the code, exactly as the service gave it.
            cause: id of the request.

        Raises:
            NotFound: the CA does not exist.
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
        row = await self.certificates.reserve(reserved)
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
        await self.enter_signed(row, certificate)
        return certificate

    async def enter_signed(self, row: Versioned[CertificateRecord], certificate: x509.Certificate) -> None:
        """Enter a certificate of a CA whose serial number was reserved for it.

        Raises:
            RuntimeError: somebody else has changed its row.
        """
        made = row.record.changed(
            state=CertificateState.ACTIVE,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            thumbprint=names.thumbprint(certificate),
            pem=names.pem(certificate),
        )
        if await self.certificates.replace(row, made) is None:
            present = await self.certificates.get(made.serial_number)
            if present is None or present.record != made:  # else it was the answer that was lost
                raise RuntimeError(f"the row of serial number {made.serial_number} was changed by others")

    # --- reading ---

    async def load(self, name: str) -> Issuer:
        """Give a CA for signing: its certificate, its key, and its chain up to the root.

        Raises:
            NotFound: the CA does not exist.
            Deferred: it is being made, or waits for its certificate.
        """
        return (await self.loaded(name)).issuer

    async def loaded(self, name: str) -> LoadedAuthority:
        """Give a CA for signing, and what DPS knows of its chain; errors are those of :meth:`load`."""
        if name not in self._loaded:
            async with self._loading.of(name):  # a burst on a cold worker opens each key once
                if name not in self._loaded:
                    self._loaded[name] = await self._load(name)
        return self._loaded[name]

    async def _load(self, name: str) -> LoadedAuthority:
        record = (await self._known(name)).record
        if record.state is IssuerState.AWAITING_CERTIFICATE:
            raise Deferred(
                f"the certificate authority {name!r} waits for its certificate: have its signing request signed, and "
                "install the certificate",
                retry_after=_AWAITED,
            )
        if record.certificate is None:
            raise _being_made(name)
        certificate, *_ = load_certificates(record.certificate.encode())
        key = await self.keys.open(record)
        parent = await self.loaded(record.parent) if record.parent else None
        above = (*certificates_of(record.certificates_above), *(parent.issuer.chain if parent else ()))
        issuer = Issuer(certificate=certificate, signing_key=key, chain=(certificate, *above))
        self._checked[name] = self.clock()
        anchor, anchor_name = (parent.anchor, parent.anchor_name) if parent else (certificate, name)
        return LoadedAuthority(name, issuer, anchor, anchor_name)

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

    async def computing[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what computes long, where it holds up nothing."""
        return await self.keys.computing.run(call, *args, **kwargs)

    async def get(self, name: str) -> IssuerRecord:
        """Read the record of a CA.

        Raises:
            NotFound: it does not exist.
        """
        return (await self._known(name)).record

    async def above(self, name: str) -> str | None:
        """Find the CA that signed a CA, by its certificate; ``None`` for a root, or if it is not here with its key.

        Raises:
            NotFound: the CA does not exist.
            Deferred: it is being made, or waits for its certificate.
        """
        chain = (await self.load(name)).chain
        return await self._signer(chain) if len(chain) > 1 else None

    async def _signer(self, chain: Sequence[x509.Certificate]) -> str | None:
        """Find the CA of ours that signed the first certificate of a chain, by the second one."""
        signers = [record.name async for record in self.issuers.list() if chain[1] in all_certificates(record)]
        return signers[0] if signers else None

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


def _check_name(name: str) -> None:
    if name.lower() == WRAPPING_KEY:
        raise Conflict.because(
            f"{name!r} is the name of the vault's key that wraps others; choose another name", field="name"
        )


def _check_holder(holder: IssuerRecord, name: str, fingerprint: str) -> None:
    """See that the CA that has a name is the one that is meant."""
    if holder.name != name:
        raise Conflict.because(
            f"the CA {holder.name!r} exists, and the names of vault keys can't differ by case alone; choose "
            "another name",
            field="name",
        )
    if holder.fingerprint != fingerprint:
        raise Conflict.because(
            f"{name!r} exists as {holder.kind} CA of another definition; choose another name", field="name"
        )


def _check_for_group(definition: AuthorityDefinition, profile: Profile, parent: Issuer, now: datetime) -> None:
    """See that a group's CA fits below a CA: its request names that one, and neither days nor a path length."""
    if parent.path_length == 0:
        raise Rejected.because(
            f"{parent.quoted_name} has path length 0, so no issuing CA of a group fits below it; name another CA",
            field="issuer",
        )
    last, wanted = parent.ends_first, profile.validity
    left = last.not_valid_after_utc - now
    if left < wanted * profile.least_share:
        raise Rejected.because(
            f"the issuing CA that is to be made for {definition.enrollment_group!r} lives {wanted.days} days, and "
            f"{names.quoted(last.subject)} above it ends on {last.not_valid_after_utc:%Y-%m-%d}, in "
            f"{max(left.days, 0)} days; name another CA, or first make one below {parent.quoted_name} with as many "
            "validityDays as are left, and name that",
            field="issuer",
        )


def _is_unfinished(record: IssuerRecord) -> bool:
    pending = record.proof_of_possession is ProofOfPossession.PENDING
    return record.state is IssuerState.SIGNED or (record.certificate is not None and pending)


def _unproved(record: IssuerRecord, changes: Mapping[str, object]) -> Mapping[str, object] | None:
    return changes if record.proof_of_possession is ProofOfPossession.PENDING else None


def _being_made(name: str) -> Deferred:
    return Deferred(f"the certificate authority {name!r} is being made", retry_after=_BEING_MADE)


def _same_ca(name: str) -> Rejected:
    return Conflict.because(
        f"this CA is here as {name!r}: what makes a CA the same is its subject and its key; use it, and give it "
        "further certificates, under that name",
        field="name",
    )


def _identity_of(issuer: Issuer) -> str:
    return authority_identity(issuer.certificate.subject, issuer.signing_key.public_key())


def _read(wanted: AuthorityImport, now: datetime) -> Issuer:
    password = wanted.password.get_secret_value() if wanted.password else None
    if wanted.pfx is None:
        pem = wanted.pem.get_secret_value() if wanted.pem else ""
        return authority_from_pem(pem.encode(), password, now=now, opener=key_opened_apart)
    pfx = octets("pfx", wanted.pfx.get_secret_value())
    return authority_from_pfx(pfx, password, now=now, opener=pfx_opened_apart)
