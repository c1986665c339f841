"""Answers about the status of single certificates (OCSP: RFC 6960, in the profile of RFC 5019).

Answers are signed by a delegated responder: a certificate of the CA with the purpose OCSPSigning, whose key is made and
kept in memory. So the CA's own key, perhaps in a vault, signs once per responder and not once per answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from shared.pki import der
from shared.pki.certificates import UNREADABLE
from shared.pki.issuer_limits import BACKDATING
from shared.pki.readable import as_read
from shared.pki.signing_keys import parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.pki.issuers import Issuer
    from shared.pki.signing_keys import PrivateKey

REQUEST_LIMIT = 4096
"""Bytes: a request for one certificate has 70 to 250."""

_NONCE_LIMIT = 128  # RFC 9654 section 2.1
_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - names the CA, nothing rests on its strength; RFC 5019 asks for it
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_REASONS: Mapping[str, x509.ReasonFlags] = {flag.value: flag for flag in x509.ReasonFlags}


class UnreadableRequest(ValueError):
    """What was asked can't be answered; it carries the status that says so (RFC 6960 section 4.2.1)."""

    def __init__(self, status: ocsp.OCSPResponseStatus) -> None:
        self.status = status
        super().__init__(status.name)


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """A question about one certificate.

    Attributes:
        serial_number: of the certificate.
        nonce: to be sent back, so that an old answer can't be passed off as a new one.
        name_hash: of the CA's name; with ``key_hash``, of its key, it says whose certificate is meant.
        algorithm: of both hashes.
    """

    serial_number: int
    nonce: bytes | None
    name_hash: bytes
    key_hash: bytes
    algorithm: hashes.HashAlgorithm


@dataclass(frozen=True, slots=True)
class Revoked:
    """When and why a certificate was revoked; the reason is a name of RFC 5280 section 5.3.1."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Responder:
    """Who signs the answers about a CA's certificates."""

    certificate: x509.Certificate
    key: PrivateKey


GOOD = "good"
UNKNOWN = "unknown"
type Status = Revoked | str
""":class:`Revoked`, :data:`GOOD`, or :data:`UNKNOWN`: the CA never made such a certificate."""


def read_request(content: bytes, issuer: Issuer) -> StatusRequest:
    """Read a request, and check that it is about a certificate of this CA.

    Raises:
        UnreadableRequest: it is malformed, asks for several certificates at once (which RFC 5019 section 2.1.1 leaves
            to others), or is about another CA's.
    """
    malformed = UnreadableRequest(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    if len(content) > REQUEST_LIMIT:
        raise malformed
    try:
        request = ocsp.load_der_ocsp_request(content)
        algorithm = _HASHES.get(request.hash_algorithm.name)
        asked = StatusRequest(
            request.serial_number,
            _nonce(request),
            request.issuer_name_hash,
            request.issuer_key_hash,
            algorithm or hashes.SHA256(),
        )
    except (*UNREADABLE, NotImplementedError):
        raise malformed from None
    if algorithm is None or asked.serial_number <= 0 or (asked.nonce is not None and not _nonce_fits(asked.nonce)):
        raise malformed
    if (asked.name_hash, asked.key_hash) != _names_of(issuer, algorithm):
        raise UnreadableRequest(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    return asked


def _nonce(request: ocsp.OCSPRequest) -> bytes | None:
    try:
        return request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None


def _nonce_fits(nonce: bytes) -> bool:
    return 0 < len(nonce) <= _NONCE_LIMIT


def _names_of(issuer: Issuer, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """Hash a CA's name and key as a request names it (RFC 6960 section 4.1.1)."""
    key_info = issuer.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _hashed(issuer.name_in_der, algorithm), _hashed(der.content(key_info, 1)[1:], algorithm)


def _hashed(content: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(content)
    return context.finalize()


def answer(
    request: StatusRequest, status: Status, *, responder: Responder, now: datetime, next_update: datetime
) -> bytes:
    """Answer a request, with the responder's certificate in the answer.

    Args:
        request: from :func:`read_request`.
        status: of the certificate.
        responder: of the CA that the request names.
        now: the present time, UTC. thisUpdate lies :data:`BACKDATING` before it, for relying parties whose clock is
            late.
        next_update: until when the answer may be kept.

    Returns:
        The response in DER.
    """
    revoked = status if isinstance(status, Revoked) else None
    good = ocsp.OCSPCertStatus.GOOD if status == GOOD else ocsp.OCSPCertStatus.UNKNOWN
    reason = _REASONS[revoked.reason] if revoked and revoked.reason != "unspecified" else None
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            request.name_hash,
            request.key_hash,
            request.serial_number,
            request.algorithm,
            ocsp.OCSPCertStatus.REVOKED if revoked else good,
            now.replace(microsecond=0) - BACKDATING,
            next_update.replace(microsecond=0),
            revoked.at.replace(microsecond=0) if revoked else None,
            reason,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, as_read(responder.certificate))
    )
    if request.nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(request.nonce), critical=False)
    response = builder.sign(responder.key, parameters_of(responder.key).digest)
    return _with_certificate(response.public_bytes(Encoding.DER), responder.certificate)


def _with_certificate(response: bytes, certificate: x509.Certificate) -> bytes:
    """Put a certificate, octet by octet, into a response that has none (RFC 6960 section 4.2.1); it is not signed."""
    status, body = der.parts(response)
    (content,) = der.parts(body)
    kind, octets = der.parts(content)
    certificates = der.explicit(0, der.sequence(certificate.public_bytes(Encoding.DER)))
    basic = der.octet_string(der.sequence(der.content(der.content(octets)), certificates))
    return der.sequence(status, der.explicit(0, der.sequence(kind, basic)))


def refusal(error: UnreadableRequest) -> bytes:
    """Answer a request that can't be answered."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(error.status).public_bytes(Encoding.DER)
