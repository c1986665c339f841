"""How certificates are named and written."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.pki import der

if TYPE_CHECKING:
    from cryptography import x509


def serial_text(serial_number: int) -> str:
    """Give a serial number as 40 lower-case hexadecimal digits (20 octets, RFC 5280 section 4.1.2.2)."""
    return f"{serial_number:040x}"


def thumbprint(certificate: x509.Certificate) -> str:
    """Give the SHA-1 fingerprint in upper-case hexadecimal, as IoT Hub and Windows name a certificate."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, nothing rests on its strength


def sha256_thumbprint(certificate: x509.Certificate) -> str:
    """Give the SHA-256 fingerprint in upper-case hexadecimal, the other name that DPS knows a certificate by."""
    return certificate.fingerprint(hashes.SHA256()).hex().upper()


def common_name(name: x509.Name) -> str:
    """Give the single CN of a name; empty if it has none, or several."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


_ENCODINGS = {0x0C: "utf-8", 0x1E: "utf-16-be", 0x1C: "utf-32-be"}
_LATIN_1 = frozenset({0x12, 0x13, 0x14, 0x16, 0x1A, 0x1B})
"""Numeric, Printable, Teletex, IA5, Visible and GeneralString: where more than ASCII stands in one, it is Latin-1."""

_SHORT_KINDS = {each.dotted_string: short for each, short in (
    (NameOID.COMMON_NAME, "CN"), (NameOID.USER_ID, "UID"), (NameOID.DOMAIN_COMPONENT, "DC"),
    (NameOID.STREET_ADDRESS, "STREET"), (NameOID.COUNTRY_NAME, "C"), (NameOID.STATE_OR_PROVINCE_NAME, "ST"),
    (NameOID.LOCALITY_NAME, "L"), (NameOID.ORGANIZATION_NAME, "O"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "OU"),
)}  # fmt: skip
"""RFC 4514 section 3."""


def short_kind(dotted: str) -> str:
    """Give the short name of an attribute's kind, or its identifier if it has none."""
    return _SHORT_KINDS.get(dotted, dotted)


def text_of(value: bytes) -> str:
    """Read a string of a name in DER as OpenSSL shows it; what is not text, in hexadecimal after ``#``.

    Characters that can't be decoded become U+FFFD, which is in no id.
    """
    octets = der.content(value)
    if value[0] in _LATIN_1:
        return octets.decode("latin-1")
    encoding = _ENCODINGS.get(value[0])
    return octets.decode(encoding, errors="replace") if encoding else f"#{octets.hex()}"


type Folded = tuple[frozenset[tuple[str, str]], ...]
"""A name in the form in which names are compared: for each RDN its attributes, by identifier and value."""


@lru_cache(maxsize=1024)
def folded(name: x509.Name) -> Folded:
    """Bring a name to the form in which names are compared: without case, string type and repeated spaces.

    RFC 5280 section 7.1, and RFC 4518 section 2 for the text: what looks alike to a person is alike.
    """
    return tuple(frozenset((each.oid.dotted_string, _folded_value(each.value)) for each in rdn) for rdn in name.rdns)


def _folded_value(value: str | bytes) -> str:
    if isinstance(value, bytes):
        return f"#{value.hex()}"  # a BIT STRING has no case
    plain = unicodedata.normalize("NFKC", value).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def same_name(one: x509.Name, other: x509.Name) -> bool:
    """Compare names as RFC 5280 section 7.1 does; Go and Windows compare them octet by octet."""
    return one == other or folded(one) == folded(other)


_BITS_SHOWN = 200
_SHOWN = 140  # characters; a right one has 64


def quoted(name: x509.Name) -> str:
    """Give the CN for a message, as :func:`shown`."""
    return shown(common_name(name))


def shown(text: str) -> str:
    """Give a stranger's text for a message: in quotes, escaped where it can't be printed, and cut if too long."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def number(value: int) -> str:
    """Give a number for a message: strangers write some of thousands of digits, which Python refuses to write out."""
    return str(value) if value.bit_length() <= _BITS_SHOWN else f"one of {value.bit_length()} bits"


def pem(certificate: x509.Certificate) -> str:
    """Give a certificate as PEM text."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
