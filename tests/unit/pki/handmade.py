"""Certificates and requests octet by octet, for what no library writes on purpose."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.pki import der
from tests.pki.hierarchy import NOW

if TYPE_CHECKING:
    from collections.abc import Sequence

UTF8, PRINTABLE, TELETEX, BMP, UNIVERSAL = 0x0C, 0x13, 0x14, 0x1E, 0x1C
CN, O, COUNTRY = "2.5.4.3", "2.5.4.10", "2.5.4.6"  # noqa: E741 - X.500's own name
ECDSA = der.sequence(der.object_identifier("1.2.840.10045.4.3.2"))
ECDSA_WITH_NULL = der.sequence(der.object_identifier("1.2.840.10045.4.3.2"), der.NULL)
CA_EXTENSIONS = (
    der.extension("2.5.29.19", der.sequence(der.TRUE), critical=True),
    der.extension("2.5.29.15", b"\x03\x02\x01\x06", critical=True),
)


def name(*parts: tuple[str, int, bytes]) -> bytes:
    """Write a name: for each part its kind, string type and octets."""
    return der.sequence(
        *(
            der.tagged(0x31, der.sequence(der.object_identifier(kind), der.tagged(tag, text)))
            for kind, tag, text in parts
        )
    )


def plain(common_name: str, tag: int = UTF8) -> bytes:
    return name((CN, tag, common_name.encode()))


def key_info(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(content: bytes, key: ec.EllipticCurvePrivateKey, algorithm: bytes = ECDSA) -> bytes:
    signature = key.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return der.sequence(content, algorithm, der.bit_string(signature))


def certificate(
    subject: bytes,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: bytes | None = None,
    issuer_key: ec.EllipticCurvePrivateKey | None = None,
    extensions: Sequence[bytes] = CA_EXTENSIONS,
    serial: bytes = b"\x11",
    algorithm: bytes = ECDSA,
    version: int = 2,
    life: bytes | None = None,
) -> bytes:
    """Write a certificate of version 3; a CA's own, signed by itself, unless an issuer is given."""
    identifier = der.extension("2.5.29.14", der.octet_string(hashlib.sha1(key_info(key)).digest()))  # noqa: S324 - a name
    content = der.sequence(
        der.explicit(0, der.integer(version)),
        der.tagged(0x02, serial),
        algorithm,
        issuer or subject,
        life or der.sequence(der.time(NOW - timedelta(days=2)), der.time(NOW + timedelta(days=2000))),
        subject,
        key_info(key),
        der.explicit(3, der.sequence(*extensions, identifier)),
    )
    return signed(content, issuer_key or key, algorithm)


def request(
    subject: bytes,
    key: ec.EllipticCurvePrivateKey,
    *,
    attributes: bytes = b"\xa0\0",
    algorithm: bytes = ECDSA,
    version: bytes = b"\0",
) -> bytes:
    """Write a signing request."""
    return signed(der.sequence(der.tagged(0x02, version), subject, key_info(key), attributes), key, algorithm)
