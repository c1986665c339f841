"""The list that stands where a CA is about to publish its first one: of a CA of the same name, which the ledger lost.

Relying parties have seen it: so numbers go on beyond it (RFC 5280 section 5.2.3). If the key is the same, what it names
is still revoked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from shared.domain.certificates import RevocationRecord
from shared.domain.restoration import JUMP, of_nobody
from shared.domain.words import RevocationReason
from shared.pki.certificates import UNREADABLE
from shared.pki.issuer_limits import BACKDATING
from shared.pki.list_checks import ListError, is_signed, listed_certificates, read_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.certificates import Certificates
    from shared.pki.issuers import Issuer
    from shared.pki.list_checks import ListedCertificate, ReadList
    from shared.ports.blobs import StoredBlob

_HIGHEST = 2**31 - 1 - 2 * JUMP
"""A number beyond it is nobody's: a column takes no more, and nobody publishes one a second for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerList:
    """A list of a CA that the ledger does not have any more.

    Attributes:
        number: its number; the first one of the CA that there is now comes :data:`JUMP` later.
        entries: what it names, if the CA that there is now has its key.
    """

    number: int
    entries: Sequence[ListedCertificate] = ()

    @property
    def first(self) -> int:
        """The number of the first list of the CA that there is now."""
        return self.number + JUMP + 1


def is_former(found: ReadList, record: AuthorityRecord) -> bool:
    """Tell whether a list was made before its CA was asked for, which has published none."""
    return record.published is None and found.this_update + BACKDATING < record.requested_at


def former_list(stored: StoredBlob | None, record: AuthorityRecord, issuer: Issuer) -> FormerList | None:
    """Read a list that a CA of the same name has published before; ``None`` if none did."""
    if stored is None or record.published is not None:
        return None
    try:
        found = read_list(stored.content, issuer)
        if is_signed(stored.content, issuer):
            entries = listed_certificates(stored.content, issuer)
            return FormerList(number=found.number, entries=entries) if is_former(found, record) else None
    except ListError:
        pass
    return _of_another_key(stored.content)


def _of_another_key(content: bytes) -> FormerList | None:
    try:
        crl = x509.load_der_x509_crl(content)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (*UNREADABLE, x509.ExtensionNotFound):
        return None
    return FormerList(number=number) if number < _HIGHEST else None


async def enter(certificates: Certificates, name: str, former: FormerList, issuer: Issuer) -> None:
    """Keep on the list of a CA what its former one names."""
    for each in former.entries:
        await keep_listed(certificates, revocation_of(name, each, issuer))


def revocation_of(name: str, listed: ListedCertificate, issuer: Issuer) -> RevocationRecord:
    """Give the row of a certificate that a published list names, for as long as it may last.

    Args:
        name: of the CA.
        listed: what its list says.
        issuer: the CA.
    """
    return RevocationRecord(
        serial_number=listed.serial_number,
        issuer=name,
        revoked_at=listed.revoked_at,
        reason=RevocationReason(listed.reason),
        not_after=issuer.certificate.not_valid_after_utc,
    )


async def keep_listed(certificates: Certificates, revocation: RevocationRecord) -> None:
    """Keep a certificate on the list of its CA, and in the answers of OCSP."""
    _ = await certificates.try_add(of_nobody(revocation))  # it is there: what is known of it counts
    await certificates.enter_revocation(revocation)
