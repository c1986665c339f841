"""What is looked at in a revocation list before it replaces the one before: nothing is published unread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from shared.pki import der
from shared.pki.certificates import UNREADABLE
from shared.pki.names import serial_text
from shared.pki.readable import readable_name

if TYPE_CHECKING:
    from datetime import datetime

    from shared.pki.issuers import Issuer

_SEQUENCE, _INTEGER = 0x30, 0x02
_HEADER = 2  # octets of tag and length: an entry has at most 60, and its serial number, which comes first, 20


class ListError(ValueError):
    """A list is not what was to be made; the message says how."""


@dataclass(frozen=True, slots=True)
class ReadList:
    """A list as whoever verifies it reads it.

    Attributes:
        number: its CRL number.
        this_update: since when it holds.
        next_update: when the next one will be there at the latest.
        length: how many entries it has.
    """

    number: int
    this_update: datetime
    next_update: datetime
    length: int


def read_list(content: bytes, issuer: Issuer) -> ReadList:
    """Read a list of a CA; the signature is the signer's to check.

    Args:
        content: in DER.
        issuer: the CA.

    Raises:
        ListError: it does not parse, or is another CA's, or lacks what a list of ours has.
    """
    try:
        crl = x509.load_der_x509_crl(_as_read(content, issuer))
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        next_update, same = crl.next_update_utc, crl.issuer == issuer.certificate.subject
    except ListError:
        raise
    except x509.ExtensionNotFound:
        raise ListError("the list has no number") from None
    except UNREADABLE:
        raise ListError("the list can't be read: it is not a CRL in DER (RFC 5280 section 5.1)") from None
    if not same:
        raise ListError(f"the list is not one of {issuer.quoted_name}")
    if next_update is None:
        raise ListError("the list has no nextUpdate")
    return ReadList(number, crl.last_update_utc, next_update, len(crl))


def is_signed(content: bytes, issuer: Issuer) -> bool:
    """Tell whether a CA has signed a list, in DER, that was read as one of it."""
    return x509.load_der_x509_crl(content).is_signature_valid(issuer.certificate.public_key())  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ListedCertificate:
    """An entry of a list.

    Attributes:
        serial_number: 40 hexadecimal digits.
        reason: its name; ``unspecified`` where the entry has none (RFC 5280 section 5.3.1).
    """

    serial_number: str
    revoked_at: datetime
    reason: str


def listed_certificates(content: bytes, issuer: Issuer) -> tuple[ListedCertificate, ...]:
    """Give the entries of a list of a CA, in DER; errors are those of :func:`read_list`."""
    read_list(content, issuer)
    return tuple(
        ListedCertificate(serial_text(each.serial_number), each.revocation_date_utc, _reason(each))
        for each in x509.load_der_x509_crl(_as_read(content, issuer))
    )


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except x509.ExtensionNotFound:
        return str(x509.ReasonFlags.unspecified.value)


def listed_serial_numbers(content: bytes, issuer: Issuer) -> frozenset[int]:
    """Give the serial numbers on a list of a CA, in DER.

    Raises:
        ListError: it does not parse, or is another CA's.
    """
    read_list(content, issuer)
    return frozenset(each.serial_number for each in x509.load_der_x509_crl(_as_read(content, issuer)))


def _as_read(content: bytes, issuer: Issuer) -> bytes:
    """Give a list with its issuer's name as cryptography reads it, if that is not how the name is written."""
    written = issuer.name_in_der
    read = readable_name(written)
    if read == written:
        return content
    listed, algorithm, signature = der.parts(content)
    version, signed_with, name, *rest = der.parts(listed)
    if name != written:
        raise ListError(f"the list is not one of {issuer.quoted_name}")
    return der.sequence(der.sequence(version, signed_with, read, *rest), algorithm, signature)


def check_successor(made: ReadList, *, number: int, length: int, before: ReadList | None) -> None:
    """Compare a list with what was to be made, and with the one before.

    Args:
        made: the list.
        number: that it is to have.
        length: how many entries it is to have.
        before: the list that it replaces, if there is one.

    Raises:
        ListError: it differs, or does not come after the one before.
    """
    if (made.number, made.length) != (number, length):
        raise ListError(
            f"the list has number {made.number} and {made.length} entries; it was to have {number} and {length}"
        )
    # The number says which comes later; workers' clocks may differ.
    if before is not None and made.number <= before.number:
        raise ListError(f"the list has number {made.number}; the one before has {before.number}")


def serial_numbers(entries: bytes) -> list[int]:
    """Give the serial numbers of joined entries, in their order.

    Raises:
        ListError: they are not entries as :func:`shared.pki.revocation_lists.encode_entry` gives them.
    """
    found, at = [], 0
    while at < len(entries):
        serial = at + _HEADER
        if entries[at] != _SEQUENCE or entries[serial : serial + 1] != bytes((_INTEGER,)):
            raise ListError(f"what is at octet {at} is not an entry of a list")
        begin = serial + _HEADER
        end = begin + entries[serial + 1 : serial + 2][0] if serial + 1 < len(entries) else len(entries) + 1
        after = serial + entries[at + 1]
        if not begin < end <= after <= len(entries):
            raise ListError(f"the entry at octet {at} is cut off")
        found.append(int.from_bytes(entries[begin:end], "big"))
        at = after
    return found


def check_entries(before: bytes, after: bytes, *, removed: set[int], added: set[int]) -> int:
    """See that joined entries have changed by what was to change, and by nothing else.

    Returns:
        How many there are now.

    Raises:
        ListError: an entry has come or gone that was not to, or stands there twice.
    """
    old, new = set(serial_numbers(before)), serial_numbers(after)
    expected = (old - removed) | added
    if len(new) != len(expected) or set(new) != expected:
        raise ListError(f"{len(new)} entries were made of {len(old)}, where {len(expected)} were to be")
    return len(new)
