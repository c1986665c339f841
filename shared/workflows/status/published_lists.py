"""What stands in the place of a CA's list, held against what the ledger says that was published there."""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.pki.list_checks import ListError, check_successor, is_signed, read_list
from shared.workflows.status.former_lists import is_former

if TYPE_CHECKING:
    from shared.domain.authorities import AuthorityRecord
    from shared.pki.issuers import Issuer
    from shared.pki.list_checks import ReadList
    from shared.ports.blobs import StoredBlob

_log = logging.getLogger(__name__)


def published_later(stored: StoredBlob | None, record: AuthorityRecord, issuer: Issuer) -> ReadList | None:
    """Read a list that its CA has signed and the ledger does not know of; ``None`` if it is not such a list.

    A number is in the ledger before its list is signed. So a list with a higher one was made by a later ledger.
    """
    if stored is None or is_published(record, stored):
        return None
    try:
        found = read_list(stored.content, issuer)
    except ListError:
        return None
    if found.number <= record.crl_number or not is_signed(stored.content, issuer) or is_former(found, record):
        return None
    return found


def is_published(record: AuthorityRecord, stored: StoredBlob | None) -> bool:
    """Tell whether what stands in the place of a CA's list is the one that was published."""
    published = record.published
    return stored is not None and published is not None and sha256(stored.content).hexdigest() == published.sha256


def checked(crl: bytes, issuer: Issuer, record: AuthorityRecord, present: StoredBlob | None, length: int) -> ReadList:
    """Read a list that was made, and compare it with what was to be made, and with the one before.

    Raises:
        ListError: it is not what was to be made.
    """
    made = read_list(crl, issuer)
    before = _predecessor(present, record, issuer)
    check_successor(made, number=record.crl_number, length=length, before=before)
    return made


def _predecessor(present: StoredBlob | None, record: AuthorityRecord, issuer: Issuer) -> ReadList | None:
    """Read the list before, if it is the one that was published; anything else says nothing about what comes next."""
    if present is None:
        return None
    if not is_published(record, present):
        _log.warning("the list of %r is not the one that was published; it is replaced", record.name)
        return None
    return read_list(present.content, issuer)
