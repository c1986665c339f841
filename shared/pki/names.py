"""How certificates are named and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

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
