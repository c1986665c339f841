"""A certificate that is in the log, and that a ledger which was put back could not have again."""

from __future__ import annotations

from datetime import datetime

from shared.domain.record import Record


class LostCertificate(Record):
    """What a restoration has named as lost: OCSP goes on to call it unknown, and the audit counts it.

    Attributes:
        serial_number: 40 hexadecimal digits, lower case.
        kind: what it is of, as the log says it.
        subject: whose it is, as the log says it.
        issuer: name of the CA that was to sign it, as the log says it.
        named_at: when a restoration has first named it.
    """

    serial_number: str
    kind: str
    subject: str
    issuer: str
    named_at: datetime
