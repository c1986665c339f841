"""CAs that come from elsewhere: their certificates are installed, or they are brought along with their keys."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from cryptography import x509

from shared import acting
from shared.domain.approvals import ApprovalAct, Deed
from shared.domain.audit_entries import SubjectKind, with_act
from shared.domain.authorities import AuthorityRecord, AuthorityState, ProofOfPossession
from shared.domain.authority_acts import check_not_over
from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Conflict, Overtaken, Rejected
from shared.pki import names
from shared.pki.apart import key_opened_apart, pfx_opened_apart
from shared.pki.authority_files import answered_authority, authority_from_pem, authority_from_pfx, further_certificate
from shared.pki.identities import authority_identity
from shared.pki.public_keys import fingerprint
from shared.pki.signing_keys import algorithm_of
from shared.reading.base64_text import octets
from shared.threads import ThreadPool
from shared.workflows.authorities.changes import authority_of, change
from shared.workflows.authorities.claims import check_holder, claim_identity, claim_key, claim_name, same_authority
from shared.workflows.authorities.loading import being_made
from shared.workflows.authorities.records import (
    all_certificates,
    certificates_of,
    check_custody,
    check_length,
    default_custody,
    identity_of,
    installed,
    path_length,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.contracts.certificates import AuthorityImport
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.table import Versioned
    from shared.pki.issuers import Issuer
    from shared.settings import Settings
    from shared.workflows.authorities.convergence import AuthorityConverger
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.intake.approvals import Approvals
    from shared.workflows.intake.outbox import Clock

_INSTALL, _IMPORT = ApprovalAct.INSTALL_CERTIFICATE, ApprovalAct.IMPORT_AUTHORITY
OPENING = ThreadPool("opening", 1)
"""Waits for the process that opens an owner's file: one at a time, and nothing else waits with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityInstallation:
    """Installs certificates of CAs, and takes over CAs that their owners bring along.

    Attributes:
        opening: waits for owners' files to be opened.
    """

    records: Authorities
    public_keys: PublicKeys
    devices: Devices
    keys: AuthorityKeys
    possession: Possession
    converger: AuthorityConverger
    approvals: Approvals
    settings: Settings
    clock: Clock
    opening: ThreadPool = OPENING

    async def install(self, name: str, certificates: bytes, *, request_id: str | None = None) -> AuthorityRecord:
        """Install the certificate of a CA that was signed elsewhere, or a further one of a CA that has one.

        Args:
            name: of the CA.
            certificates: PEM: its own and the chain above it, up to and including the root.
            request_id: that the caller has given.

        Raises:
            NotFound: the CA does not exist.
            Conflict: it asks for no certificate, or is revoked or deleted and does not have this one.
            Rejected: the certificates do not fit its key, or each other, or can't be a CA's here, or end at another
                root than the CA is pinned to.
            AwaitsApproval: a second person has to approve it; then the caller sends it again.
            Deferred: it is being made, or others are changing it.
            LedgerBehind: the ledger is an older one, and may not know what has become of the CA.
        """
        await self.converger.check_ledger()
        record, now = (await authority_of(self.records, name)).record, self.clock()
        if record.certificate is None:
            check_not_over(record)
        if record.certificate is None and record.signing_request is None:
            if record.wanted is None or not record.wanted.externally_signed:
                raise Conflict.because(
                    f"{name!r} needs no certificate from elsewhere: it was not made with externallySigned"
                )
            raise being_made(name)
        key = await self.keys.open(record)
        # Many signatures to verify: beside the event loop, as with what is brought along.
        if record.certificate is not None:
            own = certificates_of(record.certificate)[0]
            issuer = await self.keys.compute(further_certificate, certificates, own, key, now=now)
            check_pinned(record, issuer, "certificate")
            if issuer.certificate not in all_certificates(record):
                check_not_over(record)
            await self._allow(_INSTALL, name, issuer, request_id, group=record.enrollment_group)
            return await self._take_in(name, issuer, "certificate")
        request = x509.load_pem_x509_csr((record.signing_request or "").encode())
        issuer = await self.keys.compute(answered_authority, certificates, request, key, now=now)
        check_pinned(record, issuer, "certificate")
        placed = await self._placed(issuer, "certificate")
        await self._check_places(name, issuer, placed)
        await self._allow(_INSTALL, name, issuer, request_id, group=record.enrollment_group)
        return await self._install(name, placed)

    async def take_over(
        self, name: str, wanted: AuthorityImport, *, cause: str, request_id: str | None = None
    ) -> AuthorityRecord:
        """Keep a CA that its owner brought along, with its key. One that is refused leaves no trace.

        A certificate for the subject and key of a CA that is here, such as a renewed one or one by which another CA has
        certified it, is a further certificate of that CA.

        Args:
            name: what it is called here; its CN may be another.
            wanted: the CA, with its key and its chain up to the root, and where the key is to be.
            cause: id of the request.
            request_id: that the caller has given.

        Raises:
            AwaitsApproval: a second person has to approve it; then the caller sends it again.
            Conflict: the name belongs to another CA, or the CA is here under another name, or is revoked or deleted.
            Rejected: it can't be opened, or can't sign for devices, or a root's key is not to be in the vault, or a
                service has no place left for it.
            Deferred: others are at it.
            LedgerBehind: the ledger is an older one, and may not know who has the name, the key or the place.
        """
        await self.converger.check_ledger()
        issuer, field = await self.opening.run(_read, wanted, self.clock()), "pfx" if wanted.pfx else "pem"
        kind = CertificateKind.INTERMEDIATE if len(issuer.chain) > 1 else CertificateKind.ROOT
        same = await self._same_as(issuer)
        if same is not None:
            check_not_over(same)
        if same is not None and same.name != name:
            raise same_authority(same.name)
        if same is not None and same.certificate is not None:
            check_custody(same, wanted.custody)
            check_pinned(same, issuer, field)
            await self._allow(_IMPORT, name, issuer, request_id, group=same.enrollment_group)
            return await self._take_in(name, issuer, field)
        if kind is CertificateKind.ROOT and wanted.custody is KeyCustody.WRAPPED:
            raise Rejected.because("a root's key stays in the vault; leave custody out", field="custody")
        placed = await self._placed(issuer, field)
        custody = wanted.custody or default_custody(self.settings, kind, path_length(issuer.certificate))
        await self._check_import(name, issuer, placed, custody)
        await self._allow(_IMPORT, name, issuer, request_id, custody=custody)
        await self._claim(_brought(name, kind, issuer, custody=custody, cause=cause, at=self.clock()), issuer)
        key = await self.keys.take_over(name, issuer.signing_key, custody)
        return await self._install(name, {**placed, **key.place})

    async def _allow(
        self,
        act: ApprovalAct,
        name: str,
        issuer: Issuer,
        request_id: str | None,
        *,
        custody: KeyCustody | None = None,
        group: str | None = None,
    ) -> None:
        """See that a CA may be taken in, by what a second person can compare: the fingerprints of it and of its root.

        Its file is not kept. What is approved is this CA, in whatever file it comes again.
        """
        own, root = names.sha256_thumbprint(issuer.certificate), names.sha256_thumbprint(issuer.chain[-1])
        subject = names.shown(issuer.certificate.subject.rfc4514_string())
        verb = "import the CA" if act is _IMPORT else "install the certificate of the CA"
        deed = Deed(
            act=act,
            what=f"{verb} {name!r}: {subject} with SHA-256 {own}, whose root has SHA-256 {root}",
            kind=SubjectKind.AUTHORITY,
            subject=name,
            group=group,
        )
        await self.approvals.allow(deed, "|".join((own, root, custody or "")), request_id)

    async def _same_as(self, issuer: Issuer) -> AuthorityRecord | None:
        """Find the CA of a subject and key, if it is here."""
        identity = _identity_of(issuer)
        found = [record async for record in self.records.list() if identity_of(record) == identity]
        return found[0] if found else None

    async def _placed(self, issuer: Issuer, field: str) -> dict[str, object]:
        """Describe a CA that comes from elsewhere, as its record does: below the first CA of ours in its chain, if any.

        Then that one's proof of possession is enough, as it is for a CA that was made here.
        """
        ours = {
            names.thumbprint(each): record.name
            async for record in self.records.list()
            for each in all_certificates(record)
        }
        above = list(takewhile(lambda each: names.thumbprint(each) not in ours, issuer.chain[1:]))
        rest = issuer.chain[1 + len(above) :]
        return {
            **installed(issuer, above, field),
            "parent": ours[names.thumbprint(rest[0])] if rest else None,
            "proof_of_possession": None if rest else self.possession.of_topmost,
        }

    async def _check_import(self, name: str, issuer: Issuer, placed: Mapping[str, object], custody: KeyCustody) -> None:
        """Look at all that could be in the way of a CA that is brought along, before its name is taken."""
        holder = await self.records.holder(name)
        if holder is not None:
            check_holder(holder.record, name, _fingerprint(issuer))
        else:
            await self.keys.check_import(name, custody)
        await self._check_places(name, issuer, placed)

    async def _check_places(self, name: str, issuer: Issuer, placed: Mapping[str, object]) -> None:
        if placed["proof_of_possession"] is ProofOfPossession.PENDING:
            await self.possession.check_places(name, issuer.certificate)

    async def _claim(self, record: AuthorityRecord, issuer: Issuer) -> None:
        """Take the name for a CA that is brought along, or take it anew, so that the sweep does not give it back."""

        def renewed(present: AuthorityRecord) -> AuthorityRecord:
            check_not_over(present)
            if present.certificate is not None:
                return present
            return present.changed(
                cause=record.cause, requested_at=record.requested_at, custody=record.custody, problem=None
            )

        known: Versioned[AuthorityRecord] = await claim_name(self.records, record)
        if known.record != record:
            await change(self.records, record.name, renewed)
        try:
            await claim_identity(self.records, record.identity or "", record.name)
            await claim_key(
                self.public_keys, self.devices, fingerprint(issuer.signing_key.public_key()), record.name, self.clock()
            )
        except Conflict:
            # Somebody brings the same CA along under another name at the same time, or it has a device's key. If the
            # row has changed, it is theirs who changed it.
            _ = await self.records.withdraw(known)
            raise

    async def _install(self, name: str, placed: Mapping[str, object]) -> AuthorityRecord:
        """Give a CA its certificate, which no other one replaces."""

        def given(present: AuthorityRecord) -> AuthorityRecord:
            if present.certificate is None:
                check_not_over(present)
            after = present.changed(problem=None, **placed) if present.certificate is None else present
            return _called_for(after) if after.thumbprint == placed["thumbprint"] else after

        record = await change(self.records, name, given)
        if record.thumbprint != placed["thumbprint"]:
            raise Overtaken(f"{name!r} has just got another certificate")
        return await self.converger.converge(name)

    async def _take_in(self, name: str, issuer: Issuer, field: str) -> AuthorityRecord:
        """Keep a further certificate of a CA that is here; devices go on with the chain that they have."""

        def taken_in(present: AuthorityRecord) -> AuthorityRecord:
            if issuer.certificate in all_certificates(present):
                return _called_for(present)
            check_not_over(present)  # it would be in force, and on no list
            further = {"further_certificates": (present.further_certificates or "") + names.pem(issuer.certificate)}
            check_length(further, field)
            return present.changed(**further)

        record = await change(self.records, name, taken_in)
        if issuer.certificate != next(all_certificates(record)):
            await self.converger.enter_further(record, issuer)
        return await self.converger.converge(name)


def _called_for(record: AuthorityRecord) -> AuthorityRecord:
    """Enter which entry of the audit log is about a call, if its CA is still to be opened."""
    entry = acting.audited()
    if entry is None or record.state is not AuthorityState.SIGNED:
        return record
    return record.changed(audited=with_act(record.audited, entry))


def check_pinned(record: AuthorityRecord, issuer: Issuer, field: str) -> None:
    """See that a CA's chain ends at the root that it was pinned to, if it was.

    Raises:
        Rejected: it ends at another one.
    """
    wanted = record.wanted.root_thumbprint if record.wanted else None
    root = names.sha256_thumbprint(issuer.chain[-1])
    if wanted is not None and root != wanted:
        raise Rejected.because(
            f"the chain ends at the root with SHA-256 {root}, and {record.name!r} is pinned to the one with SHA-256 "
            f"{wanted} (rootThumbprint of its request)",
            field=field,
        )


def _brought(
    name: str, kind: CertificateKind, issuer: Issuer, *, custody: KeyCustody, cause: str, at: datetime
) -> AuthorityRecord:
    """Give the record of a CA that is brought along, before its key is here."""
    return AuthorityRecord(
        name=name,
        kind=kind,
        state=AuthorityState.REQUESTED,
        key_algorithm=algorithm_of(issuer.certificate.public_key()),
        fingerprint=_fingerprint(issuer),
        identity=_identity_of(issuer),
        custody=custody,
        cause=cause,
        requested_at=at,
    )


def _fingerprint(issuer: Issuer) -> str:
    return f"imported|{_identity_of(issuer)}"


def _identity_of(issuer: Issuer) -> str:
    return authority_identity(issuer.certificate.subject, issuer.signing_key.public_key())


def _read(wanted: AuthorityImport, now: datetime) -> Issuer:
    password = wanted.password.get_secret_value() if wanted.password else None
    if wanted.pfx is None:
        pem = wanted.pem.get_secret_value() if wanted.pem else ""
        return authority_from_pem(pem.encode(), password, now=now, opener=key_opened_apart)
    pfx = octets("pfx", wanted.pfx.get_secret_value())
    return authority_from_pfx(pfx, password, now=now, opener=pfx_opened_apart)
