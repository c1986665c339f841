"""Lists of CAs whose keys are not here, as the ledger keeps what was imported."""

from __future__ import annotations

from datetime import datetime

from shared.domain.record import Record


class ImportedList(Record):
    """The newest list that was imported of a CA.

    Attributes:
        name: of the CA, as lists are asked for.
        number: of the list (RFC 5280 section 5.2.3).
        sha256: of the list in DER, which names its blob.
        this_update: since when it holds.
        next_update: when the next one is to be there.
        imported_at: when it was.
    """

    name: str
    number: int
    sha256: str
    this_update: datetime
    next_update: datetime
    imported_at: datetime
