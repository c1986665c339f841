"""CAs that come from elsewhere: an owner's root or issuing CA as PFX or PEM, and the answer to a signing request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import Rejected
from shared.pki import names
from shared.pki.certificate_rules import life_findings
from shared.pki.certificates import UNREADABLE, find_extension, issued_by, issued_under_other_encoding
from shared.pki.damage import UnreadableCertificate, read_certificate
from shared.pki.identities import authority_identity
from shared.pki.issuer_limits import check_for_devices
from shared.pki.issuers import Issuer, IssuerError
from shared.pki.opened_files import CanNotOpen, open_key, open_pfx
from shared.pki.path_rules import other_encoding
from shared.pki.public_keys import check_public_key
from shared.pki.signing_keys import UnsupportedKey, parameters_of
from shared.reading import pem as pem_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from shared.pki.opened_files import Opened
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import PrivateKey
    from shared.pki.subjects import Subject

SIZE_LIMIT = 65_536
"""Bytes that are read: a PFX of RSA-4096 with a chain of ten has 20,000."""

type PfxOpener = Callable[[bytes, bytes | None], Opened]
type KeyOpener = Callable[[bytes, bytes, bytes | None], Opened]


def authority_from_pfx(pfx: bytes, password: str | None, *, now: datetime, opener: PfxOpener = open_pfx) -> Issuer:
    """Read a CA with its key and its chain up to the root out of PKCS#12 (RFC 7292).

    Args:
        pfx: in DER or BER.
        password: of key and certificates.
        now: the present time, UTC; of several certificates for one key those count that are valid.
        opener: opens it; for a stranger's file :func:`shared.pki.apart.pfx_opened_apart`, which waits.

    Raises:
        Rejected: it can't be opened, lacks the key or a part of the chain, or what it holds can't sign for devices.
    """
    _check_size(pfx, "pfx")
    secret = _secret(password)
    try:
        opened = opener(pfx, secret)
    except CanNotOpen as error:
        raise Rejected.because(str(error), field="pfx") from None
    found = [
        _read(position, each.public_bytes(Encoding.DER), "pfx")
        for position, each in enumerate(opened.certificates, start=1)
    ]
    return _authority(opened.keys, found, "pfx", now)


def authority_from_pem(pem: bytes, password: str | None, *, now: datetime, opener: KeyOpener = open_key) -> Issuer:
    """Read a CA with its key and its chain up to the root out of PEM: certificates and one key, in any order.

    Args:
        pem: the key as PKCS#8 (RFC 5958), or in OpenSSL's older form.
        password: of the key.
        now: the present time, UTC.
        opener: opens an encrypted key; for a stranger's file :func:`shared.pki.apart.key_opened_apart`, which waits.

    Raises:
        Rejected: as :func:`authority_from_pfx`.
    """
    _check_size(pem, "pem")
    found = pem_text.without_parameters(pem_text.blocks(pem, field="pem"))
    keys = [block for block in found if block.is_private_key]
    if len(keys) != 1:
        raise Rejected.because(f"there are {len(keys)} private keys; give the CA's own and no other", field="pem")
    key = keys[0].pem
    try:
        if b"ENCRYPTED" in key:
            opened = opener(key, keys[0].content, _secret(password))
        else:
            opened = open_key(key, keys[0].content, None)  # nothing is derived
    except CanNotOpen as error:
        raise Rejected.because(str(error), field="pem") from None
    beside = b"".join(block.pem for block in found if not block.is_private_key)
    return _authority(opened.keys, _certificates(beside, "pem"), "pem", now)


def answered_authority(
    pem: bytes, request: x509.CertificateSigningRequest, key: PrivateKey, *, now: datetime
) -> Issuer:
    """Read the answer to a signing request: the CA's certificate and the chain above it up to the root, as PEM.

    Args:
        pem: in any order.
        request: what was asked for.
        key: the key that the request was made with; in a vault, or here.
        now: the present time, UTC.

    Raises:
        Rejected: no certificate has this key, the chain has a gap, the certificate is not what was asked for, or can't
            sign for devices.
    """
    _check_size(pem, "certificate")
    issuer = _with_key(key, _certificates(pem, "certificate"), "certificate", now)
    _check_answer(issuer.certificate, request)
    return issuer


def further_certificate(pem: bytes, own: x509.Certificate, key: PrivateKey, *, now: datetime) -> Issuer:
    """Read a further certificate of a CA, with the chain above it up to the root, as PEM.

    Args:
        pem: in any order.
        own: the certificate that the CA has.
        key: of the CA; in a vault, or here.
        now: the present time, UTC.

    Raises:
        Rejected: no certificate has this key, it is for another subject, the chain has a gap, or it can't sign for
            devices.
    """
    _check_size(pem, "certificate")
    issuer = _with_key(key, _certificates(pem, "certificate"), "certificate", now)
    given, wanted = (authority_identity(each.subject, key.public_key()) for each in (issuer.certificate, own))
    if given != wanted:
        raise Rejected.because(
            f"the certificate's subject is {names.shown(issuer.certificate.subject.rfc4514_string())}; it must be "
            f"{names.shown(own.subject.rfc4514_string())}, which is the CA's",
            field="certificate",
        )
    return issuer


def _check_answer(certificate: x509.Certificate, request: x509.CertificateSigningRequest) -> None:
    """Compare what was asked for with what came: the name and depth of a CA are its owner's order."""
    if not names.same_name(certificate.subject, request.subject):
        raise Rejected.because(
            f"the certificate's subject is {names.shown(certificate.subject.rfc4514_string())}; it must be "
            f"{names.shown(request.subject.rfc4514_string())}, as the signing request says",
            field="certificate",
        )
    given, wanted = (
        each.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for each in (certificate, request)
    )
    if given != wanted:
        raise Rejected.because(
            f"the certificate's path length is {'unlimited' if given is None else given}; it must be {wanted}, as the "
            "signing request says",
            field="certificate",
        )


def signing_request(profile: Profile, subject: Subject, key: PrivateKey) -> x509.CertificateSigningRequest:
    """Make a CA's request for a certificate that another CA signs (RFC 2986); signing proves possession of the key.

    With a key in a vault this waits for the network: call it in a thread.
    """
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject.to_name())
        .add_extension(profile.basic_constraints(), critical=True)
        .add_extension(profile.key_usage(), critical=True)
    )
    return builder.sign(key, parameters_of(key).digest)


def _check_size(content: bytes, field: str) -> None:
    if len(content) > SIZE_LIMIT:
        raise Rejected.because(f"it has {len(content)} bytes; at most {SIZE_LIMIT} are read", field=field)


def _secret(password: str | None) -> bytes | None:
    if not password:
        return None
    # cryptography ends in a panic at a NUL, which no handler of exceptions catches.
    if not password.isprintable():
        raise Rejected.because("it has characters that can't be typed", field="password")
    return password.encode()


def _certificates(pem: bytes, field: str) -> list[x509.Certificate]:
    found = pem_text.certificates(pem, field=field, wanted="certificate of the CA in PEM")
    return [_read(position, each, field) for position, each in enumerate(found, start=1)]


def _read(position: int, encoded: bytes, field: str) -> x509.Certificate:
    try:
        return read_certificate(encoded)
    except UnreadableCertificate as error:
        raise Rejected.because(f"certificate {position} can't be read: {error}", field=field) from None


def _authority(keys: Sequence[object], certificates: Sequence[x509.Certificate], field: str, now: datetime) -> Issuer:
    usable = [key for key in keys if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)]
    if not usable:
        raise Rejected.because("it does not contain an EC or RSA key of a CA", field=field)
    of_authorities = [key for key in usable if any(map(_is_ca, _own(key, certificates)))]
    if len(usable) > 1 and len(of_authorities) != 1:
        raise Rejected.because(
            f"there are {len(usable)} private keys, and {len(of_authorities)} of them are those of CAs; give one CA "
            "with its key and its chain",
            field=field,
        )
    return _with_key((of_authorities or usable)[0], certificates, field, now)


def _own(key: PrivateKey, certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Find the certificates of a key; one whose own key can't be read belongs to another."""
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [each for each in certificates if _key_or_nothing(each) == wanted]


def _key_or_nothing(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        return b""


def _is_ca(certificate: x509.Certificate) -> bool:
    constraints = find_extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _with_key(key: PrivateKey, certificates: Sequence[x509.Certificate], field: str, now: datetime) -> Issuer:
    try:
        check_public_key(key.public_key())
        own = _own(key, certificates)
        if not own:
            raise Rejected.because("none of its certificates belongs to the CA's key", field=field)
        chain = _chain(own, certificates, now, field)
        issuer = Issuer(chain[0], key, chain)
    except (IssuerError, UnsupportedKey) as error:
        raise Rejected.because(str(error)[:1000], field=field) from None
    check_for_devices(issuer, now, field=field)
    return issuer


def _chain(
    own: Sequence[x509.Certificate], certificates: Sequence[x509.Certificate], now: datetime, field: str
) -> tuple[x509.Certificate, ...]:
    """Find a CA's chain up to a root, of valid certificates if there is one; what does not belong to it is left out."""
    valid = [each for each in certificates if not any(life_findings([each], now))]
    gap = own[0]
    for among in (valid, certificates):
        for lowest in (each for each in own if each in among):
            *_, chain = _chains(lowest, among)
            if issued_by(chain[-1], chain[-1]):
                return chain
            gap = chain[-1]
    for each in certificates:
        if issued_under_other_encoding(gap, each):
            raise Rejected.because(other_encoding(gap, each).message, field=field)
    raise Rejected.because(
        f"the issuer of {names.quoted(gap.subject)}, {names.shown(gap.issuer.rfc4514_string())}, is not among its "
        "certificates; give the whole chain up to and including the root",
        field=field,
    )


def _chains(
    lowest: x509.Certificate, certificates: Sequence[x509.Certificate]
) -> Iterator[tuple[x509.Certificate, ...]]:
    """Give ever longer chains until one ends at a root; each certificate is in one of them, so they are few."""
    chains: list[tuple[x509.Certificate, ...]] = [(lowest,)]
    left = [each for each in certificates if each != lowest]
    for chain in chains:
        yield chain
        if issued_by(chain[-1], chain[-1]):
            return
        above = [each for each in left if issued_by(chain[-1], each)]
        left = [each for each in left if each not in above]
        chains += [(*chain, each) for each in above]
