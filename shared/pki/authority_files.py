"""CAs that come from elsewhere: an owner's root or issuing CA as PFX or PEM, and the answer to a signing request."""

from __future__ import annotations

import re
from base64 import b64decode
from itertools import islice
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from shared.errors import Rejected
from shared.pki import der, names
from shared.pki.certificates import UNREADABLE, issued_by
from shared.pki.chains import life_findings
from shared.pki.identities import authority_identity
from shared.pki.issuance import Issuer, IssuerError, check_for_devices
from shared.pki.signing_keys import UnsupportedKey, algorithm_of, parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from shared.pki.issuance import Subject
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import PrivateKey

SIZE_LIMIT = 65_536
"""Bytes that are read: a PFX of RSA-4096 with a chain of ten has 20,000."""

ROUNDS_LIMIT = 1_000_000
"""Rounds of key derivation that are computed for one file: a quarter of a second, in which cryptography keeps the
interpreter lock. OpenSSL writes 2,048 for each of key, certificates and MAC, others up to 600,000 for a key."""

_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_KEYS = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----(?:[^-]|-(?!----))*-----END \1-----")
_ENCRYPTED_PKCS8 = b"ENCRYPTED PRIVATE KEY"


def _identifier(dotted: str) -> bytes:
    return re.escape(der.content(der.object_identifier(dotted)))


# By the content of their identifiers: BER has several ways to write tag and length.
_DERIVATIONS = re.compile(
    _identifier("1.2.840.113549.1.5.12")  # PBKDF2 (RFC 8018 A.2)
    + b"|" + _identifier("1.2.840.113549.1.5") + rb"[\x01\x03\x04\x06\x0a\x0b]"  # PBES1, which cipher (RFC 8018 A.3)
    + b"|" + _identifier("1.2.840.113549.1.12.1") + rb"[\x01-\x06]"  # PKCS#12's own (RFC 7292 C)
)  # fmt: skip
_SCRYPT = re.compile(_identifier("1.3.6.1.4.1.11591.4.11"))
_INTEGER, _OCTET_STRING = 0x02, 0x04


def authority_from_pfx(pfx: bytes, password: str | None, *, now: datetime) -> Issuer:
    """Read a CA with its key and its chain up to the root out of PKCS#12 (RFC 7292).

    Args:
        pfx: in DER.
        password: of key and certificates.
        now: the present time, UTC; of several certificates for one key those count that are valid.

    Raises:
        Rejected: it can't be opened, lacks the key or a part of the chain, or what it holds can't sign for devices.
    """
    _check_size(pfx, "pfx")
    secret = _secret(password)
    try:
        _check_rounds(_derivation_rounds(pfx, "pfx") + _mac_rounds(pfx), "pfx")
        opened = pkcs12.load_pkcs12(pfx, secret)
    except UNREADABLE:
        raise Rejected.because(
            "it can't be opened: the password is wrong, or it is no PKCS#12 in DER", field="pfx"
        ) from None
    found = [opened.cert, *opened.additional_certs]
    return _authority(opened.key, [each.certificate for each in found if each is not None], "pfx", now)


def authority_from_pem(pem: bytes, password: str | None, *, now: datetime) -> Issuer:
    """Read a CA with its key and its chain up to the root out of PEM: certificates and one key, in any order.

    Args:
        pem: the key as PKCS#8 (RFC 5958), or in OpenSSL's older form.
        password: of the key.
        now: the present time, UTC.

    Raises:
        Rejected: as :func:`authority_from_pfx`.
    """
    _check_size(pem, "pem")
    keys = list(_KEYS.finditer(pem))
    if len(keys) != 1:
        raise Rejected.because(f"there are {len(keys)} private keys; the CA's own belongs there", field="pem")
    block, label = keys[0][0], keys[0][1]
    secret = _secret(password) if b"ENCRYPTED" in block else None
    try:
        if label == _ENCRYPTED_PKCS8:  # OpenSSL's older form has one round of MD5
            content = b64decode(b"".join(b"".join(block.splitlines()[1:-1]).split()), validate=True)
            _check_rounds(_derivation_rounds(content, "pem"), "pem")
        key = load_pem_private_key(block, secret)
    except UNREADABLE:
        raise Rejected.because(
            "its private key can't be opened: the password is wrong, or the key is damaged", field="pem"
        ) from None
    return _authority(key, _certificates(pem, "pem"), "pem", now)


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
    if certificate.subject != request.subject:
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


def _check_rounds(rounds: int, field: str) -> None:
    """Refuse what would take minutes to derive keys for."""
    if rounds > ROUNDS_LIMIT:
        raise Rejected.because(
            f"it asks for {names.number(rounds)} rounds of key derivation; at most {ROUNDS_LIMIT} are computed: write "
            "it anew with fewer",
            field=field,
        )


def _derivation_rounds(encrypted: bytes, field: str) -> int:
    """Add up the rounds of all derivations that are in the open; what is inside of what is encrypted is not.

    Raises:
        ValueError: one names its rounds where they are not found.
        Rejected: one asks for memory as well.
    """
    if _SCRYPT.search(encrypted):
        raise Rejected.because("its key derivation is scrypt; write it anew with PBKDF2", field=field)
    return sum(_rounds(encrypted[match.end() :]) for match in _DERIVATIONS.finditer(encrypted))


def _rounds(parameters: bytes) -> int:
    """Read the second field of a derivation's parameters: a salt comes first (RFC 8018 A.2, A.3, RFC 7292 C)."""
    salt, rounds = islice(der.parts(parameters), 2)
    if salt[0] != _OCTET_STRING:
        raise ValueError("there is no salt")
    return _number(rounds)


def _mac_rounds(pfx: bytes) -> int:
    """Read the rounds of a PFX's MAC: the third field of its third part, 1 if left out (RFC 7292 section 4)."""
    mac = next(islice(der.parts(pfx), 2, None), None)
    rounds = next(islice(der.parts(mac), 2, None), None) if mac else None
    return _number(rounds) if rounds else 1


def _number(encoded: bytes) -> int:
    if encoded[0] != _INTEGER:
        raise ValueError("there is no number")
    return int.from_bytes(der.content(encoded), "big")


def _certificates(pem: bytes, field: str) -> list[x509.Certificate]:
    try:
        return [x509.load_pem_x509_certificate(block) for block in _CERTIFICATES.findall(pem)]
    except UNREADABLE as error:
        raise Rejected.because(f"a certificate can't be read: {str(error)[:200]}", field=field) from None


def _authority(key: object, certificates: Sequence[x509.Certificate], field: str, now: datetime) -> Issuer:
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Rejected.because("there is no EC or RSA key of a CA in it", field=field)
    return _with_key(key, certificates, field, now)


def _with_key(key: PrivateKey, certificates: Sequence[x509.Certificate], field: str, now: datetime) -> Issuer:
    try:
        algorithm_of(key.public_key())
        own = [each for each in certificates if each.public_key() == key.public_key()]
        if not own:
            raise Rejected.because("none of its certificates belongs to the CA's key", field=field)
        chain = _chain(own, certificates, now, field)
        issuer = Issuer(chain[0], key, chain)
    except (IssuerError, UnsupportedKey, *UNREADABLE) as error:
        raise Rejected.because(str(error)[:300], field=field) from None
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
