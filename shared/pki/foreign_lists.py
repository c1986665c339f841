"""Revocation lists of CAs whose keys are not here, such as an offline root's: looked at before they are served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from shared.errors import Rejected
from shared.pki import names
from shared.pki.certificates import UNREADABLE, find_extension
from shared.reading import pem as pem_text

if TYPE_CHECKING:
    from datetime import datetime

_FIELD = "crl"
_LABEL = "X509 CRL"
_SKEW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ForeignList:
    """A list of another's CA, checked.

    Attributes:
        content: in DER.
        number: its CRL number.
        this_update: since when it holds.
        next_update: when the next one is to be there.
        listed: serial numbers on it, as 40 hexadecimal digits.
    """

    content: bytes
    number: int
    this_update: datetime
    next_update: datetime
    listed: frozenset[str]


def der_of(content: bytes) -> bytes:
    """Give a list in DER, out of PEM or DER.

    Raises:
        Rejected: it is PEM, and not that of one list.
    """
    if b"-----BEGIN" not in content:
        return content
    found = pem_text.blocks(content, field=_FIELD)
    if len(found) != 1 or found[0].label != _LABEL:
        labels = ", ".join(each.label for each in found) or "nothing"
        raise Rejected.because(f"the PEM has {labels}; give one list, '-----BEGIN {_LABEL}-----'", field=_FIELD)
    return found[0].content


def foreign_list(content: bytes, issuer: x509.Certificate, now: datetime) -> ForeignList:
    """Read a list of a CA, and see that relying parties can use it (RFC 5280 sections 5 and 6.3.3).

    Args:
        content: in PEM or DER.
        issuer: the CA's certificate.
        now: the present time, UTC.

    Raises:
        Rejected: it can't be read, is another CA's, is not signed by its key, is only a part of a list, has no number,
            or does not hold now.
    """
    encoded = der_of(content)
    try:
        crl = x509.load_der_x509_crl(encoded)
        number = _number(crl)
        listed = frozenset(names.serial_text(each.serial_number) for each in crl)
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
        critical = [each.oid.dotted_string for each in crl.extensions if each.critical]
        same_name = crl.issuer == issuer.subject
    except UNREADABLE:
        raise Rejected.because("it is not a CRL (RFC 5280 section 5.1), or is cut off", field=_FIELD) from None
    _check_issuer(crl, issuer, same_name=same_name)
    if critical:
        raise Rejected.because(
            f"it is a delta, or a part of a list: critical extension {', '.join(critical)}; give the whole list",
            field=_FIELD,
        )
    if number is None:
        raise Rejected.because("it has no CRL number (RFC 5280 section 5.2.3), which tells a later list", field=_FIELD)
    if next_update is None:
        raise Rejected.because("it has no nextUpdate (RFC 5280 section 5.1.2.5)", field=_FIELD)
    _check_times(this_update, next_update, now)
    return ForeignList(encoded, number, this_update, next_update, listed)


def _number(crl: x509.CertificateRevocationList) -> int | None:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _check_issuer(crl: x509.CertificateRevocationList, issuer: x509.Certificate, *, same_name: bool) -> None:
    if not same_name:
        raise Rejected.because(
            f"it is a list of {names.shown(crl.issuer.rfc4514_string())}, and not of {names.quoted(issuer.subject)}",
            field=_FIELD,
        )
    usage = find_extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise Rejected.because(
            f"the key usage of {names.quoted(issuer.subject)} forbids it to sign lists (cRLSign)", field=_FIELD
        )
    try:
        signed = crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, InvalidSignature, UnsupportedAlgorithm):
        signed = False
    if not signed:
        raise Rejected.because(f"it is not signed by the key of {names.quoted(issuer.subject)}", field=_FIELD)


def _check_times(this_update: datetime, next_update: datetime, now: datetime) -> None:
    if this_update > now + _SKEW:
        raise Rejected.because(f"it holds only from {this_update:%Y-%m-%d %H:%M} UTC on (thisUpdate)", field=_FIELD)
    if next_update < now:
        raise Rejected.because(
            f"it is out of date since {next_update:%Y-%m-%d %H:%M} UTC (nextUpdate); have the CA sign a new one",
            field=_FIELD,
        )
