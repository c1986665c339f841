"""Certificates that OpenSSL reads and cryptography does not: made by it, rewritten octet by octet, and signed anew."""

from __future__ import annotations

from base64 import encodebytes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from emulator.tests.certificates import Party

if TYPE_CHECKING:
    from collections.abc import Iterable

_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_WITH_NULL = bytes.fromhex("300c06082a8648ce3d0403020500")

type Change = tuple[bytes, bytes]
"""What is written, and what is made of it."""

FORMS: dict[str, tuple[_ASN1Type, Change]] = {
    "latin": (_ASN1Type.T61String, (b"M?ller", b"M\xfcller")),
    "underscore": (_ASN1Type.UTF8String, (b"\x0c\x06M?ller", b"\x13\x06M_ll@r")),
    "null": (_ASN1Type.UTF8String, (_ECDSA, _ECDSA_WITH_NULL)),
}
"""By name, the string type of the organization, and the change."""


def owned(form: str, name: str) -> x509.Name:
    """A name with an organization, of which the form's change makes what cryptography does not read."""
    string, _ = FORMS[form]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "M?ller", _type=string),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


@dataclass(frozen=True)
class OddParty(Party):
    """Its ``certificate`` is what it was made of."""

    encoded: bytes = b""

    @property
    def pem(self) -> str:
        return pem_of(self.encoded)


def odd(party: Party, signer: Party, change: Change) -> OddParty:
    """Rewrite a certificate and sign it anew."""
    return OddParty(party.certificate, party.key, encoded=signed_anew(party.certificate, signer.key, [change]))


def pem_of(encoded: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{encodebytes(encoded).decode()}-----END CERTIFICATE-----\n"


def signed_anew(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, changes: Iterable[Change]) -> bytes:
    """Change what is signed, each change with as many octets or on the first level, and sign it."""
    content = certificate.tbs_certificate_bytes
    for before, after in changes:
        assert before in content
        content = content.replace(before, after)
    content = _framed(0x30, content[_header(content) :])
    algorithm = _ECDSA_WITH_NULL if _ECDSA_WITH_NULL in content else _ECDSA
    signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
    return _framed(0x30, content + algorithm + _framed(0x03, b"\0" + signature))


def _header(value: bytes) -> int:
    return 2 + (value[1] & 0x7F if value[1] & 0x80 else 0)


def _framed(tag: int, content: bytes) -> bytes:
    length = len(content)
    short = bytes((length,)) if length < 0x80 else bytes((0x81, length)) if length < 0x100 else None
    return bytes((tag,)) + (short or b"\x82" + length.to_bytes(2, "big")) + content
