"""The certificate of one device, and the bundle it is handed out in.

Creating the bundle's blob, which fails if it exists, is the commit point of an issuance: for one cause (an order, a
renewal) a device gets one certificate, however often and by how many workers it is tried.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from shared.adapters.dps_device import ClientCredentials
from shared.adapters.storage import StoredBlob
from shared.contracts import CertificateKind
from shared.errors import Deferred, Gone, NotFound, Rejected
from shared.ledger.certificates import CertificateRecord, CertificateState
from shared.ledger.devices import CertificateSummary
from shared.ledger.expiry import DueNotice, Notice
from shared.pki import names
from shared.pki.bundles import new_password, pack
from shared.pki.chains import check_chain
from shared.pki.issuance import Subject, check_fit, issue, new_serial_number, prepare
from shared.pki.profiles import device_profile
from shared.pki.requests import requested_key
from shared.pki.signing_keys import KeyAlgorithm, generate_key

if TYPE_CHECKING:
    from datetime import datetime

    from shared.adapters.storage import Blobs
    from shared.adapters.vault import VaultSecrets
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.table import Versioned
    from shared.pki.issuance import Issuer
    from shared.pki.signing_keys import PrivateKey, PublicKey
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.certificate_authorities import CertificateAuthorities, LoadedAuthority
    from shared.workflows.events import Clock

BUNDLES = "bundles"
"""Container of the bundles."""

DECISION_HOLDS = timedelta(seconds=30)
"""So long after a group's issuing CA was looked up it is used for signing."""

_JSON = "application/json"
_HAND_OUT = "handout"
"""Metadata of a bundle's blob: which hand-out took the key. In lower case, as a header's name may come back so."""


def bundle_name(registration_id: str, cause: str) -> str:
    """Name the blob of the bundle that a device has through an order or request."""
    return f"{registration_id}/{cause}.json"


@dataclass(frozen=True, slots=True)
class DeviceCertificateRequest:
    """What a device is to get.

    Attributes:
        registration_id: in canonical form; becomes the CN.
        issuer: name of the issuing CA.
        cause: id of the order or request; with the registration id it is the idempotency key.
        csr: the device's own request in PEM; without it the service makes the key.
        key_algorithm: of a service-made key.
        field: path of the CSR in the request, for error messages.
        decided_at: when the group's issuing CA was looked up; ``None`` where the request itself names the CA.
    """

    registration_id: str
    issuer: str
    cause: str
    validity: timedelta
    csr: str | None = None
    key_algorithm: str | None = None
    enrollment_group: str | None = None
    predecessor: str | None = None
    field: str = "csr"
    decided_at: datetime | None = None

    @property
    def bundle(self) -> str:
        """Name of the blob."""
        return bundle_name(self.registration_id, self.cause)


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
    """

    certificate: x509.Certificate
    pem: bytes
    pfx: bytes | None
    password_secret: str | None
    handed_out: bool = False

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

    def to_bytes(self) -> bytes:
        """Give the blob's content."""
        return json.dumps(
            {
                "pem": self.pem.decode("ascii"),
                "pfx": base64.b64encode(self.pfx).decode("ascii") if self.pfx else None,
                "passwordSecret": self.password_secret,
                "handedOut": self.handed_out,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Bundle:
        """Read a blob's content."""
        body = json.loads(content)
        pem = body["pem"].encode("ascii")
        return cls(
            certificate=x509.load_pem_x509_certificate(pem),
            pem=pem,
            pfx=base64.b64decode(body["pfx"]) if body["pfx"] else None,
            password_secret=body["passwordSecret"],
            handed_out=body["handedOut"],
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
    certificates: Certificates
    expiry: ExpiryIndex
    blobs: Blobs
    secrets: VaultSecrets
    settings: Settings
    clock: Clock
    computing: ThreadPool

    async def issue(self, request: DeviceCertificateRequest, *, resumed: bool) -> IssuedCertificate:
        """Issue a device's certificate and store its bundle, or find what was issued for the same cause.

        Args:
            request: what is wanted.
            resumed: whether this may have been tried before.

        Raises:
            Rejected: the CSR is unfit, or the issuer can't sign for as long as is wanted.
        """
        if resumed:
            stored = await self.blobs.get(BUNDLES, request.bundle)
            if stored is not None:
                return await self._found(request, Bundle.from_bytes(stored.content))
        return await self._make(request)

    async def check(self, request: DeviceCertificateRequest) -> None:
        """Check what is wanted before anything is recorded for it.

        Raises:
            Rejected: as with :meth:`issue`.
        """
        issuer = (await self.authorities.loaded(request.issuer)).issuer
        if request.csr is not None:
            requested_key(request.csr, registration_id=request.registration_id, field=request.field)
        subject = Subject(common_name=request.registration_id)
        check_fit(device_profile(validity=request.validity), subject, issuer, self.clock())

    async def stored(self, name: str) -> IssuedCertificate:
        """Find what was issued, by the name of its bundle.

        Raises:
            NotFound: there is no such bundle.
        """
        return await self._opened(await self.read_bundle(name))

    async def _make(self, request: DeviceCertificateRequest) -> IssuedCertificate:
        authority = await self.authorities.loaded(request.issuer)
        issuer = authority.issuer
        key, public_key = await self._key(request)
        reserved = CertificateRecord(
            serial_number=names.serial_text(serial := new_serial_number()),
            kind=CertificateKind.DEVICE,
            state=CertificateState.RESERVED,
            subject=request.registration_id,
            issuer=request.issuer,
            cause=request.cause,
            recorded_at=self.clock(),
            enrollment_group=request.enrollment_group,
            predecessor=request.predecessor,
        )
        prepared = prepare(
            device_profile(validity=request.validity),
            subject=Subject(common_name=request.registration_id),
            public_key=public_key,
            issuer=issuer,
            serial_number=serial,
            now=self.clock(),
            urls=self.authorities.distribution_points(authority),
        )
        known = await self.certificates.reserve(reserved, until=self.clock() + request.validity)
        self._check_still_decided(request)
        certificate = await self.authorities.signing(issuer, issue, prepared, issuer)
        self._check(request, certificate, authority)
        password = new_password() if key else None
        bundle = _packed(certificate, issuer, key, password)
        if bundle.password_secret and password:
            # Before the blob: a committed bundle can always be opened.
            await self.secrets.put(bundle.password_secret, password, tags={"registrationId": request.registration_id})
        created = await self.blobs.create(
            BUNDLES,
            request.bundle,
            bundle.to_bytes(),
            content_type=_JSON,
            metadata={"serialNumber": reserved.serial_number},
        )
        if not created:
            committed = await self.read_bundle(request.bundle)
            if committed.summary.serial_number != reserved.serial_number:
                # Somebody came first. Otherwise it is our own: the answer got lost, and the SDK tried again.
                await self.certificates.put(reserved.changed(state=CertificateState.ABANDONED))
            return await self._found(request, committed)
        await self._book(request, bundle, known)
        return IssuedCertificate(bundle, ClientCredentials(bundle.pem, password) if password else None)

    def _check_still_decided(self, request: DeviceCertificateRequest) -> None:
        """Sign nothing by a decision that may be outdated: a CA is retired when none of its certificates are left.

        The certificate stands among those in force now. So a rollover that waits longer than this before it looks
        sees every certificate that the old CA signs.
        """
        if request.decided_at is not None and self.clock() - request.decided_at > DECISION_HOLDS:
            raise Deferred(
                f"the certificate of {request.registration_id!r} took too long to prepare; its issuing CA is looked up "
                "anew",
                retry_after=timedelta(seconds=1),
            )

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

    async def _found(self, request: DeviceCertificateRequest, bundle: Bundle) -> IssuedCertificate:
        """Go on with what was committed before, by this worker or another."""
        known = await self.certificates.get(bundle.summary.serial_number)
        if known is not None and known.record.state is CertificateState.RESERVED:
            await self.certificates.enter_in_force(known.record, until=bundle.summary.not_after)
            await self._book(request, bundle, known)
        return await self._opened(bundle)

    async def _opened(self, bundle: Bundle) -> IssuedCertificate:
        if bundle.password_secret is None or bundle.handed_out:
            return IssuedCertificate(bundle, None)
        password = await self.secrets.get(bundle.password_secret)
        if password is None:
            raise RuntimeError(f"the vault has lost secret {bundle.password_secret!r}, which opens a stored bundle")
        return IssuedCertificate(bundle, ClientCredentials(bundle.pem, password))

    async def _book(
        self, request: DeviceCertificateRequest, bundle: Bundle, known: Versioned[CertificateRecord]
    ) -> None:
        """Enter the committed certificate into the books."""
        summary = bundle.summary
        active = known.record.changed(
            state=CertificateState.ACTIVE,
            not_before=summary.not_before,
            not_after=summary.not_after,
            thumbprint=summary.thumbprint,
            pem=names.pem(bundle.certificate),
        )
        await self.expiry.put(
            DueNotice.on(
                (summary.not_after - self.settings.expiry_warning).date(),
                Notice.EXPIRING,
                serial_number=summary.serial_number,
                subject=request.registration_id,
                not_after=summary.not_after,
            )
        )
        await self.certificates.replace(known, active)

    # --- handing out ---

    async def read_bundle(self, name: str) -> Bundle:
        """Read a bundle without handing it out.

        Raises:
            NotFound: there is none.
        """
        return Bundle.from_bytes((await self._stored(name)).content)

    async def hand_out(self, name: str, *, wanted: str) -> tuple[Bundle, bytes]:
        """Hand a bundle out. One with a service-made key is handed out once; then the key is deleted.

        Args:
            name: name of its blob.
            wanted: ``pem`` or ``pfx``.

        Returns:
            The bundle, and the bytes to give away.

        Raises:
            NotFound: there is none.
            Gone: it was handed out before.
            Rejected: a PFX is wanted where the key is the device's own.
        """
        stored = await self._stored(name)
        bundle = Bundle.from_bytes(stored.content)
        if bundle.handed_out:
            raise Gone.because(
                "the bundle was handed out before and its private key is deleted; renew the device to get a new key"
            )
        if bundle.password_secret is None:
            if wanted == "pfx":
                raise Rejected.because(
                    "a PFX holds a private key, and this device made its own (CSR); ask for format=pem", field="format"
                )
            return bundle, bundle.pem
        content = bundle.pfx if wanted == "pfx" else bundle.pem
        if content is None:
            raise RuntimeError(f"bundle {name!r} has no {wanted}")
        await self._empty(name, stored)
        return bundle, content

    async def _empty(self, name: str, stored: StoredBlob) -> None:
        """Delete a bundle's key for good, for this hand-out and no other.

        Raises:
            Gone: another hand-out was first.
        """
        hand_out = {_HAND_OUT: uuid.uuid4().hex}
        emptied = Bundle.from_bytes(stored.content).without_key().to_bytes()
        blob = StoredBlob(emptied, {**stored.metadata, **hand_out}, stored.etag)
        if await self.blobs.replace(BUNDLES, name, blob, content_type=_JSON):
            return
        # The answer may have got lost, and the SDK have tried again: then it is our own write that it met.
        present = await self._stored(name)
        if present.metadata.get(_HAND_OUT) != hand_out[_HAND_OUT]:
            raise Gone.because("the bundle is being handed out to another caller at this moment")

    async def _stored(self, name: str) -> StoredBlob:
        stored = await self.blobs.get(BUNDLES, name)
        if stored is None:
            raise NotFound.because("there is no bundle for this device yet")
        return stored


def _packed(certificate: x509.Certificate, issuer: Issuer, key: PrivateKey | None, password: str | None) -> Bundle:
    chain = issuer.sent_chain
    friendly_name = names.common_name(certificate.subject)
    packed = pack(certificate=certificate, chain=chain, friendly_name=friendly_name, key=key, password=password)
    if packed.pfx is None:
        return Bundle(certificate, packed.pem, None, None)
    # One secret per certificate, not per device: an attempt that comes second must not overwrite the first one's.
    return Bundle(certificate, packed.pem, packed.pfx, f"bundle-{names.serial_text(certificate.serial_number)}")
