"""The certificate of one device, and the bundle it is handed out in.

A serial number is recorded with the device before it is signed, in one transaction with the claim on the device. The
transaction that makes that certificate the device's is the commit point: for one cause (an order, a renewal) a device
gets one certificate, however often and by how many workers it is tried. An attempt that another one has overtaken
leaves a serial number behind that is ``abandoned``, and takes its bundle away.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.adapters.dps_device import ClientCredentials
from shared.adapters.storage import StoredBlob
from shared.domain.certificates import DECISION_HOLDS, CertificateRecord, CertificateState
from shared.domain.devices import CertificateSummary, HeldCertificate
from shared.domain.expiry import DueNotice, Notice
from shared.domain.issuance import Committed, reserved
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.words import CertificateKind, DeviceState, RevocationReason
from shared.errors import Conflict, Deferred, Gone, NotFound, Overtaken, Rejected
from shared.ledger.devices import partition_of
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.bundles import new_password, pack
from shared.pki.chains import check_chain
from shared.pki.issuance import Subject, issue, new_serial_number, prepare
from shared.pki.profiles import device_profile
from shared.pki.public_keys import fingerprint
from shared.pki.readable import load_certificates
from shared.pki.requests import requested_key
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.workflows.devices.changes import device_of, note

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cryptography import x509

    from shared.adapters.storage import Blobs
    from shared.adapters.vault import VaultSecrets
    from shared.domain.devices import DeviceRecord, Purpose
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.table import Versioned
    from shared.pki.issuance import Issuer
    from shared.pki.signing_keys import PrivateKey, PublicKey
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.authorities.making import CertificateAuthorities, LoadedAuthority
    from shared.workflows.intake.outbox import Clock

BUNDLES = "bundles"
"""Container of the bundles."""

_JSON = "application/json"
_COMPROMISE = RevocationReason.KEY_COMPROMISE
_ATTEMPTS = 8


def bundle_name(registration_id: str, serial_number: str) -> str:
    """Name the blob of the bundle with a certificate."""
    return f"{registration_id}/{serial_number}.json"


@dataclass(frozen=True, slots=True)
class Decision:
    """Which CA signs.

    Attributes:
        issuer: its name.
        decided_at: when it was looked up; ``None`` where that can't change.
    """

    issuer: str
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeviceCertificateRequest:
    """What a device is to get.

    Attributes:
        registration_id: in canonical form; becomes the CN.
        issuer: finds the name of the issuing CA, if one has to sign, and when it was looked up; ``None`` for a time
            where the request itself names the CA.
        purpose, cause: what it is issued for; with the registration id they are the idempotency key.
        validity: its life.
        csr: the device's own request in PEM; without it the service makes the key.
        key_algorithm: of a service-made key.
        field: path of the CSR in the request, for error messages.
    """

    registration_id: str
    issuer: Callable[[], Awaitable[Decision]]
    purpose: Purpose
    cause: str
    validity: timedelta
    csr: str | None = None
    key_algorithm: str | None = None
    enrollment_group: str | None = None
    predecessor: str | None = None
    field: str = "csr"


@dataclass(frozen=True, slots=True)
class Acts:
    """What an issuance does to its device.

    Attributes:
        take: claims the device, which is ``None`` if it is not known; raises why it can't be had.
        commit: makes the certificate the device's.
    """

    take: Callable[[DeviceRecord | None], DeviceRecord]
    commit: Callable[[DeviceRecord, Committed], DeviceRecord]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Who has a bundle with a key, and until when it can be had again."""

    caller: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of a bundle's blob. The private key in it is encrypted, or gone.

    Attributes:
        certificate: the device's certificate.
        chain: the CAs above it, up to the root's child.
        pem: leaf, chain and, unless the device made its own or it was handed out, the key as encrypted PKCS#8.
        pfx: the same as PKCS#12; ``None`` without a key.
        password_secret: name of the vault secret that opens the key; ``None`` for a device's own key.
        handed_out: whether the key was handed out, and is gone.
        retrieval: who has it, until when; ``None`` before it is handed out.
    """

    certificate: x509.Certificate
    pem: bytes
    pfx: bytes | None
    password_secret: str | None
    handed_out: bool = False
    retrieval: Retrieval | None = None

    @property
    def summary(self) -> CertificateSummary:
        """Describe the certificate."""
        return CertificateSummary(
            serial_number=names.serial_text(self.certificate.serial_number),
            thumbprint=names.thumbprint(self.certificate),
            not_before=self.certificate.not_valid_before_utc,
            not_after=self.certificate.not_valid_after_utc,
            issuer=names.common_name(self.certificate.issuer),
        )

    @property
    def sha256_thumbprint(self) -> str:
        """The other name of the certificate."""
        return names.sha256_thumbprint(self.certificate)

    def to_bytes(self) -> bytes:
        """Give the blob's content."""
        return json.dumps(
            {
                "pem": self.pem.decode("ascii"),
                "pfx": base64.b64encode(self.pfx).decode("ascii") if self.pfx else None,
                "passwordSecret": self.password_secret,
                "handedOut": self.handed_out,
                "retrieval": [self.retrieval.caller, self.retrieval.until.isoformat()] if self.retrieval else None,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Bundle:
        """Read a blob's content."""
        body = json.loads(content)
        pem, given = body["pem"].encode("ascii"), body.get("retrieval")
        return cls(
            certificate=load_certificates(pem)[0],
            pem=pem,
            pfx=base64.b64decode(body["pfx"]) if body["pfx"] else None,
            password_secret=body["passwordSecret"],
            handed_out=body["handedOut"],
            retrieval=Retrieval(given[0], datetime.fromisoformat(given[1])) if given else None,
        )

    def without_key(self) -> Bundle:
        """Give the bundle as it stays after it was handed out."""
        end = b"-----END CERTIFICATE-----\n"
        certificates = self.pem[: self.pem.rindex(end) + len(end)]
        return Bundle(self.certificate, certificates, None, self.password_secret, handed_out=True)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """What an issuance gave.

    Attributes:
        bundle: as stored.
        credentials: what to register the device with; ``None`` if the device has its own key, or has its bundle.
    """

    bundle: Bundle
    credentials: ClientCredentials | None


@dataclass(frozen=True, slots=True)
class DeviceCertificates:
    """Issues device certificates and hands bundles out."""

    authorities: CertificateAuthorities
    devices: Devices
    certificates: Certificates
    public_keys: PublicKeys
    expiry: ExpiryIndex
    blobs: Blobs
    secrets: VaultSecrets
    settings: Settings
    clock: Clock
    computing: ThreadPool

    async def issue(
        self, request: DeviceCertificateRequest, acts: Acts
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate]:
        """Issue a device's certificate and store its bundle, or find what was issued for the same cause.

        Args:
            request: what is wanted.
            acts: what becomes of the device.

        Returns:
            The device with its certificate, and what to register it with.

        Raises:
            Rejected: the device can't be had, the CSR is unfit, its key is another device's, or the issuer can't sign
                for as long as is wanted. Nothing was recorded then.
            Overtaken: somebody else has changed the device meanwhile.
        """
        known = await self.devices.get(request.registration_id)
        taken = acts.take(known.record if known else None)
        done = taken.issuance(request.purpose, request.cause)
        if known is not None and done is not None:
            bundle = await self.read_bundle(bundle_name(request.registration_id, done.serial_number))
            return known, await self._opened(bundle)
        pending = taken.find(taken.pending) if taken.pending else None
        if known is not None and pending is not None and (pending.purpose, pending.cause) == _cause(request):
            resumed = await self._resume(request, pending, acts)
            if resumed is not None:
                return resumed
        return await self._make(request, known, acts)

    async def foresee(self, request: DeviceCertificateRequest, device: DeviceRecord | None) -> None:
        """See whether a device's CSR could be used as things are.

        Raises:
            Rejected: it is unfit, or its key is another device's or compromised.
        """
        if request.csr is None:
            return
        key = requested_key(request.csr, registration_id=request.registration_id, field=request.field)
        known = await self.public_keys.get(fingerprint(key))
        if known is not None:
            await self._check_key(request, known.record, device)

    async def _resume(
        self, request: DeviceCertificateRequest, pending: HeldCertificate, acts: Acts
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate] | None:
        """Commit what an earlier attempt has signed and stored; ``None`` if it did not come so far, or too long ago."""
        name = bundle_name(request.registration_id, pending.serial_number)
        stored = await self.blobs.get(BUNDLES, name)
        if stored is None:
            return None
        if not pending.kept(self.clock()):
            # It counts as never signed by now; its CA may have been retired.
            await self.blobs.delete(BUNDLES, name)
            return None
        bundle = Bundle.from_bytes(stored.content)
        device = await self._commit(request, bundle, acts)
        return device, await self._opened(bundle)

    async def _make(
        self, request: DeviceCertificateRequest, known: Versioned[DeviceRecord] | None, acts: Acts
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate]:
        decision = await request.issuer()
        authority = await self.authorities.loaded(decision.issuer)
        issuer = authority.issuer
        key, public_key = await self._key(request)
        serial = new_serial_number(int(partition_of(request.registration_id), 16))
        prepared = prepare(
            device_profile(validity=request.validity),
            subject=Subject(common_name=request.registration_id),
            public_key=public_key,
            issuer=issuer,
            serial_number=serial,
            now=self.clock(),
            urls=self.authorities.distribution_points(authority),
        )
        reservation = self._reservation(request, decision, names.serial_text(serial), fingerprint(public_key))
        taken = acts.take(known.record if known else None)
        wanted = reserved(taken, reservation)
        row = self._row(request, reservation)
        claim = await self._claim_key(request, reservation.public_key, taken)
        # In the index first: so a rollover that waits before it looks sees every certificate that the old CA signs.
        await self.certificates.enter_in_force(row, until=self.clock() + request.validity)
        try:
            if known is None:
                claimed = await self.devices.insert(wanted, reserved=row)
            else:
                await note(self.devices, known.record, wanted, at=self.clock())
                claimed = await self.devices.replace(known, wanted, reserved=row)
        except Stale:
            raise Overtaken(f"{request.registration_id!r} is being changed by others") from None
        if request.csr is not None:
            await self._confirm_key(claim)
        self._check_still_decided(request, decision)
        certificate = await self.authorities.signing(issuer, issue, prepared, issuer)
        self._check(request, certificate, authority)
        password = new_password() if key else None
        bundle = _packed(certificate, issuer, key, password)
        if bundle.password_secret and password:
            # Before the blob: a stored bundle can always be opened.
            await self.secrets.put(bundle.password_secret, password, tags={"registrationId": request.registration_id})
        name = bundle_name(request.registration_id, reservation.serial_number)
        metadata = {"serialnumber": reservation.serial_number}
        # Nobody else writes this blob: if it is there, an answer got lost and the SDK tried again.
        await self.blobs.create(BUNDLES, name, bundle.to_bytes(), content_type=_JSON, metadata=metadata)
        device = await self._commit(request, bundle, acts, claimed=claimed)
        return device, IssuedCertificate(bundle, ClientCredentials(bundle.pem, password) if password else None)

    def _reservation(
        self, request: DeviceCertificateRequest, decision: Decision, serial_number: str, public_key: str
    ) -> HeldCertificate:
        return HeldCertificate(
            serial_number=serial_number,
            state=CertificateState.RESERVED,
            issuer=decision.issuer,
            purpose=request.purpose,
            cause=request.cause,
            recorded_at=self.clock(),
            public_key=public_key,
        )

    @staticmethod
    def _row(request: DeviceCertificateRequest, reservation: HeldCertificate) -> CertificateRecord:
        return CertificateRecord(
            serial_number=reservation.serial_number,
            kind=CertificateKind.DEVICE,
            state=reservation.state,
            subject=request.registration_id,
            issuer=reservation.issuer,
            cause=request.cause,
            recorded_at=reservation.recorded_at,
            enrollment_group=request.enrollment_group,
            predecessor=request.predecessor,
        )

    async def _commit(
        self,
        request: DeviceCertificateRequest,
        bundle: Bundle,
        acts: Acts,
        *,
        claimed: Versioned[DeviceRecord] | None = None,
    ) -> Versioned[DeviceRecord]:
        """Make a certificate the device's, in one transaction with its row; once, though two come with the same one.

        Args:
            request: what was wanted.
            bundle: as stored.
            acts: what becomes of the device.
            claimed: the device as this attempt has written it, which saves a read.

        Raises:
            Overtaken: another attempt has taken its place, or the device is not wanted any more. Its bundle is gone.
        """
        summary = bundle.summary
        made = Committed(
            summary=summary,
            bundle=bundle_name(request.registration_id, summary.serial_number),
        )
        notice = DueNotice.on(
            (summary.not_after - self.settings.expiry_warning).date(),
            Notice.EXPIRING,
            serial_number=summary.serial_number,
            subject=request.registration_id,
            not_after=summary.not_after,
        )
        await self.expiry.put(notice)  # first: a sweep leaves it until the certificate is committed
        for attempt in range(_ATTEMPTS):
            first = claimed if attempt == 0 else None
            known = first or await device_of(self.devices, request.registration_id)
            present = known.record.find(summary.serial_number)
            if present is not None and present.issued:
                return known  # by another delivery of the message, or by ourselves, and the answer got lost
            try:
                wanted = acts.commit(known.record, made)
            except Overtaken:
                if known.record.pending != summary.serial_number:
                    await self.blobs.delete(BUNDLES, made.bundle)  # nobody will commit it
                raise
            held = wanted.find(summary.serial_number)
            if held is None:
                raise RuntimeError(f"{request.registration_id!r} does not hold certificate {summary.serial_number}")
            signed = self._row(request, held).changed(
                state=held.state,
                not_before=summary.not_before,
                not_after=summary.not_after,
                thumbprint=summary.thumbprint,
                pem=names.pem(bundle.certificate),
            )
            await note(self.devices, known.record, wanted, at=self.clock())
            try:
                return await self.devices.replace(known, wanted, signed=signed)
            except Stale:
                continue
        raise Overtaken(f"{request.registration_id!r} is being changed by others")

    def _check_still_decided(self, request: DeviceCertificateRequest, decision: Decision) -> None:
        """Sign nothing by a decision that may be outdated: a CA is retired when none of its certificates are left.

        The certificate stands among those in force now. So a rollover that waits longer than this before it looks
        sees every certificate that the old CA signs.
        """
        if decision.decided_at is not None and self.clock() - decision.decided_at > DECISION_HOLDS:
            raise Deferred(
                f"the certificate of {request.registration_id!r} took too long to prepare; its issuing CA is looked up "
                "anew",
                retry_after=timedelta(seconds=1),
            )

    async def _claim_key(
        self, request: DeviceCertificateRequest, public_key: str, device: DeviceRecord
    ) -> Versioned[PublicKeyRecord]:
        """See that a key belongs to this device and to no other, and that nobody else may have it.

        Raises:
            Rejected: it is another device's, or it is compromised.
        """
        claim = PublicKeyRecord(
            fingerprint=public_key, registration_id=request.registration_id, recorded_at=self.clock()
        )
        known = await self.public_keys.claim(claim)
        await self._check_key(request, known.record, device)
        if known.record.registration_id == request.registration_id:
            return known
        return await self._replace_claim(known, claim)

    async def _check_key(
        self, request: DeviceCertificateRequest, known: PublicKeyRecord, device: DeviceRecord | None
    ) -> None:
        # The device's record knows first, and is replaced as it was read.
        held = device.held if device else ()
        own = any(each.public_key == known.fingerprint and each.reason is _COMPROMISE for each in held)
        if own or known.compromised:
            raise Rejected.because(
                f"its public key (SHA-256 {known.fingerprint}) is compromised: a certificate with it was revoked for "
                "keyCompromise; make a new key",
                field=request.field,
            )
        if known.registration_id == request.registration_id:
            return
        owner = await self.devices.get(known.registration_id)
        if owner is not None and owner.record.state is not DeviceState.DELETED:
            raise Rejected.because(
                f"its public key (SHA-256 {known.fingerprint}) is that of device {known.registration_id!r}; each "
                "device needs a key of its own",
                field=request.field,
            )

    async def _confirm_key(self, claim: Versioned[PublicKeyRecord]) -> None:
        """See that a key is still the device's now that the ledger knows the device by it.

        Before that another one may have found its owner missing, or deleted, and have taken the key. The claim is
        written once more, so that whoever read it before can't take it any more.

        Raises:
            Overtaken: it is not.
        """
        await self._replace_claim(claim, claim.record.changed(recorded_at=self.clock()))

    async def _replace_claim(
        self, known: Versioned[PublicKeyRecord], record: PublicKeyRecord
    ) -> Versioned[PublicKeyRecord]:
        try:
            return await self.public_keys.replace(known, record)
        except Stale:
            raise Overtaken(f"the key of {record.registration_id!r} is being claimed by others") from None

    async def _key(self, request: DeviceCertificateRequest) -> tuple[PrivateKey | None, PublicKey]:
        if request.csr is not None:
            return None, requested_key(request.csr, registration_id=request.registration_id, field=request.field)
        algorithm = KeyAlgorithm(request.key_algorithm or KeyAlgorithm.EC_P256)
        # An RSA key takes up to a second of computing, and releases the interpreter lock meanwhile.
        key = await self.computing.run(generate_key, algorithm)
        return key, key.public_key()

    def _check(
        self, request: DeviceCertificateRequest, certificate: x509.Certificate, authority: LoadedAuthority
    ) -> None:
        """Check the chain as DPS will: what it would refuse never leaves."""
        findings = check_chain(
            (certificate, *authority.issuer.sent_chain),
            registration_id=request.registration_id,
            group_certificates=(authority.issuer.certificate,),
            verified_authorities=(authority.anchor,),
            now=self.clock(),
        )
        if findings:
            raise RuntimeError(
                f"the certificate made for {request.registration_id!r} would be refused by DPS: "
                + "; ".join(finding.message for finding in findings)
            )

    async def _opened(self, bundle: Bundle) -> IssuedCertificate:
        if bundle.password_secret is None or bundle.handed_out:
            return IssuedCertificate(bundle, None)
        password = await self.secrets.get(bundle.password_secret)
        if password is None:
            raise RuntimeError(
                f"the vault does not have secret {bundle.password_secret!r}, which opens a stored bundle"
            )
        return IssuedCertificate(bundle, ClientCredentials(bundle.pem, password))

    async def stored(self, name: str) -> IssuedCertificate:
        """Find what was issued, by the name of its bundle.

        Raises:
            NotFound: the bundle does not exist.
        """
        return await self._opened(await self.read_bundle(name))

    # --- handing out ---

    async def read_bundle(self, name: str) -> Bundle:
        """Read a bundle without handing it out.

        Raises:
            NotFound: it does not exist.
        """
        return Bundle.from_bytes((await self._stored(name)).content)

    async def hand_out(self, name: str, *, wanted: str, caller: str) -> tuple[Bundle, bytes]:
        """Hand a bundle out. One with a service-made key goes to one caller.

        An answer can get lost. So until the receipt is confirmed, or for as long as the settings say, the same caller
        gets the same bundle again; then the key is deleted.

        Args:
            name: name of its blob.
            wanted: ``pem`` or ``pfx``.
            caller: tells callers apart.

        Returns:
            The bundle, and the bytes to give away.

        Raises:
            NotFound: it does not exist.
            Gone: it was handed out before.
            Rejected: a PFX is wanted where the key is the device's own.
        """
        stored = await self._stored(name)
        bundle = Bundle.from_bytes(stored.content)
        if bundle.handed_out:
            raise _handed_out()
        if bundle.password_secret is None:
            if wanted == "pfx":
                raise Rejected.because(
                    "a PFX holds a private key, and this device made its own (CSR); ask for format=pem", field="format"
                )
            return bundle, bundle.pem
        content = bundle.pfx if wanted == "pfx" else bundle.pem
        if content is None:
            raise RuntimeError(f"bundle {name!r} has no {wanted}")
        if bundle.retrieval is None:
            await self._begin_retrieval(name, stored, bundle, caller)
        elif bundle.retrieval.until < self.clock():
            await self.delete_key(name)
            raise _handed_out()
        elif bundle.retrieval.caller != caller:
            raise Gone.because("the bundle was handed out to another caller; renew the device to get a new key")
        return bundle, content

    async def _begin_retrieval(self, name: str, stored: StoredBlob, bundle: Bundle, caller: str) -> None:
        """Give a bundle to one caller, and to no other.

        Raises:
            Gone: another caller was first.
        """
        retrieval = Retrieval(caller, self.clock() + self.settings.bundle_retrieval)
        taken = dataclasses.replace(bundle, retrieval=retrieval)
        due = DueNotice.on(
            retrieval.until.date(),
            Notice.KEY_DELETION,
            serial_number=bundle.summary.serial_number,
            subject=names.common_name(bundle.certificate.subject),
            not_after=retrieval.until,
        )
        await self.expiry.put(due)
        blob = StoredBlob(taken.to_bytes(), stored.metadata, stored.etag)
        if await self.blobs.replace(BUNDLES, name, blob, content_type=_JSON):
            return
        # By another caller, or by ourselves: the answer got lost, and the SDK tried again.
        present = (await self.read_bundle(name)).retrieval
        if present is None or present.caller != caller:
            raise Gone.because("the bundle is being handed out to another caller at this moment")

    async def confirm(self, name: str, *, caller: str) -> None:
        """Delete a bundle's key, since its caller has it. One without a key stays as it is.

        Raises:
            NotFound: the bundle does not exist.
            Conflict: it was not handed out yet.
            Gone: it was handed out to another caller.
        """
        bundle = await self.read_bundle(name)
        if bundle.handed_out or bundle.password_secret is None:
            return
        if bundle.retrieval is None:
            raise Conflict.because("the bundle was not handed out yet, so its receipt can't be confirmed")
        if bundle.retrieval.caller != caller:
            raise Gone.because("the bundle was handed out to another caller, who confirms its receipt")
        await self.delete_key(name)

    async def delete_key(self, name: str) -> None:
        """Delete a bundle's key for good, if it has one and was handed out."""
        for _ in range(_ATTEMPTS):
            stored = await self.blobs.get(BUNDLES, name)
            bundle = Bundle.from_bytes(stored.content) if stored else None
            if stored is None or bundle is None or bundle.handed_out or bundle.retrieval is None:
                return
            blob = StoredBlob(bundle.without_key().to_bytes(), stored.metadata, stored.etag)
            if await self.blobs.replace(BUNDLES, name, blob, content_type=_JSON):
                return
        raise Overtaken(f"the bundle {name!r} is being changed by others")

    async def _stored(self, name: str) -> StoredBlob:
        stored = await self.blobs.get(BUNDLES, name)
        if stored is None:
            raise NotFound.because("this device does not have a bundle yet")
        return stored


def _cause(request: DeviceCertificateRequest) -> tuple[Purpose, str]:
    return request.purpose, request.cause


def _handed_out() -> Rejected:
    return Gone.because(
        "the bundle was handed out before and its private key is deleted; renew the device to get a new key"
    )


def _packed(certificate: x509.Certificate, issuer: Issuer, key: PrivateKey | None, password: str | None) -> Bundle:
    chain = issuer.sent_chain
    friendly_name = names.common_name(certificate.subject)
    packed = pack(certificate=certificate, chain=chain, friendly_name=friendly_name, key=key, password=password)
    if packed.pfx is None:
        return Bundle(certificate, packed.pem, None, None)
    # One secret per certificate, not per device: an attempt that comes second must not overwrite the first one's.
    return Bundle(certificate, packed.pem, packed.pfx, f"bundle-{names.serial_text(certificate.serial_number)}")
