"""OCSP responders that wait in the ledger for the zone that answers."""

from __future__ import annotations

from datetime import datetime

from shared.domain.record import Record


class ResponderRecord(Record):
    """The responder of one CA.

    Attributes:
        issuer: name of the CA.
        certificate: the responder's, in PEM.
        wrapped_key: its key, as :meth:`shared.pki.wrapped_keys.WrappedKey.to_text` gives it.
        renewed_at: when the next one is made.
    """

    issuer: str
    certificate: str
    wrapped_key: str
    renewed_at: datetime
