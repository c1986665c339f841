"""The bundle of a certificate: stored, handed out to one caller, and rid of its key and of the key's password.

A key is kept until it was handed out, until its certificate is over (the device was revoked, deleted or renewed), until
the deployment's time is over, or until the certificate is to be renewed, whichever comes first. Notices in the expiry
index say so, and timers give them: so whoever has no right to bundles, such as the zone that revokes, can end a key.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.domain.expiry import DueNotice, Notice
from shared.domain.held_certificates import CertificateSummary
from shared.domain.public_keys import PublicKeyRecord
from shared.errors import Conflict, Gone, NotFound, Overtaken, Rejected
from shared.pki import names
from shared.pki.bundles import pack
from shared.pki.certificates import UNREADABLE
from shared.pki.public_keys import fingerprint, key_of
from shared.pki.readable import load_certificates
from shared.ports.blobs import StoredBlob

if TYPE_CHECKING:
    from cryptography import x509

    from shared.domain.held_certificates import HeldCertificate
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.public_keys import PublicKeys
    from shared.pki.issuers import Issuer
    from shared.pki.signing_keys import PrivateKey
    from shared.ports.blobs import Blobs
    from shared.ports.vault import VaultSecrets
    from shared.settings import Settings
    from shared.workflows.intake.outbox import Clock

BUNDLES = "bundles"
"""Container of the bundles."""

_JSON, _PASSWORD = "application/json", "bundle-"
_ATTEMPTS = 8


def bundle_name(registration_id: str, serial_number: str) -> str:
    """Name the blob of the bundle with a certificate."""
    return f"{registration_id}/{serial_number}.json"


def summary_of(certificate: x509.Certificate) -> CertificateSummary:
    """Describe the certificate of a device."""
    return CertificateSummary(
        serial_number=names.serial_text(certificate.serial_number),
        thumbprint=names.thumbprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer=names.common_name(certificate.issuer),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Who has a bundle with a key, and until when it can be had again."""

    caller: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The content of a bundle's blob. The private key in it is encrypted, or gone.

    Attributes:
        certificate: the device's certificate.
        chain: the CAs above it, up to the root's child.
        pem: leaf, chain and, unless the device made its own or it was handed out, the key as encrypted PKCS#8.
        pfx: the same as PKCS#12; ``None`` without a key.
        password_secret: name of the vault secret that opens the key; ``None`` for a device's own key.
        handed_out: whether the key is gone: it was handed out, or its time is over.
        retrieval: who has it, until when; ``None`` before it is handed out.
        log_index: place of the certificate's entry in the log; ``None`` if it was not logged.
    """

    certificate: x509.Certificate
    pem: bytes
    pfx: bytes | None
    password_secret: str | None
    handed_out: bool = False
    retrieval: Retrieval | None = None
    log_index: int | None = None

    @property
    def summary(self) -> CertificateSummary:
        """Describe the certificate."""
        return summary_of(self.certificate)

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
                "logIndex": self.log_index,
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
            retrieval=Retrieval(caller=given[0], until=datetime.fromisoformat(given[1])) if given else None,
            log_index=body.get("logIndex"),
        )

    @classmethod
    def found(cls, content: bytes) -> Bundle | None:
        """Read a blob that stands where bundles do, whatever is in it; ``None`` if it is not a bundle of the app's."""
        try:
            return cls.from_bytes(content)
        except (*UNREADABLE, LookupError, AttributeError):
            return None

    def without_key(self) -> Bundle:
        """Give the bundle as it stays when its key is gone."""
        end = b"-----END CERTIFICATE-----\n"
        certificates = self.pem[: self.pem.rindex(end) + len(end)]
        return dataclasses.replace(self, pem=certificates, pfx=None, handed_out=True, retrieval=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Stores bundles and hands them out."""

    blobs: Blobs
    expiry: ExpiryIndex
    public_keys: PublicKeys
    secrets: VaultSecrets
    settings: Settings
    clock: Clock

    async def store(self, name: str, bundle: Bundle) -> None:
        """Store a bundle. Nobody else writes its blob: if it is there, an answer got lost and the SDK tried again."""
        metadata = {"serialnumber": bundle.summary.serial_number}
        # Its name has the serial number, which was drawn for it alone.
        _ = await self.blobs.create(BUNDLES, name, bundle.to_bytes(), content_type=_JSON, metadata=metadata)

    async def find(self, name: str) -> Bundle | None:
        """Read a bundle, ``None`` if it does not exist."""
        stored = await self.blobs.get(BUNDLES, name)
        return Bundle.from_bytes(stored.content) if stored else None

    async def discard(self, name: str) -> None:
        """Delete a bundle that nobody will commit."""
        await self.blobs.delete(BUNDLES, name)

    async def erase(self, name: str) -> None:
        """Delete a bundle's blob, whatever is in it, and the secret with the password that one of its name has."""
        await self.discard(name)
        await self.secrets.delete(_secret_of(name))

    async def read(self, name: str) -> Bundle:
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
        retrieval = Retrieval(caller=caller, until=self.clock() + self.settings.bundle_retrieval)
        taken = dataclasses.replace(bundle, retrieval=retrieval)
        await self._claim_key(bundle.certificate)
        await self.expiry.put(_deletion(bundle.summary.serial_number, _subject(bundle.certificate), retrieval.until))
        blob = StoredBlob(taken.to_bytes(), stored.metadata, stored.etag)
        if await self.blobs.replace(BUNDLES, name, blob, content_type=_JSON):
            return
        # By another caller, or by ourselves: the answer got lost, and the SDK tried again.
        present = (await self.read(name)).retrieval
        if present is None or present.caller != caller:
            raise Gone.because("the bundle is being handed out to another caller at this moment")

    async def _claim_key(self, certificate: x509.Certificate) -> None:
        """Note whose a key is that was made here, before it is handed out: from then on others may come with it."""
        await self.public_keys.claim(
            PublicKeyRecord(
                fingerprint=fingerprint(key_of(certificate)),
                registration_id=names.common_name(certificate.subject),
                recorded_at=self.clock(),
            )
        )

    async def confirm(self, name: str, *, caller: str) -> None:
        """Delete a bundle's key, since its caller has it. One without a key stays as it is.

        Raises:
            NotFound: the bundle does not exist.
            Conflict: it was not handed out yet.
            Gone: it was handed out to another caller.
        """
        bundle = await self.read(name)
        if bundle.handed_out or bundle.password_secret is None:
            return
        if bundle.retrieval is None:
            raise Conflict.because("the bundle was not handed out yet, so its receipt can't be confirmed")
        if bundle.retrieval.caller != caller:
            raise Gone.because("the bundle was handed out to another caller, who confirms its receipt")
        await self.delete_key(name)

    async def delete_key(self, name: str) -> None:
        """Delete a bundle's key, if it has one, and the secret with its password.

        The key first: a secret that opens nothing does no harm. Whoever broke off in between is followed by a notice.
        """
        for _ in range(_ATTEMPTS):
            stored = await self.blobs.get(BUNDLES, name)
            bundle = Bundle.from_bytes(stored.content) if stored else None
            if stored is None or bundle is None or bundle.handed_out:
                break
            if bundle.password_secret is None:
                return
            blob = StoredBlob(bundle.without_key().to_bytes(), stored.metadata, stored.etag)
            if await self.blobs.replace(BUNDLES, name, blob, content_type=_JSON):
                break
        else:
            raise Overtaken(f"the bundle {name!r} is being changed by others")
        # Also of a bundle that was never stored, or was discarded: its secret was there before it.
        await self.secrets.delete(_secret_of(name))

    async def _stored(self, name: str) -> StoredBlob:
        stored = await self.blobs.get(BUNDLES, name)
        if stored is None:
            raise NotFound.because("this device does not have a bundle yet")
        return stored


def key_deletion(held: HeldCertificate, registration_id: str, at: datetime) -> DueNotice:
    """Give the notice by which the key goes that a certificate had which nobody will use again."""
    return _deletion(held.serial_number, registration_id, at)


def _deletion(serial_number: str, registration_id: str, at: datetime) -> DueNotice:
    return DueNotice.on(
        at.date(), Notice.KEY_DELETION, serial_number=serial_number, subject=registration_id, not_after=at
    )


def _subject(certificate: x509.Certificate) -> str:
    return names.common_name(certificate.subject)


def secret_name(serial_number: str) -> str:
    """Name the secret with the password of the key of a certificate."""
    # One secret per certificate, not per device: an attempt that comes second must not overwrite the first one's.
    return f"{_PASSWORD}{serial_number}"


def _secret_of(name: str) -> str:
    return secret_name(name.rpartition("/")[2].removesuffix(".json"))


def password_of(name: str) -> str | None:
    """Give the serial number of the certificate whose key's password a secret is; ``None`` for another secret."""
    return name.removeprefix(_PASSWORD) if name.startswith(_PASSWORD) else None


def _handed_out() -> Rejected:
    return Gone.because(
        "the bundle was handed out before, or not fetched in time, and its private key is deleted; renew the device to "
        "get a new key"
    )


def packed(
    certificate: x509.Certificate,
    issuer: Issuer,
    key: PrivateKey | None,
    password: str | None,
    *,
    log_index: int | None = None,
) -> Bundle:
    """Make the bundle of a certificate; with a key and a password, or without either."""
    chain = issuer.sent_chain
    friendly_name = names.common_name(certificate.subject)
    made = pack(certificate=certificate, chain=chain, friendly_name=friendly_name, key=key, password=password)
    if made.pfx is None:
        return Bundle(certificate=certificate, pem=made.pem, pfx=None, password_secret=None, log_index=log_index)
    secret = secret_name(names.serial_text(certificate.serial_number))
    return Bundle(certificate=certificate, pem=made.pem, pfx=made.pfx, password_secret=secret, log_index=log_index)
