"""Public keys and whose they are, as the ledger keeps them."""

from __future__ import annotations

from datetime import datetime

from shared.domain.record import Record


class PublicKeyRecord(Record):
    """One public key.

    Attributes:
        fingerprint: SHA-256 of its SubjectPublicKeyInfo, hexadecimal.
        registration_id: the device that it belongs to; empty if it is a CA's.
        authority: the CA that it belongs to, for ever.
        is_confirmed: whether the device is known by it. Until then its claim may be in vain: somebody else may have
            the device by now, or its worker was killed.
        compromised: whether a certificate with it was revoked since others may have the private key.
    """

    fingerprint: str
    registration_id: str
    recorded_at: datetime
    is_confirmed: bool = True
    compromised: bool = False
    authority: str | None = None
